//! One move of a locked deployment and everything that must follow from it, in the caller's
//! transaction. Commands, steps and the lane all move a deployment through here and nowhere else.

use candlefish_ids::{DeploymentId, ReleaseId};

use super::{
    Deployment, Error, event,
    plan::Kind,
    state::{Cause, Consequence, Event, InvalidTransition, Outcome, State},
    store,
};
use crate::{
    blocker,
    ctx::Tx,
    lane::{order::SUPERSEDED_BEFORE_PINNED, store as lane_store, store::Lane},
    observed::Observed,
    preview,
    record::{Act, Kind as RecordKind, Scope},
    release::{self, reject::Reject},
    step,
};

/// What moves a deployment, for the record.
#[derive(Debug, Clone)]
pub(crate) struct Change<'a> {
    pub(crate) event: Event,
    /// The principal, or `system`.
    pub(crate) actor: &'a str,
    /// In words, for the person who reads it; empty keeps the one before.
    pub(crate) message: String,
    /// The deployment that superseded or preempted it.
    pub(crate) by: Option<DeploymentId>,
}

impl<'a> Change<'a> {
    pub(crate) fn new(event: Event, actor: &'a str, message: impl Into<String>) -> Self {
        Self {
            event,
            actor,
            message: message.into(),
            by: None,
        }
    }
}

/// Moves a deployment and writes what follows: undo steps, rejection, fence, blockers, what is live,
/// what the history tells. The caller saves it ([`record`]) and lets the lane choose again when it
/// ended.
pub(crate) async fn apply(
    tx: &mut Tx,
    lane: &mut Lane,
    deployment: &mut Deployment,
    change: &Change<'_>,
) -> Result<(), Error> {
    let consequences = decide(tx, deployment, change)?;
    if matches!(change.event, Event::Stops(Cause::Verification)) {
        let now = tx.now();
        release::store::suspect(tx, now, deployment.release_id).await?;
    }
    if consequences.contains(&Consequence::Undo) && deployment.state.pivoted() {
        // Before the history is told where traffic goes.
        step::undo::avoid_banned(tx, deployment).await?;
    }
    for consequence in consequences {
        follow(tx, lane, deployment, consequence, change).await?;
    }
    Ok(())
}

/// Moves the deployment itself; answers what must follow.
fn decide(
    tx: &mut Tx,
    deployment: &mut Deployment,
    change: &Change<'_>,
) -> Result<Vec<Consequence>, Error> {
    let now = tx.now();
    let (state, consequences) =
        deployment
            .state
            .clone()
            .decide(now, change.event, deployment.facts())?;
    deployment.state = state;
    if !change.message.is_empty() {
        deployment.message.clone_from(&change.message);
        tx.log(deployment.id, 0, &change.message);
    }
    if let Event::Stops(cause) = change.event {
        cause.word().clone_into(&mut deployment.cause);
        deployment.superseded_by = change.by;
        deployment.deadline_at = None;
        deployment.deadline_left = None;
    }
    Ok(consequences)
}

