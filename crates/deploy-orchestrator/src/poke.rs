//! Pokes between replicas: a change committed here wakes the others by core NATS.
//!
//! A poke carries its sender's name alone, who needs none, and promises nothing; each loop polls as
//! well. Many commits make one poke.

use std::time::Duration;

use bytes::Bytes;
use candlefish_messaging::nats;
use futures_util::StreamExt;
use tokio_util::sync::CancellationToken;

use crate::ctx::{Ctx, Nudges};

const SUBJECT: &str = "poke.deploy";
/// Pokes closer together than this become one.
const GATHER: Duration = Duration::from_millis(5);
/// How long to wait before subscribing anew.
const AGAIN: Duration = Duration::from_secs(1);

/// Tells the others of commits here, until `stopping`.
pub(crate) async fn tell(
    ctx: Ctx,
    own: Bytes,
    bus: async_nats::Client,
    stopping: CancellationToken,
) {
    loop {
        tokio::select! {
            () = stopping.cancelled() => return,
            () = ctx.nudges.poke.notified() => {}
        }
        if nats::is_connected(&bus)
            && let Err(error) = bus.publish(SUBJECT, own.clone()).await
        {
            tracing::debug!(%error, "a poke was not sent");
        }
        tokio::time::sleep(GATHER).await;
    }
}

/// Wakes this process's loops when another commits, until `stopping`.
pub(crate) async fn listen(
    nudges: Nudges,
    own: Bytes,
    bus: async_nats::Client,
    stopping: CancellationToken,
) {
    while !stopping.is_cancelled() {
        match bus.subscribe(SUBJECT).await {
            Ok(mut pokes) => loop {
                let poke = tokio::select! {
                    () = stopping.cancelled() => return,
                    poke = pokes.next() => poke,
                };
                match poke {
                    None => break,
                    // Our own loops were woken by the commit itself.
                    Some(poke) if poke.payload == own => {}
                    Some(_) => nudges.wake(),
                }
            },
            Err(error) => tracing::debug!(%error, "pokes are not subscribed"),
        }
        tokio::select! {
            () = stopping.cancelled() => return,
            () = tokio::time::sleep(AGAIN) => {}
        }
    }
}
