//! Advance: a person passes the wait of the step that they name. A candidate that settles is looked at
//! once more at once: the look is not passed.
//!
//! The step is named, so that a click on an old picture passes nothing else.

use candlefish_ids::DeploymentId;
use candlefish_proto::deploy as pb;
use candlefish_runtime::{
    identity::Caller,
    refusal::{Code, Refusal},
};

use super::{
    Deployment, Error,
    apply::{Change, apply_and_record},
    plan::StepKind,
    state::{Event, State},
    stop, view,
};
use crate::{
    ctx::Ctx,
    idempotency::{self, Key, Reply},
    step,
};

/// The wait to pass.
#[derive(Debug, Clone)]
pub(crate) struct Advance {
    pub(crate) id: DeploymentId,
    pub(crate) step_ord: i32,
    pub(crate) reason: String,
}

/// Passes a wait.
pub(crate) async fn advance(
    ctx: &Ctx,
    caller: &Caller,
    key: Option<Key>,
    cmd: Advance,
) -> Result<Reply<pb::Deployment>, Error> {
    let mut tx = ctx.begin().await.map_err(Error::Begin)?;
    let (mut lane, mut deployment) = stop::lock(&mut tx, caller, cmd.id).await?;
    if let Some(before) = idempotency::replay(&mut tx, key.as_ref()).await? {
        return Ok(Reply::replayed(before));
    }
    let now = tx.now();
    if deployment.state.is_terminal() || matches!(deployment.state, State::Cancelling { .. }) {
        return Err(stop::over(&deployment).into());
    }
    let waiting = step::store::find_waiting(&mut tx, cmd.id).await?;
    let waiting = waiting.filter(|step| match step.kind {
        StepKind::Analyse | StepKind::Bake => step.started_at.is_some(),
        _ => step::verify::settles(step, now),
    });
    let Some(waiting) = waiting else {
        return Err(nothing_to_pass(&deployment).into());
    };
    if waiting.ord != cmd.step_ord {
        let words = format!(
            "{} waits in step {} ({}) now, not in step {}",
            cmd.id,
            waiting.ord,
            waiting.kind.word(),
            cmd.step_ord
        );
        return Err(
            Refusal::new(Code::FailedPrecondition, "step-passed", &words)
                .field("step_ord", words)
                .into(),
        );
    }
    step::store::pass_wait(&mut tx, now, &waiting).await?;
    let said = match cmd.reason.as_str() {
        "" => String::new(),
        reason => format!(": {reason}"),
    };
    let passed = match waiting.kind {
        StepKind::VerifyCandidate => "its settling",
        other => other.word(),
    };
    let message = format!("{} passed {passed}{said}", caller.principal);
    tx.log(cmd.id, waiting.ord, &message);
    if let Some(left) = deployment.deadline_left.take() {
        deployment.deadline_at = Some(now.plus(left));
    }
    let change = Change::new(Event::Resumes, &caller.principal, "");
    apply_and_record(&mut tx, &mut lane, &mut deployment, change).await?;
    let answer = view::load(ctx, &mut tx, cmd.id).await?;
    idempotency::store(&mut tx, now, key.as_ref(), &answer).await?;
    ctx.commit(tx).await?;
    Ok(Reply::new(answer))
}

/// There is no wait to pass: says how far it is, and what works now.
fn nothing_to_pass(deployment: &Deployment) -> Refusal {
    let (id, state) = (deployment.id, deployment.state.word());
    let words = format!(
        "{id} is {state}, and in no wait that a person can pass: what it waits for: candlefish why {id}; \
         to end it: candlefish cancel {id} or candlefish abort {id}"
    );
    Refusal::new(Code::FailedPrecondition, "nothing-to-pass", words).metadata("state", state)
}
