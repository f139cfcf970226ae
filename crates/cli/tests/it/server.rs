//! A gateway that answers as it is told, on a port of its own.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::{Arc, Mutex, MutexGuard},
    thread,
    time::{Duration, Instant},
};

use axum::{
    body::Bytes,
    extract::{Path, State},
    http::{HeaderMap, StatusCode},
    routing::put,
};
use candlefish_proto::{
    access::access_service_server::AccessServiceServer,
    deploy::{
        Blocker, Deployment, Hold, Lane, ListBlockersResponse, LogLine, PushRule, QueueItem,
        Release, ReleaseLimits, Rollback, Stop, Trigger, deployment::State as DeploymentState,
        deployment_service_server::DeploymentServiceServer,
        queue_service_server::QueueServiceServer, release_service_server::ReleaseServiceServer,
        site_service_server::SiteServiceServer, stop_service_server::StopServiceServer,
        trigger_service_server::TriggerServiceServer,
    },
    event::{WatchEventsResponse, event_service_server::EventServiceServer},
};
use tokio::{net::TcpListener, sync::oneshot};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status, service::Routes, transport};

pub(crate) const DEP: &str = "dep_01k8qw4f9cfk2t0v1e6m7r8x9a";
pub(crate) const REL: &str = "rel_01k8qv2h8cfk2t0v1e6m7r8x9c";
pub(crate) const BEFORE: &str = "rel_01k8pt7d3cfk2t0v1e6m7r8x9d";
pub(crate) const TOK: &str = "tok_01k8qw4f9cfk2t0v1e6m7r8x9a";
pub(crate) const URL: &str = "http://docs.localhost:8080";

/// What the server knows, was asked, and is to answer.
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a question of its own that a test asks"
)]
#[derive(Default)]
pub(crate) struct World {
    /// How large the server takes a release; `None` as of one that does not tell.
    pub(crate) limits: Option<ReleaseLimits>,
    /// Content by digest.
    pub(crate) blobs: BTreeMap<String, Bytes>,
    /// The manifest that the release was begun with.
    pub(crate) manifest: String,
    /// It was built from a tree with uncommitted changes.
    pub(crate) dirty: bool,
    /// The release is frozen.
    pub(crate) sealed: bool,
    /// Digests in the order in which they were sent.
    pub(crate) puts: Vec<String>,
    /// Uploads that are refused for the moment, and for good, before any is taken.
    pub(crate) busy_puts: usize,
    /// Uploads that are taken before the store refuses all others.
    pub(crate) puts_left: Option<usize>,
    /// For how many uploads the addresses of each answer work; `None` for all.
    pub(crate) puts_each: Option<usize>,
    /// Calls that act: name, idempotency key, the request's Debug text.
    pub(crate) calls: Vec<(&'static str, Option<String>, String)>,
    /// How many of these calls end without an answer.
    pub(crate) lost: BTreeMap<&'static str, usize>,
    /// What these calls are refused with.
    pub(crate) refusals: BTreeMap<&'static str, Status>,
    /// Whether the last call was only to be rehearsed.
    pub(crate) rehearses: bool,
    /// The server does not know that word, as an older one.
    pub(crate) acts_anyway: bool,
    /// Calls whose answers are marked as those of earlier ones with the same key.
    pub(crate) replays: BTreeSet<&'static str>,
    /// What a watch streams; an empty stream ends at once, and the last one stays open.
    pub(crate) streams: VecDeque<Vec<Deployment>>,
    /// From which version on each watch was asked.
    pub(crate) watched: Vec<i32>,
    /// What an event stream sends before it ends; the last one stays open.
    pub(crate) events: VecDeque<Vec<WatchEventsResponse>>,
    /// What these streams end with after what they send; the others end well.
    pub(crate) breaks: VecDeque<Status>,
    /// Event streams do not say where they begin: the source of events was not reached yet.
    pub(crate) unbegun: bool,
    /// After which cursor each event stream was asked.
    pub(crate) cursors: Vec<String>,
    /// The deployment as it is.
    pub(crate) deployment: Deployment,
    /// What keeps and kept it, oldest first.
    pub(crate) blockers: Vec<Blocker>,
    /// What was written of it, oldest first.
    pub(crate) log: Vec<LogLine>,
    /// The sums over all of that; nothing as of a server that does not tell.
    pub(crate) sums: ListBlockersResponse,
    /// All others, newest first.
    pub(crate) others: Vec<Deployment>,
    /// The lane of every environment; `None` as of a server that lost it.
    pub(crate) lane: Option<Lane>,
    /// How many more looks these environments are not there for.
    pub(crate) unmade: BTreeMap<&'static str, usize>,
    /// How many more looks these environments are closed for.
    pub(crate) closed: BTreeMap<&'static str, usize>,
    /// What a rollback is told besides where it goes.
    pub(crate) told: Rollback,
    /// Which pushes deploy, everywhere.
    pub(crate) pushes: PushRule,
    /// What holds every environment that is looked at alone.
    pub(crate) hold: Option<Hold>,
    /// Nothing answers who looks at an environment alone.
    pub(crate) silent: bool,
    /// The deployment that is live everywhere, by its id; that of [`DEP`] unless it is said.
    pub(crate) live: Option<String>,
    /// The releases of every site, newest first.
    pub(crate) releases: Vec<Release>,
    /// What is stopped.
    pub(crate) stops: Vec<Stop>,
    /// What waits for a person.
    pub(crate) items: Vec<QueueItem>,
    /// What was told, newest first.
    pub(crate) triggers: Vec<Trigger>,
}

impl World {
    /// Takes what was decided upon out of what waits, unless that is only rehearsed.
    pub(crate) fn decided(&mut self, id: &str) -> QueueItem {
        let place = self.items.iter().position(|one| one.id == id).unwrap();
        if self.rehearses {
            return self.items.get(place).cloned().unwrap();
        }
        self.items.remove(place)
    }
}

/// The world behind the services.
#[derive(Clone, Default)]
pub(crate) struct Shared(Arc<Mutex<World>>);

impl Shared {
    pub(crate) fn lock(&self) -> MutexGuard<'_, World> {
        self.0.lock().unwrap()
    }

