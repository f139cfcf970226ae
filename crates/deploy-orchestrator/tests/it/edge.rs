//! An edge that does what a test says: it follows, lags, refuses, lies, or says nothing.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use axum::{
    Router,
    extract::State,
    http::{HeaderMap, StatusCode, Uri, header},
    response::{IntoResponse, Response},
};
use candlefish_blobs::Store;
use candlefish_manifest::{Limits, Manifest};
use candlefish_proto::deploy::{
    HeldRoute, Route, StagedRelease, WatchRoutesRequest, WatchRoutesResponse,
    edge_service_client::EdgeServiceClient,
};
use candlefish_runtime::{
    identity::{Caller, IDENTITY, Signer},
    listen,
    tasks::{Policy, Tasks},
};
use candlefish_testkit::wait_until;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Status, Streaming, transport::Channel};

use crate::sandbox::{SOON, Sandbox};

const HEARTBEAT: Duration = Duration::from_millis(100);

/// What the edge does wrong.
#[derive(Debug, Clone, Default)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a fault of its own, and a test may want several"
)]
pub(crate) struct Script {
    /// Heard, but applies nothing.
    pub(crate) frozen: bool,
    /// Applies environment routes alone: releases are never staged by themselves.
    pub(crate) stages_nothing: bool,
    /// Has no stream.
    pub(crate) silent: bool,
    /// Cannot stage anything new, for this reason.
    pub(crate) refuses: String,
    /// That may pass: it tries on.
    pub(crate) refusal_passes: bool,
    /// Applies no environment's route beyond this version.
    pub(crate) up_to: Option<i64>,
    /// Answers that it cannot serve now on hosts that begin so.
    pub(crate) away_on: Option<String>,
    /// Answers other content on hosts that begin so.
    pub(crate) lies_on: Option<String>,
    /// Takes so long for a page.
    pub(crate) slow: Duration,
    /// Answers no page as long as this stands.
    pub(crate) holds_pages: bool,
}

struct Shared {
    id: String,
    boot: String,
    address: SocketAddr,
    signer: Signer,
    store: Arc<dyn Store>,
    script: watch::Sender<Script>,
    orchestrator: watch::Sender<SocketAddr>,
    /// What it serves.
    held: Mutex<HashMap<String, Route>>,
    /// What it served one after another.
    applied: Mutex<Vec<Route>>,
    /// What it was sent and has not applied.
    sent: Mutex<Vec<Route>>,
    /// Reports besides its own, as a broken network would deliver them.
    extra: Mutex<Vec<WatchRoutesRequest>>,
    /// Pages that were asked for, and pages that were answered.
    asked: AtomicUsize,
    answered: AtomicUsize,
    /// Why the last stream was ended.
    refusal: Mutex<String>,
}

/// A scripted edge.
pub(crate) struct Edge {
    shared: Arc<Shared>,
    tasks: Tasks,
}

impl Drop for Edge {
    fn drop(&mut self) {
        self.tasks.stop();
        self.tasks.killed().cancel();
    }
}

impl Edge {
    pub(crate) async fn start(sandbox: &Sandbox, id: &str, orchestrator: SocketAddr) -> Self {
        Self::start_as(sandbox, id, orchestrator, Script::default()).await
    }

    /// The same, and it does this wrong from the beginning.
    pub(crate) async fn start_as(
        sandbox: &Sandbox,
        id: &str,
        orchestrator: SocketAddr,
        script: Script,
    ) -> Self {
        let listener = listen::bind("127.0.0.1:0").await.unwrap();
        let shared = Arc::new(Shared {
            id: id.to_owned(),
            boot: format!("{id}-boot"),
            address: listen::local_addr(&listener).unwrap(),
            signer: sandbox.keys.signer("edge"),
            store: Arc::clone(&sandbox.store),
            script: watch::Sender::new(script),
            orchestrator: watch::Sender::new(orchestrator),
            held: Mutex::default(),
            applied: Mutex::default(),
            sent: Mutex::default(),
            extra: Mutex::default(),
            asked: AtomicUsize::default(),
            answered: AtomicUsize::default(),
            refusal: Mutex::default(),
        });
        let tasks = Tasks::new();
        let router = Router::new()
            .fallback(serve)
            .with_state(Arc::clone(&shared));
        let serving = async move { axum::serve(listener, router).await };
        drop(tasks.try_spawn("serving", Policy::Ignore, serving));
        drop(tasks.spawn("following", Policy::Ignore, follow(Arc::clone(&shared))));
        Self { shared, tasks }
    }

    /// Changes what it does wrong.
    pub(crate) fn act(&self, change: impl FnOnce(&mut Script)) {
        self.shared.script.send_modify(change);
    }

