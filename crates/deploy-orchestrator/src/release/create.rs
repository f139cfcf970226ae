//! Beginning a release from the digest of its manifest.

use candlefish_ids::Digest;
use candlefish_messaging::Fact;
use candlefish_proto::deploy as pb;
use candlefish_runtime::identity::Caller;

use super::{
    Error, event,
    store::{self, Begun},
    view,
};
use crate::{
    ctx::Ctx,
    idempotency::{self, Key, Reply},
    site,
};

/// A release to begin.
#[derive(Debug, Clone)]
pub(crate) struct Create {
    pub(crate) site: String,
    pub(crate) manifest: Digest,
    pub(crate) manifest_size: i32,
    pub(crate) commit: String,
    pub(crate) parents: Vec<String>,
    /// Nearest first.
    pub(crate) ancestors: Vec<String>,
    pub(crate) branch: String,
    pub(crate) message: String,
    pub(crate) author: String,
    pub(crate) author_email: String,
    pub(crate) committed_at: Option<jiff::Timestamp>,
    pub(crate) dirty: bool,
}

type Tell = fn(&pb::Release, i32, &str) -> Fact;

/// Begins a release; the same (site, manifest, commit) answers the one that exists, as a draft again
/// when its content was collected.
pub(crate) async fn create(
    ctx: &Ctx,
    caller: &Caller,
    key: Option<Key>,
    cmd: Create,
) -> Result<Reply<pb::Release>, Error> {
    let mut tx = ctx.begin().await?;
    let now = tx.read_clock().await?;
    let site = site::find(&mut tx, &cmd.site, caller).await?;
    if let Some(before) = idempotency::replay(&mut tx, key.as_ref()).await? {
        return Ok(Reply::replayed(before));
    }
    let (id, begun) = store::upsert(&mut tx, now, site.id, &cmd, &caller.principal).await?;
    let answer = view::load(&mut tx, id).await?;
    if let Some(tell) = teller(begun) {
        let version = store::version(&mut tx, id).await?;
        let fact = tell(&answer, version, &caller.principal);
        tx.tell(fact);
    }
    idempotency::store(&mut tx, now, key.as_ref(), &answer).await?;
    ctx.commit(tx).await?;
    Ok(Reply::new(answer))
}

/// What the world is told of it, if it is news.
fn teller(begun: Begun) -> Option<Tell> {
    let tell: Tell = match begun {
        Begun::New => event::created,
        Begun::Revived => event::revived,
        Begun::Vouched => event::vouched,
        Begun::Branched => event::branched,
        Begun::Same => return None,
    };
    Some(tell)
}
