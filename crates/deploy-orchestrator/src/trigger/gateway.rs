//! The gateway's internal port: its events, its deliveries and their bodies.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use candlefish_ids::DeliveryId;
use candlefish_messaging::consumer::{Owner, OwnerError};
use candlefish_proto::{
    delivery::{
        Delivery, FetchDeliveryRequest, ListDeliveriesRequest,
        delivery_service_client::DeliveryServiceClient,
    },
    event::{
        HeadRequest, HeadResponse, ReplayRequest, ReplayResponse,
        feed_service_client::FeedServiceClient,
    },
};
use candlefish_runtime::{
    identity::{Caller, IDENTITY, Signer},
    listen,
};
use tonic::{
    Request, Status,
    metadata::{Ascii, MetadataValue},
    transport::{Channel, Endpoint, Uri},
};

use crate::wiring::NAME;

/// The receiver of what we sign.
const AUDIENCE: &str = "gateway";
const CONNECT: Duration = Duration::from_secs(1);
/// A body has 25 MB at most.
const TIMEOUT: Duration = Duration::from_secs(20);
const MOST_BYTES: usize = 26 * 1024 * 1024;
const LISTED: i32 = 1000;

/// All replicas of the gateway; cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Gateway {
    channels: Arc<[Channel]>,
    turn: Arc<AtomicUsize>,
    signer: Signer,
}

impl Gateway {
    /// Connects when it is first called.
    pub(crate) fn new(replicas: &[Uri], signer: Signer) -> Self {
        let channels = replicas.iter().map(|uri| {
            Endpoint::from(uri.clone())
                .connect_timeout(CONNECT)
                .connect_lazy()
        });
        Self {
            channels: channels.collect(),
            turn: Arc::default(),
            signer,
        }
    }

    /// The body of a delivery, as it was signed.
    pub(super) async fn fetch(&self, id: DeliveryId) -> Result<bytes::Bytes, Status> {
        let asked = FetchDeliveryRequest { id: id.to_string() };
        let request = self.request(asked)?;
        let mut client = DeliveryServiceClient::new(self.channel()?);
        client = client.max_decoding_message_size(MOST_BYTES);
        Ok(client.fetch_delivery(request).await?.into_inner().body)
    }

    /// Deliveries after one, by id; fewer than a page are the last.
    pub(super) async fn list(&self, after: Option<DeliveryId>) -> Result<Vec<Delivery>, Status> {
        let request = self.request(ListDeliveriesRequest {
            after_id: after.map(|id| id.to_string()).unwrap_or_default(),
            limit: LISTED,
        })?;
        let mut client = DeliveryServiceClient::new(self.channel()?);
        client = client.max_decoding_message_size(listen::MAX_MESSAGE_BYTES);
        let page = client.list_deliveries(request).await?;
        Ok(page.into_inner().deliveries)
    }

    fn feed(&self) -> Result<FeedServiceClient<Channel>, Status> {
        let client = FeedServiceClient::new(self.channel()?);
        Ok(client.max_decoding_message_size(listen::MAX_MESSAGE_BYTES))
    }

    /// The next replica in turn: a call that met one that is down meets another when it is repeated.
    fn channel(&self) -> Result<Channel, Status> {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let channel = self.channels.get(turn % self.channels.len().max(1));
        channel
            .cloned()
            .ok_or_else(|| Status::unavailable("no gateway is configured"))
    }

    fn request<T>(&self, message: T) -> Result<Request<T>, Status> {
        let token = self.signer.token(AUDIENCE, &Caller::process(NAME));
        let token = token.map_err(|error| Status::internal(error.to_string()))?;
        let token: MetadataValue<Ascii> = token
            .parse()
            .map_err(|_error| Status::internal("a token is no header"))?;
        let mut request = Request::new(message);
        request.metadata_mut().insert(IDENTITY, token);
        request.set_timeout(TIMEOUT);
        Ok(request)
    }
}

fn unanswered(status: Status) -> OwnerError {
    OwnerError(Box::new(status))
}

impl Owner for Gateway {
    async fn head(&self) -> Result<HeadResponse, OwnerError> {
        let request = self.request(HeadRequest {}).map_err(unanswered)?;
        let mut feed = self.feed().map_err(unanswered)?;
        let head = feed.head(request).await.map_err(unanswered)?;
        Ok(head.into_inner())
    }

    async fn replay(&self, asked: ReplayRequest) -> Result<ReplayResponse, OwnerError> {
        let request = self.request(asked).map_err(unanswered)?;
        let mut feed = self.feed().map_err(unanswered)?;
        let replay = feed.replay(request).await.map_err(unanswered)?;
        Ok(replay.into_inner())
    }
}
