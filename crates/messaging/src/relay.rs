//! Carries facts from the outbox to JetStream, one relay per schema at a time.
//!
//! The relay's row is a lease with a fence. Its holder, in turns: *stamps* every visible fact with
//! the next dense number in one short transaction guarded by the fence; *publishes* in order with
//! nothing locked, and waits for every acknowledgement; *advances* `published_upto`. It stamps on
//! while the bus is down, so that the feed can replay. A holder that lost its lease unnoticed (a
//! frozen process) can neither stamp nor advance; what it still publishes are duplicates. It begins no
//! batch once the lease is over by its own clock.
//!
//! What it does not do: it deletes nothing, it never blocks a command, and it never trusts an
//! acknowledgement to mean that a consumer will see the message.

use std::{sync::Arc, time::Duration};

use sqlx::PgPool;
use tokio::{
    sync::{Notify, watch},
    time::Instant,
};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::{
    outage::Outage,
    streams::{Replicas, Stream},
};

mod publish;
pub(crate) mod store;
#[cfg(test)]
mod tests;

/// The pause after a turn that failed; it doubles with each one, up to that of a relay without the
/// lease. Short: who holds the lease shall renew it, and stamp, as soon as the database answers again.
const RETRY: Duration = Duration::from_millis(100);
/// How often the backlog is measured.
const MEASURE: Duration = Duration::from_secs(1);

/// What a relay is told.
#[derive(Debug, Clone)]
pub struct RelayConfig {
    /// The schema's name among sources: `deploy`.
    pub source: &'static str,
    /// The stream that it publishes to, and creates.
    pub stream: Stream,
    /// How long a silent holder keeps the lease.
    pub lease: Duration,
    /// How often the holder looks for facts of other processes.
    pub poll: Duration,
    /// Turns are at least this far from each other: what many commits told meanwhile is one turn's. The
    /// first fact after a rest waits for nothing.
    pub gather: Duration,
    /// The most facts of one turn.
    pub batch: i64,
}

impl RelayConfig {
    /// The usual periods: lease 5 s, poll 75 ms, 10 ms between turns, 256 facts a turn.
    pub fn of(source: &'static str) -> Self {
        Self {
            source,
            stream: Stream::of(source),
            lease: Duration::from_secs(5),
            poll: Duration::from_millis(75),
            gather: Duration::from_millis(10),
            batch: 256,
        }
    }

    /// With so many copies of the stream, should it be created.
    #[must_use]
    pub fn replicated(mut self, replicas: Replicas) -> Self {
        self.stream.replicas = replicas;
        self
    }
}

/// Wakes the relay of this process after a commit; cheap to clone. Forgetting it costs a poll.
#[derive(Debug, Clone, Default)]
pub struct Nudge(Arc<Notify>);

impl Nudge {
    /// A nudge that wakes nobody until a relay is built from it.
    pub fn new() -> Self {
        Self::default()
    }

    /// There are new facts.
    pub fn nudge(&self) {
        self.0.notify_one();
    }
}

/// One process's candidate for the relay of its schema.
#[derive(Debug)]
pub struct Relay {
    pool: PgPool,
    nats: async_nats::Client,
    config: RelayConfig,
    owner: String,
    nudge: Nudge,
}

/// The lease that this process holds, and when it asked for it last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Lease {
    fence: i64,
    renewed: Instant,
}

impl Lease {
    /// When it ends by our clock, unless it is renewed: not after it does by the database's, which was asked
    /// later.
    fn until(self, length: Duration) -> Instant {
        self.renewed + length
    }

    fn left(self, length: Duration) -> Duration {
        length.saturating_sub(self.renewed.elapsed())
    }
}

/// What the publishing loop may do, as the stamping loop told it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Grant {
    fence: i64,
    epoch: i32,
    /// When the lease ends. It moves with every renewal, of which nobody is woken.
    until: Instant,
}

impl Grant {
    fn lasts(self) -> bool {
        Instant::now() < self.until
    }
}