    /// Notes a call; answers what it is to fail with.
    pub(crate) fn take<T: std::fmt::Debug>(
        &self,
        name: &'static str,
        request: &Request<T>,
    ) -> Result<(), Status> {
        let key = request.metadata().get("idempotency-key");
        let key = key.map(|key| key.to_str().unwrap().to_owned());
        let mut world = self.lock();
        let asked = request.metadata().get("candlefish-validate-only");
        world.rehearses = asked.is_some_and(|asked| asked == "true");
        world
            .calls
            .push((name, key, format!("{:?}", request.get_ref())));
        if let Some(left) = world.lost.get_mut(name).filter(|left| **left > 0) {
            *left -= 1;
            return Err(Status::unavailable("the service is not there"));
        }
        let bearer = request.metadata().get("authorization");
        if bearer.is_none_or(|bearer| bearer != "Bearer cft_test") {
            return Err(Status::unauthenticated("no such token"));
        }
        world.refusals.get(name).cloned().map_or(Ok(()), Err)
    }

    /// What a call that acts answers.
    pub(crate) fn answer<T>(&self, name: &str, message: T) -> Response<T> {
        let mut answer = Response::new(message);
        let world = self.lock();
        let marks = [
            ("idempotent-replayed", world.replays.contains(name)),
            (
                "candlefish-validated-only",
                world.rehearses && !world.acts_anyway,
            ),
        ];
        for (mark, _) in marks.into_iter().filter(|(_, is_so)| *is_so) {
            let yes = "true".parse().unwrap();
            answer.metadata_mut().insert(mark, yes);
        }
        answer
    }

    /// Keys of all calls of one name.
    pub(crate) fn keys(&self, name: &str) -> Vec<String> {
        let world = self.lock();
        let named = world.calls.iter().filter(|(called, ..)| *called == name);
        named.filter_map(|(_, key, _)| key.clone()).collect()
    }

