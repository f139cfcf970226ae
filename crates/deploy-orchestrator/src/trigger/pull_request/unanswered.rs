//! Previews that opened while GitHub did not say which files their pull requests change: once it does, one
//! that would not have opened is closed, unless somebody brought content for it meanwhile.
//!
//! Until then the content's deadline does not begin: that nobody brings it may be right, and is no failure. But not
//! for ever: where GitHub says nothing in [`BOUND`] it begins all the same. What is written as the deadline is
//! the later one, so that it holds whoever looks, and without credentials.

use std::time::Duration;

use candlefish_clock::Moment;
use candlefish_ids::{DeploymentId, EnvironmentId, SiteId};
use sqlx::PgConnection;

use super::{
    decide,
    files::{self, Changed, Counts},
    read::PullRequest,
    store,
};
use crate::{
    ctx::{Ctx, Tx},
    deployment::event::SYSTEM,
    lane, preview,
    trigger::Error,
};

/// So long the answer is waited for: longer than GitHub is down at a time.
const BOUND: Duration = Duration::from_hours(6);

/// What GitHub owes of a pull request at a site.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Debt {
    /// The branch that it is to be merged into.
    pub(super) base: String,
    /// Until when the answer is waited for.
    pub(super) until: Moment,
}

/// A pull request of which an answer is owed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Owed {
    pub(crate) number: i32,
    /// The answer is waited for no longer: it is asked for once more, and that is all.
    pub(crate) is_over: bool,
}

/// A preview that GitHub owes an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Unanswered {
    pub(super) site: SiteId,
    /// Its slug.
    pub(super) slug: String,
    pub(super) environment: EnvironmentId,
}

/// Notes what is owed after a pull request was saved whose files count so; answers until when content that
/// a push to it asks for has no deadline. Needs the pull request's lock.
pub(super) async fn note(
    ctx: &Ctx,
    tx: &mut Tx,
    site: SiteId,
    told: &PullRequest,
    counts: &Counts,
) -> Result<Option<Moment>, sqlx::Error> {
    match counts {
        Counts::Owed => {
            let now = tx.now();
            store::save_unanswered(tx, site, told, (now, now.plus(BOUND))).await?;
        }
        Counts::Anyway => {}
        Counts::Yes | Counts::No(_) | Counts::NotAsked => {
            store::clear_unanswered(tx, site, told.number).await?;
        }
    }
    // Nobody asks for it any more.
    if ctx.config.github.is_none() {
        return Ok(None);
    }
    let debt = store::find_unanswered(tx, site, &told.repository, told.number).await?;
    Ok(debt.map(|debt| debt.until))
}

/// At most so many of the pull requests of a repository, in lower case, that GitHub owes an answer: those that it was
/// asked for longest ago.
pub(crate) async fn list(
    conn: &mut PgConnection,
    repository: &str,
    at_most: i64,
) -> Result<Vec<Owed>, sqlx::Error> {
    store::list_unanswered(conn, repository, at_most).await
}

/// GitHub is asked for this one: the others come before it then.
pub(crate) async fn note_asked(
    conn: &mut PgConnection,
    repository: &str,
    number: i32,
) -> Result<(), sqlx::Error> {
    store::note_asked(conn, repository, number).await
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
        all = all.and(at_site(ctx, (repository, number), &one, &changed).await);
    }
    all
}

async fn at_site(
    ctx: &Ctx,
    (repository, number): (&str, i32),
    one: &Unanswered,
    changed: &Changed,
) -> Result<(), Error> {
    let mut tx = ctx.begin().await?;
    store::lock(&mut tx, one.site, number).await?;
    // Asked again: a delivery may have been decided meanwhile.
    let debt = store::find_unanswered(&mut tx, one.site, repository, number).await?;
    let Some(debt) = debt else {
        return Ok(());
    };
    let rules = store::list_rules(&mut tx, one.site, &debt.base).await?;
    let counts = files::count(number, &one.slug, &rules, changed);
    store::clear_unanswered(&mut tx, one.site, number).await?;
    let mut lane = lane::store::lock(&mut tx, one.environment).await?;
    if !lane.closed {
        if let Counts::No(words) = &counts
            && is_bare(&mut tx, one.environment).await?
        {
            let words = format!("{words}, as GitHub said after it had opened");
            preview::close::close(ctx, &mut tx, &mut lane, SYSTEM, &words).await?;
        } else {
            let environment = decide::load(&mut tx, one.environment).await?;
            // Whoever is to bring it may have waited for GitHub, too.
            let until = tx.now().plus(environment.policy.content_deadline);
            store::save_content_until(&mut tx, one.environment, until).await?;
            // So that the blocker says so.
            lane::grant(ctx, &mut tx, &mut lane).await?;
        }
    }
    ctx.commit(tx).await.map_err(Error::commit)
}

/// Nobody brought anything: what somebody did bring shows, whatever counts.
async fn is_bare(tx: &mut Tx, id: EnvironmentId) -> Result<bool, Error> {
    let environment = decide::load(tx, id).await?;
    let live = environment.live.map(|live| live.deployment_id);
    if live == Some(None) {
        // Nothing says how it came.
        return Ok(false);
    }
    let mut lanes = lane::store::list_contenders(tx, &[id]).await?;
    let waits = lanes.remove(&id).unwrap_or_default();
    let sealed = waits.pending.iter().filter(|one| one.sealed);
    let acting = waits.acting.iter().map(|one| one.contender.id);
    let there = sealed.map(|one| one.id).chain(acting);
    let there: Vec<DeploymentId> = there.chain(live.flatten()).collect();
    Ok(!store::is_any_brought(tx, &there).await?)
}
