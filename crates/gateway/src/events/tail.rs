//! Follows one source: reads its feed when woken or from time to time, and tells all watchers.

use std::{sync::Arc, time::Duration};

use candlefish_proto::event::{Envelope, HeadResponse, ReplayRequest, ReplayResponse};
use tokio::{
    sync::{Notify, broadcast, watch},
    time::Instant,
};
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status};

use super::Place;

/// Events of one request; as many as fit into one answer at their usual 2 KiB.
const PAGE: i32 = 500;
/// Looks are at least this far from each other: what a busy source tells meanwhile is read together.
const GATHER: Duration = Duration::from_millis(5);

/// How much may be behind.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// Events that a watcher may be behind before it is ended.
    pub(super) buffer: usize,
    /// Whoever did not reach the source for longer follows into no other epoch: of one in between
    /// everything may have been dropped, of which nothing is left to tell. Shorter than any source keeps
    /// its events.
    pub(super) absence: Duration,
}

impl Limits {
    /// A few seconds of a busy platform, and a day of the week for which events are kept.
    const USUAL: Self = Self {
        buffer: 1024,
        absence: Duration::from_hours(24),
    };
}

/// What a service offers about its own events.
#[tonic::async_trait]
pub(crate) trait Feed: Send + Sync + std::fmt::Debug {
    /// The newest event that was numbered.
    async fn head(&self) -> Result<HeadResponse, Status>;
    /// Events again, from a number on.
    async fn replay(&self, asked: ReplayRequest) -> Result<ReplayResponse, Status>;
}

/// Hears of every event in this process before any watcher does, and of not hearing.
pub(crate) trait Listener: Send + Sync + std::fmt::Debug {
    /// It happened.
    fn told(&self, event: &Envelope);
    /// Everything up to now was told.
    fn follows(&self);
    /// The source cannot be followed, or what happened meanwhile is not to be had.
    fn lost(&self);
}

/// One source and who follows it; cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Tail {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    source: &'static str,
    feed: Arc<dyn Feed>,
    listener: Arc<dyn Listener>,
    poll: Duration,
    absence: Duration,
    /// Moved and told about under the one lock that it is, which is what lets a watcher join without
    /// a gap.
    stand: watch::Sender<Stand>,
    told: broadcast::Sender<Told>,
}

/// How far a tail is.
#[derive(Debug, Clone, Copy, Default)]
struct Stand {
    /// Up to where all watchers were told; nothing before the source was first reached.
    place: Option<Place>,
    /// Where the epoch before this one ended, when this one was told from its first event on.
    before: Option<Place>,
    /// When everything up to the source's newest event had been told last.
    followed: Option<Instant>,
}

impl Stand {
    fn was_absent(&self, for_longer_than: Duration) -> bool {
        self.followed
            .is_some_and(|followed| followed.elapsed() > for_longer_than)
    }
}

/// What all watchers are told.
#[derive(Debug, Clone)]
pub(super) enum Told {
    /// What comes next.
    Event(Arc<Envelope>),
    /// What comes next is not to be had.
    Jump,
}

/// What the feed has after a place.
pub(super) enum Next {
    /// Dense from the place on; empty when there is no more.
    Events {
        events: Vec<Envelope>,
        /// There may be more. Not so when they did not fill the page.
        more: bool,
    },
    /// The place's epoch is over, and another one began.
    EpochOver {
        /// The next one of which events are kept; the source's, when none are.
        epoch: i32,
        /// Its first event, if there is one yet, is still kept.
        whole: bool,
    },
    /// What comes after the place is no longer kept.
    Gone,
}

/// What became of an attempt to follow.
pub(super) enum Join {
    /// Everything after this place comes through the receiver, and perhaps some before it.
    Joined(Place, broadcast::Receiver<Told>),
    /// There are events in between: read them first.
    Behind,
    /// The source was not reached yet.
    Unknown,
}

impl Tail {
    /// The tail of `source`, looked at every `poll` even when nothing wakes it.
    pub(crate) fn new(
        source: &'static str,
        feed: Arc<dyn Feed>,
        listener: Arc<dyn Listener>,
        poll: Duration,
    ) -> Self {
        Self::with_limits(source, feed, listener, poll, Limits::USUAL)
    }

