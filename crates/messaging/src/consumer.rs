//! Takes a source's events from JetStream, and from its owner when the bus lost them.
//!
//! A batch is applied in one transaction together with the record of its numbers, then
//! acknowledged; duplicates are acknowledged without effect. Order is not promised: an event is a
//! hint, and its handler reads the state again. A gap in the numbers, or an owner whose head stays
//! ahead, is closed by asking the owner to replay. A new epoch means that the owner's database is
//! another than before: the handler rebuilds from the owner's lists.
//!
//! What cannot be read is parked at once, what cannot be applied after some tries, however long the
//! database was away meanwhile; parked events are dead letters that a person replays or discards. What
//! failed before is tried after everything else, alone. A busy database is an event's own fault only when
//! others are applied between its tries, and that for minutes.

use std::{future::Future, time::Duration};

use async_nats::jetstream::consumer::pull;
use candlefish_proto::event::{Envelope, HeadResponse, ReplayRequest, ReplayResponse};
use sqlx::{PgConnection, PgPool};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

mod apply;
mod bus;
mod gap;
mod heal;
mod tries;

use gap::Gap;
use tries::Tries;

use crate::outage::Outage;

/// What to do with an event that could not be applied.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// Try again later.
    #[error("{0}")]
    Retry(String),
    /// The database does not answer now, which no event is to blame for: try again, however often.
    #[error("{0}")]
    Away(String),
    /// The database broke off what was asked of it: it is busy, with everything or with what this event
    /// is about. Try again; as a failure it counts only when others were applied meanwhile.
    #[error("{0}")]
    Busy(String),
    /// It will never work: park it.
    #[error("{0}")]
    Park(String),
}

impl From<sqlx::Error> for Failure {
    fn from(error: sqlx::Error) -> Self {
        let words = error.to_string();
        if is_away(&error) {
            Self::Away(words)
        } else if is_busy(&error) {
            Self::Busy(words)
        } else {
            Self::Retry(words)
        }
    }
}

/// How the driver begins to say that a server in the middle of its end answers no greeting.
const NO_GREETING: &str = "unexpected response from SSLRequest";

/// Whether the database cannot be reached, or is going, coming, full, or a primary no more.
fn is_away(error: &sqlx::Error) -> bool {
    const GOING: [&str; 4] = ["57P01", "57P02", "57P03", "25006"];
    match error {
        sqlx::Error::PoolTimedOut
        | sqlx::Error::PoolClosed
        | sqlx::Error::Io(_)
        | sqlx::Error::Tls(_)
        | sqlx::Error::WorkerCrashed => true,
        sqlx::Error::Protocol(words) => words.starts_with(NO_GREETING),
        sqlx::Error::Database(refused) => refused.code().is_some_and(|state| {
            ["08", "53"].iter().any(|class| state.starts_with(class)) || GOING.contains(&&*state)
        }),
        _ => false,
    }
}

/// Whether the database broke off what it was asked: timeouts, deadlocks, serialization.
fn is_busy(error: &sqlx::Error) -> bool {
    const BUSY: [&str; 5] = ["57014", "55P03", "40P01", "40001", "25P03"];
    let refused = error.as_database_error();
    let state = refused.and_then(sqlx::error::DatabaseError::code);
    state.is_some_and(|state| BUSY.contains(&&*state))
}

/// What a consumer does with events.
pub trait Handler: Send + Sync {
    /// Applies one event in the transaction that also records it. No network in here.
    fn apply(
        &self,
        conn: &mut PgConnection,
        event: &Envelope,
    ) -> impl Future<Output = Result<(), Failure>> + Send;

    /// Reads everything anew from the owner's lists: on the first contact, and when the owner's
    /// epoch changed or its memory is shorter than our absence. In transactions of its own.
    fn rebuild(&self) -> impl Future<Output = Result<(), Failure>> + Send;
}

