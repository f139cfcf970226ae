//! Starting what is granted: it has its lane under a new fence, a deadline and its steps, and is taken
//! over the first of these in the same transaction.

use std::collections::HashSet;

use candlefish_clock::Moment;
use candlefish_ids::{DeploymentId, EnvironmentId};

use crate::{
    blocker,
    ctx::{Ctx, Tx},
    deployment::{
        self, Deployment, Error,
        apply::{Change, apply, record, record_each},
        event::SYSTEM,
        pin::Pin,
        plan::Kind,
        state::{Event, State},
    },
    lane::{
        order::SUPERSEDED_BEFORE_PINNED,
        store::{self, Lane},
    },
    observed::Observed,
    record::{Act, Scope},
    step::{
        self, Step,
        drive::{Begun, begin_each},
    },
};

/// Of more lanes than this in one transaction the first steps are left to workers: all of them are
/// locked until it ends.
const BEGUN_TOGETHER: usize = 16;

/// Gives each of these its lane, and takes it over its first steps; answers the lanes where it has ended
/// in them.
pub(super) async fn start_each(
    ctx: &Ctx,
    tx: &mut Tx,
    mut granted: Vec<(DeploymentId, &mut Lane)>,
) -> Result<HashSet<EnvironmentId>, Error> {
    let mut ended = HashSet::new();
    if granted.len() > 1 {
        return start_together(ctx, tx, granted).await;
    }
    if let Some((id, lane)) = granted.pop()
        && start(ctx, tx, lane, id).await?
    {
        ended.insert(lane.environment_id);
    }
    Ok(ended)
}

/// Starts one; true when it ended in its first steps.
async fn start(ctx: &Ctx, tx: &mut Tx, lane: &mut Lane, id: DeploymentId) -> Result<bool, Error> {
    let now = tx.now();
    let Some(mut granted) = deployment::store::lock(tx, id).await? else {
        return Ok(false);
    };
    let before = granted.state.clone();
    store::raise_fence(tx, lane).await?;
    enter(tx, lane, &mut granted).await?;
    blocker::set(tx, now, id, None).await?;
    let plan = deployment::plan::plan(granted.kind, &granted.strategy);
    let first = step::store::insert_plan(tx, now, id, &plan).await?;
    record(tx, &mut granted, &before, SYSTEM).await?;
    tx.observe(Observed::granted(&granted));
    match first {
        Some(first) => step::drive::begin(ctx, tx, lane, granted, first).await,
        None => Ok(false),
    }
}

/// A deployment that starts with others.
struct Starting {
    deployment: Deployment,
    before: State,
    steps: Vec<Step>,
}

/// Starts several, with one statement for each table.
async fn start_together(
    ctx: &Ctx,
    tx: &mut Tx,
    granted: Vec<(DeploymentId, &mut Lane)>,
) -> Result<HashSet<EnvironmentId>, Error> {
    let now = tx.now();
    let ids: Vec<DeploymentId> = granted.iter().map(|(id, _)| *id).collect();
    let mut locked = deployment::store::lock_each(tx, &ids).await?;
    let (mut lanes, mut starting) = (Vec::new(), Vec::new());
    for (id, lane) in granted {
        let Some(deployment) = locked.remove(&id) else {
            continue;
        };
        let plan = deployment::plan::plan(deployment.kind, &deployment.strategy);
        starting.push(Starting {
            before: deployment.state.clone(),
            steps: step::store::steps_of(id, &plan),
            deployment,
        });
        lanes.push(lane);
    }
    store::raise_fence_each(tx, &mut lanes).await?;
    for (lane, one) in lanes.iter_mut().zip(&mut starting) {
        enter(tx, lane, &mut one.deployment).await?;
    }
    blocker::clear_each(tx, now, &ids).await?;
    let steps = starting.iter().flat_map(|one| one.steps.clone());
    step::store::insert_each(tx, now, &steps.collect::<Vec<_>>()).await?;
    let moved = starting.iter_mut();
    let moved = moved.map(|one| (&mut one.deployment, &one.before));
    record_each(tx, moved.collect(), SYSTEM).await?;
    for one in &starting {
        tx.observe(Observed::granted(&one.deployment));
    }
    begin_first(ctx, tx, lanes, starting).await
}

/// Takes what has started over its first steps; answers the lanes where it has ended in them.
async fn begin_first(
    ctx: &Ctx,
    tx: &mut Tx,
    lanes: Vec<&mut Lane>,
    started: Vec<Starting>,
) -> Result<HashSet<EnvironmentId>, Error> {
    let mut ended = HashSet::new();
    if started.len() > BEGUN_TOGETHER {
        return Ok(ended);
    }
    let begun = started.into_iter().zip(&lanes).map(|(one, lane)| Begun {
        lane: Lane::clone(lane),
        deployment: one.deployment,
        steps: one.steps,
    });
    let after = begin_each(ctx, tx, begun.collect()).await?;
    for (lane, (after, has_ended)) in lanes.into_iter().zip(after) {
        *lane = after;
        if has_ended {
            ended.insert(lane.environment_id);
        }
    }
    Ok(ended)
}

/// A deployment enters its lane, whose fence was raised for it; the caller saves it.
async fn enter(tx: &mut Tx, lane: &mut Lane, granted: &mut Deployment) -> Result<(), Error> {
    let now = tx.now();
    granted.fence = lane.fence;
    if lane.superseded_in_row >= SUPERSEDED_BEFORE_PINNED
        && granted.pin.is_none()
        && granted.kind == Kind::Standard
    {
        granted.pin = Some(pin(tx, granted, now).await?);
    }
    // What the plan itself waits for is no delay.
    let policy = &granted.policy;
    let planned = deployment::plan::planned_waits(granted.kind, &granted.strategy, policy.settle);
    granted.deadline_at = Some(now.plus(policy.deadline + planned));
    let change = Change::new(Event::Granted, SYSTEM, "");
    apply(tx, lane, granted, &change).await?;
    granted.message.clear();
    Ok(())
}

/// On a busy branch the next one counts as pinned; the history says so.
async fn pin(tx: &mut Tx, granted: &Deployment, now: Moment) -> Result<Pin, Error> {
    let pin = Pin::of_busy_lane(now);
    let scope = Scope::Environment(granted.site_id, granted.environment_id);
    let act = Act::new(crate::record::Kind::Pin, scope, &pin.by, &pin.reason);
    act.of(granted.release_id, granted.id).write(tx).await?;
    Ok(pin)
}
