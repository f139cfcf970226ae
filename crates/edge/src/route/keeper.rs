//! Brings routes from their coming to their being held.
//!
//! Level-triggered: it knows the newest route of each host that it was told, and after every event
//! does what can be done: stage what is named, apply what is staged, forget what is no longer named.

mod kept;
mod named;
mod pause;
mod read;
mod restore;
mod settling;
mod sweeping;

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use candlefish_ids::ReleaseId;
use candlefish_proto::deploy as pb;
use tokio::{
    sync::{mpsc, oneshot},
    task::{self, JoinError, JoinSet},
    time::{Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;

use self::{
    kept::Kept, named::Named, pause::Pause, read::read_all, settling::Settling, sweeping::Sweeping,
};
use super::{
    ReleaseRef, Route,
    table::{Host, Table},
};
use crate::{
    disk::Disk,
    release::{Release, Shelf, shelf},
    report::Report,
    traffic::Traffic,
};

/// Releases staged at a time: a large one must not keep a small one waiting.
const STAGING: usize = 4;

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
    failed: HashMap<ReleaseId, Pause>,
    /// By the tasks that stage them.
    in_hand: HashMap<task::Id, ReleaseRef>,
    kept: Kept,
    settling: Vec<Settling>,
    staging: JoinSet<Staged>,
    sweeping: Sweeping,
}

/// What came of staging a release.
type Staged = Result<Arc<Release>, shelf::Error>;

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

    /// Works until `stopping`.
    pub(crate) async fn run(
        mut self,
        mut incoming: mpsc::Receiver<Told>,
        stopping: CancellationToken,
    ) {
        let mut listeners: Vec<oneshot::Sender<()>> = Vec::new();
        loop {
            let since = Instant::now();
            self.begin_staging();
            self.apply().await;
            for listener in listeners.drain(..) {
                // A stream that ended meanwhile does not listen.
                let _ended = listener.send(());
            }
            self.settle();
            self.tidy().await;
            let again_at = self.next_retry(since);
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
                Some(done) = self.state.staging.join_next_with_id() => self.ended(done),
                Some(swept) = self.state.sweeping.end() => self.state.sweeping.ended(swept),
                () = sleep_until(again_at.unwrap_or_else(Instant::now)), if again_at.is_some() => {}
            }
        }
    }

    /// When something is to be tried again. What was to be until `since`, when this turn began, was begun
    /// in it, or nobody names it, or the end of something else will lead here again.
    fn next_retry(&self, since: Instant) -> Option<Instant> {
        let releases = self.state.failed.values().map(Pause::again_at);
        let disk = [self.state.kept.again_at(), self.state.sweeping.again_at()];
        releases
            .chain(disk.into_iter().flatten())
            .filter(|again_at| *again_at > since)
            .min()
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
                .filter(|release| state.failed.get(&release.id).is_none_or(Pause::is_over))
                .filter(|release| self.shelf.get(release.id).is_none())
                .collect()
        };
        for release in wanted {
            if self.state.in_hand.len() >= STAGING {
                return;
            }
            let mut in_hand = self.state.in_hand.values();
            if in_hand.any(|other| other.id == release.id) {
                continue;
            }
            let shelf = Arc::clone(&self.shelf);
            let task = self
                .state
                .staging
                .spawn(async move { shelf.stage(release).await });
            self.state.in_hand.insert(task.id(), release);
        }
    }

    /// A task that staged a release has ended, be it in a panic: then this release failed, and no other.
    fn ended(&mut self, done: Result<(task::Id, Staged), JoinError>) {
        let (task, outcome) = done.unwrap_or_else(|error| {
            tracing::error!(%error, "staging a release panicked");
            (error.id(), Err(shelf::Error::Panicked))
        });
        if let Some(release) = self.state.in_hand.remove(&task) {
            self.staged(release, outcome);
        }
    }

    fn staged(&mut self, release: ReleaseRef, outcome: Staged) {
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

    fn note(&mut self, release: ReleaseRef, outcome: Staged) {
        match outcome {
            Ok(_) => {
                self.state.failed.remove(&release.id);
                self.report.staged(release.id);
                tracing::info!(release.id = %release.id, "staged a release");
            }
            Err(error) => {
                tracing::warn!(%error, release.id = %release.id, "a release could not be staged");
                let passes = error.is_transient();
                self.report.failed(release.id, &error.to_string(), passes);
                let pause = Pause::after(self.state.failed.get(&release.id));
                self.state.failed.insert(release.id, pause);
            }
        }
    }

    /// Applies what can be served: table first, then disk, then the word that it is held.
    async fn apply(&mut self) {
        let ready: Vec<String> = self
            .state
            .waiting
            .values()
            .filter(|route| route.awaited(&self.edge).iter().all(|r| self.is_here(*r)))
            .map(|route| route.host.clone())
            .collect();
        if ready.is_empty() {
            return;
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
    }

    /// Does what is due on disk: writes routes that could not be written, lets go of releases that no
    /// route names, and has files removed that no release holds.
    async fn tidy(&mut self) {
        if self.state.kept.is_due() {
            self.persist(&[]).await;
        }
        if self.forget_unnamed() {
            self.state.sweeping.ask();
        }
        let sweeps_at = self.state.sweeping.again_at();
        if sweeps_at.is_some_and(|at| at <= Instant::now()) {
            let shelf = Arc::clone(&self.shelf);
            self.state
                .sweeping
                .begin(async move { shelf.sweep().await });
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

    /// Lets go of releases that no route names; answers whether there may be any, also such that were never
    /// staged whole.
    fn forget_unnamed(&mut self) -> bool {
        let state = &mut self.state;
        if !state.named.take_let_go() {
            return false;
        }
        let named: HashSet<ReleaseId> = state.named.all().map(|release| release.id).collect();
        state.failed.retain(|id, _| named.contains(id));
        self.report.keep_only(&named);
        self.shelf.keep_only(&named);
        true
    }
}

#[cfg(test)]
mod tests;
