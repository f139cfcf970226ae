//! Banning a release: from then on it goes nowhere. Lifting the ban.
//!
//! What is live stays: ending that is for cancel, abort and rollback. What is pending ends, and what
//! acts without being live: of a share of the traffic, or of all that nobody fetched yet, it goes back.
//! Both end when their lane chooses, which follows the commit, one lane at a time. A rollback that acts
//! already goes on. No undo brings a banned release back that visitors have left: it finds the ban when it
//! begins, or when it writes the route ([`crate::step::undo`]), and is not told of it.

use candlefish_ids::ReleaseId;
use candlefish_proto::deploy as pb;
use candlefish_runtime::identity::Caller;

use super::{Error, event, store, view};
use crate::{
    ctx::Ctx,
    idempotency::{self, Key, Reply},
    lane,
    record::{self, Act, Scope},
    site,
    step::worker::chain,
};

/// A ban to set or to lift.
#[derive(Debug, Clone)]
pub(crate) struct Ban {
    pub(crate) id: ReleaseId,
    pub(crate) reason: String,
    pub(crate) lifts: bool,
}

/// Sets or lifts a ban.
pub(crate) async fn change(
    ctx: &Ctx,
    caller: &Caller,
    key: Option<Key>,
    cmd: Ban,
) -> Result<Reply<pb::Release>, Error> {
    let row = super::missing::find(ctx, caller, cmd.id).await?;
    let mut tx = ctx.begin().await?;
    let now = tx.read_clock().await?;
    if let Some(before) = idempotency::replay(&mut tx, key.as_ref()).await? {
        return Ok(Reply::replayed(before));
    }
    let by = &caller.principal;
    store::lock(&mut tx, cmd.id).await?;
    let standing = store::find_ban(&mut tx, cmd.id).await?;
    match (cmd.lifts, standing) {
        (false, Some(ban)) => {
            return Err(Error::Banned {
                release: cmd.id,
                ban,
            });
        }
        (true, None) => return Err(Error::NotBanned { release: cmd.id }),
        (false, None) => store::ban(&mut tx, now, cmd.id, by, &cmd.reason).await?,
        (true, Some(_)) => store::lift_ban(&mut tx, now, cmd.id, by, &cmd.reason).await?,
    }
    let kind = if cmd.lifts {
        record::Kind::Unban
    } else {
        record::Kind::Ban
    };
    let site = site::find(&mut tx, &row.site, caller).await?;
    Act {
        release: Some(cmd.id),
        ..Act::new(kind, Scope::Site(site.id), by, &cmd.reason)
    }
    .write(&mut tx)
    .await?;
    let version = store::version(&mut tx, cmd.id).await?;
    let answer = view::load(&mut tx, cmd.id).await?;
    tx.tell(if cmd.lifts {
        event::cleared(&answer, version, by)
    } else {
        event::banned(&answer, version, by)
    });
    idempotency::store(&mut tx, now, key.as_ref(), &answer).await?;
    ctx.commit(tx).await?;
    let verb = if cmd.lifts {
        "no longer banned"
    } else {
        "banned"
    };
    tracing::info!(release.id = %cmd.id, actor = %by, reason = %cmd.reason, "a release is {verb}");
    // A creation that read before the commit has its place in a lane by now, or ends it itself.
    if !cmd.lifts
        && let Err(error) = lane::content_arrived(ctx, cmd.id).await
    {
        tracing::info!(error = %chain(&error), "what may not go live ends with the next sweep");
    }
    Ok(Reply::new(answer))
}
