//! An orchestrator that sends what a test says, and remembers what edges tell.

use std::{
    collections::{HashMap, HashSet},
    path::Path,
    pin::Pin,
    sync::{Arc, Mutex},
};

use candlefish_proto::deploy::{
    ListEdgesRequest, ListEdgesResponse, Route, StagedRelease, WatchRoutesRequest,
    WatchRoutesResponse,
    edge_service_server::{EdgeService, EdgeServiceServer},
};
use candlefish_runtime::{
    identity::{Allow, Verifier, VerifyLayer},
    listen,
    tasks::{Policy, Tasks},
};
use candlefish_testkit::Proxy;
use futures_util::{Stream, StreamExt as _, stream};
use tokio::sync::watch;
use tonic::{Request, Response, Status, Streaming, service::Routes};
use tower::Layer as _;

/// What an edge told last.
#[derive(Debug, Default, Clone)]
pub(crate) struct Heard {
    pub(crate) held: HashMap<String, (i32, i64)>,
    /// Of these, what it says is of a preview.
    pub(crate) previews: HashSet<String>,
    pub(crate) staged: HashMap<String, StagedRelease>,
    pub(crate) address: String,
    pub(crate) messages: usize,
    pub(crate) streams: usize,
}

#[derive(Debug)]
struct State {
    routes: Mutex<Vec<Route>>,
    changed: watch::Sender<()>,
    heard: Mutex<HashMap<String, Heard>>,
}

/// The scripted orchestrator.
pub(crate) struct Orchestrator {
    state: Arc<State>,
    /// Edges come through it, so that a test can break their streams.
    network: Proxy,
    _tasks: Tasks,
}

impl Orchestrator {
    /// Listens; with a folder of public keys it refuses strangers.
    pub(crate) async fn start(keys: Option<&Path>) -> Self {
        let listener = listen::bind("127.0.0.1:0").await.unwrap();
        let address = listen::local_addr(&listener).unwrap();
        let state = Arc::new(State {
            routes: Mutex::default(),
            changed: watch::Sender::new(()),
            heard: Mutex::default(),
        });
        let tasks = Tasks::new();
        let service = EdgeServiceServer::new(Service {
            state: Arc::clone(&state),
            tasks: tasks.clone(),
        })
        .max_decoding_message_size(listen::MAX_MESSAGE_BYTES);
        let routes = match keys {
            None => Routes::new(service),
            Some(keys) => {
                let allowed = Allow::none().method("/candlefish.deploy.v1.EdgeService/WatchRoutes");
                let verifier =
                    Verifier::from_dir("deploy-orchestrator", keys, &[("edge", allowed)]).unwrap();
                Routes::new(VerifyLayer::new(verifier).layer(service))
            }
        };
        let served = listen::serve(listener, routes, tasks.stopping());
        drop(tasks.try_spawn("orchestrator", Policy::Ignore, served));
        Self {
            state,
            network: Proxy::start(&address.to_string()).await,
            _tasks: tasks,
        }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.network.addr())
    }

    /// Sends routes, in place of those of the same hosts.
    pub(crate) fn send(&self, routes: impl IntoIterator<Item = Route>) {
        let routes: Vec<Route> = routes.into_iter().collect();
        let hosts: HashSet<&str> = routes.iter().map(|route| route.host.as_str()).collect();
        let mut all = self.state.routes.lock().unwrap();
        all.retain(|known| !hosts.contains(known.host.as_str()));
        all.extend(routes.iter().cloned());
        drop(all);
        self.state.changed.send_replace(());
    }

    pub(crate) fn heard(&self, edge: &str) -> Heard {
        let heard = self.state.heard.lock().unwrap();
        heard.get(edge).cloned().unwrap_or_default()
    }

    /// Breaks all streams and lets no new one come.
    pub(crate) fn cut(&self) {
        self.network.cut();
    }

    /// How many streams did not come through.
    pub(crate) fn refused(&self) -> usize {
        self.network.refused()
    }

    /// Lets streams come again.
    pub(crate) fn mend(&self) {
        self.network.mend();
    }
}

struct Service {
    state: Arc<State>,
    tasks: Tasks,
}

type Answers = Pin<Box<dyn Stream<Item = Result<WatchRoutesResponse, Status>> + Send>>;

#[tonic::async_trait]
impl EdgeService for Service {
    async fn list_edges(
        &self,
        _request: Request<ListEdgesRequest>,
    ) -> Result<Response<ListEdgesResponse>, Status> {
        Err(Status::unimplemented("no test asks"))
    }

    type WatchRoutesStream = Answers;

    async fn watch_routes(
        &self,
        request: Request<Streaming<WatchRoutesRequest>>,
    ) -> Result<Response<Answers>, Status> {
        let mut incoming = request.into_inner();
        let state = Arc::clone(&self.state);
        drop(
            self.tasks
                .spawn("reading an edge", Policy::Ignore, async move {
                    while let Ok(Some(message)) = incoming.message().await {
                        hear(&state, message);
                    }
                }),
        );
        let changed = self.state.changed.subscribe();
        let start = (Arc::clone(&self.state), changed, true);
        let answers = stream::unfold(start, |(state, mut changed, first)| async move {
            if !first {
                changed.changed().await.ok()?;
            }
            let answers = answers(&state.routes.lock().unwrap());
            Some((answers, (state, changed, false)))
        });
        Ok(Response::new(answers.flat_map(stream::iter).boxed()))
    }
}

/// As many messages as they take, and one that says that this is all.
fn answers(routes: &[Route]) -> Vec<Result<WatchRoutesResponse, Status>> {
    let answer = |routes: &[Route], caught_up| {
        Ok(WatchRoutesResponse {
            routes: routes.to_vec(),
            caught_up,
        })
    };
    let all = routes.chunks(500).map(|chunk| answer(chunk, false));
    all.chain([answer(&[], true)]).collect()
}

/// As an orchestrator that does not know of `more`: what follows is a change.
fn hear(state: &State, message: WatchRoutesRequest) {
    let mut all = state.heard.lock().unwrap();
    let heard = all.entry(message.edge).or_default();
    heard.messages += 1;
    heard.address = message.address;
    if message.first {
        heard.streams += 1;
        heard.held.clear();
        heard.previews.clear();
        heard.staged.clear();
    }
    for held in message.held {
        if held.preview {
            heard.previews.insert(held.host.clone());
        }
        heard.held.insert(held.host, (held.epoch, held.version));
    }
    for staged in message.staged {
        heard.staged.insert(staged.release_id.clone(), staged);
    }
}
