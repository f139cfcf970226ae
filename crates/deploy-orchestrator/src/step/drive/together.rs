//! Turns of different lanes in one transaction.
//!
//! Each is taken by the same code as alone. What they must know of their lanes, deployments and steps is
//! read by one statement for all; what they write of steps, blockers and deployments is kept in memory
//! ([`shared`]) and written by one statement for each table before the commit.
//!
//! Only plain turns share: forwards, of a step that no lost worker has, while no stop pauses its site. Any
//! other goes alone, by [`super::turn`] or [`super::record_outside`]; so does each of a transaction that
//! failed before its commit, so that one cannot take others with it.
//!
//! No lane is waited for here, or every other one would wait too: what is due comes again, and an outcome
//! waits for its lane alone.

use std::collections::HashMap;

use candlefish_ids::{DeploymentId, EnvironmentId, StepId};
use tokio::time::Instant;
use tracing::Instrument as _;

use super::{Claimed, Hands};
use crate::{
    ctx::{CommitError, Ctx, Tx},
    deployment::{self, Deployment, Error, apply::record_each, event::SYSTEM, state::State},
    lane::{self, store::Lane},
    step::{
        outcome::Outcome,
        shared::{self, Shared},
        store::{self, Due, Found, Wanted},
        verify::Trouble,
    },
    trace,
};

/// What a turn is asked for.
#[derive(Debug)]
pub(crate) enum Asked {
    /// A step that is due.
    Due(Due),
    /// What a claimed step came to.
    Done(Box<Done>),
}

/// What a claimed step came to.
#[derive(Debug)]
pub(crate) struct Done {
    pub(crate) claimed: Claimed,
    pub(crate) outcome: Result<Outcome, Trouble>,
    /// When the lease runs out, by our own clock.
    pub(crate) held_until: Instant,
}

/// What became of one who asked.
#[derive(Debug)]
pub(crate) enum Share {
    /// Its turn is taken, or there was none to take; what it claimed.
    Taken(Option<Box<Claimed>>),
    /// It is not plain: it goes alone.
    Alone,
}

impl Asked {
    /// The lane: of each there is one turn in a transaction.
    pub(crate) fn environment_id(&self) -> EnvironmentId {
        match self {
            Self::Due(due) => due.environment_id,
            Self::Done(done) => done.claimed.environment_id,
        }
    }

    /// It is known not to be plain before anything is locked.
    pub(crate) const fn is_lone(&self) -> bool {
        matches!(self, Self::Due(due) if due.is_lone)
    }

    pub(crate) fn deployment_id(&self) -> DeploymentId {
        match self {
            Self::Due(due) => due.deployment_id,
            Self::Done(done) => done.claimed.deployment.id,
        }
    }

    fn step_id(&self) -> StepId {
        match self {
            Self::Due(due) => due.step_id,
            Self::Done(done) => done.claimed.step.id,
        }
    }

    fn wanted(&self) -> Wanted {
        match self {
            Self::Due(due) => Wanted::due(due),
            Self::Done(done) => Wanted::claimed(done.claimed.step.id, done.claimed.claim),
        }
    }

    /// What becomes of it where its lane is not free, or its step is not as it was: another was faster,
    /// or has it. About an outcome more is to be asked and said.
    fn untaken(&self) -> Share {
        match self {
            Self::Due(_) => Share::Taken(None),
            Self::Done(_) => Share::Alone,
        }
    }

    fn is_plain(&self, deployment: &Deployment, found: &Found) -> bool {
        let goes_forward = matches!(deployment.state, State::Running(_) | State::Waiting(_));
        let lost = matches!(self, Self::Due(_)) && found.is_claimed;
        goes_forward && !lost && !found.pausing && !found.step.is_undo
    }
}

/// One whose turn is plain, as it was found with its lane locked.
struct Plain {
    /// Among those who asked.
    place: usize,
    lane: Lane,
    deployment: Deployment,
    found: Found,
}

/// One whose turn is taken, and what is to be saved of it.
pub(super) struct Carried {
    pub(super) lane: Lane,
    pub(super) deployment: Deployment,
    before: State,
    changed: bool,
    claimed: Option<Claimed>,
}

impl Carried {
    pub(super) fn new(hands: Hands<'_>, claimed: Option<Claimed>) -> Self {
        Self {
            lane: hands.lane,
            deployment: hands.deployment,
            before: hands.before,
            changed: hands.changed,
            claimed,
        }
    }
}

/// Saves what changed.
pub(super) async fn save_each(tx: &mut Tx, carried: &mut [Carried]) -> Result<(), Error> {
    let changed = carried.iter_mut().filter(|one| one.changed);
    let moved = changed.map(|one| (&mut one.deployment, &one.before));
    record_each(tx, moved.collect(), SYSTEM).await
}

/// Takes the turns that are plain in one transaction; answers what became of each, in the order asked.
/// No two may be of one lane. `unheard` is set when it failed and may have committed all the same.
pub(crate) async fn together(
    ctx: &Ctx,
    worker: &str,
    asked: &[Asked],
    unheard: &mut Option<Vec<Share>>,
) -> Result<Vec<Share>, Error> {
    let mut tx = ctx.begin().await.map_err(Error::Begin)?;
    // One row that somebody has, such as an edge's, holds all these lanes no longer than that.
    sqlx::query("SET LOCAL lock_timeout = '200ms'")
        .execute(&mut *tx)
        .await?;
    let mut shares: Vec<Share> = asked.iter().map(Asked::untaken).collect();
    match take(ctx, &mut tx, worker, asked, &mut shares).await {
        Ok(0) => {
            // Nor is anybody woken, who would find the same again.
            tx.abandon().await?;
            return Ok(shares);
        }
        Ok(_taken) => {}
        Err(error) => {
            // At once: those that go alone now want their lanes. Where it fails, so did the session.
            drop(tx.abandon().await);
            return Err(error);
        }
    }
    let Err(error) = ctx.commit(tx).await else {
        return Ok(shares);
    };
    if matches!(error, CommitError::Commit(_)) {
        *unheard = Some(shares);
    }
    Err(error.into())
}

