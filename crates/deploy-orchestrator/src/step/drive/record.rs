//! Recording what a claimed step came to, and commits whose answer is lost.
//!
//! A commit that failed may have happened: the database can die, or the network, between the commit
//! and its answer. Who asks again locks the lane first. A commit that is still on its way holds that
//! lock, so that behind it the rows say which it was. A worker takes one turn of a deployment at a time:
//! where a claim stands under its number and our name, the transaction that drew it is committed.

use super::{Claimed, Hands};
use crate::{
    ctx::{CommitError, Ctx, Tx},
    deployment::{self, Deployment, Error},
    lane,
    step::{Step, outcome::Outcome, store, verify::Trouble},
};

/// A turn that was taken, with what it claimed.
#[derive(Debug)]
pub(crate) struct Taken(pub(crate) Option<Claimed>);

/// A commit whose answer did not come.
#[derive(Debug)]
pub(crate) struct Unheard {
    /// What is ours, should it have happened.
    pub(crate) claimed: Option<Claimed>,
}

/// Commits what ends a turn.
pub(super) async fn commit(
    ctx: &Ctx,
    tx: Tx,
    claimed: Option<Claimed>,
    unheard: &mut Option<Unheard>,
) -> Result<Option<Taken>, Error> {
    let Err(error) = ctx.commit(tx).await else {
        return Ok(Some(Taken(claimed)));
    };
    if matches!(error, CommitError::Commit(_)) {
        *unheard = Some(Unheard { claimed });
    }
    Err(error.into())
}

/// Whether a claim stands whose commit was not answered.
pub(crate) async fn is_claimed(ctx: &Ctx, worker: &str, claimed: &Claimed) -> Result<bool, Error> {
    let mut tx = ctx.begin().await.map_err(Error::Begin)?;
    let stands = async {
        lane::store::lock(&mut tx, claimed.environment_id).await?;
        let (step, claim) = (claimed.step.id, claimed.claim);
        store::is_claimed_by(&mut tx, step, claim, worker).await
    }
    .await;
    let_go(tx).await;
    Ok(stands?)
}

/// Lets go of the lane at once, not when the pool gets to it: whoever shares waits for no lane. Where it fails
/// the session is gone, and nothing was written.
pub(super) async fn let_go(tx: Tx) {
    drop(tx.abandon().await);
}

/// Records what a claimed step came to, and goes on. None when the claim was lost meanwhile.
///
/// `unheard` is what an earlier try left. When that try did commit, nothing is written a second time,
/// and the answer is the claim that it made on the way, if any.
pub(crate) async fn record_outside(
    ctx: &Ctx,
    worker: &str,
    (claimed, outcome): (&Claimed, &Result<Outcome, Trouble>),
    unheard: &mut Option<Unheard>,
) -> Result<Option<Taken>, Error> {
    let mut tx = ctx.begin().await.map_err(Error::Begin)?;
    match recorded(ctx, &mut tx, worker, (claimed, outcome), unheard).await {
        Ok(Recorded::New(next)) => commit(ctx, tx, next, unheard).await,
        Ok(Recorded::Before(found)) => {
            let_go(tx).await;
            Ok(found.map(|found| Taken(Some(found))))
        }
        Err(error) => {
            let_go(tx).await;
            Err(error)
        }
    }
}

/// What recording an outcome came to.
enum Recorded {
    /// It is written, and to be committed.
    New(Option<Claimed>),
    /// Nothing is written: an earlier try did, or the claim was lost.
    Before(Option<Claimed>),
}

async fn recorded(
    ctx: &Ctx,
    tx: &mut Tx,
    worker: &str,
    (claimed, outcome): (&Claimed, &Result<Outcome, Trouble>),
    unheard: &mut Option<Unheard>,
) -> Result<Recorded, Error> {
    let lane = lane::store::lock(tx, claimed.environment_id).await?;
    let Some(deployment) = deployment::store::lock(tx, claimed.deployment.id).await? else {
        return Ok(Recorded::Before(None));
    };
    let held = if deployment.fence == lane.fence {
        store::lock_claimed(tx, claimed.step.id, claimed.claim)
            .await?
            .ok_or("without its claim")
    } else {
        Err("under an old fence")
    };
    let held = match held {
        Ok(held) => held,
        Err(why) => {
            let found = not_ours(ctx, worker, tx, &deployment, why, unheard).await?;
            return Ok(Recorded::Before(found));
        }
    };
    // With the claim still there no earlier try has committed, and none will: the lane is ours.
    *unheard = None;
    let mut hands = Hands::new(ctx, tx, lane, deployment, Some(worker));
    (hands.pausing, hands.blocked) = (held.pausing, held.blocked);
    hands.forgive(&held);
    let step = held.step;
    let next = hands.turn_outside(step, outcome).await?;
    hands.close().await?;
    Ok(Recorded::New(next))
}

impl Claimed {
    /// After a while: what was seen may not be so any more.
    pub(crate) fn unseen(self) -> Self {
        Self { seen: None, ..self }
    }
}

impl Hands<'_> {
    /// The turn of a step that was worked on outside, and came to this.
    pub(super) async fn turn_outside(
        &mut self,
        step: Step,
        outcome: &Result<Outcome, Trouble>,
    ) -> Result<Option<Claimed>, Error> {
        match outcome {
            Ok(outcome) => match self.take(step, outcome.clone()).await? {
                Some(step) => self.reach(step).await,
                None => Ok(None),
            },
            Err(trouble) => {
                self.try_again(&step, &trouble.to_string()).await?;
                Ok(None)
            }
        }
    }
}

/// The step is no longer ours: another has it, or an earlier try of ours closed it and its answer was
/// lost. Goes on with what that one claimed, if it stands.
async fn not_ours(
    ctx: &Ctx,
    worker: &str,
    tx: &mut Tx,
    deployment: &Deployment,
    why: &str,
    unheard: &mut Option<Unheard>,
) -> Result<Option<Claimed>, Error> {
    let Some(earlier) = unheard.as_ref() else {
        tracing::info!(deployment.id = %deployment.id, "an outcome {why} is refused");
        return Ok(None);
    };
    let stands = match &earlier.claimed {
        Some(next) => store::is_claimed_by(tx, next.step.id, next.claim, worker).await?,
        None => false,
    };
    tracing::info!(
        deployment.id = %deployment.id, goes_on = stands,
        "an outcome {why} is refused, or was recorded before by a commit without an answer"
    );
    // The commit told nobody in this process. What it observed is not counted.
    ctx.nudges.relay.nudge();
    ctx.nudges.wake();
    let earlier = unheard.take().and_then(|earlier| earlier.claimed);
    Ok(earlier.filter(|_next| stands).map(Claimed::unseen))
}
