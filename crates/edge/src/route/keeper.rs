//! Brings routes from their coming to their being held.
//!
//! Level-triggered: it knows the newest route of each host that it was told, and after every event
//! does what can be done: stage what is named, apply what is staged, forget what is no longer named.

mod named;
mod read;
mod settling;

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use candlefish_ids::ReleaseId;
use candlefish_proto::deploy as pb;
use futures_util::{StreamExt as _, stream};
use prost::Message as _;
use tokio::{
    sync::{mpsc, oneshot},
    task::JoinSet,
    time::{Instant, sleep_until, timeout},
};
use tokio_util::sync::CancellationToken;

use self::{
    named::Named,
    read::{newest, read_all},
    settling::Settling,
};
use super::{
    ReleaseRef, Route,
    table::{Host, Table},
};
use crate::{
    disk::{self, Disk},
    release::{Release, Shelf, shelf},
    report::Report,
    traffic::Traffic,
};

/// Releases staged at a time: a large one must not keep a small one waiting.
const STAGING: usize = 4;
/// The first pause after a failure; it doubles up to the second.
const RETRY: Duration = Duration::from_secs(1);
const LONGEST_RETRY: Duration = Duration::from_secs(15);
/// What a release may take at the start, when content that should be here must come from a store
/// that may be down.
const RESTORE: Duration = Duration::from_secs(5);

/// How often files are looked for that no release holds any more.
const SWEEP: Duration = Duration::from_mins(10);

/// So many bytes are added before all routes are written again, however few they are.
const LATER_BYTES: usize = 64 * 1024;

/// What came of a stream in one message.
#[derive(Debug)]
pub(crate) struct Told {
    pub(crate) routes: Vec<pb::Route>,
    /// Who wants to know when all that needs no staging is served.
    pub(crate) applied: Option<oneshot::Sender<()>>,
    /// Who wants to know when all that is known by then is served, but for what cannot be staged.
    pub(crate) settled: Option<oneshot::Sender<()>>,
}

/// What it works with.
#[derive(Debug)]
pub(crate) struct Keeper {
    pub(crate) edge: String,
    pub(crate) shelf: Arc<Shelf>,
    pub(crate) table: Arc<Table>,
    pub(crate) traffic: Arc<Traffic>,
    pub(crate) disk: Disk,
    pub(crate) report: Arc<Report>,
    state: State,
}

#[derive(Debug, Default)]
struct State {
    held: HashMap<String, Route>,
    waiting: HashMap<String, Route>,
    /// By the routes of both.
    named: Named,
    failed: HashMap<ReleaseId, Failed>,
    in_hand: HashSet<ReleaseId>,
    swept_at: Option<Instant>,
    kept: Kept,
    settling: Vec<Settling>,
    staging: JoinSet<(ReleaseRef, Result<Arc<Release>, shelf::Error>)>,
}

/// What is on disk, in bytes.
///
/// A host is never forgotten, so there are many more than change: those that come are added, and all
/// are written when as much was added as all of them take.
#[derive(Debug, Default)]
struct Kept {
    /// When all were written last; none when nobody knows what is there.
    whole: Option<usize>,
    /// What was added since.
    later: usize,
}

impl Kept {
    fn takes_more(&self) -> bool {
        let most = |whole: usize| whole.max(LATER_BYTES);
        self.whole.is_some_and(|whole| self.later < most(whole))
    }
}

impl State {
    fn hold(&mut self, route: Route) {
        self.named.add(&route);
        if let Some(before) = self.held.insert(route.host.clone(), route) {
            self.named.remove(&before);
        }
    }

    fn wait(&mut self, route: Route) {
        self.named.add(&route);
        if let Some(before) = self.waiting.insert(route.host.clone(), route) {
            self.named.remove(&before);
        }
    }

    /// What waited is held; answers it. It names what it named.
    fn serve(&mut self, host: &str) -> Option<Route> {
        let route = self.waiting.remove(host)?;
        if let Some(before) = self.held.insert(host.to_owned(), route.clone()) {
            self.named.remove(&before);
        }
        Some(route)
    }
}

