//! Applies events: a batch in one transaction, or one by one when the batch holds a bad one. What
//! failed before is never in a batch: it would fail all of it again.

use std::panic::AssertUnwindSafe;

use async_nats::jetstream::Message as BusMessage;
use candlefish_proto::event::Envelope;
use futures_util::FutureExt;
use prost::Message;
use sqlx::PgConnection;

use super::{Consumer, Failure, Handler, Owner};
use crate::{
    dead_letter::{self, Parked},
    inbox::{self, Place},
};

/// One event and where it came from.
#[derive(Debug)]
pub(super) struct Incoming {
    pub(super) event: Envelope,
    /// None when the owner replayed it.
    pub(super) message: Option<BusMessage>,
}

/// What became of a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Applied {
    place: Place,
    /// Something is beyond the place: a gap.
    gap: bool,
    /// Something is of an epoch that we have not seen.
    foreign: bool,
    /// Something was applied: not all of it was known.
    new: bool,
}

impl<H: Handler, O: Owner> Consumer<H, O> {
    /// Applies what the bus brought, and acknowledges it.
    pub(super) async fn take(&mut self, messages: Vec<BusMessage>) {
        self.gap.hear();
        self.outages.hearing.over();
        let mut batch = Vec::with_capacity(messages.len());
        for message in messages {
            match Envelope::decode(message.payload.clone()) {
                Ok(event) if event.source == self.config.source && event.seq > 0 => {
                    batch.push(Incoming {
                        event,
                        message: Some(message),
                    });
                }
                Ok(event) => {
                    let why = format!("it is of source {:?}, number {}", event.source, event.seq);
                    self.park_unreadable(&message, &why).await;
                }
                Err(error) => self.park_unreadable(&message, &error.to_string()).await,
            }
        }
        self.apply_all(batch).await;
    }

    /// Applies a batch, and what failed before alone after it; answers whether the database works. When
    /// it does not, what is left comes again later.
    pub(super) async fn apply_all(&mut self, batch: Vec<Incoming>) -> bool {
        let (fresh, mut alone): (Vec<_>, Vec<_>) = batch
            .into_iter()
            .partition(|one| self.tries.made(&one.event) == 0);
        let mut works = false;
        if fresh.len() > 1 {
            match self.transact(&fresh).await {
                Ok(applied) => {
                    works = applied.new;
                    self.note(applied);
                    self.settle(&fresh).await;
                }
                // One by one they would only wait for the database again, each as long as all together.
                Err(away @ Failure::Away(_)) => {
                    self.outages.applying.failed(&away);
                    self.put_off(&fresh).await;
                    self.put_off(&alone).await;
                    return false;
                }
                Err(failure) => {
                    tracing::debug!(consumer = self.config.name, "a batch failed: {failure}");
                    alone.extend(fresh);
                }
            }
        } else {
            alone.extend(fresh);
        }
        self.apply_alone(alone, works).await
    }

    /// Applies events one by one, those that were tried least first, so that none waits for ever behind
    /// one that takes long. A database that was busy for one after nothing was applied (`works`) is taken
    /// for busy with everything: the others would only wait as long, each. Answers whether it works.
    async fn apply_alone(&mut self, mut events: Vec<Incoming>, mut works: bool) -> bool {
        events.sort_by_key(|one| self.tries.made(&one.event));
        let mut events = events.into_iter();
        while let Some(one) = events.next() {
            let one = [one];
            let goes_on = match self.transact(&one).await {
                Ok(applied) => {
                    works |= applied.new;
                    self.note(applied);
                    self.settle(&one).await;
                    true
                }
                Err(failure) => {
                    let goes_on = match failure {
                        Failure::Away(_) => false,
                        Failure::Busy(_) => std::mem::take(&mut works),
                        Failure::Retry(_) | Failure::Park(_) => true,
                    };
                    let [one] = &one;
                    self.fail(one, &failure).await;
                    goes_on
                }
            };
            if !goes_on {
                self.put_off(events.as_slice()).await;
                return false;
            }
        }
        true
    }

