//! A gateway that holds what a test delivers. Its port refuses whoever cannot prove to be the
//! orchestrator, by the same code as the real one.

use std::sync::{Arc, Mutex, PoisonError};

use candlefish_ids::DeliveryId;
use candlefish_proto::{
    delivery::{
        Delivery, DeliveryReceived, FetchDeliveryRequest, FetchDeliveryResponse,
        ListDeliveriesRequest, ListDeliveriesResponse,
        delivery_service_server::{DeliveryService, DeliveryServiceServer},
    },
    event::{
        Envelope, HeadRequest, HeadResponse, ReplayRequest, ReplayResponse,
        feed_service_server::{FeedService, FeedServiceServer},
    },
};
use candlefish_runtime::{
    identity::{Allow, Verifier, VerifyLayer},
    listen,
    tasks::{Policy, Tasks},
};
use candlefish_testkit::github::Example;
use prost::Message;
use tonic::{Request, Response, Status, service::Routes};

use crate::keys::Keys;

#[derive(Debug, Default)]
struct State {
    epoch: i32,
    deliveries: Vec<(Delivery, Vec<u8>)>,
    /// By what each event tells of, in the order of their numbers.
    told: Vec<String>,
    /// Fetches that fail before one works.
    failures: usize,
    fetched: usize,
    /// Nobody is told what there is.
    keeps_its_list: bool,
    /// The trace context of the calls that bring deliveries.
    traceparent: String,
}

/// The gateway; cheap to clone.
#[derive(Clone)]
pub(crate) struct Gateway {
    state: Arc<Mutex<State>>,
    pub(crate) url: String,
    tasks: Tasks,
}

impl Drop for Gateway {
    fn drop(&mut self) {
        if Arc::strong_count(&self.state) <= 2 {
            self.tasks.stop();
        }
    }
}

impl Gateway {
    pub(crate) async fn start(keys: &Keys) -> Self {
        let tasks = Tasks::new();
        let state = Arc::new(Mutex::new(State {
            epoch: 1,
            ..State::default()
        }));
        let allowed = Allow::none()
            .service("candlefish.delivery.v1.DeliveryService")
            .service("candlefish.event.v1.FeedService");
        let issuers = [("deploy-orchestrator", allowed)];
        let verifier = Verifier::from_dir("gateway", keys.folder(), &issuers).unwrap();
        let service = Service(Arc::clone(&state));
        let routes = Routes::new(DeliveryServiceServer::new(service.clone()))
            .add_service(FeedServiceServer::new(service))
            .into_axum_router()
            .layer(VerifyLayer::new(verifier));
        let listener = listen::bind("127.0.0.1:0").await.unwrap();
        let address = listen::local_addr(&listener).unwrap();
        let serving = listen::serve(listener, Routes::from(routes), tasks.stopping());
        drop(tasks.try_spawn("gateway", Policy::Ignore, serving));
        Self {
            state,
            url: format!("http://{address}"),
            tasks,
        }
    }

    /// Stores a delivery and tells of it; answers its id. What GitHub would not send is [stored](Self::stores)
    /// and told of.
    pub(crate) fn receives(&self, example: &Example) -> String {
        assert_eq!(example.faults(), Vec::<String>::new(), "GitHub's schemas");
        let id = self.stores(example.event, example.body.to_string().into_bytes());
        self.tells(&id);
        id
    }

    /// Stores a delivery without a word.
    pub(crate) fn stores(&self, event: &str, body: Vec<u8>) -> String {
        let id = DeliveryId::new().to_string();
        let traceparent = self.with(|state| state.traceparent.clone());
        let delivery = Delivery {
            id: id.clone(),
            source: "github".to_owned(),
            source_id: format!("guid-{id}"),
            event: event.to_owned(),
            received_at: Some(prost_types::Timestamp {
                seconds: 1_790_000_000,
                nanos: 0,
            }),
            size: i32::try_from(body.len()).unwrap(),
            traceparent,
        };
        self.with(|state| state.deliveries.push((delivery, body)));
        id
    }

    /// Tells of a delivery, perhaps once more.
    pub(crate) fn tells(&self, id: &str) {
        self.with(|state| state.told.push(id.to_owned()));
    }

    /// Deliveries are brought by this call from now on.
    pub(crate) fn is_called_by(&self, traceparent: &str) {
        self.with(|state| traceparent.clone_into(&mut state.traceparent));
    }

