//! `gateway.delivery.received.v1`: a delivery to fetch.

use std::sync::Arc;

use candlefish_ids::DeliveryId;
use candlefish_messaging::consumer::{Failure, Handler};
use candlefish_proto::{
    delivery::{Delivery, DeliveryReceived},
    event::Envelope,
};
use prost::Message;
use sqlx::{PgConnection, PgPool};
use tokio::sync::Notify;

use super::{gateway::Gateway, store};

/// The durable name of the consumer.
pub(crate) const CONSUMER: &str = "deploy-orchestrator-deliveries-v1";
/// Whose events it takes.
pub(crate) const SOURCE: &str = "gateway";
const RECEIVED: &str = "gateway.delivery.received.v1";

/// Notes deliveries to fetch.
#[derive(Debug, Clone)]
pub(crate) struct OnDelivery {
    pub(crate) pool: PgPool,
    pub(crate) gateway: Gateway,
    /// Wakes whoever fetches; a poll finds what this misses.
    pub(crate) wake: Arc<Notify>,
}

impl Handler for OnDelivery {
    async fn apply(&self, conn: &mut PgConnection, event: &Envelope) -> Result<(), Failure> {
        if event.r#type != RECEIVED {
            return Ok(());
        }
        let body = event.body.as_ref().map(|body| body.value.as_slice());
        let told = DeliveryReceived::decode(body.unwrap_or_default())
            .map_err(|error| Failure::Park(error.to_string()))?;
        let delivery = told.delivery.unwrap_or_default();
        insert(conn, &[delivery]).await?;
        self.wake.notify_one();
        Ok(())
    }

    async fn rebuild(&self) -> Result<(), Failure> {
        let mut after = None;
        loop {
            let page = self.gateway.list(after).await;
            let page = page.map_err(|status| Failure::Retry(status.to_string()))?;
            let Some(last) = page.last() else {
                self.wake.notify_one();
                return Ok(());
            };
            after = Some(parse(&last.id)?);
            let mut conn = self.pool.acquire().await?;
            insert(&mut conn, &page).await?;
        }
    }
}

async fn insert(conn: &mut PgConnection, deliveries: &[Delivery]) -> Result<(), Failure> {
    for one in deliveries {
        let received_at = one
            .received_at
            .as_ref()
            .and_then(|at| jiff::Timestamp::new(at.seconds, at.nanos).ok());
        let received_at =
            received_at.ok_or_else(|| Failure::Park(format!("{} was received never", one.id)))?;
        store::insert_delivery(conn, parse(&one.id)?, &one.event, received_at).await?;
    }
    Ok(())
}

fn parse(id: &str) -> Result<DeliveryId, Failure> {
    id.parse()
        .map_err(|error| Failure::Park(format!("{id:?} is no delivery: {error}")))
}