    /// The Debug texts of all calls of one name.
    pub(crate) fn asked(&self, name: &str) -> Vec<String> {
        let world = self.lock();
        let named = world.calls.iter().filter(|(called, ..)| *called == name);
        named.map(|(.., request)| request.clone()).collect()
    }

    pub(crate) fn wait_until(&self, what: &str, claim: impl Fn(&World) -> bool) {
        let deadline = Instant::now() + Duration::from_secs(10);
        while !claim(&self.lock()) {
            assert!(Instant::now() < deadline, "{what}: not within 10 s");
            thread::sleep(Duration::from_millis(10));
        }
    }
}

/// A running server; it ends with the value.
pub(crate) struct Server {
    pub(crate) world: Shared,
    pub(crate) port: u16,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Server {
    pub(crate) fn start() -> Self {
        let world = Shared::default();
        world.lock().deployment = deployment(DeploymentState::Pending, 1);
        let (stop, stopped) = oneshot::channel();
        let (told, port) = std::sync::mpsc::channel();
        let shared = world.clone();
        let thread = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build();
            runtime.unwrap().block_on(async {
                let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
                told.send(listener.local_addr().unwrap().port()).unwrap();
                let server = transport::Server::builder().accept_http1(true).add_routes(routes(&shared));
                let stopping = async {
                    drop(stopped.await);
                };
                tokio::select! {
                    served = server.serve_with_incoming(TcpListenerStream::new(listener)) => served.unwrap(),
                    () = stopping => {}
                }
            });
        });
        let port = port.recv().unwrap();
        Self {
            world,
            port,
            stop: Some(stop),
            thread: Some(thread),
        }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.stop.take());
        drop(self.thread.take().map(thread::JoinHandle::join));
    }
}

fn routes(world: &Shared) -> Routes {
    let blobs = axum::Router::new()
        .route("/blobs/{digest}", put(store))
        .with_state(world.clone());
    Routes::from(blobs)
        .add_service(SiteServiceServer::new(world.clone()))
        .add_service(ReleaseServiceServer::new(world.clone()))
        .add_service(DeploymentServiceServer::new(world.clone()))
        .add_service(AccessServiceServer::new(world.clone()))
        .add_service(EventServiceServer::new(world.clone()))
        .add_service(StopServiceServer::new(world.clone()))
        .add_service(QueueServiceServer::new(world.clone()))
        .add_service(TriggerServiceServer::new(world.clone()))
}

async fn store(
    State(world): State<Shared>,
    Path(digest): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> StatusCode {
    let mut world = world.lock();
    if world.busy_puts > 0 {
        world.busy_puts -= 1;
        return StatusCode::SERVICE_UNAVAILABLE;
    }
    match &mut world.puts_left {
        Some(0) => return StatusCode::FORBIDDEN,
        Some(left) => *left -= 1,
        None => {}
    }
    if headers.get("x-signed").is_none()
        || candlefish_manifest::digest_of(&body).to_string() != digest
    {
        return StatusCode::BAD_REQUEST;
    }
    world.puts.push(digest.clone());
    world.blobs.insert(digest, body);
    StatusCode::OK
}

/// The deployment in a state, at a version.
pub(crate) fn deployment(state: DeploymentState, version: i32) -> Deployment {
    Deployment {
        id: DEP.to_owned(),
        site: "docs".to_owned(),
        environment: "production".to_owned(),
        release_id: REL.to_owned(),
        kind: candlefish_proto::deploy::deployment::Kind::Standard.into(),
        state: state.into(),
        url: URL.to_owned(),
        preview_url: "http://01k8qw4f9cfk2t0v1e6m7r8x9a--docs.localhost:8080".to_owned(),
        version,
        ..Deployment::default()
    }
}

/// As [`deployment`], live.
pub(crate) fn live(state: DeploymentState, version: i32) -> Deployment {
    let live_at = Some(prost_types::Timestamp {
        seconds: 1_795_000_000,
        nanos: 0,
    });
    Deployment {
        live_at,
        ..deployment(state, version)
    }
}