    /// Follows another orchestrator from now on.
    pub(crate) fn turn_to(&self, orchestrator: SocketAddr) {
        self.shared.orchestrator.send_replace(orchestrator);
    }

    /// Sends one more report, out of turn.
    pub(crate) fn tell(&self, report: WatchRoutesRequest) {
        let report = WatchRoutesRequest {
            edge: self.shared.id.clone(),
            boot: self.shared.boot.clone(),
            address: self.shared.address.to_string(),
            ..report
        };
        self.shared.extra.lock().unwrap().push(report);
    }

    /// The releases of a host with their weights, as it serves them.
    pub(crate) fn serves(&self, host: &str) -> Vec<(String, i32)> {
        let held = self.shared.held.lock().unwrap();
        held.get(host)
            .map(|route| {
                let pair = |one: &candlefish_proto::deploy::WeightedRelease| {
                    (one.release.clone().unwrap().release_id, one.weight)
                };
                route.releases.iter().map(pair).collect()
            })
            .unwrap_or_default()
    }

    /// How many pages were asked for, and how many answered.
    pub(crate) fn pages(&self) -> (usize, usize) {
        let read = |count: &AtomicUsize| count.load(Ordering::SeqCst);
        (read(&self.shared.asked), read(&self.shared.answered))
    }

    /// The release that it served alone at each of a host's routes; none while it was shared.
    pub(crate) fn served(&self, host: &str) -> Vec<Option<String>> {
        let applied = self.shared.applied.lock().unwrap();
        let of_host = applied.iter().filter(|route| route.host == host);
        of_host.map(|route| alone(route, &self.shared.id)).collect()
    }

    /// Why the orchestrator ended its last stream; empty before one was.
    pub(crate) fn refusal(&self) -> String {
        self.shared.refusal.lock().unwrap().clone()
    }

    pub(crate) fn route(&self, host: &str) -> Option<Route> {
        self.shared.held.lock().unwrap().get(host).cloned()
    }

    pub(crate) async fn wait_until_it_serves(&self, host: &str, release: &str) {
        let wanted = vec![(release.to_owned(), 100)];
        wait_until(SOON, "an edge to serve a release", async || {
            self.serves(host) == wanted
        })
        .await;
    }
}

