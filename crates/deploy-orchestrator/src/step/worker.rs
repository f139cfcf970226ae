//! The worker: finds due steps and takes their turns, several deployments at a time.
//!
//! It is woken by nudges of this process, by edges that report, when the next step is due, and by a
//! poll. Losing it at any moment loses nothing: what was inside the database rolls back, what was
//! claimed is found again when its lease runs out.

mod suspect;

use std::{
    collections::{HashMap, HashSet, hash_map::Entry},
    panic::AssertUnwindSafe,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use candlefish_ids::{DeploymentId, EnvironmentId, ReleaseId};
use candlefish_messaging::Outage;
use candlefish_runtime::{
    metrics::STEPS_DUE,
    tasks::{Policy, Tasks},
};
use futures_util::FutureExt as _;
use tokio::{
    sync::{Notify, OwnedSemaphorePermit, Semaphore, oneshot},
    time::Instant,
};
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;

use self::suspect::{Hands, part};
use super::{
    again,
    drive::{Asked, Claimed, Done, Taken},
    outcome::Outcome,
    store::{self, Due},
    turns::{Answer, Turns},
    verify::{self, Trouble},
};
use crate::{
    ctx::Ctx,
    deployment::{Error, plan::StepKind},
    trace,
};

/// How many due steps one look takes at the most: those of a whole shared transaction, which are due until
/// it commits, and as many to gather for the next.
const LOOK: i64 = 256;
/// Looks are at least this far from each other.
const GATHER: Duration = Duration::from_millis(2);
/// What panicked is left alone for so long: it is due yet, and most likely panics again.
pub(crate) const REST: Duration = Duration::from_secs(1);

/// One process's worker; cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Worker {
    ctx: Ctx,
    http: reqwest::Client,
    /// Names this process in the rows of what it claims.
    name: Arc<str>,
    at_a_time: Arc<Semaphore>,
    busy: Arc<Mutex<HashMap<DeploymentId, InHand>>>,
    /// Found to be due by what edges reported, when there was no place for them.
    left: Arc<Mutex<HashMap<DeploymentId, Due>>>,
    /// A look left due steps for want of a permit, or for a step that lost workers.
    full: Arc<AtomicBool>,
    /// The last look that might begin anything began a step that lost workers.
    had_suspect: Arc<AtomicBool>,
    edges: Arc<EdgeNews>,
    turns: Turns,
    tasks: Tasks,
}

/// Whether a look passed over a deployment because its turn went on already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Passed {
    Over,
    No,
}

/// A deployment whose turn goes on.
#[derive(Debug, Clone, Copy)]
struct InHand {
    passed: Passed,
    /// Edges reported what it may wait for, meanwhile.
    reported: bool,
    /// Until then nothing else is taken beside its step, which lost workers; none for any other.
    alone_until: Option<Instant>,
}

/// What edges reported since the last look, as far as a step can wait for it.
#[derive(Debug, Default)]
pub(crate) struct EdgeNews {
    news: Mutex<News>,
    notify: Notify,
}

/// Whom reports concern.
#[derive(Debug, Default)]
pub(crate) struct News {
    /// An edge came or joined: every step that waits may be concerned.
    pub(crate) everything: bool,
    /// The own address of these is held at another version.
    pub(crate) deployments: HashSet<DeploymentId>,
    /// A route of these is held at another version.
    pub(crate) environments: HashSet<EnvironmentId>,
    /// These are staged, or cannot be.
    pub(crate) releases: HashSet<ReleaseId>,
}

impl News {
    pub(crate) fn is_empty(&self) -> bool {
        !self.everything
            && self.deployments.is_empty()
            && self.environments.is_empty()
            && self.releases.is_empty()
    }
}

impl EdgeNews {
    pub(crate) fn reported(&self, more: News) {
        let mut news = self.news();
        news.everything |= more.everything;
        news.deployments.extend(more.deployments);
        news.environments.extend(more.environments);
        news.releases.extend(more.releases);
        drop(news);
        self.notify.notify_one();
    }

