//! Retry: a terminal deployment's release and strategy once more, as a new deployment.
//!
//! One whose content never came is no exception: the new one waits for it as long as a push does.

use candlefish_ids::DeploymentId;
use candlefish_proto::deploy as pb;
use candlefish_runtime::{
    identity::Caller,
    refusal::{Code, Refusal},
};

use super::{
    Error,
    accept::{New, check_open, share_counting},
    error::{again, unknown_release},
    limit,
    plan::Kind,
    stop, view,
};
use crate::{
    ctx::Ctx,
    idempotency::{self, Key, Reply},
    site,
};

/// The deployment to repeat.
#[derive(Debug, Clone)]
pub(crate) struct Retry {
    pub(crate) id: DeploymentId,
    pub(crate) reason: String,
}

/// Repeats a terminal deployment.
pub(crate) async fn retry(
    ctx: &Ctx,
    caller: &Caller,
    key: Option<Key>,
    cmd: Retry,
) -> Result<Reply<pb::Deployment>, Error> {
    let mut tx = ctx.begin().await.map_err(Error::Begin)?;
    let (mut lane, before) = stop::lock(&mut tx, caller, cmd.id).await?;
    if let Some(answered) = idempotency::replay(&mut tx, key.as_ref()).await? {
        return Ok(Reply::replayed(answered));
    }
    let now = tx.now();
    if !before.state.is_terminal() {
        let words = format!(
            "{} is {}: only what has ended can be repeated; to end it: candlefish cancel {}",
            cmd.id,
            before.state.word(),
            cmd.id
        );
        return Err(Refusal::new(Code::FailedPrecondition, "not-terminal", words).into());
    }
    if before.kind != Kind::Standard {
        let words = format!(
            "{} was a {}, which is not repeated; for another one: {}",
            cmd.id,
            before.kind.word(),
            again(&before)
        );
        return Err(Refusal::new(Code::FailedPrecondition, "not-repeatable", words).into());
    }
    let environment = site::store::load_environment(&mut tx, before.environment_id)
        .await
        .map_err(site::Error::from)
        .map_err(Refusal::from)?;
    check_open(lane.closed, &environment)?;
    let most = ctx.config.max_waiting;
    let wanted = share_counting(&mut tx, &environment, before.release_id, most).await?;
    let wanted = wanted.ok_or_else(|| unknown_release(before.release_id))?;
    wanted.allowed(before.release_id, &environment, "id")?;
    let id = DeploymentId::new();
    let new = New {
        environment: &environment,
        release_id: before.release_id,
        kind: before.kind,
        strategy: before.strategy,
        actor: &caller.principal,
        reason: &cmd.reason,
        retry_of: Some(cmd.id),
        leaves_release_id: None,
    };
    limit::accept(ctx, &mut tx, &mut lane, id, new, wanted.waiting).await?;
    let answer = view::load(ctx, &mut tx, id).await?;
    idempotency::store(&mut tx, now, key.as_ref(), &answer).await?;
    ctx.commit(tx).await?;
    Ok(Reply::new(answer))
}
