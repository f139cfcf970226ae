//! One gateway for one test.

use std::{
    net::SocketAddr,
    sync::atomic::{AtomicU16, Ordering},
    time::Duration,
};

use candlefish_runtime::{config::Env, tasks::Tasks};
use candlefish_testkit::{Database, poll_until};
use reqwest::{Method, Response, StatusCode};
use serde_json::{Value, json};
use tempfile::TempDir;
use tonic::transport::Channel;

use crate::{backend::Backend, keys};

/// Long enough for a busy machine.
pub(crate) const SOON: Duration = Duration::from_secs(40);
/// The bus is only a hint: all but one test do without.
const NO_BUS: &str = "nats://127.0.0.1:9";

/// A gateway, what is behind it, and its admin.
pub(crate) struct Stand {
    pub(crate) backend: Backend,
    /// `http://127.0.0.1:…`.
    pub(crate) api: String,
    /// The port for our own processes.
    pub(crate) internal: String,
    /// The operations port.
    pub(crate) ops: String,
    /// An admin's token.
    pub(crate) admin: String,
    pub(crate) http: reqwest::Client,
    pub(crate) keys: TempDir,
    pub(crate) database: Database,
    /// The environment that it was started in.
    pub(crate) environment: Vec<(String, String)>,
    tasks: Tasks,
}

impl Drop for Stand {
    fn drop(&mut self) {
        self.tasks.stop();
    }
}

/// What came back over REST.
#[derive(Debug)]
pub(crate) struct Answered {
    pub(crate) status: StatusCode,
    pub(crate) headers: http::HeaderMap,
    pub(crate) body: Value,
}

impl Answered {
    async fn of(response: Response) -> Self {
        let status = response.status();
        let headers = response.headers().clone();
        let text = response.text().await.unwrap();
        let body = serde_json::from_str(&text).unwrap_or(Value::String(text));
        Self {
            status,
            headers,
            body,
        }
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .map(|value| value.to_str().unwrap())
            .unwrap_or_default()
    }

    /// The fields that a problem names.
    pub(crate) fn fields(&self) -> Vec<&str> {
        let errors = self.body["errors"].as_array().into_iter().flatten();
        errors
            .map(|error| error["field"].as_str().unwrap())
            .collect()
    }

    /// Asserts that it is a whole problem of a status.
    pub(crate) fn is_problem(&self, status: u16) -> &Self {
        assert_eq!(self.status.as_u16(), status, "{self:?}");
        assert_eq!(
            self.header("content-type"),
            "application/problem+json",
            "{self:?}"
        );
        assert_eq!(self.body["status"], status, "{self:?}");
        for name in ["type", "title", "code", "request_id"] {
            assert!(self.body[name].is_string(), "{name}: {self:?}");
        }
        assert_eq!(
            self.body["request_id"],
            self.header("x-request-id"),
            "{self:?}"
        );
        self
    }
}

impl Stand {
    pub(crate) async fn start() -> Self {
        Self::start_with(&[]).await
    }

    /// Starts a gateway whose environment has these variables besides the needed ones; `BACKEND` in
    /// a value is where the scripted service is, `DATABASE` the address of the database.
    pub(crate) async fn start_with(more: &[(&str, &str)]) -> Self {
        let tasks = Tasks::new();
        let dir = tempfile::tempdir().unwrap();
        let key = keys::generate(dir.path(), "gateway");
        let backend = Backend::default();
        let orchestrator = backend.serve(dir.path(), &tasks).await;
        let database = Database::migrated(&sqlx::migrate!()).await;
        let admin = format!("cft_{}_{}", "0".repeat(26), "a".repeat(40));
        let (listen, ops, internal) = (free_port(), free_port(), free_port());
        keys::generate(dir.path(), "deploy-orchestrator");
        let mut pairs = vec![
            ("CANDLEFISH_LISTEN", listen.to_string()),
            ("CANDLEFISH_OPS_LISTEN", ops.to_string()),
            ("CANDLEFISH_INTERNAL_LISTEN", internal.to_string()),
            ("CANDLEFISH_TRUSTED_KEYS", dir.path().display().to_string()),
            ("CANDLEFISH_DATABASE_URL", database.url()),
            ("CANDLEFISH_NATS_URL", NO_BUS.to_owned()),
            ("CANDLEFISH_IDENTITY_KEY", key.display().to_string()),
            ("CANDLEFISH_ORCHESTRATOR_URL", orchestrator.clone()),
            ("CANDLEFISH_BOOTSTRAP_TOKEN", admin.clone()),
            ("CANDLEFISH_POLL_MS", "20".to_owned()),
        ];
        for (name, value) in more {
            pairs.retain(|(known, _)| known != name);
            let value = value.replace("BACKEND", &orchestrator);
            pairs.push((name, value.replace("DATABASE", &database.url())));
        }
        let environment = pairs.iter();
        let environment = environment.map(|(name, value)| ((*name).to_owned(), value.clone()));
        let environment = environment.collect();
        let config = gateway::Config::read(Env::from_pairs(pairs)).unwrap();
        gateway::migrate(&config).await.unwrap();
        gateway::run(config, &tasks).await.unwrap();
        Self {
            backend,
            api: format!("http://{listen}"),
            internal: format!("http://{internal}"),
            ops: format!("http://{ops}"),
            admin,
            http: reqwest::Client::new(),
            keys: dir,
            database,
            environment,
            tasks,
        }
    }

