//! A person puts an item back to work, or gives it up.

use candlefish_ids::{DeadLetterId, StepId};
use candlefish_messaging::dead_letter::{self, Decision};
use candlefish_proto::deploy as pb;
use candlefish_runtime::{
    identity::Caller,
    refusal::{Code, Refusal},
};
use uuid::Uuid;

use super::{
    ItemId, letter_item, step_item,
    store::{self, Quarantined},
};
use crate::{
    blocker,
    ctx::{Ctx, Tx},
    deployment::{
        self, Deployment, Error,
        apply::{Change, apply_and_record},
        state::{Cause, Event, State},
    },
    idempotency::{self, Key, Reply},
    lane::{self, store::Lane},
};

/// What to decide about.
#[derive(Debug, Clone)]
pub(crate) struct Decide {
    pub(crate) item: ItemId,
    pub(crate) reason: String,
    /// Put back to work; else given up.
    pub(crate) replays: bool,
}

/// Decides.
pub(crate) async fn decide(
    ctx: &Ctx,
    caller: &Caller,
    key: Option<Key>,
    cmd: Decide,
) -> Result<Reply<pb::QueueItem>, Error> {
    let mut tx = ctx.begin().await.map_err(Error::Begin)?;
    // The item is gone once it was decided about, so the key is looked up before it.
    if let Some(before) = idempotency::replay(&mut tx, key.as_ref()).await? {
        return Ok(Reply::replayed(before));
    }
    let answer = match cmd.item {
        ItemId::Step(step) => decide_step(ctx, &mut tx, caller, step, &cmd).await?,
        ItemId::DeadLetter(letter) => decide_letter(&mut tx, caller, letter, &cmd).await?,
    };
    let now = tx.now();
    idempotency::store(&mut tx, now, key.as_ref(), &answer).await?;
    ctx.commit(tx).await?;
    tracing::info!(
        item = %cmd.item, actor = %caller.principal, reason = %cmd.reason, replays = cmd.replays,
        "a person decided about what waited"
    );
    Ok(Reply::new(answer))
}

async fn decide_letter(
    tx: &mut Tx,
    caller: &Caller,
    letter: DeadLetterId,
    cmd: &Decide,
) -> Result<pb::QueueItem, Error> {
    let now = tx.read_clock().await?;
    // It may be of any site.
    if !caller.sites.is_empty() {
        return Err(unknown(cmd.item).into());
    }
    let decision = if cmd.replays {
        Decision::Replay
    } else {
        Decision::Discard
    };
    let by = &caller.principal;
    let decided = dead_letter::decide(tx, now, letter, decision, by, &cmd.reason).await?;
    let decided = decided.ok_or_else(|| unknown(cmd.item))?;
    Ok(letter_item(decided).1)
}

async fn decide_step(
    ctx: &Ctx,
    tx: &mut Tx,
    caller: &Caller,
    step: StepId,
    cmd: &Decide,
) -> Result<pb::QueueItem, Error> {
    let (mut lane, mut deployment, quarantined) = lock(tx, caller, step).await?;
    let now = tx.now();
    let done = if cmd.replays {
        store::replay(tx, now, step).await?
    } else {
        store::discard(tx, now, step).await?
    };
    if !done {
        return Err(unknown(cmd.item).into());
    }
    let verb = if cmd.replays {
        "puts back to work"
    } else {
        "gives up"
    };
    let words = format!(
        "{} {verb} {}: {}",
        caller.principal, quarantined.kind, cmd.reason
    );
    move_on(tx, &mut lane, &mut deployment, caller, &words, cmd.replays).await?;
    lane::grant(ctx, tx, &mut lane).await?;
    Ok(step_item(quarantined).1)
}

async fn move_on(
    tx: &mut Tx,
    lane: &mut Lane,
    deployment: &mut Deployment,
    caller: &Caller,
    words: &str,
    replays: bool,
) -> Result<(), Error> {
    let now = tx.now();
    let cancelling = matches!(deployment.state, State::Cancelling { .. });
    blocker::set(tx, now, deployment.id, None).await?;
    tx.log(deployment.id, 0, words);
    if let Some(left) = deployment.deadline_left.take() {
        deployment.deadline_at = Some(now.plus(left));
    }
    let event = match (replays, cancelling) {
        // An undo step that is replayed changes nothing but its own row.
        (true, true) => return Ok(()),
        (true, false) => Event::Resumes,
        (false, false) => Event::Stops(Cause::Discarded),
        (false, true) => {
            deployment.target_confirmed = Some(false);
            if crate::step::store::ready_next(tx, now, deployment.id)
                .await?
                .is_some()
            {
                let before = deployment.state.clone();
                return deployment::apply::record(tx, deployment, &before, &caller.principal).await;
            }
            Event::Undone
        }
    };
    let change = Change::new(event, &caller.principal, words);
    apply_and_record(tx, lane, deployment, change).await
}

async fn lock(
    tx: &mut Tx,
    caller: &Caller,
    step: StepId,
) -> Result<(Lane, Deployment, Quarantined), Error> {
    let unknown = || unknown(ItemId::Step(step));
    let id = store::find_deployment(tx, step).await?;
    let (lane, deployment) = deployment::stop::lock(tx, caller, id.ok_or_else(unknown)?).await?;
    let before = step.uuid().as_u128().checked_sub(1).map(Uuid::from_u128);
    let mut found = store::list(tx, &caller.sites, "", before, 1).await?;
    let quarantined = found.pop().filter(|one| one.id == step);
    Ok((lane, deployment, quarantined.ok_or_else(unknown)?))
}

fn unknown(item: ItemId) -> Refusal {
    let words = format!("nothing named {item} waits for a person");
    Refusal::new(Code::NotFound, "queue-item-unknown", &words).field("id", words)
}
