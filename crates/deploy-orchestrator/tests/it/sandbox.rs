//! An orchestrator in this process, everything around it that outlives it, and content for it.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use candlefish_blobs::{Options, Store, body_of, open};
use candlefish_manifest::{Digest, Entry, Limits, Manifest, digest_of, guess_content_type};
use candlefish_proto::{deploy::EnvironmentChanged, event::Envelope};
use candlefish_runtime::{config::Env, tasks::Tasks};
use candlefish_testkit::{Database, OFFSET_CLOCK, Proxy};
use deploy_orchestrator::{Config, Running, migrate, run};
use prost::Message;
use sqlx::PgPool;

use crate::{api::Api, edge::Edge, keys::Keys};

pub(crate) const SOON: Duration = Duration::from_secs(40);
pub(crate) const SITE: &str = "docs";

/// Nobody listens there: the client goes on connecting in the background.
const NO_NATS: &str = "nats://127.0.0.1:1";

/// Everything around the orchestrator.
pub(crate) struct Sandbox {
    dir: tempfile::TempDir,
    pub(crate) keys: Keys,
    pub(crate) database: Database,
    pub(crate) pool: PgPool,
    pub(crate) store: Arc<dyn Store>,
    settings: Vec<(&'static str, String)>,
}

/// A running orchestrator.
pub(crate) struct Orchestrator {
    pub(crate) running: Running,
    tasks: Tasks,
    database: Proxy,
}

impl Sandbox {
    /// A migrated database with a clock that can be moved, and nothing running.
    pub(crate) async fn new() -> Self {
        Self::with(&[]).await
    }

