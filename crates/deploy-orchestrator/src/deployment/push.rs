//! Deployments that pushes make: accepting one, and ending one whose content never came. Both within
//! the transaction of the trigger, which holds the lane.

use candlefish_ids::{DeploymentId, ReleaseId};

use super::{
    Error,
    accept::{self, New},
    apply::{Change, apply_and_record},
    event::SYSTEM,
    plan::Kind,
    state::{Cause, Event, State},
    store,
};
use crate::{
    ctx::{Ctx, Tx},
    lane::{self, store::Lane},
    site::Environment,
};

/// A deployment to accept.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Accept<'a> {
    pub(crate) id: DeploymentId,
    pub(crate) environment: &'a Environment,
    /// Its content may be still to come.
    pub(crate) release: ReleaseId,
    pub(crate) actor: &'a str,
    pub(crate) reason: &'a str,
}

/// Accepts a deployment by the environment's own strategy.
pub(crate) async fn accept(
    ctx: &Ctx,
    tx: &mut Tx,
    lane: &mut Lane,
    cmd: Accept<'_>,
) -> Result<(), Error> {
    let new = New {
        environment: cmd.environment,
        release_id: cmd.release,
        kind: Kind::Standard,
        strategy: cmd.environment.policy.strategy.clone(),
        actor: cmd.actor,
        reason: cmd.reason,
        retry_of: None,
        leaves_release_id: None,
    };
    accept::accept(ctx, tx, lane, cmd.id, new).await?;
    Ok(())
}

/// Ends a deployment that still waits for its content.
pub(crate) async fn end_without_content(
    ctx: &Ctx,
    tx: &mut Tx,
    lane: &mut Lane,
    id: DeploymentId,
    commit: &str,
) -> Result<(), Error> {
    let Some(mut deployment) = store::lock(tx, id).await? else {
        return Ok(());
    };
    if deployment.state != State::Pending {
        return Ok(());
    }
    let short = commit.get(..7).unwrap_or(commit);
    let message = format!(
        "its content did not come: nobody uploaded {short} in time. Upload it: candlefish deploy DIR \
         --site {} --env {} --commit {commit}",
        deployment.site, deployment.environment
    );
    let change = Change::new(Event::Stops(Cause::Deadline), SYSTEM, message);
    apply_and_record(tx, lane, &mut deployment, change).await?;
    lane::grant(ctx, tx, lane).await
}