    /// A look could give this deployment no turn: the next look is told of it again.
    fn keep(&self, deployment: DeploymentId) {
        self.news().deployments.insert(deployment);
    }

    fn take(&self) -> News {
        std::mem::take(&mut self.news())
    }

    fn news(&self) -> std::sync::MutexGuard<'_, News> {
        self.news
            .lock()
            .expect("nothing panics while it holds this lock")
    }
}

impl Worker {
    pub(crate) fn new(ctx: Ctx, name: &str, edges: Arc<EdgeNews>, tasks: Tasks) -> Self {
        let http = verify::visitor(ctx.config.silence())
            .expect("a client without system certificates needs nothing that can be missing");
        Self {
            at_a_time: Arc::new(Semaphore::new(ctx.config.workers)),
            ctx,
            http,
            name: name.into(),
            busy: Arc::default(),
            left: Arc::default(),
            full: Arc::default(),
            had_suspect: Arc::default(),
            edges,
            turns: Turns::new(),
            tasks,
        }
    }

    /// Takes turns until `stopping`.
    pub(crate) async fn run(self, stopping: CancellationToken) {
        let mut outage = Outage::of("worker", "steps", "listing what is due");
        loop {
            let nudge = Arc::clone(&self.ctx.nudges.steps);
            let nudged = nudge.notified();
            let pause = match self.look().await {
                Ok(pause) => {
                    outage.over();
                    pause
                }
                Err(error) => {
                    outage.failed(&error);
                    self.ctx.config.poll
                }
            };
            // What many commits make due is found by one look.
            tokio::time::sleep(GATHER).await;
            tokio::select! {
                () = stopping.cancelled() => return,
                () = nudged => {}
                () = self.edges.notify.notified() => {}
                () = tokio::time::sleep(pause) => {}
            }
            // What becomes due while turns wait for a place would only wait behind them: it comes with the
            // next look, which finds more at once.
            tokio::select! {
                () = stopping.cancelled() => return,
                () = self.turns.drained() => {}
                () = tokio::time::sleep(self.ctx.config.poll) => {}
            }
        }
    }

    /// Takes the turns that are due; answers when to look again, should nothing wake the worker before.
    async fn look(&self) -> Result<Duration, sqlx::Error> {
        // Without a place nothing could be begun: what edges reported is kept for the next look.
        let (news, left) = match self.permit() {
            Some(_free) => (self.edges.take(), std::mem::take(&mut *self.left())),
            None => (News::default(), HashMap::new()),
        };
        let kinds: Vec<String> = StepKind::ALL
            .iter()
            .map(|kind| kind.word().to_owned())
            .collect();
        let hands = self.hands();
        let mut conn = self.ctx.pool.acquire().await?;
        let (idle, patience) = (hands == Hands::Empty, self.patience());
        let mut due = store::list_due(&mut conn, &kinds, idle, patience, LOOK).await?;
        if !news.is_empty() {
            // Should this fail, the poll of each step finds what the report said.
            due.extend(store::list_reported(&mut conn, &kinds, &news, LOOK).await?);
        }
        // Else the end of a turn leads to the next look.
        let mut pause = self.ctx.config.poll;
        if due.is_empty() {
            let next = store::next_due_in(&mut conn, pause).await?;
            pause = next.unwrap_or(pause);
        }
        drop(conn);
        // Not looked for again: a turn whose step is not as it was is none, and leads to no look.
        let listed: HashSet<DeploymentId> = due.iter().map(|one| one.deployment_id).collect();
        let left = left.into_values();
        due.extend(left.filter(|one| !listed.contains(&one.deployment_id)));
        metrics::gauge!(STEPS_DUE).set(f64::from(u32::try_from(due.len()).unwrap_or(u32::MAX)));
        // While one is in hand it is not the last yet.
        let had_suspect = hands != Hands::Suspect && self.had_suspect.swap(false, Ordering::AcqRel);
        let (taken, left) = part(due, hands.choice(had_suspect));
        if !left.is_empty() {
            self.full.store(true, Ordering::Release);
        }
        for one in left.iter().filter(|one| one.edges_reported) {
            self.edges.keep(one.deployment_id);
        }
        self.take(taken);
        Ok(pause)
    }

