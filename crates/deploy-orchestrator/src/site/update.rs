//! Changing a site.

use candlefish_proto::deploy as pb;
use candlefish_runtime::identity::Caller;

use super::{Error, Source, event, previews::PreviewRule, store, view};
use crate::{
    ctx::Ctx,
    idempotency::{self, Key, Reply},
};

/// What to change; what is not named stays as it is.
#[derive(Debug, Clone)]
pub(crate) struct UpdateSite {
    pub(crate) site: String,
    pub(crate) name: Option<String>,
    pub(crate) repository: Option<String>,
    pub(crate) previews: Option<PreviewRule>,
}

/// Changes what is named. Deliveries that come from now on are decided by it; what was made by the
/// rule before stays until it is closed. With another repository the previews of the one before are
/// closed soon after: see `preview::moved`.
pub(crate) async fn update(
    ctx: &Ctx,
    caller: &Caller,
    key: Option<Key>,
    cmd: UpdateSite,
) -> Result<Reply<pb::Site>, Error> {
    let mut tx = ctx.begin().await.map_err(Error::Begin)?;
    let found = super::find(&mut tx, &cmd.site, caller).await?;
    // No lane belongs to a site alone: two that change it meet at its row.
    let mut site = store::lock_site(&mut tx, found.id).await?;
    let now = tx.read_clock().await.map_err(Error::LockSite)?;
    if let Some(before) = idempotency::replay(&mut tx, key.as_ref()).await? {
        return Ok(Reply::replayed(before));
    }
    site.name = cmd.name.unwrap_or(site.name);
    site.repository = cmd.repository.unwrap_or(site.repository);
    if site.source == Source::Repository && site.repository.is_empty() {
        return Err(Error::NeedsRepository { slug: site.slug });
    }
    site.previews = cmd.previews.unwrap_or(site.previews);
    site.version += 1;
    store::save_site(&mut tx, &site, &caller.principal).await?;
    tracing::info!(
        site = site.slug, actor = %caller.principal, previews = site.previews.from.word(),
        "a site is changed"
    );
    let fact = event::site(&ctx.config, &site, "deploy.site.updated.v1", caller);
    tx.tell(fact);
    let answer = view::site(&ctx.config, site);
    idempotency::store(&mut tx, now, key.as_ref(), &answer).await?;
    ctx.commit(tx).await?;
    Ok(Reply::new(answer))
}
