//! The preview: an environment that ends.
//!
//! ```text
//! pull request opened ──▶ pr-12 ──its close, its age, a person──▶ closed ──reopened, a push after its age──▶ pr-12
//!                                └─its site has another repository─▶ closed ──a push, should it have that again─▶ pr-12
//! candlefish deploy --preview ──▶ 26 characters ──its age, a person──▶ closed
//! ```
//!
//! Closing is one transaction that holds the lane: what waits or acts is cancelled, every address is
//! taken away, nothing is live there any more. Who opens a pull request's preview, and when, is the
//! trigger's business.
//!
//! Invariants: what is closed is not reachable, whatever acted there before and whatever writes its
//! routes later (`route::store::write` sees to that), but for some minutes on an edge that cannot hear of
//! it (ADR 0068); nothing is granted and nothing accepted on its lane; its records, deployments and
//! history stay.

pub(crate) mod age;
pub(crate) mod close;
mod moved;
mod store;

use candlefish_clock::Moment;
use candlefish_ids::{EnvironmentId, SiteId};
use sqlx::PgConnection;

use crate::{
    ctx::{Ctx, Tx},
    deployment::Error,
    github,
    lane::store::Lane,
    record::{self, Act, Scope},
    site::{
        self, Environment, Kind, policy::Policy, pushes::PushRule, store::NewEnvironment,
        strategy::Strategy,
    },
};

/// Before the number of a pull request.
const SLUG: &str = "pr-";

/// The slug of the preview of a pull request.
pub(crate) fn slug(number: i32) -> String {
    format!("{SLUG}{number}")
}

/// Whether a pull request's preview is called so, and nothing else may be.
pub(crate) fn is_slug(text: &str) -> bool {
    text.strip_prefix(SLUG).is_some_and(|number| {
        !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit())
    })
}

/// A preview that has just been pushed to.
pub(crate) async fn save_pushed(
    conn: &mut PgConnection,
    now: Moment,
    environment: EnvironmentId,
) -> Result<(), sqlx::Error> {
    store::save_pushed(conn, now, environment).await
}

/// Makes the environment of a pull request's preview; its lane is to be locked by the caller.
pub(crate) async fn make(
    ctx: &Ctx,
    tx: &mut Tx,
    site: SiteId,
    number: i32,
    actor: &str,
) -> Result<EnvironmentId, Error> {
    let now = tx.now();
    let id = EnvironmentId::new();
    let policy = Policy {
        // Short-lived: what is live, and what a rollback would choose, is enough to keep.
        strategy: Strategy::Recreate,
        keep_releases: 1,
        ..Policy::default()
    };
    let new = NewEnvironment {
        id,
        site,
        slug: &slug(number),
        kind: Kind::PullRequest(number),
        policy: &policy,
        pushes: &PushRule::default(),
        created_by: actor,
    };
    site::store::insert_environment(tx, now, &new)
        .await
        .map_err(site::Error::from)
        .map_err(candlefish_runtime::refusal::Refusal::from)?;
    crate::lane::store::insert(tx, id).await?;
    let made = load(tx, id).await?;
    tx.tell(site::event::made(&ctx.config, &made, actor));
    Ok(id)
}

/// Opens a closed preview again. The lane is locked.
pub(crate) async fn reopen(
    ctx: &Ctx,
    tx: &mut Tx,
    lane: &mut Lane,
    actor: &str,
    reason: &str,
) -> Result<(), Error> {
    let id = lane.environment_id;
    store::save_open(tx, id).await?;
    github::comment::open_again(tx, id).await?;
    lane.closed = false;
    let after = load(tx, id).await?;
    let scope = Scope::Environment(after.site_id, id);
    Act::new(record::Kind::Reopen, scope, actor, reason)
        .write(tx)
        .await?;
    tx.tell(site::event::reopened(&ctx.config, &after, actor, reason));
    Ok(())
}

async fn load(tx: &mut Tx, id: EnvironmentId) -> Result<Environment, Error> {
    let loaded = site::store::load_environment(tx, id).await;
    let loaded = loaded.map_err(site::Error::from);
    Ok(loaded.map_err(candlefish_runtime::refusal::Refusal::from)?)
}