#[derive(Debug)]
struct Failed {
    pause: Duration,
    again_at: Instant,
}

impl Failed {
    fn is_over(&self) -> bool {
        self.again_at <= Instant::now()
    }
}

impl Keeper {
    pub(crate) fn new(
        edge: String,
        shelf: Arc<Shelf>,
        table: Arc<Table>,
        traffic: Arc<Traffic>,
        disk: Disk,
        report: Arc<Report>,
    ) -> Self {
        Self {
            edge,
            shelf,
            table,
            traffic,
            disk,
            report,
            state: State::default(),
        }
    }

    /// Takes up the routes of the last run; answers how many. What cannot be staged from the disk
    /// is tried again later, and its host says so until then.
    pub(crate) async fn restore(&mut self) -> Result<usize, disk::Error> {
        let Some(bytes) = self.disk.read_routes()? else {
            return Ok(0);
        };
        let kept = pb::WatchRoutesResponse::decode(bytes.as_slice()).unwrap_or_else(|error| {
            tracing::error!(%error, "the routes on disk cannot be read: waiting for the orchestrator");
            pb::WatchRoutesResponse::default()
        });
        let later = self.disk.read_later_routes()?;
        let later = later.iter().filter_map(|bytes| {
            let route = pb::Route::decode(bytes.as_slice());
            route
                .inspect_err(|error| tracing::error!(%error, "a route on disk cannot be read"))
                .ok()
        });
        let routes = newest(read_all(kept.routes.into_iter().chain(later)));
        let named: HashMap<ReleaseId, ReleaseRef> = routes
            .iter()
            .flat_map(Route::named)
            .map(|release| (release.id, release))
            .collect();
        let shelf = &self.shelf;
        let staged: Vec<_> = stream::iter(named.into_values())
            .map(|release| async move { (release, timeout(RESTORE, shelf.stage(release)).await) })
            .buffer_unordered(STAGING)
            .collect()
            .await;
        for (release, outcome) in staged {
            let outcome = outcome.unwrap_or(Err(shelf::Error::Interrupted));
            self.note(release, outcome);
        }
        let count = routes.len();
        self.put(&routes);
        for route in routes {
            let here = route.awaited(&self.edge).iter().all(|r| self.is_here(*r));
            if here {
                self.report.hold([(route.host.as_str(), route.known())]);
                self.state.hold(route);
            } else {
                self.state.wait(route);
            }
        }
        Ok(count)
    }

    /// Works until `stopping`.
    pub(crate) async fn run(
        mut self,
        mut incoming: mpsc::Receiver<Told>,
        stopping: CancellationToken,
    ) {
        let mut listeners: Vec<oneshot::Sender<()>> = Vec::new();
        loop {
            self.begin_staging();
            let has_forgotten = self.apply().await;
            for listener in listeners.drain(..) {
                // A stream that ended meanwhile does not listen.
                let _ended = listener.send(());
            }
            self.settle();
            if has_forgotten {
                self.sweep().await;
            }
            let again_at = self.next_retry();
            tokio::select! {
                () = stopping.cancelled() => return,
                told = incoming.recv() => match told {
                    Some(told) => {
                        listeners.extend(self.take(told));
                        // What waits already is flushed together with it.
                        while let Ok(more) = incoming.try_recv() {
                            listeners.extend(self.take(more));
                        }
                    }
                    None => return,
                },
                Some(done) = self.state.staging.join_next() => match done {
                    Ok((release, outcome)) => self.staged(release, outcome),
                    Err(error) => {
                        tracing::error!(%error, "staging a release panicked");
                        self.state.in_hand.clear();
                    }
                },
                () = sleep_until(again_at.unwrap_or_else(Instant::now)), if again_at.is_some() => {}
            }
        }
    }

