//! What turns that share a transaction keep in memory, to write it by one statement for each table.
//!
//! Nobody else writes the steps of their deployments: the lanes are locked. So a step that closes, waits
//! or is claimed is only noted, and which one comes next is known already. All notes are written before
//! the commit ([`write_out`]). A deployment whose turn turns out not to be plain leaves ([`leave`]): what
//! is noted of it is written, and it goes on by statements of its own, as one that comes alone.
//!
//! Each function here is the statement of its name in [`store`] for a deployment that shares nothing.

mod ends;
mod known;
mod routes;

use std::collections::{HashMap, VecDeque};

use candlefish_clock::Moment;
use candlefish_ids::{DeploymentId, StepId};

use self::{ends::Ends, known::Known, routes::Routes};
pub(super) use self::{
    known::{assets, find_live, followers, forget_followers, hosts, manifests},
    routes::write_routes,
};
use super::{Step, outcome::Wait, store, store::Note};
use crate::{
    blocker::{self, Blocker},
    ctx::{Ctx, Tx},
    deployment::Deployment,
    route,
};

/// What is kept of the deployments of one transaction.
#[derive(Debug, Default)]
pub(crate) struct Shared {
    plans: HashMap<DeploymentId, Plan>,
    known: Known,
    routes: Routes,
    ends: Ends,
}

/// What is kept of one deployment.
#[derive(Debug, Default)]
struct Plan {
    begun: Vec<Step>,
    pending: VecDeque<Step>,
    notes: Vec<Note>,
    blocker: Option<Said>,
}

/// What was said to keep a deployment; none: nothing does.
#[derive(Debug)]
struct Said(Option<Blocker>);

impl Plan {
    fn note(&mut self, note: Note) {
        match self.notes.iter_mut().find(|one| one.is_of_same_step(&note)) {
            Some(earlier) => *earlier = note.after(earlier),
            None => self.notes.push(note),
        }
    }

    fn begins(&mut self, now: Moment, step: &Step) {
        let mut step = step.clone();
        step.started_at.get_or_insert(now);
        match self.begun.iter_mut().find(|one| one.id == step.id) {
            Some(before) => *before = step,
            None => self.begun.push(step),
        }
        self.begun.sort_unstable_by_key(|one| one.ord);
    }
}

impl Shared {
    /// Reads the steps of deployments whose lanes are locked.
    pub(super) async fn load(
        tx: &mut Tx,
        deployments: &[&Deployment],
    ) -> Result<Self, sqlx::Error> {
        let ids: Vec<DeploymentId> = deployments.iter().map(|one| one.id).collect();
        let steps = store::list_each(tx, &ids).await?;
        let plans = steps.into_iter().map(|(id, steps)| {
            let plan = Plan {
                begun: steps.begun,
                pending: steps.pending.into(),
                ..Plan::default()
            };
            (id, plan)
        });
        Ok(Self {
            plans: plans.collect(),
            known: Known::of(deployments),
            routes: Routes::default(),
            ends: Ends::default(),
        })
    }

    /// Of deployments whose steps were just written: the first is at hand, the others come.
    pub(super) fn of_new(new: &[(&Deployment, &[Step])]) -> Self {
        let deployments: Vec<&Deployment> = new.iter().map(|(one, _)| *one).collect();
        let plans = new.iter().map(|(deployment, steps)| {
            let plan = Plan {
                pending: steps.iter().skip(1).cloned().collect(),
                ..Plan::default()
            };
            (deployment.id, plan)
        });
        Self {
            plans: plans.collect(),
            known: Known::of(&deployments),
            ..Self::default()
        }
    }

    pub(crate) fn has(&self, deployment: DeploymentId) -> bool {
        self.plans.contains_key(&deployment)
    }

    fn plan(&mut self, deployment: DeploymentId) -> &mut Plan {
        self.plans.entry(deployment).or_default()
    }
}

/// Closes a step as done, and no other begins.
pub(super) async fn close(tx: &mut Tx, step: &Step, message: &str) -> Result<(), sqlx::Error> {
    let now = tx.now();
    let Some(shared) = tx.shared_of(step.deployment_id) else {
        return store::close(tx, now, step, "done", message).await;
    };
    let plan = shared.plan(step.deployment_id);
    plan.note(Note::done(step, message));
    plan.begins(now, step);
    Ok(())
}

