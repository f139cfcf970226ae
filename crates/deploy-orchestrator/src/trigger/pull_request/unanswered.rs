//! Previews that opened while GitHub did not say which files their pull requests change: once it does, one
//! that would not have opened is closed, unless somebody brought content for it meanwhile.
//!
//! Until then the content has no deadline: that nobody brings it may be right, and is no failure.

use candlefish_ids::{EnvironmentId, SiteId};
use sqlx::PgConnection;

use super::{
    decide,
    files::{self, Changed, Counts},
    store,
};
use crate::{
    ctx::{Ctx, Tx},
    deployment::event::SYSTEM,
    lane, preview,
    trigger::Error,
};

/// A preview that GitHub owes an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Unanswered {
    pub(super) site: SiteId,
    /// Its slug.
    pub(super) slug: String,
    pub(super) environment: EnvironmentId,
}

/// The pull requests of a repository, in lower case, that GitHub owes an answer.
pub(crate) async fn list(
    conn: &mut PgConnection,
    repository: &str,
) -> Result<Vec<i32>, sqlx::Error> {
    store::list_unanswered(conn, repository).await
}

/// Takes the answer for a pull request, at every site; none when it is not known which files it changes, and
/// will not be: the preview stays.
pub(crate) async fn settle(
    ctx: &Ctx,
    repository: &str,
    number: i32,
    answer: Option<Vec<String>>,
) -> Result<(), Error> {
    let changed = answer.map_or(Changed::Unknown, Changed::Files);
    let mut conn = ctx.pool.acquire().await?;
    let owed = store::list_unanswered_sites(&mut conn, repository, number).await?;
    drop(conn);
    // A site where it cannot be settled keeps no other.
    let mut all = Ok(());
    for one in owed {
        all = all.and(at_site(ctx, number, &one, &changed).await);
    }
    all
}

async fn at_site(ctx: &Ctx, number: i32, one: &Unanswered, changed: &Changed) -> Result<(), Error> {
    let mut tx = ctx.begin().await?;
    store::lock(&mut tx, one.site, number).await?;
    // Asked again: a delivery may have been decided meanwhile.
    let Some(base) = store::find_unanswered(&mut tx, one.site, number).await? else {
        return Ok(());
    };
    let rules = store::list_rules(&mut tx, one.site, &base).await?;
    if let Counts::No(words) = files::count(number, &one.slug, &rules, changed) {
        let mut lane = lane::store::lock(&mut tx, one.environment).await?;
        if !lane.closed && is_bare(&mut tx, one.environment).await? {
            let words = format!("{words}, as GitHub said after it had opened");
            preview::close::close(ctx, &mut tx, &mut lane, SYSTEM, &words).await?;
        }
    }
    store::save_unanswered(&mut tx, one.site, number, "").await?;
    ctx.commit(tx).await.map_err(Error::commit)
}

/// Nobody brought anything: what somebody did bring shows, whatever counts.
async fn is_bare(tx: &mut Tx, id: EnvironmentId) -> Result<bool, Error> {
    let environment = decide::load(tx, id).await?;
    let mut lanes = lane::store::list_contenders(tx, &[id]).await?;
    let waits = lanes.remove(&id).unwrap_or_default();
    let brought = waits.pending.iter().any(|one| one.sealed);
    Ok(environment.live.is_none() && waits.acting.is_none() && !brought)
}