    /// The effects of new events and the record of their numbers, in one transaction.
    async fn transact(&self, batch: &[Incoming]) -> Result<Applied, Failure> {
        let (name, source) = (self.config.name, self.config.source);
        let mut tx = self.pool.begin().await?;
        let place = inbox::lock(&mut tx, name, source).await;
        let place = place.map_err(of_the_place)?;
        let mut known = inbox::beyond(&mut tx, name, source, place)
            .await
            .map_err(of_the_place)?;
        let before = known.clone();
        let mut applied = Vec::new();
        for Incoming { event, .. } in batch {
            let new = event.epoch == place.epoch && event.seq > place.upto;
            if new && known.insert(event.seq) {
                try_apply(&self.handler, &mut tx, event).await?;
                applied.push(event.seq);
            }
        }
        let place = inbox::record(&mut tx, name, source, place, &before, &applied).await?;
        tx.commit().await?;
        self.count("applied", applied.len());
        self.count("duplicate", batch.len() - applied.len());
        Ok(Applied {
            place,
            gap: known.iter().any(|seq| *seq > place.upto),
            foreign: batch
                .iter()
                .any(|incoming| incoming.event.epoch > place.epoch),
            new: !applied.is_empty(),
        })
    }

    /// Looks soon at what a gap or an unknown epoch means.
    fn note(&mut self, applied: Applied) {
        self.outages.applying.over();
        if applied.new {
            self.outages.in_time.over();
            self.tries.applied();
        }
        self.tries.forget_upto(applied.place);
        if applied.gap || applied.foreign {
            let soon = tokio::time::Instant::now() + self.config.gap_grace;
            if self.heal_at > soon {
                self.heal_at = soon;
                self.gap.see(applied.place.upto);
            }
        }
    }

    async fn settle(&mut self, batch: &[Incoming]) {
        for Incoming { event, message } in batch {
            self.tries.forget(event);
            if let Some(message) = message {
                self.ack(message).await;
            }
        }
    }

    /// An event failed by itself, or the database did: later, or never again.
    async fn fail(&mut self, one: &Incoming, failure: &Failure) {
        let Incoming { event, message } = one;
        let counted = match failure {
            Failure::Park(_) | Failure::Retry(_) => Some(self.tries.add(event)),
            Failure::Busy(_) => self.tries.add_busy(event),
            Failure::Away(_) => None,
        };
        let Some(tries) = counted else {
            // An outage is said once, not of each event that waits for its end.
            let outage = match failure {
                Failure::Busy(_) => &mut self.outages.in_time,
                _ => &mut self.outages.applying,
            };
            outage.failed(failure);
            self.put_off(std::slice::from_ref(one)).await;
            return;
        };
        let is_busy = matches!(failure, Failure::Busy(_));
        let why = if is_busy {
            format!(
                "the database was busy with this event at {tries} tries, and applied others in \
                 between: {failure}"
            )
        } else {
            failure.to_string()
        };
        let early = is_busy && self.tries.age(event) < self.config.busy_patience;
        let often = tries >= self.config.poison_after;
        let hopeless = matches!(failure, Failure::Park(_)) || (often && !early);
        if hopeless && self.park(one, &why).await {
            self.tries.forget(event);
            if let Some(message) = message {
                self.ack(message).await;
            }
        } else {
            // Minutes of tries are not each said.
            if tries <= self.config.poison_after {
                tracing::warn!(
                    consumer = self.config.name,
                    event = event.id,
                    tries,
                    "not applied: {why}"
                );
            }
            self.put_off(std::slice::from_ref(one)).await;
        }
    }

    /// Events come again later.
    async fn put_off(&self, events: &[Incoming]) {
        self.count("retried", events.len());
        for Incoming { message, .. } in events {
            if let Some(message) = message {
                self.deliver_later(message).await;
            }
        }
    }

