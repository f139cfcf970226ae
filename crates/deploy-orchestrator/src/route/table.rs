//! The routes of this process's memory: what every edge's stream compares with.
//!
//! One task keeps it, whatever the number of edges: woken by a nudge or a 250 ms poll it asks for
//! rows that changed since its last snapshot, and every 30 s for all. When its polls fail for 2 s it
//! says so, and the streams end: an edge then finds a replica that still sees the database.

use std::{collections::HashMap, sync::Arc, time::Duration};

use candlefish_proto::deploy as pb;
use sqlx::PgPool;
use tokio::{
    sync::{Notify, watch},
    time::Instant,
};
use tokio_util::sync::CancellationToken;

use super::store::{self, Row};

/// A full look in between, so that nothing rests on snapshots alone.
const FULL_EVERY: Duration = Duration::from_secs(30);
/// Longer without an answer of the database, and the streams end.
const BLIND_AFTER: Duration = Duration::from_secs(2);

/// Every route by host, shared without copying.
pub(crate) type Routes = Arc<HashMap<String, Arc<pb::Route>>>;

/// What the table says to the streams.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub(crate) routes: Routes,
    /// False while the database does not answer.
    pub(crate) sees: bool,
}

/// The task that keeps the table.
#[derive(Debug)]
pub(crate) struct Table {
    pool: PgPool,
    nudge: Arc<Notify>,
    poll: Duration,
    seen: watch::Sender<Seen>,
}

impl Table {
    pub(crate) fn new(pool: PgPool, nudge: Arc<Notify>, poll: Duration) -> Self {
        let (seen, _) = watch::channel(Seen {
            routes: Arc::default(),
            sees: false,
        });
        Self {
            pool,
            nudge,
            poll,
            seen,
        }
    }

    pub(crate) fn subscribe(&self) -> watch::Receiver<Seen> {
        self.seen.subscribe()
    }

    /// Keeps the table until `stopping`.
    pub(crate) async fn run(self, stopping: CancellationToken) {
        let mut snapshot: Option<String> = None;
        let mut last_full = Instant::now();
        let mut last_answer = Instant::now();
        loop {
            // Registered before the look, so that a nudge during it is not lost.
            let nudge = Arc::clone(&self.nudge);
            let nudged = nudge.notified();
            if last_full.elapsed() >= FULL_EVERY {
                snapshot = None;
            }
            if snapshot.is_none() {
                last_full = Instant::now();
            }
            match self.look(snapshot.as_deref()).await {
                Ok(now) => {
                    snapshot = Some(now);
                    last_answer = Instant::now();
                }
                Err(error) => {
                    tracing::debug!(%error, "routes were not read");
                    if last_answer.elapsed() >= BLIND_AFTER {
                        self.seen
                            .send_if_modified(|seen| std::mem::replace(&mut seen.sees, false));
                    }
                }
            }
            tokio::select! {
                () = stopping.cancelled() => return,
                () = nudged => {}
                () = tokio::time::sleep(self.poll) => {}
            }
        }
    }

    async fn look(&self, snapshot: Option<&str>) -> Result<String, sqlx::Error> {
        let mut conn = self.pool.acquire().await?;
        let (changed, now) = store::changed_since(&mut conn, snapshot).await?;
        self.seen.send_if_modified(|seen| {
            let mut next: Option<HashMap<String, Arc<pb::Route>>> = None;
            for row in changed {
                let older = seen
                    .routes
                    .get(&row.host)
                    .is_some_and(|held| (held.epoch, held.version) >= (row.epoch, row.version));
                if !older {
                    next.get_or_insert_with(|| (*seen.routes).clone())
                        .insert(row.host.clone(), Arc::new(shown(row)));
                }
            }
            let modified = next.is_some() || !seen.sees;
            if let Some(next) = next {
                seen.routes = Arc::new(next);
            }
            seen.sees = true;
            modified
        });
        Ok(now)
    }
}

fn shown(row: Row) -> pb::Route {
    let release_ref = |release: candlefish_ids::ReleaseId, manifest: String| pb::ReleaseRef {
        release_id: release.to_string(),
        manifest_digest: manifest,
    };
    pb::Route {
        host: row.host,
        epoch: row.epoch,
        version: row.version,
        environment_id: row
            .environment_id
            .map(|id| id.to_string())
            .unwrap_or_default(),
        releases: row
            .releases
            .into_iter()
            .map(|one| pb::WeightedRelease {
                release: Some(release_ref(one.release, one.manifest)),
                weight: one.weight,
            })
            .collect(),
        assets_of: row
            .assets_of
            .into_iter()
            .map(|one| release_ref(one.release, one.manifest))
            .collect(),
        rolled_edges: row.rolled_edges,
        waiting_edges: row.waiting_edges,
        rolling: row.rolling,
        noindex: row.noindex,
        generation: row.generation,
        site: row.site,
        environment: row.environment,
    }
}
