//! Traffic of each release, as the edges count it.
//!
//! Samples come by core NATS and carry cumulative counters, so that a lost, late or repeated one
//! changes nothing: the newest of one boot of one edge stands. No sample is "no data", never a fault.

pub(crate) mod store;

use std::time::Duration;

use candlefish_proto::deploy as pb;
use futures_util::StreamExt;
use prost::Message;
use sqlx::PgPool;
use tokio_util::sync::CancellationToken;

/// Where edges publish.
const SUBJECT: &str = "telemetry.edge.traffic";
/// One replica takes each sample.
const GROUP: &str = "deploy-orchestrator-traffic";
/// How long to wait before subscribing anew.
const AGAIN: Duration = Duration::from_secs(1);

/// Writes samples down until `stopping`.
pub(crate) async fn run(pool: PgPool, nats: async_nats::Client, stopping: CancellationToken) {
    while !stopping.is_cancelled() {
        let subscribed = nats.queue_subscribe(SUBJECT, GROUP.to_owned()).await;
        match subscribed {
            Ok(mut samples) => loop {
                let message = tokio::select! {
                    () = stopping.cancelled() => return,
                    message = samples.next() => message,
                };
                let Some(message) = message else { break };
                write(&pool, &message.payload).await;
            },
            Err(error) => tracing::debug!(%error, "traffic samples are not subscribed"),
        }
        tokio::select! {
            () = stopping.cancelled() => return,
            () = tokio::time::sleep(AGAIN) => {}
        }
    }
}

async fn write(pool: &PgPool, payload: &[u8]) {
    let sample = match pb::TrafficSample::decode(payload) {
        Ok(sample) => sample,
        Err(error) => {
            tracing::warn!(%error, "a traffic sample could not be read");
            return;
        }
    };
    if let Err(error) = store::save(pool, &sample).await {
        tracing::debug!(%error, edge = %sample.edge, "a traffic sample was not kept");
    }
}