async fn follow(shared: Arc<Shared>) {
    let mut script = shared.script.subscribe();
    let mut orchestrator = shared.orchestrator.subscribe();
    loop {
        let silent = script.borrow_and_update().silent;
        if silent {
            if script.changed().await.is_err() {
                return;
            }
            continue;
        }
        let address = *orchestrator.borrow_and_update();
        tokio::select! {
            ended = stream(&shared, address, script.clone()) => if let Err(status) = ended {
                status.message().clone_into(&mut shared.refusal.lock().unwrap());
            },
            _turned = orchestrator.changed() => {}
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// One stream; ends when the orchestrator ends it or the edge falls silent.
async fn stream(
    shared: &Shared,
    address: SocketAddr,
    mut script: watch::Receiver<Script>,
) -> Result<(), Status> {
    let (tell, told) = mpsc::channel(64);
    let mut answers = open(shared, address, &tell, told).await?;
    let mut ticks = tokio::time::interval(HEARTBEAT);
    loop {
        tokio::select! {
            answer = answers.message() => match answer? {
                Some(answer) => shared.sent.lock().unwrap().extend(answer.routes),
                None => return Ok(()),
            },
            _changed = script.changed() => {}
            _tick = ticks.tick() => {}
        }
        let now = script.borrow_and_update().clone();
        if now.silent {
            return Ok(());
        }
        let extra = std::mem::take(&mut *shared.extra.lock().unwrap());
        for report in extra.into_iter().chain([apply(shared, &now)]) {
            tell.send(report)
                .await
                .map_err(|_gone| Status::aborted("gone"))?;
        }
    }
}

async fn open(
    shared: &Shared,
    address: SocketAddr,
    tell: &mpsc::Sender<WatchRoutesRequest>,
    told: mpsc::Receiver<WatchRoutesRequest>,
) -> Result<Streaming<WatchRoutesResponse>, Status> {
    let channel = Channel::from_shared(format!("http://{address}"))
        .unwrap()
        .connect()
        .await
        .map_err(|error| Status::unavailable(error.to_string()))?;
    shared.sent.lock().unwrap().clear();
    let held = shared.held.lock().unwrap().values().map(held).collect();
    let first = WatchRoutesRequest {
        edge: shared.id.clone(),
        boot: shared.boot.clone(),
        address: shared.address.to_string(),
        held,
        first: true,
        ..WatchRoutesRequest::default()
    };
    tell.send(first).await.unwrap();
    let mut request = Request::new(ReceiverStream::new(told));
    let token = shared
        .signer
        .token("deploy-orchestrator", &Caller::process("edge"))
        .unwrap();
    let metadata = request.metadata_mut();
    metadata.insert(IDENTITY, token.parse().unwrap());
    let mut client = EdgeServiceClient::new(channel);
    Ok(client.watch_routes(request).await?.into_inner())
}

/// The release that a route gives to this edge alone, as the edge reads it.
fn alone(route: &Route, edge: &str) -> Option<String> {
    let names = |edges: &[String]| edges.iter().any(|id| id == edge);
    let one = if route.rolling {
        let joined = !route.waiting_edges.is_empty() && !names(&route.waiting_edges);
        if names(&route.rolled_edges) || joined {
            route.releases.last()
        } else {
            route.releases.first()
        }
    } else {
        route.releases.iter().find(|one| one.weight == 100)
    };
    Some(one?.release.as_ref()?.release_id.clone())
}

fn held(route: &Route) -> HeldRoute {
    HeldRoute {
        host: route.host.clone(),
        epoch: route.epoch,
        version: route.version,
        preview: route.preview,
    }
}

/// Applies what was sent, as the script lets it; answers what it tells.
fn apply(shared: &Shared, script: &Script) -> WatchRoutesRequest {
    let mut report = WatchRoutesRequest {
        edge: shared.id.clone(),
        boot: shared.boot.clone(),
        address: shared.address.to_string(),
        ..WatchRoutesRequest::default()
    };
    if script.frozen {
        return report;
    }
    let mut serves = shared.held.lock().unwrap();
    let mut sent = shared.sent.lock().unwrap();
    for route in std::mem::take(&mut *sent) {
        if script.stages_nothing && route.environment_id.is_empty() {
            sent.push(route);
            continue;
        }
        let of_environment = !route.environment_id.is_empty();
        if of_environment && script.up_to.is_some_and(|most| route.version > most) {
            sent.push(route);
            continue;
        }
        let known = serves.get(&route.host);
        if known.is_some_and(|known| (known.epoch, known.version) >= (route.epoch, route.version)) {
            continue;
        }
        let releases = route.releases.iter().filter_map(|one| one.release.as_ref());
        let staged = releases.map(|release| StagedRelease {
            release_id: release.release_id.clone(),
            staged: script.refuses.is_empty(),
            error: script.refuses.clone(),
            transient: script.refusal_passes && !script.refuses.is_empty(),
        });
        report.staged.extend(staged);
        let refuses = !script.refuses.is_empty() && !route.releases.is_empty();
        if refuses && script.refusal_passes {
            sent.push(route);
        } else if !refuses {
            report.held.push(held(&route));
            shared.applied.lock().unwrap().push(route.clone());
            serves.insert(route.host.clone(), route);
        }
    }
    report
}

async fn serve(State(shared): State<Arc<Shared>>, uri: Uri, headers: HeaderMap) -> Response {
    shared.asked.fetch_add(1, Ordering::SeqCst);
    let slow = shared.script.borrow().slow;
    tokio::time::sleep(slow).await;
    let mut script = shared.script.subscribe();
    // The script lives as long as what is shared.
    drop(script.wait_for(|script| !script.holds_pages).await);
    let answer = page(&shared, &uri, &headers).await;
    shared.answered.fetch_add(1, Ordering::SeqCst);
    answer
}

async fn page(shared: &Shared, uri: &Uri, headers: &HeaderMap) -> Response {
    let host = headers.get(header::HOST).unwrap().to_str().unwrap();
    let lies = shared.script.borrow().lies_on.clone();
    if lies.is_some_and(|lies| host.starts_with(&lies)) {
        return "something else".into_response();
    }
    let away = shared.script.borrow().away_on.clone();
    if away.is_some_and(|away| host.starts_with(&away)) {
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    }
    let route = shared.held.lock().unwrap().get(host).cloned();
    let Some(route) = route else {
        return StatusCode::MISDIRECTED_REQUEST.into_response();
    };
    let Some(release) = route.releases.last().and_then(|one| one.release.clone()) else {
        return StatusCode::NOT_FOUND.into_response();
    };
    let path = uri.path().trim_start_matches('/');
    let path = if path.is_empty() { "index.html" } else { path };
    let digest = release.manifest_digest.parse().unwrap();
    let manifest = shared.store.read(&digest, 1 << 20).await.unwrap();
    let manifest = Manifest::decode(&manifest, &Limits::default()).unwrap();
    match manifest.get(path) {
        Some(entry) => {
            let body = shared.store.read(&entry.digest, 1 << 20).await.unwrap();
            body.into_response()
        }
        None => StatusCode::NOT_FOUND.into_response(),
    }
}