/// Takes the turns that are plain; answers how many. The caller commits.
async fn take(
    ctx: &Ctx,
    tx: &mut Tx,
    worker: &str,
    asked: &[Asked],
    shares: &mut [Share],
) -> Result<usize, Error> {
    let plain = lock(tx, asked, shares).await?;
    if plain.is_empty() {
        return Ok(0);
    }
    let deployments: Vec<&Deployment> = plain.iter().map(|one| &one.deployment).collect();
    let kept = Shared::load(tx, &deployments).await?;
    tx.share(kept);
    let taken = plain.len();
    let mut carried = Vec::with_capacity(taken);
    let places: Vec<usize> = plain.iter().map(|one| one.place).collect();
    for one in plain {
        if let Some(asked) = asked.get(one.place) {
            let about = trace::about(one.deployment.id);
            let turn = Box::pin(carry(ctx, tx, worker, one, asked).instrument(about));
            carried.push(turn.await?);
        }
    }
    let claims = shared::write_out(ctx, tx, worker).await?;
    close(ctx, tx, &mut carried).await?;
    for (one, place) in carried.into_iter().zip(places) {
        let claimed = one.claimed.map(|claimed| drawn(claimed, &claims));
        if let Some(share) = shares.get_mut(place) {
            *share = Share::Taken(claimed.transpose()?.map(Box::new));
        }
    }
    Ok(taken)
}

/// A claim under the number that was drawn for it; one that did not share was drawn at once.
fn drawn(claimed: Claimed, claims: &HashMap<StepId, i64>) -> Result<Claimed, sqlx::Error> {
    let own = (claimed.claim != 0).then_some(claimed.claim);
    let number = claims.get(&claimed.step.id).copied().or(own);
    let claim = number.ok_or(sqlx::Error::RowNotFound)?;
    Ok(Claimed { claim, ..claimed })
}

/// Locks the lanes that are free, and what is asked for of them; answers the plain ones.
async fn lock(tx: &mut Tx, asked: &[Asked], shares: &mut [Share]) -> Result<Vec<Plain>, Error> {
    let ids: Vec<EnvironmentId> = asked.iter().map(Asked::environment_id).collect();
    let lanes = lane::store::try_lock_each(tx, &ids).await?;
    if lanes.is_empty() {
        return Ok(Vec::new());
    }
    let lanes = lanes.into_iter().map(|lane| (lane.environment_id, lane));
    let mut lanes: HashMap<EnvironmentId, Lane> = lanes.collect();
    let is_free = |one: &&Asked| lanes.contains_key(&one.environment_id());
    let open: Vec<&Asked> = asked.iter().filter(is_free).collect();
    let ids: Vec<DeploymentId> = open.iter().map(|one| one.deployment_id()).collect();
    let mut deployments = deployment::store::lock_each(tx, &ids).await?;
    let wanted: Vec<Wanted> = open.iter().map(|one| one.wanted()).collect();
    let now = tx.now();
    let mut steps = store::lock_each(tx, now, &wanted).await?;
    let mut plain = Vec::with_capacity(open.len());
    for ((place, one), share) in asked.iter().enumerate().zip(shares) {
        let Some(lane) = lanes.remove(&one.environment_id()) else {
            continue;
        };
        let found = steps.remove(&one.step_id());
        let Some((deployment, found)) = deployments.remove(&one.deployment_id()).zip(found) else {
            continue;
        };
        if deployment.fence != lane.fence {
            continue;
        }
        if one.is_plain(&deployment, &found) {
            plain.push(Plain {
                place,
                lane,
                deployment,
                found,
            });
        } else {
            *share = Share::Alone;
        }
    }
    Ok(plain)
}

async fn carry(
    ctx: &Ctx,
    tx: &mut Tx,
    worker: &str,
    plain: Plain,
    asked: &Asked,
) -> Result<Carried, Error> {
    let Plain {
        lane,
        deployment,
        found,
        ..
    } = plain;
    let mut hands = Hands::new(ctx, tx, lane, deployment, Some(worker));
    (hands.pausing, hands.blocked) = (found.pausing, found.blocked);
    hands.forgive(&found);
    let claimed = match asked {
        Asked::Due(_) => hands.turn(found).await?,
        Asked::Done(done) => hands.turn_outside(found.step, &done.outcome).await?,
    };
    Ok(Carried::new(hands, claimed))
}

/// Saves what changed, and lets the lanes choose again that are free.
async fn close(ctx: &Ctx, tx: &mut Tx, carried: &mut [Carried]) -> Result<(), Error> {
    save_each(tx, carried).await?;
    let free = |one: &&Carried| one.changed && one.deployment.state.is_terminal();
    let free = carried.iter().filter(free);
    let mut free: Vec<Lane> = free.map(|one| one.lane.clone()).collect();
    lane::grant_each(ctx, tx, &mut free).await
}