    /// The same, with settings of its own.
    pub(crate) async fn with(settings: &[(&'static str, &str)]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let database = Database::migrated(&sqlx::migrate!()).await;
        let blobs = format!("dir:{}", dir.path().join("blobs").display());
        let sandbox = Self {
            store: open(&blobs, Options::default()).await.unwrap(),
            keys: Keys::of(&["gateway", "edge", "deploy-orchestrator"]),
            pool: database.pool(),
            settings: settings
                .iter()
                .map(|(name, value)| (*name, (*value).to_owned()))
                .collect(),
            database,
            dir,
        };
        // Finds all of it done.
        migrate(&sandbox.config(&sandbox.database.url()))
            .await
            .unwrap();
        sandbox.act(OFFSET_CLOCK).await;
        sandbox
    }

    /// The usual beginning: one orchestrator, one live edge, the site.
    pub(crate) async fn started() -> (Self, Orchestrator, Edge, Api) {
        Self::started_with(&[]).await
    }

    pub(crate) async fn started_with(
        settings: &[(&'static str, &str)],
    ) -> (Self, Orchestrator, Edge, Api) {
        let sandbox = Self::with(settings).await;
        let orchestrator = sandbox.start().await;
        let edge = Edge::start(&sandbox, "edge-1", orchestrator.running.address).await;
        let api = sandbox.api(orchestrator.running.address);
        api.create_site(SITE).await;
        api.wait_for_live_edges(1).await;
        (sandbox, orchestrator, edge, api)
    }

    pub(crate) fn config(&self, database_url: &str) -> Config {
        Config::read(Env::from_pairs(self.environment(database_url))).unwrap()
    }

    /// The variables that an orchestrator is started with.
    pub(crate) fn environment(&self, database_url: &str) -> Vec<(&'static str, String)> {
        let folder = self.keys.folder().display().to_string();
        let key = self.keys.private("deploy-orchestrator");
        let mut pairs = vec![
            ("CANDLEFISH_LISTEN", "127.0.0.1:0".to_owned()),
            ("CANDLEFISH_OPS_LISTEN", "127.0.0.1:0".to_owned()),
            ("CANDLEFISH_DATABASE_URL", database_url.to_owned()),
            ("CANDLEFISH_DATABASE_CONNECTIONS", "8".to_owned()),
            ("CANDLEFISH_NATS_URL", NO_NATS.to_owned()),
            ("CANDLEFISH_IDENTITY_KEY", key.display().to_string()),
            ("CANDLEFISH_TRUSTED_KEYS", folder),
            (
                "CANDLEFISH_BLOBS",
                format!("dir:{}", self.dir.path().join("blobs").display()),
            ),
            ("CANDLEFISH_BLOB_SIGNING_KEY", "5a".repeat(32)),
            ("CANDLEFISH_POLL_MS", "50".to_owned()),
            ("CANDLEFISH_SWEEP_MS", "100".to_owned()),
            ("CANDLEFISH_FETCH_TIMEOUT_MS", "2000".to_owned()),
        ];
        // A process of its own takes the last of a name, as what reads these does.
        pairs.extend(self.settings.clone());
        pairs
    }

    /// Sets a setting for what is started from now on.
    pub(crate) fn set(&mut self, name: &'static str, value: &str) {
        self.settings.push((name, value.to_owned()));
    }

    /// Starts an orchestrator; a second one is a replica.
    pub(crate) async fn start(&self) -> Orchestrator {
        self.start_on(&self.database.url()).await
    }

    pub(crate) async fn start_on(&self, database_url: &str) -> Orchestrator {
        let server = self.database.options();
        let server = format!("{}:{}", server.get_host(), server.get_port());
        let database = Proxy::start(&server).await;
        let url = database_url.replacen(&server, &database.addr().to_string(), 1);
        let tasks = Tasks::new();
        // Apart: every test holds this future in its own.
        let running = Box::pin(run(self.config(&url), &tasks)).await.unwrap();
        Orchestrator {
            running,
            tasks,
            database,
        }
    }

    pub(crate) fn api(&self, address: SocketAddr) -> Api {
        Api::new(address, self.keys.signer("gateway"))
    }

    /// Runs statements in the database.
    pub(crate) async fn act(&self, statements: &str) {
        let statements = sqlx::AssertSqlSafe(statements.to_owned());
        sqlx::raw_sql(statements).execute(&self.pool).await.unwrap();
    }

    /// The number that a question has for an answer.
    pub(crate) async fn number(&self, question: &str) -> i64 {
        let question = sqlx::AssertSqlSafe(question.to_owned());
        sqlx::query_scalar(question)
            .fetch_one(&self.pool)
            .await
            .unwrap()
    }

    /// What the world is told of environments, oldest first: the event, its entity's version and the
    /// reason in it.
    pub(crate) async fn told_of_environments(&self) -> Vec<(String, i32, String)> {
        let rows = sqlx::query_as::<_, (String, i32, Vec<u8>)>(
            "SELECT event_type, entity_version, envelope FROM outbox
             WHERE event_type LIKE 'deploy.environment.%' ORDER BY id",
        )
        .fetch_all(&self.pool)
        .await
        .unwrap();
        let reason = |envelope: Vec<u8>| {
            let body = Envelope::decode(&*envelope).unwrap().body.unwrap();
            EnvironmentChanged::decode(&*body.value).unwrap().reason
        };
        rows.into_iter()
            .map(|(name, version, envelope)| (name, version, reason(envelope)))
            .collect()
    }

    /// Puts content into the store; answers the manifest's digest and size.
    pub(crate) async fn put_content(&self, files: &[(&str, &str)]) -> (Digest, i32) {
        let mut entries = Vec::new();
        for (path, text) in files {
            entries.push(Entry {
                path: (*path).to_owned(),
                digest: self.put(text.as_bytes()).await,
                size: u64::try_from(text.len()).unwrap(),
                content_type: guess_content_type(path),
            });
        }
        let bytes = Manifest::build(entries, &Limits::default())
            .unwrap()
            .encode();
        let size = i32::try_from(bytes.len()).unwrap();
        (self.put(&bytes).await, size)
    }

    async fn put(&self, bytes: &[u8]) -> Digest {
        let digest = digest_of(bytes);
        let size = u64::try_from(bytes.len()).unwrap();
        let body = body_of(bytes.to_vec());
        self.store.put(&digest, size, body).await.unwrap();
        digest
    }

    /// A sealed release with one page, which says `words`.
    pub(crate) async fn release(&self, api: &Api, words: &str) -> String {
        let content = self.put_content(&[("index.html", words)]).await;
        let draft = api.create_release(content, words, &[]).await;
        api.seal(&draft).await
    }

    /// The same for a commit (of 40 digits) with these ancestors.
    pub(crate) async fn commit(&self, api: &Api, commit: &str, ancestors: &[&str]) -> String {
        let content = self.put_content(&[("index.html", commit)]).await;
        let draft = api.create_release(content, commit, ancestors).await;
        api.seal(&draft).await
    }

    /// Where a blob lies.
    pub(crate) fn blobs(&self) -> std::path::PathBuf {
        self.dir.path().join("blobs")
    }
}

/// One that a test is done with takes no time from the next one on the same thread.
impl Drop for Orchestrator {
    fn drop(&mut self) {
        self.database.cut();
        self.tasks.stop();
        self.tasks.killed().cancel();
    }
}

impl Orchestrator {
    /// All its connections to the database have ended, and it gets no new one.
    pub(crate) async fn loses_database(&self) {
        self.database.cut();
        for _turn in 0..10 {
            tokio::task::yield_now().await;
        }
    }

    /// Nothing comes through to the database or from it, and no connection ends.
    pub(crate) fn database_falls_silent(&self) {
        self.database.silence();
    }

    /// The database can be reached again.
    pub(crate) fn finds_database(&self) {
        self.database.mend();
    }

    /// As a signal asks; answers whether everything ended by itself.
    pub(crate) async fn stop(self) -> bool {
        self.tasks.drain(SOON).await
    }

    /// As `kill -9` leaves it: nothing is finished, nothing is told.
    pub(crate) async fn kill(self) {
        // First of all: what still runs for a moment must not reach the database.
        self.loses_database().await;
        self.tasks.drain(Duration::ZERO).await;
    }
}
