//! Tells the counters on core NATS, every second.

use std::{sync::Arc, time::Duration};

use async_nats::{Client, ConnectOptions, connection::State};
use candlefish_proto::deploy as pb;
use prost::Message as _;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use super::Traffic;

/// Where samples go.
pub(crate) const SUBJECT: &str = "telemetry.edge.traffic";
/// Counters of one message: some 100 KiB, where NATS takes 1 MiB.
const TOGETHER: usize = 500;

/// Who tells.
#[derive(Debug, Clone)]
pub(crate) struct Teller {
    pub(crate) edge: String,
    pub(crate) boot: String,
    pub(crate) period: Duration,
}

/// A client that connects when NATS is there, and again.
pub(crate) async fn connect(url: &str) -> Result<Client, async_nats::ConnectError> {
    ConnectOptions::new()
        .name("edge")
        .retry_on_initial_connect()
        .connection_timeout(Duration::from_secs(2))
        .max_reconnects(None)
        .reconnect_delay_callback(|attempts| {
            let attempts = u32::try_from(attempts).unwrap_or(u32::MAX);
            Duration::from_millis(100)
                .saturating_mul(attempts)
                .min(Duration::from_secs(2))
        })
        .connect(url)
        .await
}

/// Tells until `stopping`. A sample that NATS cannot take now is dropped: the next one says more.
pub(crate) async fn run(
    traffic: Arc<Traffic>,
    nats: Client,
    teller: Teller,
    stopping: CancellationToken,
) {
    let mut ticks = interval(teller.period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut seq: i64 = 0;
    for number in 1_u64.. {
        tokio::select! {
            () = stopping.cancelled() => return,
            _ = ticks.tick() => {}
        }
        let counters = traffic.sample(number);
        if nats.connection_state() != State::Connected {
            continue;
        }
        for counters in counters.chunks(TOGETHER) {
            seq += 1;
            let sample = pb::TrafficSample {
                edge: teller.edge.clone(),
                boot: teller.boot.clone(),
                seq,
                counters: counters.to_vec(),
            };
            // The client's queue may be full: waiting for it would delay the next sample too.
            let publish = nats.publish(SUBJECT, sample.encode_to_vec().into());
            let published = tokio::time::timeout(teller.period, publish).await;
            if !matches!(published, Ok(Ok(()))) {
                tracing::debug!("a traffic sample was dropped");
            }
        }
    }
}
