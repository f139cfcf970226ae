//! A GitHub that keeps what it is told, for tests: commits, branches, pull requests, webhooks and their
//! deliveries, deployments and their statuses, comments. It can be told to fail.
//!
//! Every call and every answer is held against GitHub's own description, refusals and failures too: a
//! call that GitHub would not take is answered 422, one by who may not make it 401 or 404, and the test
//! that had it fails when the fake goes. That 422 alone is no answer of the description's, which may have
//! none for the call.

mod answers;
mod app;
mod codeload;
mod fault;
mod key;
mod pulls;
mod reply;
mod users;
mod who;

use std::{
    collections::{BTreeMap, HashMap},
    net::SocketAddr,
    sync::{Arc, Mutex, OnceLock, PoisonError},
};

use axum::{
    Router,
    body::Bytes,
    extract::State as Extracted,
    http::{HeaderMap, Method, StatusCode, Uri},
    response::{IntoResponse, Response},
};
use serde_json::{Value, json};
use tokio::{net::TcpListener, task::AbortHandle};

use super::{
    Example,
    contract::{Contract, Operation},
};
use fault::{Faults, limited, pause, refusal, refused, spent};
use reply::Reply;
use users::Writer;
use who::Installed;

pub use fault::Fault;
pub use who::APP_ID;

/// The fake; cheap to clone.
#[derive(Clone)]
pub struct Fake {
    state: Arc<Mutex<State>>,
    address: SocketAddr,
    serving: Arc<Serving>,
}

impl std::fmt::Debug for Fake {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Fake").field(&self.address).finish()
    }
}

struct Serving {
    /// The archives'.
    beside: AbortHandle,
    /// The API's, once it serves.
    task: OnceLock<AbortHandle>,
    state: Arc<Mutex<State>>,
}

impl Drop for Serving {
    fn drop(&mut self) {
        self.beside.abort();
        if let Some(task) = self.task.get() {
            task.abort();
        }
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if !std::thread::panicking() {
            assert_eq!(state.broken, Vec::<String>::new(), "GitHub's description");
        }
    }
}

struct State {
    contract: Contract,
    repositories: HashMap<String, Repository>,
    /// Where the webhooks of all repositories go; none without.
    hook: Option<String>,
    /// What deliveries get that are asked for once more.
    again: u16,
    /// What was sent to the App's own webhook.
    app_deliveries: Vec<Delivery>,
    /// Where archives lie.
    codeload: SocketAddr,
    installed: Installed,
    faults: Faults,
    calls: Vec<String>,
    broken: Vec<String>,
    last_id: u64,
}

/// What one repository has.
#[derive(Debug, Default)]
struct Repository {
    parents: HashMap<String, Vec<String>>,
    files: HashMap<String, Vec<String>>,
    branches: BTreeMap<String, String>,
    deliveries: Vec<Delivery>,
    deployments: Vec<Value>,
    statuses: HashMap<u64, Vec<Value>>,
    /// Each with the number of its issue or pull request.
    comments: Vec<(u64, Value)>,
    /// By number, as lists show them.
    pulls: BTreeMap<u64, Value>,
    /// What they change, where that was said; else it is what their commits change.
    changes: HashMap<u64, Vec<Value>>,
    /// What a commit is packed as.
    archives: HashMap<String, Bytes>,
}

#[derive(Debug, Clone)]
struct Delivery {
    id: u64,
    guid: String,
    status_code: u16,
    redelivery: bool,
    event: String,
    /// As GitHub writes moments.
    at: String,
}

impl Delivery {
    fn now(id: u64, guid: &str, status_code: u16) -> Self {
        Self {
            id,
            guid: guid.to_owned(),
            status_code,
            redelivery: false,
            event: "push".to_owned(),
            at: moment(),
        }
    }
}

/// The second of GitHub's clock, which is its own.
#[expect(clippy::disallowed_methods, reason = "GitHub's clock is its own")]
pub fn seconds() -> i64 {
    jiff::Timestamp::now().as_second()
}

