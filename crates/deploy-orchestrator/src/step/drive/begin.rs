//! Taking a deployment over its first steps where its lane is granted.

use candlefish_ids::DeploymentId;
use tracing::Instrument as _;

use super::{
    Hands,
    together::{Carried, save_each},
};
use crate::{
    ctx::{Ctx, Tx},
    deployment::{Deployment, Error},
    lane::store::Lane,
    noun,
    step::{
        Step,
        shared::{self, Shared},
        worker::chain,
    },
    trace,
};

/// Takes a deployment that was just granted its lane over its first steps, as far as they are in the
/// database: nobody has to find them due. True when it has ended in them; the lane may choose again.
///
/// What fails is left to a worker, as if it had not been tried: no step may keep its lane from being
/// granted, nor the deployment before from its end.
pub(crate) async fn begin(
    ctx: &Ctx,
    tx: &mut Tx,
    lane: &mut Lane,
    deployment: Deployment,
    first: Step,
) -> Result<bool, Error> {
    if first.kind.is_outside() {
        return Ok(false);
    }
    let id = deployment.id;
    let mark = tx.mark().await?;
    let about = trace::about(id);
    let after =
        Box::pin(first_steps(ctx, tx, lane.clone(), deployment, first).instrument(about.clone()));
    match after.await {
        Ok((after, ended)) => {
            *lane = after;
            Ok(ended)
        }
        Err(error) => {
            about.in_scope(|| {
                tracing::warn!(
                    deployment.id = %id, error = %chain(&error),
                    "the first steps are left to a worker"
                );
            });
            tx.go_back(mark).await?;
            Ok(false)
        }
    }
}

async fn first_steps(
    ctx: &Ctx,
    tx: &mut Tx,
    lane: Lane,
    deployment: Deployment,
    first: Step,
) -> Result<(Lane, bool), Error> {
    let mut hands = Hands::new(ctx, tx, lane, deployment, None);
    hands.blocked = false;
    hands.go_on(first).await?;
    hands.save().await?;
    let ended = hands.deployment.state.is_terminal();
    Ok((hands.lane, ended))
}

/// A deployment that was just granted its lane, with all its steps.
#[derive(Debug)]
pub(crate) struct Begun {
    pub(crate) lane: Lane,
    pub(crate) deployment: Deployment,
    pub(crate) steps: Vec<Step>,
}

/// Takes several over their first steps, as [`begin()`] does one: all of them, or none. Answers their
/// lanes in this order, each with whether it may choose again; nothing where they are left to workers.
pub(crate) async fn begin_each(
    ctx: &Ctx,
    tx: &mut Tx,
    begun: Vec<Begun>,
) -> Result<Vec<(Lane, bool)>, Error> {
    let ids: Vec<DeploymentId> = begun.iter().map(|one| one.deployment.id).collect();
    let mark = tx.mark().await?;
    match Box::pin(first_steps_each(ctx, tx, begun)).await {
        Ok(after) => Ok(after),
        Err(error) => {
            let error = chain(&error);
            tracing::warn!(
                error,
                deployments = noun::listed(&ids),
                "the first steps of deployments are left to workers"
            );
            drop(tx.unshare());
            tx.go_back(mark).await?;
            Ok(Vec::new())
        }
    }
}

async fn first_steps_each(
    ctx: &Ctx,
    tx: &mut Tx,
    begun: Vec<Begun>,
) -> Result<Vec<(Lane, bool)>, Error> {
    let new = begun
        .iter()
        .map(|one| (&one.deployment, one.steps.as_slice()));
    tx.share(Shared::of_new(&new.collect::<Vec<_>>()));
    let mut carried = Vec::with_capacity(begun.len());
    for one in begun {
        let first = one.steps.into_iter().next();
        let mut hands = Hands::new(ctx, tx, one.lane, one.deployment, None);
        hands.blocked = false;
        if let Some(first) = first.filter(|first| !first.kind.is_outside()) {
            let about = trace::about(hands.deployment.id);
            hands.go_on(first).instrument(about).await?;
        }
        carried.push(Carried::new(hands, None));
    }
    shared::write_out(ctx, tx, "").await?;
    save_each(tx, &mut carried).await?;
    let after = carried.into_iter();
    let after = after.map(|one| (one.lane, one.deployment.state.is_terminal()));
    Ok(after.collect())
}
