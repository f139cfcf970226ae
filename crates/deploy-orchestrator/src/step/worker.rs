//! The worker: finds due steps and takes their turns, several deployments at a time.
//!
//! It is woken by nudges of this process, by edges that report, and by a poll. Losing it at any
//! moment loses nothing: what was inside the database rolls back, what was claimed is found again
//! when its lease runs out.

use std::{
    collections::HashSet,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
};

use candlefish_ids::DeploymentId;
use candlefish_runtime::{
    metrics::STEPS_DUE,
    tasks::{Policy, Tasks},
};
use tokio::sync::{Notify, Semaphore};
use tokio_util::sync::CancellationToken;

use super::{
    drive::{self, Claimed},
    outcome::Outcome,
    store,
    verify::{self, Trouble},
};
use crate::{
    ctx::Ctx,
    deployment::{Error, plan::StepKind},
};

/// How many due steps one look takes at the most.
const LOOK: i64 = 64;
/// How long, in leases, a step that lost workers is left to an idle one.
const SUSPECT_PATIENCE: u32 = 4;

/// One process's worker; cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Worker {
    ctx: Ctx,
    http: reqwest::Client,
    /// Names this process in the rows of what it claims.
    name: Arc<str>,
    at_a_time: Arc<Semaphore>,
    busy: Arc<Mutex<HashSet<DeploymentId>>>,
    edges: Arc<EdgeNews>,
    tasks: Tasks,
}

/// Says that an edge reported since the last look.
#[derive(Debug, Default)]
pub(crate) struct EdgeNews {
    reported: AtomicBool,
    notify: Notify,
}

impl EdgeNews {
    pub(crate) fn reported(&self) {
        self.reported.store(true, Ordering::Release);
        self.notify.notify_one();
    }
}

impl Worker {
    pub(crate) fn new(ctx: Ctx, name: &str, edges: Arc<EdgeNews>, tasks: Tasks) -> Self {
        let http = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .timeout(ctx.config.fetch_timeout)
            .build()
            .expect("a client without system certificates needs nothing that can be missing");
        Self {
            at_a_time: Arc::new(Semaphore::new(ctx.config.workers)),
            ctx,
            http,
            name: name.into(),
            busy: Arc::default(),
            edges,
            tasks,
        }
    }

    /// Takes turns until `stopping`.
    pub(crate) async fn run(self, stopping: CancellationToken) {
        loop {
            let nudge = Arc::clone(&self.ctx.nudges.steps);
            let nudged = nudge.notified();
            if let Err(error) = self.look().await {
                tracing::warn!(error = %chain(&error), "due steps were not listed");
            }
            tokio::select! {
                () = stopping.cancelled() => return,
                () = nudged => {}
                () = self.edges.notify.notified() => {}
                () = tokio::time::sleep(self.ctx.config.poll) => {}
            }
        }
    }

    async fn look(&self) -> Result<(), sqlx::Error> {
        let edges_reported = self.edges.reported.swap(false, Ordering::AcqRel);
        let kinds: Vec<String> = StepKind::ALL
            .iter()
            .map(|kind| kind.word().to_owned())
            .collect();
        let idle = self.busy().is_empty();
        let mut conn = self.ctx.pool.acquire().await?;
        let patience = SUSPECT_PATIENCE * self.ctx.config.lease;
        let due = store::list_due(&mut conn, &kinds, edges_reported, idle, patience, LOOK).await?;
        drop(conn);
        metrics::gauge!(STEPS_DUE).set(f64::from(u32::try_from(due.len()).unwrap_or(u32::MAX)));
        for one in due {
            let Ok(permit) = Arc::clone(&self.at_a_time).try_acquire_owned() else {
                break;
            };
            if !self.busy().insert(one.deployment_id) {
                continue;
            }
            let worker = self.clone();
            self.tasks.spawn("step", Policy::Ignore, async move {
                worker.carry(one, edges_reported).await;
                worker.busy().remove(&one.deployment_id);
                drop(permit);
                // What became due meanwhile was passed over as busy.
                worker.ctx.nudges.steps.notify_waiters();
            });
        }
        Ok(())
    }

    fn busy(&self) -> std::sync::MutexGuard<'_, HashSet<DeploymentId>> {
        self.busy
            .lock()
            .expect("nothing panics while it holds this lock")
    }

    /// Carries one deployment on until it waits, ends, or belongs to another worker.
    async fn carry(&self, due: store::Due, edges_reported: bool) {
        let mut next = drive::turn(&self.ctx, &self.name, due, edges_reported).await;
        loop {
            match next {
                Ok(None) => return,
                Ok(Some(claimed)) => {
                    let Some(outcome) = self.work(&claimed).await else {
                        return;
                    };
                    next = drive::record_outside(&self.ctx, &self.name, &claimed, outcome).await;
                }
                Err(error) => {
                    log_error(due.deployment_id, &error);
                    return;
                }
            }
        }
    }

    /// Works on a claimed step while its lease is kept; none when it was lost.
    async fn work(&self, claimed: &Claimed) -> Option<Result<Outcome, Trouble>> {
        let work = verify::run(&self.ctx, &self.http, &claimed.deployment, &claimed.step);
        let stopping = self.tasks.stopping();
        tokio::select! {
            outcome = work => Some(outcome),
            () = self.keep_lease(claimed) => None,
            () = stopping.cancelled() => {
                self.give_back(claimed).await;
                None
            }
        }
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

    /// Returns when the lease is lost.
    async fn keep_lease(&self, claimed: &Claimed) {
        let lease = self.ctx.config.lease;
        loop {
            tokio::time::sleep(lease / 3).await;
            let kept = async {
                let mut conn = self.ctx.pool.acquire().await?;
                store::heartbeat(&mut conn, claimed.step.id, claimed.claim, lease).await
            };
            match kept.await {
                Ok(true) => {}
                Ok(false) => return,
                Err(error) => tracing::debug!(%error, "a lease was not lengthened"),
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