    /// Begins to stop the gateway, and what is behind it.
    pub(crate) fn stop(&self) {
        self.tasks.stop();
    }

    /// A connection for generated clients.
    pub(crate) fn channel(&self) -> Channel {
        Channel::from_shared(self.api.clone())
            .unwrap()
            .connect_lazy()
    }

    /// A request whose token the test chooses; none when empty.
    pub(crate) fn ask(&self, method: Method, path: &str, token: &str) -> reqwest::RequestBuilder {
        let request = self.http.request(method, format!("{}{path}", self.api));
        if token.is_empty() {
            request
        } else {
            request.bearer_auth(token)
        }
    }

    pub(crate) async fn send(&self, request: reqwest::RequestBuilder) -> Answered {
        Answered::of(request.timeout(SOON).send().await.unwrap()).await
    }

    pub(crate) async fn get(&self, path: &str, token: &str) -> Answered {
        self.send(self.ask(Method::GET, path, token)).await
    }

    pub(crate) async fn post(&self, path: &str, token: &str, body: &Value) -> Answered {
        let request = self.ask(Method::POST, path, token);
        self.send(request.json(body)).await
    }

    /// A principal and a token of a role for these sites; empty for all.
    pub(crate) async fn token(&self, name: &str, role: &str, sites: &[&str]) -> String {
        self.made_token(name, json!({ "role": role, "sites": sites }))
            .await["secret"]
            .as_str()
            .unwrap()
            .to_owned()
    }

    /// A principal and a token with these fields; the whole answer.
    pub(crate) async fn made_token(&self, name: &str, mut fields: Value) -> Value {
        let machine = json!({ "name": name, "kind": "KIND_MACHINE" });
        let made = self.post("/v1/principals", &self.admin, &machine).await;
        assert_eq!(made.status, 201, "{made:?}");
        fields["principal"] = name.into();
        fields["name"] = "test".into();
        let made = self.post("/v1/tokens", &self.admin, &fields).await;
        assert_eq!(made.status, 201, "{made:?}");
        made.body
    }

    /// Waits until the gateway's tail reached the source, so that what happens next is new to it.
    pub(crate) async fn follows(&self) {
        poll_until(SOON, "the tail to follow", async || {
            let mut answer = self
                .ask(Method::GET, "/v1/events", &self.admin)
                .send()
                .await
                .unwrap();
            self.backend.happens("deploy.probe.sent.v1", "");
            let told = async {
                let mut text = String::new();
                while !text.contains("data: ") {
                    let chunk = answer.chunk().await.ok().flatten()?;
                    text.push_str(&String::from_utf8_lossy(&chunk));
                }
                Some(())
            };
            match tokio::time::timeout(Duration::from_millis(500), told).await {
                Ok(Some(())) => Ok(()),
                other => Err(format!("{other:?}")),
            }
        })
        .await;
    }
}

/// A port that nobody has, below those that the system hands out by itself: another test's
/// connection cannot take it before the gateway does.
fn free_port() -> SocketAddr {
    static TURN: AtomicU16 = AtomicU16::new(0);
    let first = u16::try_from(std::process::id() % 100).unwrap() * 100;
    loop {
        let turn = TURN.fetch_add(1, Ordering::Relaxed);
        let port = 20_000 + (first + turn) % 10_000;
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        if std::net::TcpListener::bind(address).is_ok() {
            return address;
        }
    }
}
