//! The bus's side: the durable pull consumer, its batches, acknowledgements.

use std::time::Duration;

use async_nats::jetstream::{
    AckKind, Message,
    consumer::{AckPolicy, DeliverPolicy, pull},
};
use futures_util::{FutureExt, StreamExt};

use super::{Consumer, Handler, Owner};
use crate::nats;

const ACK_WAIT: Duration = Duration::from_secs(30);
/// Bounds a storm of redeliveries.
const ACKS_PENDING: i64 = 512;
const PULL_EXPIRES: Duration = Duration::from_secs(10);
const PULL_HEARTBEAT: Duration = Duration::from_secs(3);

impl<H: Handler, O: Owner> Consumer<H, O> {
    /// Attaches to the stream; creates the durable unless it is there. Nothing while the bus or the
    /// stream is missing: its publisher creates it, and until then the owner is asked.
    pub(super) async fn attach(&mut self) -> Option<pull::Stream> {
        if !nats::is_connected(&self.nats) {
            return None;
        }
        match self.try_attach().await {
            Ok(messages) => {
                self.outages.attaching.over();
                Some(messages)
            }
            Err(error) => {
                self.outages.attaching.failed(&*error);
                None
            }
        }
    }

    async fn try_attach(&self) -> Result<pull::Stream, async_nats::Error> {
        let jetstream = nats::jetstream(&self.nats);
        let stream = jetstream.get_stream(&self.config.stream).await?;
        let config = pull::Config {
            durable_name: Some(self.config.name.to_owned()),
            filter_subject: self.config.filter.clone(),
            deliver_policy: DeliverPolicy::All,
            ack_policy: AckPolicy::Explicit,
            ack_wait: ACK_WAIT,
            // Poison is ours to park; a limit here would stall the acknowledged floor.
            max_deliver: -1,
            max_ack_pending: ACKS_PENDING,
            ..pull::Config::default()
        };
        let consumer = stream
            .get_or_create_consumer(self.config.name, config)
            .await?;
        let messages = consumer
            .stream()
            .max_messages_per_batch(self.config.batch)
            .expires(PULL_EXPIRES)
            .heartbeat(PULL_HEARTBEAT)
            .messages()
            .await?;
        Ok(messages)
    }

    pub(super) async fn ack(&self, message: &Message) {
        // A lost acknowledgement brings a duplicate, which is acknowledged again.
        if let Err(error) = message.ack().await {
            tracing::debug!(consumer = self.config.name, "not acknowledged: {error}");
        }
    }

    pub(super) async fn deliver_later(&self, message: &Message) {
        let later = AckKind::Nak(Some(self.config.retry_delay));
        if let Err(error) = message.ack_with(later).await {
            tracing::debug!(consumer = self.config.name, "not put back: {error}");
        }
    }
}

/// Waits for a message and takes what else is there. Safe to drop while it waits.
pub(super) async fn next_batch(
    messages: &mut pull::Stream,
    limit: usize,
) -> Result<Vec<Message>, String> {
    let mut batch = Vec::new();
    let mut next = messages.next().await;
    loop {
        match next {
            Some(Ok(message)) => batch.push(message),
            // What was taken already is applied; the error comes again with the next call.
            Some(Err(_)) | None if !batch.is_empty() => return Ok(batch),
            Some(Err(error)) => return Err(error.to_string()),
            None => return Err("it gives no more messages".to_owned()),
        }
        if batch.len() == limit {
            return Ok(batch);
        }
        match messages.next().now_or_never() {
            Some(item) => next = item,
            None => return Ok(batch),
        }
    }
}