    /// Takes the turns of these, as many as there are places for.
    fn take(&self, due: Vec<Due>) {
        // All are asked for before the first is taken: then they share a transaction.
        let mut begun = Vec::new();
        for one in due {
            let Some(permit) = self.permit() else {
                if one.edges_reported {
                    self.left().insert(one.deployment_id, one);
                }
                continue;
            };
            if self.begin(&one) {
                begun.push((one, Some(permit), self.turns.ask(Asked::Due(one))));
            }
        }
        for (one, permit, answered) in begun {
            self.spawn(one.deployment_id, permit, answered);
        }
    }

    /// Carries a deployment on, in a task of its own, from a turn that was asked for.
    fn spawn(
        &self,
        deployment: DeploymentId,
        permit: Option<OwnedSemaphorePermit>,
        answered: oneshot::Receiver<Answer>,
    ) {
        let worker = self.clone();
        self.tasks.spawn("step", Policy::Ignore, async move {
            let carried = AssertUnwindSafe(worker.carry(deployment, answered)).catch_unwind();
            let mut permit = permit;
            if carried.await.is_err() {
                worker.rest(deployment, permit.take()).await;
            }
            let was = worker.busy().remove(&deployment);
            drop(permit);
            // Not before: until its turn is over a look would only find it in hand again.
            if was.is_some_and(|was| was.reported) {
                worker.edges.keep(deployment);
            }
            let passed = was.is_some_and(|was| was.passed == Passed::Over);
            if passed || worker.full.swap(false, Ordering::AcqRel) {
                worker.ctx.nudges.steps.notify_waiters();
            }
        });
    }

    /// A turn that panicked has failed: it goes alone from now on, and is in hand for a while longer, so that
    /// no look takes it at once. It keeps nobody else meanwhile.
    async fn rest(&self, deployment: DeploymentId, permit: Option<OwnedSemaphorePermit>) {
        self.turns.failed(deployment, Instant::now());
        tracing::error!(deployment.id = %deployment, "a turn panicked; it is taken again");
        if let Some(turn) = self.busy().get_mut(&deployment) {
            turn.alone_until = None;
        }
        drop(permit);
        if self.full.swap(false, Ordering::AcqRel) {
            self.ctx.nudges.steps.notify_waiters();
        }
        let stopping = self.tasks.stopping();
        tokio::select! {
            () = stopping.cancelled() => {}
            () = tokio::time::sleep(REST) => {}
        }
    }

    /// A place for one more turn; without one, the next turn that ends makes another look.
    fn permit(&self) -> Option<OwnedSemaphorePermit> {
        let take = || Arc::clone(&self.at_a_time).try_acquire_owned().ok();
        take().or_else(|| {
            self.full.swap(true, Ordering::AcqRel);
            // One that ended before this was said has told nobody.
            take()
        })
    }

    /// Marks a deployment as in its turn; false when it is already, and to be looked at again.
    fn begin(&self, due: &Due) -> bool {
        let alone_until = due.is_suspect.then(|| Instant::now() + self.patience());
        match self.busy().entry(due.deployment_id) {
            Entry::Occupied(mut turn) => {
                let turn = turn.get_mut();
                turn.passed = Passed::Over;
                turn.reported |= due.edges_reported;
                false
            }
            Entry::Vacant(free) => {
                if due.is_suspect {
                    self.had_suspect.store(true, Ordering::Release);
                }
                free.insert(InHand {
                    passed: Passed::No,
                    reported: false,
                    alone_until,
                });
                true
            }
        }
    }

    fn hands(&self) -> Hands {
        let now = Instant::now();
        let busy = self.busy();
        let alone = |one: &InHand| one.alone_until.is_some_and(|until| now < until);
        if busy.is_empty() {
            Hands::Empty
        } else if busy.values().any(alone) {
            Hands::Suspect
        } else {
            Hands::Others
        }
    }

