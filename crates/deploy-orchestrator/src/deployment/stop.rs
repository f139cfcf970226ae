//! Cancel and abort: a person ends a deployment.
//!
//! The fence rises, open steps are abandoned and undo steps are ready in one transaction: no late
//! worker can act any more. Before the pivot nothing has moved; from it on traffic goes back.

use candlefish_ids::DeploymentId;
use candlefish_proto::deploy as pb;
use candlefish_runtime::{
    identity::Caller,
    refusal::{Code, Refusal},
};

use super::{
    Deployment, Error,
    apply::{Change, apply_and_record},
    error::{again, unknown},
    plan::Kind,
    state::{Cause, Event, State},
    store, target, view,
};
use crate::{
    ctx::{Ctx, Tx},
    idempotency::{self, Key, Reply},
    lane::{self, store::Lane},
    record::{self, Act, Scope},
    step,
};

/// Which of the two, and why.
#[derive(Debug, Clone)]
pub(crate) struct Stop {
    pub(crate) id: DeploymentId,
    /// As one that hurts: the release is rejected if it had traffic.
    pub(crate) aborts: bool,
    pub(crate) reason: String,
}

/// Ends a deployment.
pub(crate) async fn stop(
    ctx: &Ctx,
    caller: &Caller,
    key: Option<Key>,
    cmd: Stop,
) -> Result<Reply<pb::Deployment>, Error> {
    let mut tx = ctx.begin().await.map_err(Error::Begin)?;
    let (mut lane, mut deployment) = lock(&mut tx, caller, cmd.id).await?;
    if let Some(before) = idempotency::replay(&mut tx, key.as_ref()).await? {
        return Ok(Reply::replayed(before));
    }
    let now = tx.now();
    let (cause, verb, kind) = if cmd.aborts {
        (Cause::Aborted, "aborted", record::Kind::Abort)
    } else {
        (Cause::Cancelled, "cancelled", record::Kind::Cancel)
    };
    if deployment.state.is_terminal() || matches!(deployment.state, State::Cancelling { .. }) {
        return Err(over(&deployment).into());
    }
    target::check_end(&mut tx, caller, &deployment).await?;
    check_way_back(&mut tx, &deployment).await?;
    let message = match cmd.reason.as_str() {
        "" => format!("{verb} by {}", caller.principal),
        reason => format!("{verb} by {}: {reason}", caller.principal),
    };
    let change = Change::new(Event::Stops(cause), &caller.principal, message);
    apply_and_record(&mut tx, &mut lane, &mut deployment, change).await?;
    let scope = Scope::Environment(deployment.site_id, deployment.environment_id);
    let act = Act::new(kind, scope, &caller.principal, &cmd.reason);
    let act = act.of(deployment.release_id, cmd.id).or_unsaid();
    act.write(&mut tx).await?;
    lane::grant(ctx, &mut tx, &mut lane).await?;
    let answer = view::load(ctx, &mut tx, cmd.id).await?;
    idempotency::store(&mut tx, now, key.as_ref(), &answer).await?;
    ctx.commit(tx).await?;
    tracing::info!(
        deployment.id = %cmd.id, actor = %caller.principal, reason = %cmd.reason,
        "a deployment is {verb}"
    );
    Ok(Reply::new(answer))
}

/// A rollback that moved traffic is not ended where what visitors had before is banned, and they have left
/// it: they would get something older, or nothing, in place of what a person chose for them. Another
/// rollback takes its place and says what they get.
async fn check_way_back(tx: &mut Tx, ending: &Deployment) -> Result<(), Error> {
    if ending.kind != Kind::Rollback || !ending.state.pivoted() {
        return Ok(());
    }
    let Some((back, ban)) = step::undo::find_barred(tx, ending).await? else {
        return Ok(());
    };
    let (id, place) = (ending.id, ending.place());
    let words = format!(
        "{id} would go back to {back}, which is banned {}: let it finish, name another release \
         (candlefish rollback {place} --to REL), or lift the ban (candlefish releases unban {back} --reason …)",
        ban.words()
    );
    Err(Refusal::new(Code::FailedPrecondition, "release-banned", words).into())
}

/// Locks a deployment that the caller may see, its lane first.
pub(crate) async fn lock(
    tx: &mut Tx,
    caller: &Caller,
    id: DeploymentId,
) -> Result<(Lane, Deployment), Error> {
    let place = store::find_environment(tx, id).await?;
    let (_, environment) = place.ok_or_else(|| unknown(id))?;
    let lane = lane::store::lock(tx, environment).await?;
    let deployment = store::lock(tx, id).await?;
    let seen = deployment.filter(|deployment| caller.sees(&deployment.site));
    Ok((lane, seen.ok_or_else(|| unknown(id))?))
}

/// The verb comes too late: says who was faster, when, and what works now.
pub(super) fn over(deployment: &Deployment) -> Refusal {
    let id = deployment.id;
    let state = deployment.state.word().replace('_', " ");
    let when = match &deployment.state {
        State::Ended { at, .. } => format!(" since {:.0}", at.timestamp()),
        _ => String::new(),
    };
    let why = match deployment.message.as_str() {
        "" => String::new(),
        words => format!(" ({words})"),
    };
    let again = again(deployment);
    let verbs = match (deployment.state.is_terminal(), deployment.kind) {
        (false, _) => format!("it is being undone; to follow: candlefish watch {id}"),
        (true, Kind::Standard) => format!(
            "to go back: candlefish rollback {}; to repeat it: {again}",
            deployment.place()
        ),
        (true, Kind::Rollback | Kind::Preview) => format!("for another one: {again}"),
    };
    let reason = if deployment.state.is_terminal() {
        "terminal"
    } else {
        "cancelling"
    };
    Refusal::new(
        Code::FailedPrecondition,
        reason,
        format!("{id} is {state}{when}{why}: {verbs}"),
    )
    .metadata("state", deployment.state.word())
}
