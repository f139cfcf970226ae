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
        Delivery, FetchDeliveryRequest, FetchDeliveryResponse, ListDeliveriesRequest,
        delivery_service_client::DeliveryServiceClient,
    },
    event::{
        HeadRequest, HeadResponse, ReplayRequest, ReplayResponse,
        feed_service_client::FeedServiceClient,
    },
};
use candlefish_runtime::{
    identity::{Caller, IDENTITY, Signer},
    listen, trace,
};
use tonic::{
    Code, Request, Response, Status,
    metadata::{Ascii, MetadataValue},
    transport::{Channel, Endpoint, Uri},
};

use crate::wiring::NAME;

/// The receiver of what we sign.
const AUDIENCE: &str = "gateway";
const CONNECT: Duration = Duration::from_secs(1);
/// A replica whose machine vanished is noticed within the sum of these.
const PING: Duration = Duration::from_secs(10);
const PING_ANSWER: Duration = Duration::from_secs(5);
/// A body has 25 MB at most.
const TIMEOUT: Duration = Duration::from_secs(20);
/// For its events: who asks takes nothing from the bus meanwhile.
const FEED_TIMEOUT: Duration = Duration::from_secs(5);
const MOST_BYTES: usize = 26 * 1024 * 1024;
const LISTED: i32 = 1000;

/// All replicas of the gateway; cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Gateway {
    channels: Arc<[Channel]>,
    /// The place of the replica that answered last.
    answers: Arc<AtomicUsize>,
    signer: Signer,
}

/// Asks one replica after the other until one answers, the one that did last first: while one is down or
/// frozen nothing that takes several calls is kept from its end, and it costs its time once.
macro_rules! ask {
    ($gateway:expr, $client:ident, $method:ident, $message:expr, $timeout:expr, $most:expr) => {{
        let mut answer = Err(Status::unavailable("no gateway is configured"));
        for (place, channel) in $gateway.in_turn() {
            let request = $gateway.request($message, $timeout)?;
            let mut client = $client::new(channel).max_decoding_message_size($most);
            answer = client.$method(request).await;
            if !answer.as_ref().is_err_and(is_silent) {
                // One that refuses is not asked first again: another may know our key, or the call.
                let next = place + usize::from(answer.is_err());
                $gateway.answers.store(next, Ordering::Relaxed);
                break;
            }
        }
        answer.map(Response::into_inner)
    }};
}

/// Whether another replica may answer. The library calls a request whose time is over cancelled.
fn is_silent(status: &Status) -> bool {
    matches!(status.code(), Code::Unavailable | Code::Cancelled)
}

impl Gateway {
    /// Connects when it is first called.
    pub(crate) fn new(replicas: &[Uri], signer: Signer) -> Self {
        let channels = replicas.iter().map(|uri| {
            Endpoint::from(uri.clone())
                .connect_timeout(CONNECT)
                .http2_keep_alive_interval(PING)
                .keep_alive_timeout(PING_ANSWER)
                .keep_alive_while_idle(true)
                .connect_lazy()
        });
        Self {
            channels: channels.collect(),
            answers: Arc::default(),
            signer,
        }
    }

    /// The body of a delivery, as it was signed, and the trace context of the call that brought it.
    pub(super) async fn fetch(&self, id: DeliveryId) -> Result<(bytes::Bytes, String), Status> {
        let asked = FetchDeliveryRequest { id: id.to_string() };
        let fetched = ask!(
            self,
            DeliveryServiceClient,
            fetch_delivery,
            asked.clone(),
            TIMEOUT,
            MOST_BYTES
        );
        let FetchDeliveryResponse { delivery, body } = fetched?;
        // An older gateway keeps none.
        let traceparent = delivery.map(|delivery| delivery.traceparent);
        Ok((body, traceparent.unwrap_or_default()))
    }

    /// Deliveries after one, by id; fewer than a page are the last.
    pub(super) async fn list(&self, after: Option<DeliveryId>) -> Result<Vec<Delivery>, Status> {
        let asked = ListDeliveriesRequest {
            after_id: after.map(|id| id.to_string()).unwrap_or_default(),
            limit: LISTED,
        };
        let page = ask!(
            self,
            DeliveryServiceClient,
            list_deliveries,
            asked.clone(),
            TIMEOUT,
            listen::MAX_MESSAGE_BYTES
        );
        Ok(page?.deliveries)
    }

    async fn ask_head(&self) -> Result<HeadResponse, Status> {
        ask!(
            self,
            FeedServiceClient,
            head,
            HeadRequest {},
            FEED_TIMEOUT,
            listen::MAX_MESSAGE_BYTES
        )
    }

    async fn ask_replay(&self, asked: ReplayRequest) -> Result<ReplayResponse, Status> {
        ask!(
            self,
            FeedServiceClient,
            replay,
            asked,
            FEED_TIMEOUT,
            listen::MAX_MESSAGE_BYTES
        )
    }

    /// Every replica once, with its place, from the one on that answered last.
    fn in_turn(&self) -> impl Iterator<Item = (usize, Channel)> {
        let first = self.answers.load(Ordering::Relaxed);
        let all = self.channels.len();
        (0..all).filter_map(move |offset| {
            let place = first.wrapping_add(offset) % all;
            Some((place, self.channels.get(place)?.clone()))
        })
    }

    fn request<T>(&self, message: T, timeout: Duration) -> Result<Request<T>, Status> {
        let token = self.signer.token(AUDIENCE, &Caller::process(NAME));
        let token = token.map_err(|error| Status::internal(error.to_string()))?;
        let token: MetadataValue<Ascii> = token
            .parse()
            .map_err(|_error| Status::internal("a token is no header"))?;
        let mut request = Request::new(message);
        request.metadata_mut().insert(IDENTITY, token);
        trace::inject(request.metadata_mut());
        request.set_timeout(timeout);
        Ok(request)
    }
}

fn unanswered(status: Status) -> OwnerError {
    OwnerError(Box::new(status))
}

impl Owner for Gateway {
    async fn head(&self) -> Result<HeadResponse, OwnerError> {
        self.ask_head().await.map_err(unanswered)
    }

    async fn replay(&self, asked: ReplayRequest) -> Result<ReplayResponse, OwnerError> {
        self.ask_replay(asked).await.map_err(unanswered)
    }
}

#[cfg(test)]
mod tests {
    use tonic::TimeoutExpired;

    use super::*;

    #[test]
    fn a_replica_that_is_down_or_frozen_is_silent() {
        let late = Status::from_error(Box::new(TimeoutExpired(())));
        assert!(is_silent(&late), "{late:?}");
        assert!(is_silent(&Status::unavailable("refused")));
        assert!(!is_silent(&Status::not_found("forgotten")));
    }
}
