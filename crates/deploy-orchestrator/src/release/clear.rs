//! Clearing the rejection of a release: a person says that it may go there again.

use candlefish_ids::ReleaseId;
use candlefish_proto::deploy as pb;
use candlefish_runtime::identity::Caller;

use super::{Error, event, store, view};
use crate::{
    ctx::Ctx,
    idempotency::{self, Key, Reply},
    record::{self, Act, Scope},
    site,
};

/// A rejection to clear.
#[derive(Debug, Clone)]
pub(crate) struct Clear {
    pub(crate) id: ReleaseId,
    pub(crate) environment: String,
    pub(crate) reason: String,
}

/// Clears a rejection.
pub(crate) async fn clear(
    ctx: &Ctx,
    caller: &Caller,
    key: Option<Key>,
    cmd: Clear,
) -> Result<Reply<pb::Release>, Error> {
    let row = super::missing::find(ctx, caller, cmd.id).await?;
    let mut tx = ctx.begin().await?;
    let now = tx.read_clock().await?;
    if let Some(before) = idempotency::replay(&mut tx, key.as_ref()).await? {
        return Ok(Reply::replayed(before));
    }
    let environment = site::find_environment(&mut tx, &row.site, &cmd.environment, caller).await?;
    let by = &caller.principal;
    if !store::clear(&mut tx, now, environment.id, cmd.id, by, &cmd.reason).await? {
        return Err(Error::NotRejected {
            release: cmd.id,
            place: environment.place(),
        });
    }
    let scope = Scope::Environment(environment.site_id, environment.id);
    Act {
        release: Some(cmd.id),
        ..Act::new(record::Kind::Clear, scope, by, &cmd.reason)
    }
    .write(&mut tx)
    .await?;
    let version = store::version(&mut tx, cmd.id).await?;
    let answer = view::load(&mut tx, cmd.id).await?;
    let fact = event::cleared(&answer, version, by);
    tx.tell(fact);
    idempotency::store(&mut tx, now, key.as_ref(), &answer).await?;
    ctx.commit(tx).await?;
    Ok(Reply::new(answer))
}