    /// Parks an event and records its number; false when the database does not take it.
    async fn park(&mut self, one: &Incoming, why: &str) -> bool {
        let Incoming { event, message } = one;
        let delivered = message.as_ref().and_then(|message| message.info().ok());
        let delivered = delivered.map(|info| info.delivered).unwrap_or_default();
        let tries = delivered.max(self.tries.made(event));
        let letter = Parked {
            consumer: self.config.name,
            source: &event.source,
            epoch: event.epoch,
            seq: event.seq,
            event_type: &event.r#type,
            payload: &event.encode_to_vec(),
            error: why,
            deliveries: i32::try_from(tries).unwrap_or(i32::MAX),
        };
        self.park_letter(letter).await
    }

    /// Parks a message that cannot be read; its number comes from its id on the bus.
    async fn park_unreadable(&mut self, message: &BusMessage, why: &str) {
        let id = message
            .headers
            .as_ref()
            .and_then(|headers| headers.get("Nats-Msg-Id"));
        let (epoch, seq) = id.and_then(|id| numbers(id.as_str())).unwrap_or((0, 0));
        let delivered = message
            .info()
            .map(|info| info.delivered)
            .unwrap_or_default();
        let letter = Parked {
            consumer: self.config.name,
            source: self.config.source,
            epoch,
            seq,
            event_type: message.subject.as_str(),
            payload: &message.payload,
            error: why,
            deliveries: i32::try_from(delivered).unwrap_or(i32::MAX),
        };
        if self.park_letter(letter).await {
            self.ack(message).await;
        } else {
            self.deliver_later(message).await;
        }
    }

    async fn park_letter(&mut self, letter: Parked<'_>) -> bool {
        let why = letter.error.to_owned();
        let event_type = letter.event_type.to_owned();
        match self.try_park(letter).await {
            Ok(()) => {
                self.outages.applying.over();
                tracing::error!(
                    consumer = self.config.name,
                    event_type,
                    "parked an event: {why}"
                );
                self.count("parked", 1);
                true
            }
            Err(error) => {
                self.outages.applying.failed(&error);
                false
            }
        }
    }

    async fn try_park(&self, letter: Parked<'_>) -> Result<(), sqlx::Error> {
        let (name, source) = (self.config.name, self.config.source);
        let (epoch, seq) = (letter.epoch, letter.seq);
        let mut tx = self.pool.begin().await?;
        let place = inbox::lock(&mut tx, name, source).await?;
        let known = inbox::beyond(&mut tx, name, source, place).await?;
        let told = epoch == place.epoch && seq > 0;
        if told && (seq <= place.upto || known.contains(&seq)) {
            // Parked or applied before: its acknowledgement was lost.
            return tx.rollback().await;
        }
        dead_letter::park(&mut tx, letter).await?;
        if told {
            inbox::record(&mut tx, name, source, place, &known, &[seq]).await?;
        }
        tx.commit().await
    }
}

/// Applies one event. A handler that panics at it failed with it: otherwise the process would stop, and
/// so would the next one that is brought it, for as long as it is brought.
pub(super) async fn try_apply<H: Handler>(
    handler: &H,
    conn: &mut PgConnection,
    event: &Envelope,
) -> Result<(), Failure> {
    // What the handler left half done is the database's to undo: the caller rolls back.
    let applied = AssertUnwindSafe(handler.apply(conn, event)).catch_unwind();
    applied.await.unwrap_or_else(|panic| {
        let words = panic.downcast_ref::<&str>().copied();
        let words = words.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
        let words = words.unwrap_or("without words");
        Err(Failure::Retry(format!("its handler panicked: {words}")))
    })
}

/// Who waits too long for the place waits for another replica that has it: no event is to blame.
fn of_the_place(error: sqlx::Error) -> Failure {
    match Failure::from(error) {
        Failure::Busy(words) => Failure::Away(words),
        failure => failure,
    }
}

/// `source:epoch:seq`.
fn numbers(id: &str) -> Option<(i32, i64)> {
    let mut parts = id.rsplitn(3, ':');
    let seq = parts.next()?.parse().ok()?;
    let epoch = parts.next()?.parse().ok()?;
    Some((epoch, seq))
}