    fn patience(&self) -> Duration {
        suspect::patience(self.ctx.config.lease)
    }

    fn left(&self) -> std::sync::MutexGuard<'_, HashMap<DeploymentId, Due>> {
        self.left
            .lock()
            .expect("nothing panics while it holds this lock")
    }

    fn busy(&self) -> std::sync::MutexGuard<'_, HashMap<DeploymentId, InHand>> {
        self.busy
            .lock()
            .expect("nothing panics while it holds this lock")
    }

    /// Carries one deployment on until it waits, ends, or belongs to another worker.
    async fn carry(&self, deployment: DeploymentId, mut answered: oneshot::Receiver<Answer>) {
        loop {
            let turn = again::turn(&self.ctx, &self.name, &self.turns, answered).await;
            self.turns.note(deployment, &turn);
            match turn {
                Ok(None | Some(Taken(None))) => return,
                Ok(Some(Taken(Some(claimed)))) => {
                    let about = trace::about(deployment);
                    let worked = self.work(&claimed).instrument(about).await;
                    let Some((outcome, held_until)) = worked else {
                        return;
                    };
                    let done = Done {
                        claimed,
                        outcome,
                        held_until,
                    };
                    answered = self.turns.ask(Asked::Done(Box::new(done)));
                }
                Err(error) => {
                    trace::about(deployment).in_scope(|| log_error(deployment, &error));
                    return;
                }
            }
        }
    }

    /// Works on a claimed step while its lease is kept; answers also until when it is held by our own
    /// clock. None when it was lost.
    async fn work(&self, claimed: &Claimed) -> Option<(Result<Outcome, Trouble>, Instant)> {
        let mut held_until = claimed.held_until;
        let work = verify::run(&self.ctx, &self.http, claimed);
        let stopping = self.tasks.stopping();
        let outcome = tokio::select! {
            outcome = work => outcome,
            () = self.keep_lease(claimed, &mut held_until) => return None,
            () = stopping.cancelled() => {
                self.give_back(claimed).await;
                return None;
            }
        };
        Some((outcome, held_until))
    }

    /// At a graceful stop another worker need not wait for the lease to run out.
    async fn give_back(&self, claimed: &Claimed) {
        let given = async {
            let mut conn = self.ctx.pool.acquire().await?;
            store::give_back(&mut conn, claimed.step.id, claimed.claim).await
        };
        if let Err(error) = given.await {
            tracing::debug!(%error, "a claim was not given back; its lease runs out");
        }
    }

    /// Returns when the lease is lost. What fails is tried again soon: a third of the lease later two
    /// failures would already be one too many.
    async fn keep_lease(&self, claimed: &Claimed, held_until: &mut Instant) {
        let lease = self.ctx.config.lease;
        let mut pause = lease / 3;
        let mut failed = 0;
        loop {
            tokio::time::sleep(pause).await;
            // Before the database reads its clock: ours must not end later.
            let asked = Instant::now();
            let kept = async {
                let mut conn = self.ctx.pool.acquire().await?;
                store::heartbeat(&mut conn, claimed.step.id, claimed.claim, lease).await
            };
            match kept.await {
                Ok(true) => {
                    *held_until = asked + lease;
                    (pause, failed) = (lease / 3, 0);
                }
                Ok(false) => return,
                Err(error) => {
                    tracing::debug!(%error, "a lease was not lengthened");
                    pause = again::pause(failed).min(lease / 3);
                    failed += 1;
                }
            }
        }
    }
}

fn log_error(deployment: DeploymentId, error: &Error) {
    // What another transaction won is looked at again; anything else is somebody's to mend.
    if error.is_contention() {
        tracing::debug!(deployment.id = %deployment, error = %chain(error), "a turn is repeated");
    } else {
        tracing::warn!(deployment.id = %deployment, error = %chain(error), "a turn failed");
    }
}

/// An error with its sources, for the one log line where it is handled.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
