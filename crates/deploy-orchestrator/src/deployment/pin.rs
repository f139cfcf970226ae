//! Pin: no push supersedes the deployment, nor overtakes it with a commit that descends from its own.
//!
//! What a pin does not do is go backwards: once a newer commit is live, only a rollback leaves it.

use candlefish_clock::Moment;
use candlefish_ids::DeploymentId;
use candlefish_proto::deploy as pb;
use candlefish_runtime::{
    identity::Caller,
    refusal::{Code, Refusal},
};

use super::{
    Deployment, Error,
    event::{self, SYSTEM},
    plan::Kind,
    state::State,
    stop, store, view,
};
use crate::{
    ctx::Ctx,
    idempotency::{self, Key, Reply},
    lane::{self, order::SUPERSEDED_BEFORE_PINNED},
    record::{self, Act, Scope},
};

/// Who pinned a deployment, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Pin {
    pub(crate) at: Moment,
    pub(crate) by: String,
    pub(crate) reason: String,
}

impl Pin {
    /// What acts on a lane whose deployments were superseded one after the other.
    pub(crate) fn of_busy_lane(at: Moment) -> Self {
        Self {
            at,
            by: SYSTEM.to_owned(),
            reason: format!("{SUPERSEDED_BEFORE_PINNED} in a row before it were superseded"),
        }
    }
}

/// A pin to set or to take off.
#[derive(Debug, Clone)]
pub(crate) struct Change {
    pub(crate) id: DeploymentId,
    pub(crate) reason: String,
    pub(crate) unpins: bool,
}

/// Sets a pin or takes it off, and lets the lane choose again.
pub(crate) async fn change(
    ctx: &Ctx,
    caller: &Caller,
    key: Option<Key>,
    cmd: Change,
) -> Result<Reply<pb::Deployment>, Error> {
    let mut tx = ctx.begin().await.map_err(Error::Begin)?;
    let (mut lane, mut deployment) = stop::lock(&mut tx, caller, cmd.id).await?;
    if let Some(before) = idempotency::replay(&mut tx, key.as_ref()).await? {
        return Ok(Reply::replayed(before));
    }
    let now = tx.now();
    check(&deployment, cmd.unpins)?;
    let by = &caller.principal;
    let (kind, verb) = if cmd.unpins {
        (record::Kind::Unpin, "unpinned")
    } else {
        (record::Kind::Pin, "pinned")
    };
    deployment.pin = (!cmd.unpins).then(|| Pin {
        at: now,
        by: by.clone(),
        reason: cmd.reason.clone(),
    });
    tx.log(cmd.id, 0, format!("{verb} by {by}: {}", cmd.reason));
    store::save(&mut tx, &mut deployment).await?;
    let fact = event::pinned(&deployment, by);
    tx.tell(fact);
    let scope = Scope::Environment(deployment.site_id, deployment.environment_id);
    let act = Act::new(kind, scope, by, &cmd.reason);
    act.of(deployment.release_id, cmd.id).write(&mut tx).await?;
    lane::grant(ctx, &mut tx, &mut lane).await?;
    let answer = view::load(ctx, &mut tx, cmd.id).await?;
    idempotency::store(&mut tx, now, key.as_ref(), &answer).await?;
    ctx.commit(tx).await?;
    tracing::info!(deployment.id = %cmd.id, actor = %by, reason = %cmd.reason, "a deployment is {verb}");
    Ok(Reply::new(answer))
}

fn check(deployment: &Deployment, unpins: bool) -> Result<(), Refusal> {
    let id = deployment.id;
    if deployment.state.is_terminal() || matches!(deployment.state, State::Cancelling { .. }) {
        return Err(stop::over(deployment));
    }
    if deployment.kind != Kind::Standard {
        let words = format!(
            "{id} is a {}: no push supersedes it, pinned or not",
            deployment.kind.word()
        );
        return Err(Refusal::new(
            Code::FailedPrecondition,
            "not-pinnable",
            words,
        ));
    }
    match (&deployment.pin, unpins) {
        (Some(pin), false) => {
            let at = pin.at.timestamp();
            let words = format!(
                "{id} is pinned already by {} since {at:.0}: {}",
                pin.by, pin.reason
            );
            Err(Refusal::new(Code::FailedPrecondition, "pinned", words))
        }
        (None, true) => {
            let words = format!("{id} is not pinned");
            Err(Refusal::new(Code::FailedPrecondition, "not-pinned", words))
        }
        (Some(_), true) | (None, false) => Ok(()),
    }
}
