//! Storing a delivery.

use candlefish_clock::Moment;
use candlefish_ids::DeliveryId;
use candlefish_messaging::outbox;
use sha2::{Digest, Sha256};
use sqlx::PgPool;

use super::{Delivery, event, store};

/// A delivery whose signature is good.
#[derive(Debug)]
pub(super) struct Receive<'a> {
    pub(super) source: &'static str,
    pub(super) source_id: &'a str,
    pub(super) event: &'a str,
    pub(super) body: &'a [u8],
}

/// Where it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Received {
    /// Stored now.
    New(DeliveryId),
    /// Stored before, under the same id or with the same body.
    Known(DeliveryId),
}

/// Why a delivery is not stored.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error("store a delivery")]
    Store(#[from] sqlx::Error),
    #[error("tell of a delivery")]
    Tell(#[from] outbox::Error),
    #[error("the delivery that this one repeats was forgotten just now")]
    Forgotten,
}

/// Stores a delivery with its fact, unless it is known; durable once this answers.
pub(super) async fn receive(pool: &PgPool, cmd: Receive<'_>) -> Result<Received, Error> {
    let hash: [u8; 32] = Sha256::digest(cmd.body).into();
    let mut tx = pool.begin().await?;
    let now = store::clock(&mut tx).await?;
    let delivery = Delivery {
        id: DeliveryId::new(),
        source: cmd.source.to_owned(),
        source_id: cmd.source_id.to_owned(),
        event: cmd.event.to_owned(),
        received_at: now,
        size: i32::try_from(cmd.body.len()).unwrap_or(i32::MAX),
        traceparent: candlefish_runtime::trace::current_traceparent(),
    };
    // Waits for whoever stores the same at this moment: what they commit is known afterwards.
    if !store::insert(&mut tx, &delivery, &hash, cmd.body).await? {
        let known = store::find_known(&mut tx, &delivery, &hash).await?;
        return known.map(Received::Known).ok_or(Error::Forgotten);
    }
    let id = delivery.id;
    let moment = Moment::from_database(now);
    outbox::append(&mut tx, moment, vec![event::received(delivery)]).await?;
    tx.commit().await?;
    Ok(Received::New(id))
}
