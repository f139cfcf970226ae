//! The routes of this process's memory: what every edge's stream compares with.
//!
//! One task keeps it, whatever the number of edges: woken by a nudge or a 250 ms poll it asks for
//! rows that changed since its last snapshot, and every 30 s for all. When its polls fail for 2 s, or
//! one hangs for so long, it says so, and the streams end: an edge then finds a replica that still sees
//! the database.
//!
//! Before it shows anything it sees to the epoch: nothing is sent that edges could take for old.

use std::{
    collections::{HashMap, HashSet},
    pin::pin,
    sync::Arc,
    time::Duration,
};

use candlefish_messaging::epoch;
use candlefish_proto::deploy as pb;
use sqlx::PgPool;
use tokio::{
    sync::{Notify, watch},
    time::Instant,
};
use tokio_util::sync::CancellationToken;

use super::{
    Written,
    store::{self, Row},
};

/// A full look in between, so that nothing rests on snapshots alone.
const FULL_EVERY: Duration = Duration::from_secs(30);
/// Longer without an answer of the database, and the streams end.
const BLIND_AFTER: Duration = Duration::from_secs(2);
/// A look at everything may take longer: the server itself ends a statement after five seconds.
const FULL_WITHIN: Duration = Duration::from_secs(6);

/// Every route by host, shared without copying.
pub(crate) type Routes = Arc<HashMap<String, Arc<pb::Route>>>;

/// What the table says to the streams.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub(crate) routes: Routes,
    /// The one that holds.
    pub(crate) epoch: i32,
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

/// Where the next look goes on.
#[derive(Debug)]
struct Looked {
    epoch: i32,
    snapshot: String,
}