/// Ends deployments that never acted, of any lanes that are locked, with one statement for each
/// table: what ends so has neither steps nor routes, and counts for no lane.
pub(crate) async fn end_pending(
    tx: &mut Tx,
    mut ending: Vec<(Deployment, Change<'_>)>,
) -> Result<(), Error> {
    if ending.is_empty() {
        return Ok(());
    }
    let now = tx.now();
    for (deployment, change) in &mut ending {
        let (from, event) = (deployment.state.word(), change.event);
        let consequences = decide(tx, deployment, change)?;
        if consequences != [Consequence::End] || deployment.state.acting().is_some() {
            return Err(InvalidTransition { from, event }.into());
        }
    }
    let ids: Vec<DeploymentId> = ending.iter().map(|(one, _)| one.id).collect();
    blocker::clear_each(tx, now, &ids).await?;
    store::save_never_acted(tx, now, ending.iter_mut().map(|(one, _)| one).collect()).await?;
    for (deployment, change) in &ending {
        tell(tx, deployment, &State::Pending, change.actor);
    }
    Ok(())
}

async fn follow(
    tx: &mut Tx,
    lane: &mut Lane,
    deployment: &mut Deployment,
    consequence: Consequence,
    change: &Change<'_>,
) -> Result<(), Error> {
    let now = tx.now();
    match consequence {
        Consequence::GoLive => go_live(tx, deployment).await?,
        Consequence::RecordFailure => {
            let failed = Some(deployment.release_id);
            record_stop(tx, deployment, RecordKind::Fail, failed, change).await?;
        }
        Consequence::RecordReturn => {
            let target = deployment.previous_release_id;
            record_stop(tx, deployment, RecordKind::Rollback, target, change).await?;
        }
        Consequence::Undo => {
            lane_store::raise_fence(tx, lane).await?;
            deployment.fence = lane.fence;
            blocker::set(tx, now, deployment.id, None).await?;
            if step::undo::begin(tx, lane, deployment).await? == 0 {
                Box::pin(undone(tx, lane, deployment)).await?;
            }
        }
        Consequence::HandOver => {
            lane_store::raise_fence(tx, lane).await?;
            step::store::abandon_open(tx, now, deployment.id).await?;
        }
        Consequence::Reject => {
            let cmd = Reject {
                site: deployment.site_id,
                environment: deployment.environment_id,
                release: deployment.release_id,
                deployment: deployment.id,
                reason: &change.message,
                by: change.actor,
            };
            release::reject::reject(tx, cmd).await?;
        }
        Consequence::End => {
            // One that never acted has no steps, and what finishes is in its last.
            if deployment.state.acting().is_some() && change.event != Event::Finishes {
                step::store::abandon_open(tx, now, deployment.id).await?;
            }
            step::shared::block(tx, deployment.id, None).await?;
            deployment.deadline_at = None;
            deployment.deadline_left = None;
            if ends_on_its_target(deployment) {
                lane_store::set_live(tx, deployment).await?;
                if !deployment.state.went_live() {
                    record_live(tx, deployment).await?;
                }
            }
            count_superseded(tx, lane, deployment).await?;
            note_lasted(tx, deployment).await?;
        }
    }
    Ok(())
}

/// Its release is its environment's from now on. A rollback tells GitHub as well, and so goes alone.
async fn go_live(tx: &mut Tx, deployment: &Deployment) -> Result<(), sqlx::Error> {
    if deployment.kind != Kind::Rollback
        && let Some(shared) = tx.shared_of(deployment.id)
    {
        shared.goes_live(deployment);
        return Ok(());
    }
    lane_store::set_live(tx, deployment).await?;
    record_live(tx, deployment).await
}

/// What is live is told with who asked for it.
async fn record_live(tx: &mut Tx, deployment: &Deployment) -> Result<(), sqlx::Error> {
    let scope = Scope::Environment(deployment.site_id, deployment.environment_id);
    let by = &deployment.created_by;
    let act = Act::new(RecordKind::Live, scope, by, &deployment.reason);
    let act = act.of(deployment.release_id, deployment.id);
    act.or_commit().write(tx).await
}

/// Why one that acted is ended, and the release that it is about: the one that failed, or the one that
/// traffic goes back to, if there is one.
async fn record_stop(
    tx: &mut Tx,
    deployment: &Deployment,
    kind: RecordKind,
    release: Option<ReleaseId>,
    change: &Change<'_>,
) -> Result<(), sqlx::Error> {
    let scope = Scope::Environment(deployment.site_id, deployment.environment_id);
    Act {
        release,
        deployment: Some(deployment.id),
        ..Act::new(kind, scope, change.actor, &change.message)
    }
    .write(tx)
    .await
}

/// A rollback that failed past its pivot is not undone: visitors get what it went back to, and the
/// reconciler must not take that for drift.
fn ends_on_its_target(deployment: &Deployment) -> bool {
    let failed = matches!(
        deployment.state,
        State::Ended {
            outcome: Outcome::Failed,
            ..
        }
    );
    let undone = deployment.target_confirmed.is_some();
    deployment.kind == Kind::Rollback && failed && deployment.state.pivoted() && !undone
}

/// Every undo step is done, or there was none.
pub(crate) async fn undone(
    tx: &mut Tx,
    lane: &mut Lane,
    deployment: &mut Deployment,
) -> Result<(), Error> {
    deployment.target_confirmed.get_or_insert(true);
    let change = Change::new(Event::Undone, event::SYSTEM, "");
    apply(tx, lane, deployment, &change).await
}

async fn count_superseded(
    tx: &mut Tx,
    lane: &mut Lane,
    deployment: &Deployment,
) -> Result<(), Error> {
    let acted = deployment.state.acting().is_some();
    if !acted || deployment.kind != Kind::Standard {
        return Ok(());
    }
    let count = if deployment.cause == Cause::Superseded.word() {
        (lane.superseded_in_row + 1).min(SUPERSEDED_BEFORE_PINNED)
    } else {
        0
    };
    if count != lane.superseded_in_row {
        lane_store::save_superseded_in_row(tx, lane, count).await?;
    }
    Ok(())
}

/// What waits next is told how long this one took.
async fn note_lasted(tx: &mut Tx, deployment: &Deployment) -> Result<(), Error> {
    let (State::Ended { outcome, at, .. }, Kind::Standard) = (&deployment.state, deployment.kind)
    else {
        return Ok(());
    };
    if let (Outcome::Succeeded, Some(acting)) = (outcome, deployment.state.acting()) {
        let lasted = at.since(acting.started_at);
        let environment = deployment.environment_id;
        match tx.shared_of(deployment.id) {
            Some(shared) => shared.lasted(environment, lasted),
            None => lane_store::note_lasted(tx, environment, lasted).await?,
        }
    }
    Ok(())
}

/// Saves a moved deployment and tells the world, with the terminal event when it ended.
pub(crate) async fn record(
    tx: &mut Tx,
    deployment: &mut Deployment,
    before: &State,
    actor: &str,
) -> Result<(), Error> {
    store::save(tx, deployment).await?;
    tell(tx, deployment, before, actor);
    Ok(())
}

/// Saves moved deployments, each with the state before, and tells the world of each, as [`record`] does
/// of one.
pub(crate) async fn record_each(
    tx: &mut Tx,
    moved: Vec<(&mut Deployment, &State)>,
    actor: &str,
) -> Result<(), Error> {
    let (mut next, before): (Vec<&mut Deployment>, Vec<&State>) = moved.into_iter().unzip();
    store::save_each(tx, &mut next).await?;
    for (deployment, before) in next.iter().zip(before) {
        tell(tx, deployment, before, actor);
    }
    Ok(())
}

/// What the log says of a move: that it is live, that it has ended and why.
fn say(tx: &mut Tx, deployment: &Deployment, before: &State, actor: &str) {
    if deployment.state.went_live() && !before.went_live() {
        tx.observe(Observed::live(deployment));
    }
    if let (State::Ended { outcome, .. }, false) = (&deployment.state, before.is_terminal()) {
        tx.observe(Observed::ended(deployment, outcome.word(), actor));
    }
}

fn tell(tx: &mut Tx, deployment: &Deployment, before: &State, actor: &str) {
    say(tx, deployment, before, actor);
    if let (State::Ended { outcome, at, .. }, false) = (&deployment.state, before.is_terminal()) {
        let environment = match deployment.kind {
            Kind::Preview => Kind::Preview.word(),
            // As many as there are pull requests: no label of their own.
            Kind::Standard | Kind::Rollback if preview::is_slug(&deployment.environment) => {
                Kind::Preview.word()
            }
            Kind::Standard | Kind::Rollback => &deployment.environment,
        };
        tx.observe(Observed::DeploymentEnded {
            site: deployment.site.clone(),
            environment: environment.to_owned(),
            status: outcome.word(),
            took: at.since(deployment.created_at),
        });
    }
    tx.tell(event::changed(deployment, before, actor));
}

/// Moves and records in one go: for moves that come alone.
pub(crate) async fn apply_and_record(
    tx: &mut Tx,
    lane: &mut Lane,
    deployment: &mut Deployment,
    change: Change<'_>,
) -> Result<(), Error> {
    let before = deployment.state.clone();
    apply(tx, lane, deployment, &change).await?;
    record(tx, deployment, &before, change.actor).await
}