    pub(super) fn with_limits(
        source: &'static str,
        feed: Arc<dyn Feed>,
        listener: Arc<dyn Listener>,
        poll: Duration,
        limits: Limits,
    ) -> Self {
        let inner = Inner {
            source,
            feed,
            listener,
            poll,
            absence: limits.absence,
            stand: watch::Sender::new(Stand::default()),
            told: broadcast::Sender::new(limits.buffer),
        };
        Self {
            inner: Arc::new(inner),
        }
    }

    /// Follows the source until the process stops.
    pub(crate) async fn run(self, stopping: CancellationToken, wake: Arc<Notify>) {
        let mut reached = true;
        loop {
            let looked = tokio::select! {
                () = stopping.cancelled() => return,
                looked = self.look() => looked,
            };
            match looked {
                Ok(()) => reached = true,
                // Once per outage: the next look repeats it.
                Err(status) if std::mem::take(&mut reached) => {
                    let source = self.inner.source;
                    tracing::warn!(source, "the feed cannot be read: {}", status.message());
                }
                Err(_still) => {}
            }
            let gathering = tokio::time::sleep(GATHER);
            if stopping.run_until_cancelled(gathering).await.is_none() {
                return;
            }
            tokio::select! {
                () = stopping.cancelled() => return,
                () = wake.notified() => {}
                () = tokio::time::sleep(self.inner.poll) => {}
            }
        }
    }

    /// Tells everything that is new.
    pub(super) async fn look(&self) -> Result<(), Status> {
        let read = self.read_on().await;
        match &read {
            Ok(()) => {
                self.inner.stand.send_if_modified(|stand| {
                    stand.followed = Some(Instant::now());
                    // The place, for which others wait, is the same.
                    false
                });
                self.inner.listener.follows();
            }
            Err(_unread) => self.inner.listener.lost(),
        }
        read
    }

    async fn read_on(&self) -> Result<(), Status> {
        loop {
            let Some(place) = self.place() else {
                return self.begin().await;
            };
            match self.next(place).await? {
                Next::Events { events, .. } if events.is_empty() => return Ok(()),
                Next::Events { events, more } => {
                    self.tell(events);
                    if !more {
                        return Ok(());
                    }
                }
                Next::EpochOver { epoch, whole } => {
                    let source = self.inner.source;
                    tracing::warn!(
                        source,
                        over = place.epoch,
                        epoch,
                        "the source began a new epoch"
                    );
                    self.inner.listener.lost();
                    let absent = self.inner.stand.borrow().was_absent(self.inner.absence);
                    if !whole || absent {
                        return self.begin().await;
                    }
                    self.inner.stand.send_modify(|stand| {
                        stand.place = Some(Place { epoch, seq: 0 });
                        stand.before = Some(place);
                    });
                }
                Next::Gone => {
                    self.inner.listener.lost();
                    return self.begin().await;
                }
            }
        }
    }

    /// Goes on from where the source is now. Whoever followed would miss what is in between: they
    /// are ended.
    async fn begin(&self) -> Result<(), Status> {
        let head = self.head().await?;
        self.inner.stand.send_modify(|stand| {
            stand.place = Some(head);
            stand.before = None;
            // Nobody may be listening.
            drop(self.inner.told.send(Told::Jump));
        });
        Ok(())
    }

    fn tell(&self, events: Vec<Envelope>) {
        for event in events {
            self.inner.listener.told(&event);
            self.inner.stand.send_modify(|stand| {
                stand.place = Some(Place {
                    epoch: event.epoch,
                    seq: event.seq,
                });
                // Nobody may be listening.
                drop(self.inner.told.send(Told::Event(Arc::new(event))));
            });
        }
    }

