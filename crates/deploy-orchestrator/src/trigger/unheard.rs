//! What the gateway stored lately, asked for when somebody wants to know what became of a push: its sender
//! was answered before we heard of it, and the bus may be down, or we may have begun just now.

use std::time::Duration;

use candlefish_clock::Moment;
use candlefish_ids::DeliveryId;
use candlefish_proto::delivery::Delivery;
use sqlx::PgPool;
use tonic::{Code, Status};

use super::{
    Error,
    gateway::Gateway,
    store::{self, Noted},
};

/// Somebody waits for the answer, and most of it is here.
const PATIENCE: Duration = Duration::from_secs(1);
/// So many that we know are asked for again: ids are not stored in their order, and an event may be lost
/// before others that are not.
const OVERLAP: i64 = 100;

/// Deliveries that the gateway has.
#[derive(Debug, Default)]
pub(super) struct Stored {
    /// When each came; those that we know are among them.
    pub(super) deliveries: Vec<(DeliveryId, Moment)>,
    /// Why there may be more.
    pub(super) error: Option<Error>,
}

impl Stored {
    /// One of them.
    pub(super) fn find(&self, id: DeliveryId) -> Option<Noted> {
        let found = self.deliveries.iter().find(|(one, _)| *one == id);
        found.map(|&(id, received_at)| Noted {
            id,
            event: String::new(),
            received_at,
            decided_at: None,
            note: String::new(),
        })
    }
}

/// Asks for them. No connection is held meanwhile.
pub(super) async fn ask(pool: &PgPool, gateway: &Gateway) -> Result<Stored, sqlx::Error> {
    let mut conn = pool.acquire().await?;
    let after = store::find_before_newest(&mut conn, OVERLAP).await?;
    drop(conn);
    let mut deliveries = Vec::new();
    let asked = tokio::time::timeout(PATIENCE, list(gateway, after, &mut deliveries)).await;
    let asked = asked.unwrap_or_else(|_elapsed| {
        let words = format!("no answer within {} s", PATIENCE.as_secs());
        Err(Status::deadline_exceeded(words))
    });
    Ok(Stored {
        deliveries,
        error: asked.err().map(Error::Gateway),
    })
}

/// Page by page, so that what came before a failure is known.
async fn list(
    gateway: &Gateway,
    mut after: Option<DeliveryId>,
    deliveries: &mut Vec<(DeliveryId, Moment)>,
) -> Result<(), Status> {
    loop {
        let page = match gateway.list(after).await {
            // Another replica, or the same one by a new connection.
            Err(status) if status.code() == Code::Unavailable => gateway.list(after).await?,
            answer => answer?,
        };
        if page.is_empty() {
            return Ok(());
        }
        for one in &page {
            let read = read(one)
                .ok_or_else(|| Status::internal(format!("{:?} is no delivery", one.id)))?;
            after = Some(read.0);
            deliveries.push(read);
        }
    }
}

fn read(one: &Delivery) -> Option<(DeliveryId, Moment)> {
    let at = one.received_at.as_ref()?;
    let at = jiff::Timestamp::new(at.seconds, at.nanos).ok()?;
    Some((one.id.parse().ok()?, Moment::from_database(at)))
}
