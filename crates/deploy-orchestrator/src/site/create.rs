//! Making a site.

use candlefish_ids::SiteId;
use candlefish_proto::deploy as pb;
use candlefish_runtime::identity::Caller;

use super::{Error, Site, Source, event, previews::PreviewRule, store, view};
use crate::{
    ctx::Ctx,
    idempotency::{self, Key, Reply},
};

/// A site to make.
#[derive(Debug, Clone)]
pub(crate) struct CreateSite {
    pub(crate) slug: String,
    pub(crate) name: String,
    pub(crate) repository: String,
    pub(crate) source: Source,
    pub(crate) previews: PreviewRule,
    pub(crate) folder: String,
}

/// Makes a site.
pub(crate) async fn create(
    ctx: &Ctx,
    caller: &Caller,
    key: Option<Key>,
    cmd: CreateSite,
) -> Result<Reply<pb::Site>, Error> {
    if !caller.sees(&cmd.slug) {
        return Err(Error::OutsideSites { slug: cmd.slug });
    }
    let mut tx = ctx.begin().await.map_err(Error::Begin)?;
    let now = tx.read_clock().await.map_err(Error::LockLane)?;
    if let Some(before) = idempotency::replay(&mut tx, key.as_ref()).await? {
        return Ok(Reply::replayed(before));
    }
    let site = Site {
        id: SiteId::new(),
        slug: cmd.slug,
        name: cmd.name,
        repository: cmd.repository,
        source: cmd.source,
        previews: cmd.previews,
        folder: cmd.folder,
        created_at: now,
        created_by: caller.principal.clone(),
        version: 1,
    };
    if !store::insert_site(&mut tx, &site).await? {
        return Err(Error::SiteExists { slug: site.slug });
    }
    let fact = event::site(&ctx.config, &site, "deploy.site.created.v1", caller);
    tx.tell(fact);
    let answer = view::site(&ctx.config, site);
    idempotency::store(&mut tx, now, key.as_ref(), &answer).await?;
    ctx.commit(tx).await?;
    Ok(Reply::new(answer))
}
