//! Taking a deployment over its first steps where its lane is granted.

use super::Hands;
use crate::{
    ctx::{Ctx, Tx},
    deployment::{Deployment, Error},
    lane::store::Lane,
    step::{Step, worker::chain},
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
    match Box::pin(first_steps(ctx, tx, lane.clone(), deployment, first)).await {
        Ok((after, ended)) => {
            *lane = after;
            Ok(ended)
        }
        Err(error) => {
            tracing::warn!(
                deployment.id = %id, error = %chain(&error), "the first steps are left to a worker"
            );
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