/// Why a turn did not end well. Everything is tried again in the next one.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error("ask the database")]
    Database(#[from] sqlx::Error),
    #[error("read a fact")]
    Feed(#[from] crate::feed::Error),
    #[error("hand facts to the bus")]
    Publish(#[from] publish::Error),
}

impl Relay {
    /// A relay for the schema that the pool's role works in.
    pub fn new(pool: PgPool, nats: async_nats::Client, config: RelayConfig) -> Self {
        let owner = Uuid::new_v4().to_string();
        Self {
            pool,
            nats,
            config,
            owner,
            nudge: Nudge::new(),
        }
    }

    /// Uses a nudge that commands hold already.
    #[must_use]
    pub fn nudged_by(mut self, nudge: Nudge) -> Self {
        self.nudge = nudge;
        self
    }

    /// The handle that wakes this relay.
    pub fn nudge(&self) -> Nudge {
        self.nudge.clone()
    }

    /// Relays until the process stops, then sends what is committed and gives the lease back.
    ///
    /// Stamping and publishing are two loops, because a bus that hangs must not stop the numbers.
    /// Neither is ever cancelled in the middle: a dropped `begin` would poison its connection.
    pub async fn run(self, stopping: CancellationToken) {
        let (tell, told) = watch::channel(None);
        let (lease, ()) = tokio::join!(self.stamp(tell, stopping), self.publish(told));
        if let Some(Lease { fence, .. }) = lease
            && let Err(error) = store::release(&self.pool, &self.owner, fence).await
        {
            tracing::warn!("the relay's lease was not given back: {error}");
        }
    }

    /// Holds the lease and stamps, until the process stops; answers the lease it holds then.
    async fn stamp(
        &self,
        tell: watch::Sender<Option<Grant>>,
        stopping: CancellationToken,
    ) -> Option<Lease> {
        let mut lease = None;
        let mut measured = Instant::now();
        let mut failed: u32 = 0;
        let mut outage = Outage::of("relay", self.config.source, "stamping");
        let mut unmeasured = Outage::of("relay", self.config.source, "measuring");
        loop {
            // Read before the turn, so that what was committed before the stop is stamped after it.
            let last = stopping.is_cancelled();
            let more = match self.turn(&mut lease, &tell).await {
                Ok(more) => {
                    outage.over();
                    failed = 0;
                    more
                }
                Err(error) => {
                    outage.failed(&error);
                    failed = failed.saturating_add(1);
                    false
                }
            };
            if lease.is_none() {
                tell.send_if_modified(|grant| grant.take().is_some());
            } else if failed == 0 && measured.elapsed() > MEASURE {
                measured = Instant::now();
                self.measure(&mut unmeasured).await;
            }
            match (more, last) {
                (true, _) => {}
                (false, true) => return lease,
                (false, false) => {
                    let left = lease.map(|held: Lease| held.left(self.config.lease));
                    let pause = self.pause(left, failed);
                    self.rest(pause, &stopping).await;
                }
            }
        }
    }

    /// One turn: get or keep the lease, stamp. Answers whether more is waiting. A renewal that fails
    /// says nothing about the lease: it is held until it runs out or another has it.
    async fn turn(
        &self,
        lease: &mut Option<Lease>,
        tell: &watch::Sender<Option<Grant>>,
    ) -> Result<bool, Error> {
        let held = self.hold(*lease).await;
        if held.is_err() {
            *lease = lease.filter(|held| !held.left(self.config.lease).is_zero());
        }
        *lease = held?;
        let Some(held) = *lease else {
            return Ok(false);
        };
        let (fence, until) = (held.fence, held.until(self.config.lease));
        tell.send_if_modified(|grant| {
            if let Some(grant) = grant.as_mut().filter(|grant| grant.fence == fence) {
                grant.until = until;
            }
            false
        });
        let Some(stamped) = store::stamp(&self.pool, &self.owner, fence, self.config.batch).await?
        else {
            self.lost();
            *lease = None;
            return Ok(false);
        };
        let grant = Some(Grant {
            fence,
            epoch: stamped.epoch,
            until,
        });
        if stamped.rows > 0 || *tell.borrow() != grant {
            tell.send_replace(grant);
        }
        Ok(stamped.rows == self.config.batch)
    }

    async fn hold(&self, lease: Option<Lease>) -> Result<Option<Lease>, sqlx::Error> {
        let renewed = Instant::now();
        let Some(held) = lease else {
            let fence = store::acquire(&self.pool, &self.owner, self.config.lease).await?;
            return Ok(fence.map(|fence| {
                tracing::info!(
                    source = self.config.source,
                    fence,
                    "this process relays now"
                );
                Lease { fence, renewed }
            }));
        };
        if held.renewed.elapsed() < self.config.lease / 3 {
            return Ok(Some(held));
        }
        if store::renew(&self.pool, &self.owner, held.fence, self.config.lease).await? {
            return Ok(Some(Lease { renewed, ..held }));
        }
        self.lost();
        Ok(None)
    }

    fn lost(&self) {
        metrics::counter!("lease_losses_total", "lease" => "relay").increment(1);
        tracing::warn!(source = self.config.source, "another process relays now");
    }

    /// How long to wait after a turn, after so many in a row that failed: not beyond what is `left` of the
    /// lease, where it is held, so that its end is noticed when it comes.
    fn pause(&self, left: Option<Duration>, failed: u32) -> Duration {
        let waiting = self.config.lease / 5;
        let pause = match failed.checked_sub(1) {
            Some(before) => (RETRY * 2_u32.pow(before.min(10))).min(waiting),
            None if left.is_some() => self.config.poll,
            None => waiting,
        };
        left.map_or(pause, |left| pause.min(left))
    }

    async fn rest(&self, pause: Duration, stopping: &CancellationToken) {
        // A nudge meanwhile is kept.
        let gathering = tokio::time::sleep(self.config.gather);
        if stopping.run_until_cancelled(gathering).await.is_none() {
            return;
        }
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = self.nudge.0.notified() => {}
            () = stopping.cancelled() => {}
        }
    }

    async fn measure(&self, outage: &mut Outage) {
        match store::backlog(&self.pool).await {
            Ok(backlog) => {
                outage.over();
                metrics::gauge!("queue_depth", "queue" => format!("outbox-{}", self.config.source))
                    .set(f64::from(i32::try_from(backlog.facts).unwrap_or(i32::MAX)));
                metrics::gauge!("outbox_lag_seconds", "source" => self.config.source)
                    .set(backlog.lag_seconds);
            }
            Err(error) => outage.failed(&error),
        }
    }

    /// Publishes what was stamped under a grant, until the stamping loop is gone and nothing is
    /// left, or the bus does not take it.
    async fn publish(&self, mut told: watch::Receiver<Option<Grant>>) {
        let mut owed = false;
        let mut stream_known = false;
        let mut outage = Outage::of("relay", self.config.source, "publishing");
        loop {
            let gone = if owed {
                // Something waits for the bus: look again soon, or at once when more comes.
                matches!(
                    tokio::time::timeout(self.config.poll, told.changed()).await,
                    Ok(Err(_))
                )
            } else {
                told.changed().await.is_err()
            };
            let grant = *told.borrow_and_update();
            owed = match self.publish_all(&told, &mut stream_known).await {
                Ok(all) => {
                    // Without a grant that lasts, or without a connection to the bus, nothing was tried.
                    if all && grant.is_some() {
                        outage.over();
                    }
                    !all
                }
                Err(error) => {
                    outage.failed(&error);
                    true
                }
            };
            if gone {
                return;
            }
        }
    }

    /// Publishes batch after batch while the lease lasts; answers whether nothing is left that the grant
    /// allows. One that is over says nothing of what is left: it may be renewed, or is taken back soon.
    async fn publish_all(
        &self,
        told: &watch::Receiver<Option<Grant>>,
        stream_known: &mut bool,
    ) -> Result<bool, Error> {
        loop {
            let grant = *told.borrow();
            let Some(grant) = grant else {
                return Ok(true);
            };
            if !grant.lasts() || !crate::nats::is_connected(&self.nats) {
                return Ok(false);
            }
            let Grant { fence, epoch, .. } = grant;
            publish::ready(&self.nats, &self.config.stream, stream_known).await?;
            let batch = store::unpublished(&self.pool, epoch, self.config.batch).await?;
            let Some(last) = batch.last().map(|envelope| envelope.seq) else {
                return Ok(true);
            };
            // What is stamped after this was read is told of.
            let all = i64::try_from(batch.len()).is_ok_and(|count| count < self.config.batch);
            let count = u64::try_from(batch.len()).unwrap_or(u64::MAX);
            // The lease may have ended while the batch was read.
            let still = *told.borrow();
            let lasts = still.is_some_and(Grant::lasts);
            if !lasts {
                return Ok(false);
            }
            publish::all(&self.nats, stream_known, batch).await?;
            if !store::advance(&self.pool, &self.owner, fence, epoch, last).await? {
                // The stamping loop notices by itself, and says so once.
                return Ok(true);
            }
            metrics::counter!("outbox_published_total", "source" => self.config.source)
                .increment(count);
            if all {
                return Ok(true);
            }
        }
    }
}
