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

/// Publishes in order and waits for every acknowledgement. Before the first batch, and after one
/// that failed, it looks for the stream and creates it when it is missing: `known` remembers that.
///
/// A publish into no stream is refused only while nobody listens to its subject. The gateways do,
/// and then it is met with silence, as by a bus that is slow.
pub(super) async fn all(
    client: &async_nats::Client,
    stream: &Stream,
    known: &mut bool,
    batch: Vec<Envelope>,
) -> Result<(), Error> {
    let jetstream = nats::jetstream(client);
    if !*known {
        streams::ensure(&jetstream, stream).await?;
    }
    let end = attempt(&jetstream, &batch).await;
    *known = end.is_ok();
    end
}

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