fn moment() -> String {
    let now = jiff::Timestamp::from_second(seconds()).unwrap();
    now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

impl Fake {
    /// Serves on a port of its own.
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let fake = Self::new(&listener).await;
        fake.serve(listener, Router::new());
        fake
    }

    /// One whose API does not serve yet; it will at this listener.
    pub(super) async fn new(listener: &TcpListener) -> Self {
        let address = listener.local_addr().unwrap();
        let packed = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let state = Arc::new(Mutex::new(State {
            contract: Contract::read(),
            repositories: HashMap::new(),
            hook: None,
            again: 202,
            app_deliveries: Vec::new(),
            codeload: packed.local_addr().unwrap(),
            installed: Installed::default(),
            faults: Faults::default(),
            calls: Vec::new(),
            broken: Vec::new(),
            last_id: 0,
        }));
        let archives = codeload::router(Arc::clone(&state));
        let beside = spawn(async move { axum::serve(packed, archives).await.unwrap() });
        Self {
            serving: Arc::new(Serving {
                beside,
                task: OnceLock::new(),
                state: Arc::clone(&state),
            }),
            state,
            address,
        }
    }

    /// Serves the API, and these routes beside it, as long as any clone is kept.
    pub(super) fn serve(&self, listener: TcpListener, beside: Router) {
        let api = Router::new()
            .fallback(answer)
            .with_state(Arc::clone(&self.state));
        let router = beside.fallback_service(api);
        let serving = async move { axum::serve(listener, router).await.unwrap() };
        self.serving.task.get_or_init(|| spawn(serving));
    }

    /// For a client's configuration.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// A commit with its parents and the files that it changes.
    pub fn commit(&self, repository: &str, commit: &str, parents: &[&str], files: &[&str]) {
        let owned = |names: &[&str]| names.iter().map(|&one| one.to_owned()).collect();
        self.with(|state| {
            let repository = state.repository(repository);
            repository.parents.insert(commit.to_owned(), owned(parents));
            repository.files.insert(commit.to_owned(), owned(files));
        });
    }

    /// A branch is at this commit from now on.
    pub fn branch(&self, repository: &str, branch: &str, commit: &str) {
        self.with(|state| {
            let branches = &mut state.repository(repository).branches;
            branches.insert(branch.to_owned(), commit.to_owned());
        });
    }

    /// Somebody deletes a branch; its commits stay.
    pub fn deletes_branch(&self, repository: &str, branch: &str) {
        self.with(|state| state.repository(repository).branches.remove(branch));
    }

    /// Where a branch is.
    pub(super) fn head(&self, repository: &str, branch: &str) -> Option<String> {
        self.with(|state| state.repository(repository).branches.get(branch).cloned())
    }

    /// Every repository has a webhook that goes there.
    pub fn hook(&self, url: &str) {
        self.with(|state| state.hook = Some(url.to_owned()));
    }

    /// GitHub tried to bring a delivery, and got this status; answers its number.
    pub fn delivered(&self, repository: &str, guid: &str, status_code: u16) -> u64 {
        self.with(|state| {
            let id = state.next_id();
            let sent = Delivery::now(id, guid, status_code);
            state.repository(repository).deliveries.push(sent);
            id
        })
    }

    /// What is asked for once more does not arrive either, from now on.
    pub fn brings_nothing(&self) {
        self.with(|state| state.again = 502);
    }

    /// How often an operation was called, failed ones too.
    pub fn calls(&self, operation: &str) -> usize {
        self.with(|state| state.calls.iter().filter(|one| *one == operation).count())
    }

    /// The guids of the deliveries that were asked for once more.
    pub fn redelivered(&self, repository: &str) -> Vec<String> {
        self.with(|state| {
            let deliveries = state.repository(repository).deliveries.iter();
            let again = deliveries.filter(|one| one.redelivery);
            again.map(|one| one.guid.clone()).collect()
        })
    }

    /// The deployments of a repository, oldest first, each with the states it was given.
    pub fn deployments(&self, repository: &str) -> Vec<(Value, Vec<String>)> {
        self.with(|state| {
            let repository = state.repository(repository);
            let told = |one: &Value| {
                let id = one["id"].as_u64().unwrap();
                let statuses = repository.statuses.get(&id).into_iter().flatten();
                statuses
                    .map(|status| status["state"].as_str().unwrap().to_owned())
                    .collect()
            };
            let all = repository.deployments.iter();
            all.map(|one| (one.clone(), told(one))).collect()
        })
    }

    /// What the comments of an issue or a pull request say, oldest first.
    pub fn comments(&self, repository: &str, number: u64) -> Vec<String> {
        self.with(|state| {
            let comments = state.repository(repository).comments.iter();
            let of_it = comments.filter(|(of, _)| *of == number);
            of_it
                .map(|(_, one)| one["body"].as_str().unwrap().to_owned())
                .collect()
        })
    }

    /// Somebody else says something.
    pub fn somebody_comments(&self, repository: &str, number: u64, words: &str) {
        self.comments_by(Writer::Somebody, repository, number, words);
    }

    /// Who has the token has said something.
    pub fn token_commented(&self, repository: &str, number: u64, words: &str) {
        self.comments_by(Writer::Token, repository, number, words);
    }

    fn comments_by(&self, writer: Writer, repository: &str, number: u64, words: &str) {
        self.with(|state| {
            let id = state.next_id();
            let said = answers::comment(id, &json!({"body": words}), writer);
            state.repository(repository).comments.push((number, said));
        });
    }

    /// Somebody deletes every comment.
    pub fn forgets_comments(&self, repository: &str) {
        self.with(|state| state.repository(repository).comments.clear());
    }

    /// Somebody else deploys a commit so often, after all that is there.
    pub fn deployed_by_others(
        &self,
        repository: &str,
        commit: &str,
        environment: &str,
        times: usize,
    ) {
        self.with(|state| {
            for _time in 0..times {
                let id = state.next_id();
                let said = json!({
                    "ref": commit, "environment": environment, "payload": {},
                    "production_environment": false, "transient_environment": false,
                });
                let made = answers::deployment(id, &said);
                state.repository(repository).deployments.push(made);
            }
        });
    }

    fn with<T>(&self, act: impl FnOnce(&mut State) -> T) -> T {
        act(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[expect(clippy::disallowed_methods, reason = "it ends with the fake")]
fn spawn(serving: impl Future<Output = ()> + Send + 'static) -> AbortHandle {
    tokio::spawn(serving).abort_handle()
}

impl State {
    fn repository(&mut self, name: &str) -> &mut Repository {
        self.repositories.entry(name.to_lowercase()).or_default()
    }

    fn next_id(&mut self) -> u64 {
        self.last_id += 1;
        self.last_id
    }
}

type Shared = Arc<Mutex<State>>;

async fn answer(
    Extracted(shared): Extracted<Shared>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let reply = {
        let mut state = shared.lock().unwrap_or_else(PoisonError::into_inner);
        state.reply(&method, &uri, &headers, &body)
    };
    match reply {
        Some(reply) => reply.into_response(),
        None => std::future::pending().await,
    }
}

impl State {
    /// What a call is answered, held against the description; nothing where no answer comes.
    fn reply(
        &mut self,
        method: &Method,
        uri: &Uri,
        headers: &HeaderMap,
        body: &[u8],
    ) -> Option<Reply> {
        let path = uri.path();
        let mut operation = match self.contract.find(method.as_str(), path) {
            Ok(operation) => operation,
            Err(words) => {
                self.broken.push(words.clone());
                return Some(refusal(StatusCode::UNPROCESSABLE_ENTITY, &words));
            }
        };
        self.calls.push(operation.id.clone());
        let query = pairs(uri.query().unwrap_or_default());
        let faults = self.contract.faults_of_request(&operation, &query, body);
        if !faults.is_empty() {
            self.broken.extend(faults.clone());
            let words = faults.join("; ");
            return Some(refusal(StatusCode::UNPROCESSABLE_ENTITY, &words));
        }
        let turned_away = who::turned_away(self, &operation, headers);
        let reply = if let Some((status, words)) = turned_away {
            Some(refusal(status, words))
        } else {
            operation.is_by_app = self.installed.is_app(headers);
            let said = String::from_utf8_lossy(body);
            let fault = self.fault(&operation.id, &[path, &said]);
            self.reply_so(fault, &operation, uri, body)
        };
        if let Some(reply) = &reply {
            self.hold(&operation, reply);
        }
        reply
    }

    /// What a call is answered that fails so, or does not fail.
    fn reply_so(
        &mut self,
        fault: Option<Fault>,
        operation: &Operation,
        uri: &Uri,
        body: &[u8],
    ) -> Option<Reply> {
        let reply = match fault {
            Some(Fault::Fails) => refusal(StatusCode::INTERNAL_SERVER_ERROR, "Server Error"),
            Some(Fault::Refused(status)) => refused(status),
            Some(Fault::Limited(after)) => limited(StatusCode::TOO_MANY_REQUESTS, after),
            Some(Fault::Secondary(after)) => limited(StatusCode::FORBIDDEN, after),
            Some(Fault::Spent(after)) => spent(self.act(operation, uri, body), after),
            Some(Fault::Pause(after)) => pause(self.act(operation, uri, body), after),
            Some(Fault::Silent | Fault::Cut) => return None,
            Some(Fault::AnswerLost) => {
                let lost = self.act(operation, uri, body);
                self.hold(operation, &lost);
                return None;
            }
            None => self.act(operation, uri, body),
        };
        Some(reply)
    }

    /// Does what is asked.
    fn act(&mut self, operation: &Operation, uri: &Uri, body: &[u8]) -> Reply {
        if operation.id == codeload::OPERATION {
            return codeload::redirect(self, operation);
        }
        let body: Value = serde_json::from_slice(body).unwrap_or_default();
        let query = pairs(uri.query().unwrap_or_default()).into_iter().collect();
        let (status, body) = app::answer(self, operation)
            .or_else(|| pulls::answer(self, operation, &query))
            .unwrap_or_else(|| answers::answer(self, operation, &query, &body));
        let (body, link) = answers::page(body, &query, uri);
        let reply = Reply::new(StatusCode::from_u16(status).unwrap(), body);
        match link {
            Some(link) => reply.with("link", link),
            None => reply,
        }
    }

    /// Holds an answer against the description.
    fn hold(&mut self, operation: &Operation, reply: &Reply) {
        let status = reply.status.as_u16();
        let faults = self
            .contract
            .faults_of_answer(operation, status, &reply.body);
        self.broken.extend(faults);
    }
}

pub(super) fn pairs(query: &str) -> Vec<(String, String)> {
    let pairs = query.split('&').filter(|one| !one.is_empty());
    let pairs = pairs.map(|one| one.split_once('=').unwrap_or((one, "")));
    pairs
        .map(|(name, value)| (name.to_owned(), answers::decoded(value)))
        .collect()
}