/// Closes a step as done and makes the next one ready; none when all are done.
pub(super) async fn close_and_ready_next(
    tx: &mut Tx,
    step: &Step,
    message: &str,
) -> Result<Option<Step>, sqlx::Error> {
    let now = tx.now();
    let Some(shared) = tx.shared_of(step.deployment_id) else {
        return store::close_and_ready_next(tx, now, step, message).await;
    };
    let plan = shared.plan(step.deployment_id);
    plan.note(Note::done(step, message));
    plan.begins(now, step);
    let next = plan.pending.pop_front();
    if let Some(next) = &next {
        plan.note(Note::readied(next.id));
    }
    Ok(next)
}

/// Puts a step aside until its next turn.
pub(super) async fn wait(tx: &mut Tx, step: &Step, wait: &Wait) -> Result<(), sqlx::Error> {
    let now = tx.now();
    let Some(shared) = tx.shared_of(step.deployment_id) else {
        return store::wait(tx, now, step, wait).await;
    };
    let plan = shared.plan(step.deployment_id);
    plan.note(Note::waits(step, wait));
    plan.begins(now, step);
    Ok(())
}

/// Claims a step; answers the claim's number, which is 0 until [`write_out`] has drawn it.
pub(super) async fn claim(
    ctx: &Ctx,
    tx: &mut Tx,
    step: &Step,
    owner: &str,
    lost: bool,
) -> Result<i64, sqlx::Error> {
    let now = tx.now();
    let Some(shared) = tx.shared_of(step.deployment_id) else {
        return store::claim(tx, now, step.id, owner, ctx.config.lease, lost).await;
    };
    let plan = shared.plan(step.deployment_id);
    plan.note(Note::claimed(step.id, lost));
    plan.begins(now, step);
    Ok(0)
}

/// Makes this the only standing blocker of a deployment; none clears all.
pub(crate) async fn block(
    tx: &mut Tx,
    deployment: DeploymentId,
    blocker: Option<&Blocker>,
) -> Result<(), sqlx::Error> {
    let now = tx.now();
    let Some(shared) = tx.shared_of(deployment) else {
        return blocker::set(tx, now, deployment, blocker).await;
    };
    shared.plan(deployment).blocker = Some(Said(blocker.cloned()));
    Ok(())
}

/// The steps that were ever begun, with their detail, in order.
pub(super) async fn list_begun(
    tx: &mut Tx,
    deployment: DeploymentId,
) -> Result<Vec<Step>, sqlx::Error> {
    match tx.shared_of(deployment) {
        Some(shared) => Ok(shared.plan(deployment).begun.clone()),
        None => store::list_begun(tx, deployment).await,
    }
}

/// What a deployment will do is not plain: what is noted of it is written, and from here on it goes by
/// statements of its own. It has claimed nothing.
pub(super) async fn leave(
    ctx: &Ctx,
    tx: &mut Tx,
    deployment: DeploymentId,
) -> Result<(), sqlx::Error> {
    let Some(shared) = tx.shared_of(deployment) else {
        return Ok(());
    };
    let plan = shared.plans.remove(&deployment).unwrap_or_default();
    let routes = shared.routes.take_notes();
    let ends = std::mem::take(&mut shared.ends);
    let now = tx.now();
    route::store::write_each(tx, &routes).await?;
    ends.write(tx).await?;
    store::write_each(tx, now, &plan.notes, "", ctx.config.lease).await?;
    if let Some(Said(blocker)) = &plan.blocker {
        blocker::set(tx, now, deployment, blocker.as_ref()).await?;
    }
    Ok(())
}

/// Writes everything that is kept, and keeps nothing any more; answers the claims that were drawn.
pub(super) async fn write_out(
    ctx: &Ctx,
    tx: &mut Tx,
    owner: &str,
) -> Result<HashMap<StepId, i64>, sqlx::Error> {
    let Some(mut shared) = tx.unshare() else {
        return Ok(HashMap::new());
    };
    let now = tx.now();
    let (mut notes, mut cleared, mut blocked) = (Vec::new(), Vec::new(), Vec::new());
    for (deployment, plan) in shared.plans {
        notes.extend(plan.notes);
        match plan.blocker {
            Some(Said(Some(blocker))) => blocked.push((deployment, blocker)),
            Some(Said(None)) => cleared.push(deployment),
            None => {}
        }
    }
    route::store::write_each(tx, &shared.routes.take_notes()).await?;
    shared.ends.write(tx).await?;
    let claims = store::write_each(tx, now, &notes, owner, ctx.config.lease).await?;
    if !cleared.is_empty() {
        blocker::clear_each(tx, now, &cleared).await?;
    }
    blocker::set_each(tx, now, &blocked).await?;
    Ok(claims)
}