    /// So many fetches fail from now on.
    pub(crate) fn fails(&self, times: usize) {
        self.with(|state| state.failures = times);
    }

    /// It says no more what it stored, or does again.
    pub(crate) fn keeps_its_list(&self, keeps: bool) {
        self.with(|state| state.keeps_its_list = keeps);
    }

    /// As after a restore of its database: numbers of before mean nothing.
    pub(crate) fn begins_an_epoch(&self) {
        self.with(|state| {
            state.epoch += 1;
            state.told.clear();
        });
    }

    pub(crate) fn forgets(&self, id: &str) {
        self.with(|state| state.deliveries.retain(|(one, _)| one.id != id));
    }

    /// Bodies that were given out.
    pub(crate) fn fetched(&self) -> usize {
        self.with(|state| state.fetched)
    }

    fn with<T>(&self, act: impl FnOnce(&mut State) -> T) -> T {
        act(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[derive(Clone)]
struct Service(Arc<Mutex<State>>);

impl Service {
    fn with<T>(&self, act: impl FnOnce(&mut State) -> T) -> T {
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[tonic::async_trait]
impl DeliveryService for Service {
    async fn fetch_delivery(
        &self,
        request: Request<FetchDeliveryRequest>,
    ) -> Result<Response<FetchDeliveryResponse>, Status> {
        let id = request.into_inner().id;
        self.with(|state| {
            if state.failures > 0 {
                state.failures -= 1;
                return Err(Status::unavailable("not now"));
            }
            let found = state.deliveries.iter().find(|(one, _)| one.id == id);
            let (delivery, body) = found.ok_or_else(|| Status::not_found("forgotten"))?;
            let answer = FetchDeliveryResponse {
                delivery: Some(delivery.clone()),
                body: body.clone().into(),
            };
            state.fetched += 1;
            Ok(Response::new(answer))
        })
    }

    async fn list_deliveries(
        &self,
        request: Request<ListDeliveriesRequest>,
    ) -> Result<Response<ListDeliveriesResponse>, Status> {
        let asked = request.into_inner();
        self.with(|state| {
            if state.keeps_its_list {
                return Err(Status::unavailable("no list now"));
            }
            let all = state.deliveries.iter().map(|(one, _)| one.clone());
            let mut deliveries: Vec<_> = all.filter(|one| one.id > asked.after_id).collect();
            deliveries.sort_by(|one, other| one.id.cmp(&other.id));
            // Small pages, so that every test of more than two turns them.
            deliveries.truncate(2);
            Ok(Response::new(ListDeliveriesResponse { deliveries }))
        })
    }
}

#[tonic::async_trait]
impl FeedService for Service {
    async fn head(&self, _request: Request<HeadRequest>) -> Result<Response<HeadResponse>, Status> {
        self.with(|state| {
            Ok(Response::new(HeadResponse {
                source: "gateway".to_owned(),
                epoch: state.epoch,
                seq: i64::try_from(state.told.len()).unwrap(),
            }))
        })
    }

    async fn replay(
        &self,
        request: Request<ReplayRequest>,
    ) -> Result<Response<ReplayResponse>, Status> {
        let asked = request.into_inner();
        self.with(|state| {
            let skipped = usize::try_from(asked.from_seq - 1).unwrap();
            let events = state.told.iter().enumerate().skip(skipped);
            let events = events.map(|(place, id)| {
                let delivery = state.deliveries.iter().find(|(one, _)| one.id == *id);
                envelope(state.epoch, place + 1, delivery.map(|(one, _)| one.clone()))
            });
            Ok(Response::new(ReplayResponse {
                epoch: state.epoch,
                events: events.collect(),
                oldest_seq: 1,
            }))
        })
    }
}

fn envelope(epoch: i32, seq: usize, delivery: Option<Delivery>) -> Envelope {
    let entity = delivery.as_ref().map(|one| one.id.clone());
    let body = DeliveryReceived { delivery };
    Envelope {
        id: format!("evt_{epoch}_{seq}"),
        source: "gateway".to_owned(),
        epoch,
        seq: i64::try_from(seq).unwrap(),
        r#type: "gateway.delivery.received.v1".to_owned(),
        entity: entity.unwrap_or_default(),
        body: Some(prost_types::Any {
            type_url: "type.googleapis.com/candlefish.delivery.v1.DeliveryReceived".to_owned(),
            value: body.encode_to_vec(),
        }),
        ..Envelope::default()
    }
}
