//! One watcher: what it missed first, then what happens.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use candlefish_proto::event::{Envelope, WatchEventsResponse};
use candlefish_runtime::refusal::{Code, Refusal};
use futures_util::{Stream, stream};
use tokio::{
    sync::broadcast::{self, error::RecvError},
    time::Instant,
};
use tokio_util::sync::CancellationToken;
use tonic::Status;

use super::{
    Place, Tail,
    cursor::Cursor,
    filter::Filter,
    tail::{Join, Next, Told},
};

/// What a watcher knows.
pub(super) struct Watch {
    tail: Tail,
    filter: Filter,
    /// As the watcher has it.
    cursor: Cursor,
    /// After which event it is; nothing until it follows from now on.
    place: Option<Place>,
    /// Read, and not told yet.
    read: VecDeque<Arc<Envelope>>,
    /// Set once it is up to date.
    following: Option<broadcast::Receiver<Told>>,
}

impl Watch {
    /// Finds out where to begin, so that a cursor that is of no use is refused before the stream.
    pub(super) async fn begin(tail: Tail, filter: Filter, cursor: Cursor) -> Result<Self, Status> {
        let place = match cursor.place(tail.source()) {
            Some(place) => known(&tail, place).await?,
            None => None,
        };
        let mut watch = Self {
            tail,
            filter,
            cursor,
            place,
            read: VecDeque::new(),
            following: None,
        };
        // "From now on" is from here on, where the source is known.
        if watch.place.is_some() || watch.tail.place().is_some() {
            watch.read_on(Instant::now()).await?;
        }
        if let Some(place) = watch.place {
            watch.cursor.set(watch.tail.source(), place);
        }
        Ok(watch)
    }

    /// The cursor of whoever was told nothing yet; nothing until the source is known.
    pub(super) fn begins_after(&self) -> Option<String> {
        self.place.map(|_known| self.cursor.text())
    }

    /// The stream; it ends with an error that says how to go on.
    pub(super) fn stream(
        self,
        stopping: CancellationToken,
        quiet: Duration,
    ) -> impl Stream<Item = Result<WatchEventsResponse, Status>> + Send {
        stream::unfold(Some((self, stopping)), move |state| async move {
            let (mut watch, stopping) = state?;
            let next = tokio::select! {
                () = stopping.cancelled() => Err(stopped()),
                next = watch.next(quiet) => next,
            };
            let left = next.is_ok().then_some((watch, stopping));
            Some((next, left))
        })
    }

    /// The cursor alone, once it has moved over what the filter leaves out. Without it, the one that
    /// the watcher has would age until what comes after it is no longer kept, although it missed
    /// nothing.
    fn moved(&mut self) -> Option<WatchEventsResponse> {
        let place = self.place?;
        if self.cursor.place(self.tail.source()) == Some(place) {
            return None;
        }
        self.cursor.set(self.tail.source(), place);
        Some(WatchEventsResponse {
            cursor: self.cursor.text(),
            event: None,
        })
    }

    /// The next event; or, when none was to be told for so long, a cursor that has moved.
    async fn next(&mut self, quiet: Duration) -> Result<WatchEventsResponse, Status> {
        let mut due = Instant::now() + quiet;
        loop {
            if due <= Instant::now() {
                if let Some(moved) = self.moved() {
                    return Ok(moved);
                }
                due = Instant::now() + quiet;
            }
            let Some(event) = self.read.pop_front() else {
                self.read_on(due).await?;
                continue;
            };
            let place = Place {
                epoch: event.epoch,
                seq: event.seq,
            };
            self.place = Some(place);
            if self.filter.passes(&event) {
                self.cursor.set(self.tail.source(), place);
                return Ok(WatchEventsResponse {
                    cursor: self.cursor.text(),
                    event: Some(Arc::unwrap_or_clone(event)),
                });
            }
        }
    }

    /// Whoever is up to date waits for something new until then; reading what was missed is not
    /// given up.
    async fn read_on(&mut self, until: Instant) -> Result<(), Status> {
        if let Some(told) = &mut self.following {
            let Ok(heard) = tokio::time::timeout_at(until, told.recv()).await else {
                return Ok(());
            };
            let event = match heard {
                Ok(Told::Event(event)) => event,
                Ok(Told::Jump) | Err(RecvError::Lagged(_)) => return Err(lagged()),
                Err(RecvError::Closed) => return Err(stopped()),
            };
            return self.take(event);
        }
        match self.tail.join(self.place) {
            Join::Joined(place, told) => {
                self.place = Some(place);
                self.following = Some(told);
            }
            Join::Behind => self.catch_up().await?,
            Join::Unknown => self.tail.reached(None).await,
        }
        Ok(())
    }

    async fn catch_up(&mut self) -> Result<(), Status> {
        let Some(place) = self.place else {
            return Ok(());
        };
        match self.tail.next(place).await? {
            // The tail has them, so the owner gives them; not again at once, though.
            Next::Events { events, .. } if events.is_empty() => {
                tokio::time::sleep(self.tail.poll()).await;
            }
            Next::Events { events, .. } => self.read.extend(events.into_iter().map(Arc::new)),
            Next::EpochOver { .. } => {
                let next = self.tail.after_epoch(place).ok_or_else(too_old)?;
                self.place = Some(next);
            }
            Next::Gone => return Err(too_old()),
        }
        Ok(())
    }

    /// Takes what the tail told, when it is what comes next.
    fn take(&mut self, event: Arc<Envelope>) -> Result<(), Status> {
        let told = Place {
            epoch: event.epoch,
            seq: event.seq,
        };
        let is_next = match self.place {
            Some(place) if told <= place => return Ok(()),
            Some(place) if told.epoch == place.epoch => told.seq == place.seq + 1,
            Some(_) => told.seq == 1,
            None => true,
        };
        if !is_next {
            return Err(lagged());
        }
        self.read.push_back(event);
        Ok(())
    }
}

/// The place of a cursor, when it means anything to its source; nothing makes it begin now.
async fn known(tail: &Tail, place: Place) -> Result<Option<Place>, Status> {
    if tail.place().is_some_and(|now| place <= now) {
        return Ok(Some(place));
    }
    // Another replica of ours may be further; or the database is an older one; or it is made up.
    let head = tail.head().await?;
    if place > head {
        tracing::info!(?place, ?head, "a cursor is ahead of its source");
        return Ok(None);
    }
    tail.reached(Some(place)).await;
    Ok(Some(place))
}

fn lagged() -> Status {
    let words = "you are too far behind; resume with your last cursor";
    Refusal::new(Code::Aborted, "watcher-lagged", words).into()
}

fn too_old() -> Status {
    let words = "events after this cursor are no longer kept: read the lists again, and watch \
                 without a cursor";
    let refusal = Refusal::new(Code::FailedPrecondition, "cursor-too-old", words);
    refusal
        .field("cursor", "is older than the events that are kept")
        .into()
}

pub(super) fn stopped() -> Status {
    let words = "this gateway stops; resume with your last cursor";
    Refusal::new(Code::Unavailable, "stopping", words).into()
}