    /// When the next release is to be tried again. Those whose time has come were begun just now,
    /// or nobody names them, or the end of another one will lead here again.
    fn next_retry(&self) -> Option<Instant> {
        let now = Instant::now();
        let failed = self.state.failed.values().map(|failed| failed.again_at);
        failed.filter(|again_at| *again_at > now).min()
    }

    /// Takes in a message; answers who wants to know when what needs no staging is served.
    fn take(&mut self, told: Told) -> Option<oneshot::Sender<()>> {
        self.receive(read_all(told.routes));
        let hosts = self.state.waiting.keys();
        let settling = told.settled.map(|tell| Settling::new(hosts, tell));
        self.state.settling.extend(settling);
        told.applied
    }

    fn settle(&mut self) {
        let State {
            waiting,
            failed,
            settling,
            ..
        } = &mut self.state;
        let edge = &self.edge;
        let goes_on = |host: &str| {
            let awaited = waiting.get(host).map(|route| route.awaited(edge));
            awaited.is_some_and(|all| !all.iter().any(|one| failed.contains_key(&one.id)))
        };
        for one in settling.iter_mut() {
            one.look(goes_on);
        }
        settling.retain(Settling::waits);
    }

    /// Takes in routes that are newer than what is known of their hosts, or say more.
    fn receive(&mut self, routes: Vec<Route>) {
        for route in routes {
            let known = [
                self.state.held.get(&route.host),
                self.state.waiting.get(&route.host),
            ];
            let newest = known.into_iter().flatten().map(Route::known).max();
            if newest.is_some_and(|newest| newest.version > route.version) {
                tracing::warn!(
                    route.host,
                    version = ?route.version,
                    held = ?newest.map(|newest| newest.version),
                    "refused a route older than the one held"
                );
            } else if newest < Some(route.known()) {
                self.state.wait(route);
            }
        }
    }

    /// Stages what is named and not here, what is waited for first.
    fn begin_staging(&mut self) {
        let wanted: Vec<ReleaseRef> = {
            let state = &self.state;
            let waiting = state
                .waiting
                .values()
                .flat_map(|route| route.awaited(&self.edge));
            let named = state.waiting.values().flat_map(Route::named);
            waiting
                .chain(named)
                .chain(state.named.all())
                .filter(|release| state.failed.get(&release.id).is_none_or(Failed::is_over))
                .filter(|release| self.shelf.get(release.id).is_none())
                .collect()
        };
        for release in wanted {
            if self.state.in_hand.len() >= STAGING {
                return;
            }
            if self.state.in_hand.insert(release.id) {
                let shelf = Arc::clone(&self.shelf);
                self.state
                    .staging
                    .spawn(async move { (release, shelf.stage(release).await) });
            }
        }
    }

    fn staged(&mut self, release: ReleaseRef, outcome: Result<Arc<Release>, shelf::Error>) {
        self.state.in_hand.remove(&release.id);
        self.state.named.came(release);
        self.note(release, outcome);
        // Held routes that name it get it now: as assets to fall back on, or at last. So do those of the
        // last run that wait for another one as well: some of their visitors have what they need. A newer
        // one that came since and of which nothing is here leaves the host what it serves in part.
        let state = &self.state;
        let restored = state.waiting.values().filter(|route| {
            !state.held.contains_key(&route.host)
                && self.table.get(&route.host).is_some()
                && route.needed(&self.edge).iter().any(|r| self.is_here(*r))
        });
        let routes: Vec<Route> = state
            .held
            .values()
            .chain(restored)
            .filter(|route| route.named().any(|named| named.id == release.id))
            .cloned()
            .collect();
        self.put(&routes);
    }

    fn note(&mut self, release: ReleaseRef, outcome: Result<Arc<Release>, shelf::Error>) {
        match outcome {
            Ok(_) => {
                self.state.failed.remove(&release.id);
                self.report.staged(release.id);
                tracing::info!(release.id = %release.id, "staged a release");
            }
            Err(error) => {
                tracing::warn!(%error, release.id = %release.id, "a release could not be staged");
                self.report.failed(release.id, &error.to_string());
                let before = self.state.failed.get(&release.id);
                let pause = before.map_or(RETRY, |f| (f.pause * 2).min(LONGEST_RETRY));
                let again_at = Instant::now() + pause;
                self.state
                    .failed
                    .insert(release.id, Failed { pause, again_at });
            }
        }
    }

