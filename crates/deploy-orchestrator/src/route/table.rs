//! The routes of this process's memory: what every edge's stream compares with.
//!
//! One task keeps it, whatever the number of edges: woken by a nudge or a 250 ms poll it asks for
//! rows that changed since its last snapshot, and every 30 s for all. When its polls fail for 2 s, or
//! one hangs for so long, it says so, and the streams end: an edge then finds a replica that still sees
//! the database.
//!
//! Before it shows anything it sees to the epoch: nothing is sent that edges could take for old.

use std::{
    collections::{HashMap, HashSet, VecDeque},
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

/// Changes that are kept for those who look at changes alone. Who missed more looks at all.
const MOST_CHANGES: usize = 4096;

/// What changed lately, so that a stream need not compare every route there is with what its edge has.
#[derive(Debug, Clone, Default)]
pub(crate) struct Changes {
    /// How many there ever were.
    count: u64,
    /// The last of them, in order.
    latest: VecDeque<Arc<pb::Route>>,
}

impl Changes {
    pub(crate) const fn count(&self) -> u64 {
        self.count
    }

    /// What changed after so many; none when not all of that is known any more.
    pub(crate) fn after(&self, count: u64) -> Option<impl Iterator<Item = &Arc<pb::Route>>> {
        let missed = usize::try_from(self.count.checked_sub(count)?).ok()?;
        let before = self.latest.len().checked_sub(missed)?;
        Some(self.latest.range(before..))
    }

    fn add(&mut self, route: Arc<pb::Route>) {
        if self.latest.len() == MOST_CHANGES {
            self.latest.pop_front();
        }
        self.latest.push_back(route);
        self.count += 1;
    }
}

/// What the table says to the streams.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub(crate) routes: Routes,
    pub(crate) changes: Arc<Changes>,
    /// The one that holds.
    pub(crate) epoch: i32,
    /// False while the database does not answer.
    pub(crate) sees: bool,
}

impl Seen {
    pub(crate) fn add(&mut self, route: pb::Route) {
        let route = Arc::new(route);
        Arc::make_mut(&mut self.routes).insert(route.host.clone(), Arc::clone(&route));
        Arc::make_mut(&mut self.changes).add(route);
    }
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
            changes: Arc::default(),
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
            match self.look(last.as_ref()).await {
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

    /// At what changed since the last look, and at everything without one or where that says too little.
    /// Each has its own time: a database that has just answered is seen, however long it reads everything.
    async fn look(&self, last: Option<&Looked>) -> Result<Looked, sqlx::Error> {
        if let Some(last) = last
            && let Some(now) = self.watch_over(self.look_since(last), BLIND_AFTER).await?
        {
            return Ok(now);
        }
        self.watch_over(self.look_at_all(), FULL_WITHIN).await
    }

    /// None, and nothing shown, where another epoch holds or has to begin: then all routes are to be read.
    async fn look_since(&self, last: &Looked) -> Result<Option<Looked>, sqlx::Error> {
        let mut conn = self.pool.acquire().await?;
        let found = store::changed_since(&mut conn, Some(&last.snapshot)).await?;
        // Of another database no snapshot says anything.
        let is_other = found.moved || found.epoch != last.epoch;
        let is_old = found.rows.iter().any(|row| row.epoch < found.epoch);
        let ahead = ahead(&self.seen.borrow().routes, &found.rows, false);
        if is_other || is_old || !ahead.is_empty() {
            return Ok(None);
        }
        self.show(found.rows, found.epoch);
        Ok(Some(Looked {
            epoch: found.epoch,
            snapshot: found.snapshot,
        }))
    }

    /// Sees to the epoch first, where that has to be.
    async fn look_at_all(&self) -> Result<Looked, sqlx::Error> {
        let mut conn = self.pool.acquire().await?;
        let mut found = store::changed_since(&mut conn, None).await?;
        let mut epoch = found.epoch;
        if found.moved {
            epoch = epoch::current(&mut conn).await?;
            found = store::changed_since(&mut conn, None).await?;
        }
        if found.rows.iter().any(|row| row.epoch < epoch) {
            super::epoch::renew(&mut conn, epoch).await?;
            found = store::changed_since(&mut conn, None).await?;
        }
        let ahead = ahead(&self.seen.borrow().routes, &found.rows, true);
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
                    // In place, unless a stream reads all of it just now: a host is never forgotten, so there
                    // are many more than change.
                    seen.add(shown(row));
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
    use crate::route::Spec;

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

    #[test]
    fn changes_are_known_to_who_missed_few() {
        let mut changes = Changes::default();
        let after = |changes: &Changes, count| {
            let after = changes.after(count);
            after.map(|after| after.map(|route| route.version).collect::<Vec<_>>())
        };
        assert_eq!(after(&changes, 0), Some(vec![]));
        for version in 1..=3 {
            changes.add(Arc::new(shown(row("a", 1, version))));
        }
        assert_eq!(after(&changes, 1), Some(vec![2, 3]));
        assert_eq!(after(&changes, 3), Some(vec![]));
        assert_eq!(after(&changes, 4), None, "it never counted so many");
        for version in 4.. {
            changes.add(Arc::new(shown(row("a", 1, version))));
            if changes.latest.len() == MOST_CHANGES && changes.count() > 4098 {
                break;
            }
        }
        assert_eq!(after(&changes, 2), None, "the third is forgotten");
        let all = after(&changes, 3).unwrap();
        assert_eq!((all.len(), all[0]), (MOST_CHANGES, 4));
    }

    #[tokio::test]
    async fn what_changed_says_too_little_where_another_epoch_holds_or_has_to_begin() {
        let database = Database::migrated(&sqlx::migrate!()).await;
        let pool = database.pool();
        let mut conn = pool.acquire().await.unwrap();
        let table = Table::new(pool.clone(), Arc::default(), Duration::from_millis(10));
        let all = table.look_at_all().await.unwrap();
        let place = store::Place {
            environment_id: None,
            deployment_id: None,
            site: "docs",
            environment: "production",
            noindex: false,
        };
        let host = "a.localhost".to_owned();
        let (hosts, spec) = ([host.clone()], Spec::default());
        let written = store::write(&mut conn, &hosts, place, &spec).await.unwrap();
        let now = table.look_since(&all).await.unwrap();
        assert_eq!(now.map(|now| now.epoch), Some(all.epoch));
        let shows = |table: &Table| table.seen.borrow().routes.get(&host).map(|one| one.version);
        assert_eq!(shows(&table), Some(written[0].version));

        // Another one began it.
        let before = Looked {
            epoch: all.epoch - 1,
            snapshot: all.snapshot.clone(),
        };
        assert!(table.look_since(&before).await.unwrap().is_none());
        // The database was set back.
        let known = Arc::new(shown(row(&host, all.epoch, 9)));
        table.seen.send_modify(|seen| {
            Arc::make_mut(&mut seen.routes).insert(host.clone(), known);
        });
        assert!(table.look_since(&all).await.unwrap().is_none());
        assert_eq!(shows(&table), Some(9));
        // It is another one.
        sqlx::query("UPDATE relay SET timeline = '000000FF'")
            .execute(&mut *conn)
            .await
            .unwrap();
        assert!(table.look_since(&all).await.unwrap().is_none());
        let anew = table.look_at_all().await.unwrap();
        assert!(anew.epoch > all.epoch);
        let now = table.look_since(&anew).await.unwrap();
        assert_eq!(now.map(|now| now.epoch), Some(anew.epoch));
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