    pub(super) fn source(&self) -> &'static str {
        self.inner.source
    }

    pub(super) fn poll(&self) -> Duration {
        self.inner.poll
    }

    pub(super) fn place(&self) -> Option<Place> {
        self.inner.stand.borrow().place
    }

    /// Where whoever stands at the end of an epoch goes on; nothing when events of it, or the first
    /// ones of the next, are not to be had any more.
    pub(super) fn after_epoch(&self, end: Place) -> Option<Place> {
        let Stand { place, before, .. } = *self.inner.stand.borrow();
        // Who read the feed by itself may have read more of it than we did.
        let whole = before.is_some_and(|before| before.epoch == end.epoch && before <= end);
        let epoch = place.filter(|_| whole)?.epoch;
        Some(Place { epoch, seq: 0 })
    }

    /// Waits until the tail stands at least there.
    pub(super) async fn reached(&self, place: Option<Place>) {
        let mut stands = self.inner.stand.subscribe();
        // Fails only when the sender is gone, which this tail holds.
        drop(
            stands
                .wait_for(|now| now.place.is_some() && now.place >= place)
                .await
                .map(|_| ()),
        );
    }

    /// Follows from `after` on; from now on without one.
    pub(super) fn join(&self, after: Option<Place>) -> Join {
        // Held until the receiver is there, so that nothing is told in between.
        let stand = self.inner.stand.borrow();
        let Some(now) = stand.place else {
            return Join::Unknown;
        };
        match after {
            Some(after) if after < now => Join::Behind,
            // Who read the feed by itself may be further than we are.
            Some(after) => Join::Joined(after, self.inner.told.subscribe()),
            None => Join::Joined(now, self.inner.told.subscribe()),
        }
    }

    /// Where the source itself stands.
    pub(super) async fn head(&self) -> Result<Place, Status> {
        let head = self.inner.feed.head().await?;
        Ok(Place {
            epoch: head.epoch,
            seq: head.seq,
        })
    }

    /// Events after a place that the source is known to have reached: an owner that is asked for
    /// more than it ever gave takes that as proof that its database is an old copy.
    pub(super) async fn next(&self, after: Place) -> Result<Next, Status> {
        let from_seq = after.seq.saturating_add(1);
        let mut limit = PAGE;
        let answer = loop {
            let asked = ReplayRequest {
                epoch: after.epoch,
                from_seq,
                limit,
            };
            match self.inner.feed.replay(asked).await {
                // Larger bodies than usual: what does not fit is asked for in pieces.
                Err(status) if limit > 1 && is_too_large(&status) => limit = (limit / 8).max(1),
                answer => break answer?,
            }
        };
        if answer.epoch == after.epoch {
            if answer.oldest_seq > from_seq {
                return Ok(Next::Gone);
            }
            let more = usize::try_from(limit).is_ok_and(|limit| answer.events.len() >= limit);
            return Ok(Next::Events {
                events: dense(answer.events, from_seq),
                more,
            });
        }
        // What the owner still gives of an epoch comes before its end, and when that is nothing, the
        // first event after it: several epochs may have begun since. One of the build before gives none.
        let (rest, later): (Vec<_>, Vec<_>) = answer
            .events
            .into_iter()
            .partition(|event| event.epoch == after.epoch);
        let has_gap = rest.first().is_some_and(|event| event.seq > from_seq);
        let rest = dense(rest, from_seq);
        if rest.is_empty() && has_gap {
            return Ok(Next::Gone);
        }
        if rest.is_empty() {
            let next = later.iter().find(|event| event.epoch > after.epoch);
            let (epoch, oldest_seq) = next.map_or((answer.epoch, answer.oldest_seq), |event| {
                (event.epoch, event.seq)
            });
            return Ok(Next::EpochOver {
                epoch,
                whole: oldest_seq <= 1,
            });
        }
        Ok(Next::Events {
            events: rest,
            more: true,
        })
    }
}

fn is_too_large(status: &Status) -> bool {
    matches!(status.code(), Code::OutOfRange | Code::ResourceExhausted)
}

/// The events from a number on, up to the first that is missing.
fn dense(events: Vec<Envelope>, from_seq: i64) -> Vec<Envelope> {
    let mut next = from_seq;
    let mut kept = Vec::with_capacity(events.len());
    for event in events {
        if event.seq > next {
            break;
        }
        if event.seq == next {
            next += 1;
            kept.push(event);
        }
    }
    kept
}
