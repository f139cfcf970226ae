//! The one place that publishes to JetStream.

use std::future::IntoFuture;

use async_nats::jetstream::{context::PublishError, message::PublishMessage};
use candlefish_proto::event::Envelope;
use prost::Message;

use crate::{nats, streams, streams::Stream};

/// Why a batch is not published. It is sent again as a whole.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error("publish event {epoch}:{seq}")]
    Publish {
        epoch: i32,
        seq: i64,
        #[source]
        source: PublishError,
    },
    #[error(transparent)]
    Stream(#[from] streams::Error),
}

/// Looks for the stream, and creates it when it is missing, before the first batch and after one that
/// failed: `known` remembers that.
///
/// Before there is anything to publish, so that consumers are attached when the first fact comes. And
/// because a publish into no stream is refused only while nobody listens to its subject: the gateways
/// do, and then it is met with silence, as by a bus that is slow.
pub(super) async fn ready(
    client: &async_nats::Client,
    stream: &Stream,
    known: &mut bool,
) -> Result<(), Error> {
    if !*known {
        streams::ensure(&nats::jetstream(client), stream).await?;
        *known = true;
    }
    Ok(())
}

/// Publishes in order and waits for every acknowledgement.
pub(super) async fn all(
    client: &async_nats::Client,
    known: &mut bool,
    batch: Vec<Envelope>,
) -> Result<(), Error> {
    let end = attempt(&nats::jetstream(client), &batch).await;
    *known = end.is_ok();
    end
}

#[expect(
    clippy::disallowed_methods,
    reason = "what is published here was committed to the outbox before"
)]
async fn attempt(
    jetstream: &async_nats::jetstream::Context,
    batch: &[Envelope],
) -> Result<(), Error> {
    let failed = |envelope: &Envelope| {
        let (epoch, seq) = (envelope.epoch, envelope.seq);
        move |source| Error::Publish { epoch, seq, source }
    };
    let mut sent = Vec::with_capacity(batch.len());
    for envelope in batch {
        let message = PublishMessage::build()
            .payload(envelope.encode_to_vec().into())
            .message_id(format!(
                "{}:{}:{}",
                envelope.source, envelope.epoch, envelope.seq
            ));
        let ack = jetstream
            .send_publish(envelope.r#type.clone(), message)
            .await
            .map_err(failed(envelope))?;
        sent.push((envelope, ack));
    }
    for (envelope, ack) in sent {
        ack.into_future().await.map_err(failed(envelope))?;
    }
    Ok(())
}
