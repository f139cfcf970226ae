//! Closing a preview: within the caller's transaction, and by hand.

use candlefish_proto::deploy as pb;
use candlefish_runtime::identity::Caller;

use super::{load, store};
use crate::{
    ctx::{Ctx, Tx},
    deployment::{
        self, Error,
        apply::{Change, apply_and_record},
        state::{Cause, Event, State},
    },
    idempotency::{self, Key, Reply},
    lane::{self, store::Lane},
    record::{self, Act, Scope},
    route,
    site::{self, Environment},
};

/// Closes a preview that is open. The lane is locked.
pub(crate) async fn close(
    ctx: &Ctx,
    tx: &mut Tx,
    lane: &mut Lane,
    by: &str,
    reason: &str,
) -> Result<Environment, Error> {
    let now = tx.now();
    let id = lane.environment_id;
    store::save_closed(tx, now, id, by, reason).await?;
    lane.closed = true;
    let closed = load(tx, id).await?;
    end_all(tx, lane, &closed, by, reason).await?;
    // After what acts was stopped: what it still undoes finds the environment closed.
    let epoch = candlefish_messaging::epoch::current(tx).await?;
    route::store::take_away(tx, epoch, id).await?;
    tx.moves_traffic();
    let scope = Scope::Environment(closed.site_id, id);
    Act::new(record::Kind::Close, scope, by, reason)
        .write(tx)
        .await?;
    let after = load(tx, id).await?;
    tx.tell(site::event::closed(&ctx.config, &after, by, reason));
    tracing::info!(
        environment.id = %id, actor = by, reason, "{} is closed", after.place()
    );
    Ok(after)
}

/// Cancels what waits and what acts.
async fn end_all(
    tx: &mut Tx,
    lane: &mut Lane,
    closed: &Environment,
    by: &str,
    reason: &str,
) -> Result<(), Error> {
    let mut lanes = lane::store::list_contenders(tx, &[closed.id]).await?;
    let found = lanes.remove(&closed.id).unwrap_or_default();
    let pending = found.pending.iter().map(|one| one.id);
    let acting = found.acting.iter().map(|one| one.contender.id);
    let message = format!("{} was closed by {by}: {reason}", closed.place());
    for one in pending.chain(acting).collect::<Vec<_>>() {
        let Some(mut ending) = deployment::store::lock(tx, one).await? else {
            continue;
        };
        if ending.state.is_terminal() {
            continue;
        }
        // What is undone returns to nothing, also when the preview is open again by then.
        ending.previous_release_id = None;
        if matches!(ending.state, State::Cancelling { .. }) {
            deployment::store::save(tx, &mut ending).await?;
            continue;
        }
        let change = Change::new(Event::Stops(Cause::Cancelled), by, message.clone());
        apply_and_record(tx, lane, &mut ending, change).await?;
    }
    Ok(())
}

/// A preview to close.
#[derive(Debug, Clone)]
pub(crate) struct Close {
    pub(crate) site: String,
    pub(crate) environment: String,
    pub(crate) reason: String,
}

/// Closes a preview for a person.
pub(crate) async fn by_hand(
    ctx: &Ctx,
    caller: &Caller,
    key: Option<Key>,
    cmd: Close,
) -> Result<Reply<pb::Environment>, site::Error> {
    let mut tx = ctx.begin().await.map_err(site::Error::Begin)?;
    let found = site::find_environment(&mut tx, &cmd.site, &cmd.environment, caller).await?;
    if !found.kind.is_preview() {
        return Err(site::Error::NotAPreview {
            place: found.place(),
        });
    }
    let mut lane = lane::store::lock(&mut tx, found.id)
        .await
        .map_err(site::Error::LockLane)?;
    if let Some(before) = idempotency::replay(&mut tx, key.as_ref()).await? {
        return Ok(Reply::replayed(before));
    }
    let now = tx.now();
    // Read again: only now nobody else changes it.
    let before = site::store::load_environment(&mut tx, found.id).await?;
    if let Some(closed) = before.closed.clone() {
        return Err(site::Error::Closed {
            place: before.place(),
            closed,
        });
    }
    let by = &caller.principal;
    let after = close(ctx, &mut tx, &mut lane, by, &cmd.reason).await?;
    let answer = site::view::environment(&ctx.config, &after);
    idempotency::store(&mut tx, now, key.as_ref(), &answer).await?;
    ctx.commit(tx).await?;
    Ok(Reply::new(answer))
}