    /// Applies what can be served: table first, then disk, then the word that it is held. True when
    /// releases were let go of, whose files may go.
    async fn apply(&mut self) -> bool {
        let ready: Vec<String> = self
            .state
            .waiting
            .values()
            .filter(|route| route.awaited(&self.edge).iter().all(|r| self.is_here(*r)))
            .map(|route| route.host.clone())
            .collect();
        if ready.is_empty() {
            return false;
        }
        let routes: Vec<Route> = ready
            .iter()
            .filter_map(|host| self.state.serve(host))
            .collect();
        self.put(&routes);
        for route in &routes {
            tracing::info!(route.host, version = ?route.version, "serving a route");
        }
        self.persist(&routes).await;
        let held = routes
            .iter()
            .map(|route| (route.host.as_str(), route.known()));
        self.report.hold(held);
        self.forget_unnamed()
    }

    async fn sweep(&mut self) {
        let recently = self.state.swept_at.is_some_and(|at| at.elapsed() < SWEEP);
        if !recently && let Some(files) = self.shelf.sweep().await {
            tracing::debug!(files, "removed files that no release holds");
            self.state.swept_at = Some(Instant::now());
        }
    }

    fn is_here(&self, wanted: ReleaseRef) -> bool {
        self.shelf
            .get(wanted.id)
            .is_some_and(|release| release.manifest == wanted.manifest)
    }

    fn put(&self, routes: &[Route]) {
        let changed = routes
            .iter()
            .map(|route| {
                let host = Host::of(route, &self.edge, &self.shelf, &self.traffic);
                (route.host.as_str().into(), host)
            })
            .collect();
        self.table.put(changed);
    }

    /// Keeps what came. An edge that cannot write still serves what it was told: it would only start
    /// with older routes, should the orchestrator be down as well.
    async fn persist(&mut self, came: &[Route]) {
        let disk = self.disk.clone();
        let written = if self.state.kept.takes_more() {
            let came: Vec<_> = came
                .iter()
                .map(|route| route.write().encode_to_vec())
                .collect();
            tokio::task::spawn_blocking(move || disk.add_routes(&came)).await
        } else {
            // What is only waited for is known as well: after a start its host says so.
            let held = &self.state.held;
            let waiting = self.state.waiting.values();
            let waiting = waiting.filter(|route| !held.contains_key(&route.host));
            let all = pb::WatchRoutesResponse {
                routes: held.values().chain(waiting).map(Route::write).collect(),
                caught_up: false,
            };
            // Nothing is known of the disk until this is done.
            self.state.kept = Kept::default();
            tokio::task::spawn_blocking(move || {
                let bytes = all.encode_to_vec();
                disk.write_routes(&bytes).map(|()| bytes.len())
            })
            .await
        };
        let kept = &mut self.state.kept;
        match written {
            Ok(Ok(bytes)) if kept.whole.is_some() => kept.later += bytes,
            Ok(Ok(bytes)) => kept.whole = Some(bytes),
            Ok(Err(error)) => {
                *kept = Kept::default();
                tracing::error!(%error, "the routes were not kept on disk");
            }
            Err(error) => {
                *kept = Kept::default();
                tracing::error!(%error, "the routes were not kept on disk");
            }
        }
    }

    /// Lets go of releases that no route names; answers whether there were any.
    fn forget_unnamed(&mut self) -> bool {
        let state = &mut self.state;
        if !state.named.take_let_go() {
            return false;
        }
        let named: HashSet<ReleaseId> = state.named.all().map(|release| release.id).collect();
        state.failed.retain(|id, _| named.contains(id));
        self.report.keep_only(&named);
        !self.shelf.keep_only(&named).is_empty()
    }
}

#[cfg(test)]
mod tests;