impl Table {
    pub(crate) fn new(pool: PgPool, nudge: Arc<Notify>, poll: Duration) -> Self {
        let (seen, _) = watch::channel(Seen {
            routes: Arc::default(),
            epoch: 0,
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
        let mut last: Option<Looked> = None;
        let mut last_full = Instant::now();
        let mut last_answer = Instant::now();
        loop {
            // Registered before the look, so that a nudge during it is not lost.
            let nudge = Arc::clone(&self.nudge);
            let nudged = nudge.notified();
            if last_full.elapsed() >= FULL_EVERY {
                last = None;
            }
            if last.is_none() {
                last_full = Instant::now();
            }
            let within = if last.is_none() {
                FULL_WITHIN
            } else {
                BLIND_AFTER
            };
            match self.watch_over(self.look(last.as_ref()), within).await {
                Ok(now) => {
                    last = Some(now);
                    last_answer = Instant::now();
                }
                Err(error) => {
                    tracing::debug!(%error, "routes were not read");
                    if last_answer.elapsed() >= BLIND_AFTER {
                        self.sees_nothing();
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

    /// Waits for a look to its end. One that hangs, as behind a network that loses everything, is not given
    /// up, for it may be inside of `begin`; that nothing is seen meanwhile is said.
    async fn watch_over<T>(&self, look: impl Future<Output = T>, within: Duration) -> T {
        let mut look = pin!(look);
        tokio::select! {
            biased;
            looked = &mut look => return looked,
            () = tokio::time::sleep(within) => self.sees_nothing(),
        }
        look.await
    }

    fn sees_nothing(&self) {
        self.seen
            .send_if_modified(|seen| std::mem::replace(&mut seen.sees, false));
    }

    async fn look(&self, last: Option<&Looked>) -> Result<Looked, sqlx::Error> {
        let mut conn = self.pool.acquire().await?;
        let since = last.map(|last| &*last.snapshot);
        let mut found = store::changed_since(&mut conn, since).await?;
        let mut is_whole = since.is_none();
        let mut epoch = if found.moved {
            epoch::current(&mut conn).await?
        } else {
            found.epoch
        };
        // Of another database no snapshot says anything.
        if found.moved || last.is_some_and(|last| last.epoch != epoch) {
            found = store::changed_since(&mut conn, None).await?;
            is_whole = true;
        }
        if found.rows.iter().any(|row| row.epoch < epoch) {
            super::epoch::renew(&mut conn, epoch).await?;
            found = store::changed_since(&mut conn, None).await?;
            is_whole = true;
        }
        let ahead = ahead(&self.seen.borrow().routes, &found.rows, is_whole);
        if !ahead.is_empty() {
            epoch = super::epoch::begin(&mut conn, &ahead).await?;
            found = store::changed_since(&mut conn, None).await?;
        }
        self.show(found.rows, epoch);
        let snapshot = found.snapshot;
        Ok(Looked { epoch, snapshot })
    }

    fn show(&self, rows: Vec<Row>, epoch: i32) {
        self.seen.send_if_modified(|seen| {
            let mut modified = !seen.sees;
            for row in rows {
                let older = seen
                    .routes
                    .get(&row.host)
                    .is_some_and(|held| (held.epoch, held.version) >= (row.epoch, row.version));
                if !older {
                    // In place, unless a stream reads it just now: a host is never forgotten, so there
                    // are many more than change.
                    Arc::make_mut(&mut seen.routes).insert(row.host.clone(), Arc::new(shown(row)));
                    modified = true;
                }
            }
            seen.epoch = epoch;
            seen.sees = true;
            modified
        });
    }
}

/// What this process knows newer than the rows of a look have it, or knows alone: the database was set
/// back. Edges that were sent it need not tell it again.
fn ahead(known: &HashMap<String, Arc<pb::Route>>, rows: &[Row], is_whole: bool) -> Vec<Written> {
    let newer = rows.iter().filter_map(|row| {
        let route = known.get(&row.host)?;
        ((route.epoch, route.version) > (row.epoch, row.version)).then_some(route)
    });
    let hosts: HashSet<&str> = if is_whole {
        rows.iter().map(|row| &*row.host).collect()
    } else {
        HashSet::new()
    };
    let alone = known
        .values()
        .filter(|route| is_whole && !hosts.contains(&*route.host));
    newer
        .chain(alone)
        .map(|route| Written {
            host: route.host.clone(),
            epoch: route.epoch,
            version: route.version,
        })
        .collect()
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
        preview: row.preview,
        generation: row.generation,
        site: row.site,
        environment: row.environment,
    }
}

#[cfg(test)]
mod tests {
    use candlefish_runtime::{
        database,
        tasks::{Policy, Tasks},
    };
    use candlefish_testkit::{Database, Proxy};
    use tokio::time::timeout;

    use super::*;

    const SOON: Duration = Duration::from_secs(20);

    fn row(host: &str, epoch: i32, version: i64) -> Row {
        Row {
            host: host.to_owned(),
            environment_id: None,
            site: String::new(),
            environment: String::new(),
            epoch,
            version,
            generation: 0,
            releases: Vec::new(),
            assets_of: Vec::new(),
            rolling: false,
            rolled_edges: Vec::new(),
            waiting_edges: Vec::new(),
            noindex: false,
            preview: false,
        }
    }

    #[test]
    fn a_database_that_was_set_back_has_less_than_what_is_known() {
        let known = [row("a", 1, 9), row("b", 1, 2), row("c", 1, 1)];
        let known: HashMap<_, _> = known
            .into_iter()
            .map(|row| (row.host.clone(), Arc::new(shown(row))))
            .collect();
        let hosts = |rows: &[Row], is_whole: bool| {
            let mut hosts: Vec<String> = ahead(&known, rows, is_whole)
                .into_iter()
                .map(|one| one.host)
                .collect();
            hosts.sort_unstable();
            hosts
        };
        let set_back = [row("a", 1, 7), row("b", 1, 2)];
        assert_eq!(hosts(&set_back, true), ["a", "c"]);
        // What did not change since the last look is not among its rows.
        assert_eq!(hosts(&set_back, false), ["a"]);
        let on = [
            row("a", 2, 1),
            row("b", 1, 3),
            row("c", 1, 1),
            row("d", 1, 1),
        ];
        assert_eq!(hosts(&on, true), [""; 0]);
        assert_eq!(hosts(&[], false), [""; 0]);
    }

    #[tokio::test]
    async fn a_database_that_answers_nothing_is_not_seen_until_it_answers() {
        let database = Database::migrated(&sqlx::migrate!()).await;
        let options = database.options();
        let server = format!("{}:{}", options.get_host(), options.get_port());
        let network = Proxy::start(&server).await;
        let through = network.addr().to_string();
        let url = database.url().replacen(&server, &through, 1);
        // One connection, used a moment ago: the next look hangs, and no error ends it.
        let pool = database::connect(&url, 1).await.unwrap();
        let table = Table::new(pool, Arc::default(), Duration::from_millis(10));
        let mut seen = table.subscribe();
        let tasks = Tasks::new();
        let stopping = tasks.stopping();
        drop(tasks.spawn("table", Policy::Ignore, table.run(stopping)));
        for sees in [true, false, true] {
            let is_so = seen.wait_for(|seen| seen.sees == sees);
            let is_so = timeout(SOON, is_so).await.is_ok_and(|seen| seen.is_ok());
            assert!(is_so, "sees: {sees}");
            if sees {
                network.silence();
            } else {
                network.mend();
            }
        }
        network.cut();
        assert!(tasks.drain(SOON).await);
    }
}