/// The owner did not answer.
#[derive(Debug, thiserror::Error)]
#[error("ask the owner of the events")]
pub struct OwnerError(#[source] pub Box<dyn std::error::Error + Send + Sync>);

/// Who owns the events: its `FeedService`.
pub trait Owner: Send + Sync {
    /// Where its feed stands.
    fn head(&self) -> impl Future<Output = Result<HeadResponse, OwnerError>> + Send;
    /// Its events again.
    fn replay(
        &self,
        request: ReplayRequest,
    ) -> impl Future<Output = Result<ReplayResponse, OwnerError>> + Send;
}

/// What a consumer is told.
#[derive(Debug, Clone)]
pub struct ConsumerConfig {
    /// `<service>-<purpose>-v1`: its durable name.
    pub name: &'static str,
    /// Whose events.
    pub source: &'static str,
    /// The stream that carries them.
    pub stream: String,
    /// The subjects that it wants. Numbers are dense over all of a source's events, so a consumer
    /// takes all of them.
    pub filter: String,
    /// How often it asks the owner's head.
    pub heal_every: Duration,
    /// How long a gap may close by itself.
    pub gap_grace: Duration,
    /// The pause before an event that failed is delivered again.
    pub retry_delay: Duration,
    /// After so many tries that failed in this process an event is parked. Those at which the database
    /// was away do not count, nor those at which it was busy unless another event was applied since the
    /// try before.
    pub poison_after: i64,
    /// An event that the database was busy with is not parked sooner after its first failure, however often
    /// it was tried: an overloaded database breaks off now this one, now that one.
    pub busy_patience: Duration,
    /// The most events of one transaction.
    pub batch: usize,
}

impl ConsumerConfig {
    /// The usual periods: the owner's head every 5 s, a gap 300 ms, retries 1 s, parked after 8, and when
    /// the database is busy with it after 5 min.
    pub fn of(name: &'static str, source: &'static str) -> Self {
        Self {
            name,
            source,
            stream: source.to_uppercase(),
            filter: format!("{source}.>"),
            heal_every: Duration::from_secs(5),
            gap_grace: Duration::from_millis(300),
            retry_delay: Duration::from_secs(1),
            poison_after: 8,
            busy_patience: Duration::from_mins(5),
            batch: 64,
        }
    }
}

/// A consumer of one source.
#[derive(Debug)]
pub struct Consumer<H, O> {
    pool: PgPool,
    nats: async_nats::Client,
    config: ConsumerConfig,
    handler: H,
    owner: O,
    /// When the owner is asked next.
    heal_at: Instant,
    /// What the owner gave out and the bus did not bring yet.
    gap: Gap,
    tries: Tries,
    outages: Outages,
}

/// What may fail for long, each said once.
#[derive(Debug)]
struct Outages {
    /// Asking the database and the owner what is missing.
    healing: Outage,
    /// Reaching the stream on the bus.
    attaching: Outage,
    /// Being brought what was given out.
    hearing: Outage,
    /// Reaching the database with what came.
    applying: Outage,
    /// Having the database apply what came: over with the next event that it applies.
    in_time: Outage,
}

impl Outages {
    const fn of(name: &'static str) -> Self {
        Self {
            healing: Outage::of("consumer", name, "healing"),
            attaching: Outage::of("consumer", name, "attaching to the bus"),
            hearing: Outage::of("consumer", name, "hearing the bus"),
            applying: Outage::of("consumer", name, "applying events"),
            in_time: Outage::of("consumer", name, "applying events in time"),
        }
    }
}

/// The bus, attached as it is, brings nothing of what the owner gave out.
#[derive(Debug, thiserror::Error)]
#[error("it is deaf: attaching anew")]
struct Deaf;

impl<H: Handler, O: Owner> Consumer<H, O> {
    /// A consumer that is not running yet.
    pub fn new(
        pool: PgPool,
        nats: async_nats::Client,
        config: ConsumerConfig,
        handler: H,
        owner: O,
    ) -> Self {
        let outages = Outages::of(config.name);
        Self {
            pool,
            nats,
            config,
            handler,
            owner,
            heal_at: Instant::now(),
            gap: Gap::default(),
            tries: Tries::default(),
            outages,
        }
    }

    /// Consumes until the process stops; a batch in hand is finished. Works without the bus too,
    /// by asking the owner.
    pub async fn run(mut self, stopping: CancellationToken) {
        let mut messages: Option<pull::Stream> = None;
        while !stopping.is_cancelled() {
            if self.heal_at <= Instant::now() {
                self.heal_at = Instant::now() + self.config.heal_every;
                match self.heal(&stopping).await {
                    Ok(deaf) => {
                        self.outages.healing.over();
                        if deaf && messages.take().is_some() {
                            self.outages.hearing.failed(&Deaf);
                        }
                    }
                    Err(error) => self.outages.healing.failed(&error),
                }
            }
            let Some(stream) = &mut messages else {
                messages = self.attach().await;
                if messages.is_none() {
                    let pause = self.heal_at.min(Instant::now() + self.config.retry_delay);
                    stopping
                        .run_until_cancelled(tokio::time::sleep_until(pause))
                        .await;
                }
                continue;
            };
            let batch = tokio::select! {
                batch = bus::next_batch(stream, self.config.batch) => batch,
                () = tokio::time::sleep_until(self.heal_at) => continue,
                () = stopping.cancelled() => break,
            };
            match batch {
                Ok(batch) => self.take(batch).await,
                Err(why) => {
                    tracing::warn!(consumer = self.config.name, "the bus ended: {why}");
                    messages = None;
                }
            }
        }
    }

    fn count(&self, outcome: &'static str, events: usize) {
        metrics::counter!(
            "events_consumed_total", "consumer" => self.config.name, "outcome" => outcome
        )
        .increment(u64::try_from(events).unwrap_or(u64::MAX));
    }
}
