//! Applies events: a batch in one transaction, or one by one when the batch holds a bad one.

use async_nats::jetstream::Message as BusMessage;
use candlefish_proto::event::Envelope;
use prost::Message;

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

    /// Applies a batch, whatever it takes; answers whether all of it is settled.
    pub(super) async fn apply_all(&mut self, batch: Vec<Incoming>) -> bool {
        if batch.is_empty() {
            return true;
        }
        match self.transact(&batch).await {
            Ok(applied) => {
                self.note(applied);
                self.settle(&batch).await;
                return true;
            }
            // One by one they would only wait for the database again, each as long as all together.
            Err(failure) if batch.len() > 1 && !matches!(failure, Failure::Away(_)) => {
                tracing::debug!(consumer = self.config.name, "a batch failed: {failure}");
            }
            Err(failure) => return self.fail(&batch, failure).await,
        }
        let mut settled = true;
        for one in batch {
            let one = [one];
            settled &= match self.transact(&one).await {
                Ok(applied) => {
                    self.note(applied);
                    self.settle(&one).await;
                    true
                }
                Err(failure) => self.fail(&one, failure).await,
            };
        }
        settled
    }

    /// The effects of new events and the record of their numbers, in one transaction.
    async fn transact(&self, batch: &[Incoming]) -> Result<Applied, Failure> {
        let (name, source) = (self.config.name, self.config.source);
        let mut tx = self.pool.begin().await?;
        let place = inbox::lock(&mut tx, name, source).await?;
        let mut known = inbox::beyond(&mut tx, name, source, place).await?;
        let before = known.clone();
        let mut applied = Vec::new();
        for Incoming { event, .. } in batch {
            let new = event.epoch == place.epoch && event.seq > place.upto;
            if new && known.insert(event.seq) {
                self.handler.apply(&mut tx, event).await?;
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
        })
    }

    /// Looks soon at what a gap or an unknown epoch means.
    fn note(&mut self, applied: Applied) {
        self.outages.applying.over();
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

    /// Events failed: later, or never again. Answers whether they are settled.
    async fn fail(&mut self, events: &[Incoming], failure: Failure) -> bool {
        let mut settled = true;
        let away = matches!(failure, Failure::Away(_));
        if away {
            self.outages.applying.failed(&failure);
        }
        for Incoming { event, message } in events {
            let tries = if away {
                self.tries.of(event)
            } else {
                self.tries.add(event)
            };
            let hopeless = match failure {
                Failure::Park(_) => true,
                Failure::Retry(_) => tries >= self.config.poison_after,
                Failure::Away(_) => false,
            };
            let delivered = message
                .as_ref()
                .and_then(|m| m.info().ok())
                .map(|i| i.delivered);
            let told = delivered.unwrap_or_default().max(tries);
            if hopeless && self.park(event, &failure, told).await {
                self.tries.forget(event);
                if let Some(message) = message {
                    self.ack(message).await;
                }
            } else {
                settled = false;
                self.count("retried", 1);
                // An outage is said once, not of each event that waits for its end.
                if !away {
                    tracing::warn!(
                        consumer = self.config.name,
                        event = event.id,
                        tries,
                        "not applied: {failure}"
                    );
                }
                if let Some(message) = message {
                    self.deliver_later(message).await;
                }
            }
        }
        settled
    }

    /// Parks an event and records its number; false when the database does not take it.
    async fn park(&mut self, event: &Envelope, failure: &Failure, tries: i64) -> bool {
        let letter = Parked {
            consumer: self.config.name,
            source: &event.source,
            epoch: event.epoch,
            seq: event.seq,
            event_type: &event.r#type,
            payload: &event.encode_to_vec(),
            error: &failure.to_string(),
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

/// `source:epoch:seq`.
fn numbers(id: &str) -> Option<(i32, i64)> {
    let mut parts = id.rsplitn(3, ':');
    let seq = parts.next()?.parse().ok()?;
    let epoch = parts.next()?.parse().ok()?;
    Some((epoch, seq))
}
