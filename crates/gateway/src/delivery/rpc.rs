//! `DeliveryService`: what our own processes read of deliveries, over the internal port.

use candlefish_ids::DeliveryId;
use candlefish_proto::delivery::{
    FetchDeliveryRequest, FetchDeliveryResponse, ListDeliveriesRequest, ListDeliveriesResponse,
    delivery_service_server::DeliveryService,
};
use candlefish_runtime::{
    database,
    refusal::{Code, Refusal},
};
use sqlx::PgPool;
use tonic::{Request, Response, Status};

use super::{github::MOST_BYTES, store};

/// Of one answer: the largest body and what is known of it.
pub(crate) const MOST_MESSAGE_BYTES: usize = MOST_BYTES + 64 * 1024;
const MOST_LISTED: i32 = 1000;

/// Reads deliveries.
#[derive(Debug, Clone)]
pub(crate) struct Rpc {
    pub(crate) pool: PgPool,
}

#[tonic::async_trait]
impl DeliveryService for Rpc {
    async fn fetch_delivery(
        &self,
        request: Request<FetchDeliveryRequest>,
    ) -> Result<Response<FetchDeliveryResponse>, Status> {
        let id = parse("id", &request.into_inner().id)?;
        let mut conn = self.pool.acquire().await.map_err(unread)?;
        let found = store::find(&mut conn, id).await.map_err(unread)?;
        let (delivery, body) = found.ok_or_else(|| {
            let words = format!("there is no delivery {id}; they are kept for 30 days");
            Refusal::new(Code::NotFound, "delivery-unknown", &words).field("id", words)
        })?;
        Ok(Response::new(FetchDeliveryResponse {
            delivery: Some(delivery.into()),
            body: body.into(),
        }))
    }

    async fn list_deliveries(
        &self,
        request: Request<ListDeliveriesRequest>,
    ) -> Result<Response<ListDeliveriesResponse>, Status> {
        let asked = request.into_inner();
        let after = match asked.after_id.as_str() {
            "" => None,
            text => Some(parse("after_id", text)?),
        };
        let limit = match asked.limit {
            0 => MOST_LISTED,
            limit => limit.clamp(1, MOST_LISTED),
        };
        let mut conn = self.pool.acquire().await.map_err(unread)?;
        let deliveries = store::list_after(&mut conn, after, limit.into()).await;
        Ok(Response::new(ListDeliveriesResponse {
            deliveries: deliveries
                .map_err(unread)?
                .into_iter()
                .map(Into::into)
                .collect(),
        }))
    }
}

fn parse(field: &'static str, text: &str) -> Result<DeliveryId, Refusal> {
    text.parse::<DeliveryId>().map_err(|error| {
        Refusal::new(Code::InvalidArgument, "bad-fields", "").field(field, error.to_string())
    })
}

fn unread(error: sqlx::Error) -> Status {
    database::refuse("read deliveries", &error).into()
}
