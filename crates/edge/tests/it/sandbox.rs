//! An edge with its directory of blobs, and releases to serve.

use std::{path::PathBuf, sync::Arc, time::Duration};

use candlefish_blobs::{Options, Store, body_of, open};
use candlefish_ids::ReleaseId;
use candlefish_manifest::{Digest, Entry, Limits, Manifest, digest_of, guess_content_type};
use candlefish_proto::deploy::{ReleaseRef, Route, WeightedRelease};
use candlefish_runtime::{config::Env, ops::Readiness, tasks::Tasks};
use candlefish_testkit::wait_until;
use edge::{Config, Running};

use crate::{
    orchestrator::{Heard, Orchestrator},
    visitor::Visitor,
};

pub(crate) const SOON: Duration = Duration::from_secs(20);
pub(crate) const HOST: &str = "docs.localhost";

/// A release that is in the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Release {
    pub(crate) id: String,
    pub(crate) manifest: Digest,
}

impl Release {
    pub(crate) fn reference(&self) -> ReleaseRef {
        ReleaseRef {
            release_id: self.id.clone(),
            manifest_digest: self.manifest.to_string(),
        }
    }
}

/// Everything around the edge that outlives it.
pub(crate) struct Sandbox {
    dir: tempfile::TempDir,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) orchestrator: Orchestrator,
    pub(crate) settings: Vec<(&'static str, String)>,
}

/// A running edge.
pub(crate) struct Edge {
    pub(crate) running: Running,
    pub(crate) readiness: Readiness,
    tasks: Tasks,
}

impl Sandbox {
    pub(crate) async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = open(&blobs(&dir), Options::default()).await.unwrap();
        Self {
            dir,
            store,
            orchestrator: Orchestrator::start(None).await,
            settings: Vec::new(),
        }
    }

    /// The usual beginning: one edge, one release of these files live on [`HOST`].
    pub(crate) async fn serving(files: &[(&str, &str)]) -> (Self, Edge, Visitor, Release) {
        let sandbox = Self::new().await;
        let release = sandbox.release(files).await;
        let edge = sandbox.edge("edge-1").await;
        sandbox.apply(&edge, route(1, &[(&release, 100)])).await;
        let visitor = edge.visitor(HOST);
        (sandbox, edge, visitor, release)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Starts an edge of this name, with the state that it left.
    pub(crate) async fn edge(&self, id: &str) -> Edge {
        let config = Config::read(Env::from_pairs(self.environment(id))).unwrap();
        let (tasks, readiness) = (Tasks::new(), Readiness::new());
        let running = edge::run(config, &tasks, readiness.clone()).await.unwrap();
        Edge {
            running,
            readiness,
            tasks,
        }
    }

    /// The variables that an edge of this name is started with.
    pub(crate) fn environment(&self, id: &str) -> Vec<(&'static str, String)> {
        let mut pairs = vec![
            ("CANDLEFISH_LISTEN", "127.0.0.1:0".to_owned()),
            ("CANDLEFISH_OPS_LISTEN", "127.0.0.1:0".to_owned()),
            ("CANDLEFISH_ORCHESTRATOR_URL", self.orchestrator.url()),
            ("CANDLEFISH_BLOBS", blobs(&self.dir)),
            ("CANDLEFISH_STATE_DIR", self.path(id).display().to_string()),
            ("CANDLEFISH_EDGE_ID", id.to_owned()),
            ("CANDLEFISH_EDGE_REPORT_MS", "100".to_owned()),
        ];
        // A process of its own takes the last of a name, as what reads these does.
        pairs.extend(self.settings.clone());
        pairs
    }

    /// Puts content into the store and names it.
    pub(crate) async fn release(&self, files: &[(&str, &str)]) -> Release {
        let mut entries = Vec::new();
        for (path, text) in files {
            entries.push(Entry {
                path: (*path).to_owned(),
                digest: self.put(text.as_bytes()).await,
                size: u64::try_from(text.len()).unwrap(),
                content_type: guess_content_type(path),
            });
        }
        let manifest = Manifest::build(entries, &Limits::default()).unwrap();
        Release {
            id: ReleaseId::new().to_string(),
            manifest: self.put(&manifest.encode()).await,
        }
    }

    async fn put(&self, bytes: &[u8]) -> Digest {
        let digest = digest_of(bytes);
        let size = u64::try_from(bytes.len()).unwrap();
        let body = body_of(bytes.to_vec());
        self.store.put(&digest, size, body).await.unwrap();
        digest
    }

    /// Sends a route and waits until the edge holds it.
    pub(crate) async fn apply(&self, edge: &Edge, route: Route) {
        let version = (route.epoch, route.version);
        let host = route.host.clone();
        self.orchestrator.send([route]);
        wait_until(SOON, "the route to be held", async || {
            self.heard(edge).held.get(&host) == Some(&version)
        })
        .await;
    }

    pub(crate) fn heard(&self, edge: &Edge) -> Heard {
        self.orchestrator.heard(&edge.running.edge)
    }
}

impl Edge {
    pub(crate) fn visitor(&self, host: &str) -> Visitor {
        Visitor {
            address: self.running.address,
            host: host.to_owned(),
        }
    }

    /// As a signal asks; answers whether everything ended by itself.
    pub(crate) async fn stop(self) -> bool {
        self.tasks.drain(SOON).await
    }

    /// As `kill -9` leaves it: nothing is finished, nothing is told.
    pub(crate) async fn kill(self) {
        self.tasks.drain(Duration::ZERO).await;
    }
}

fn blobs(dir: &tempfile::TempDir) -> String {
    format!("dir:{}", dir.path().join("blobs").display())
}

/// A route of [`HOST`] in epoch 1.
pub(crate) fn route(version: i64, releases: &[(&Release, i32)]) -> Route {
    Route {
        host: HOST.to_owned(),
        epoch: 1,
        version,
        releases: releases
            .iter()
            .map(|(release, weight)| WeightedRelease {
                release: Some(release.reference()),
                weight: *weight,
            })
            .collect(),
        ..Route::default()
    }
}
