//! Where a branch is, when no delivery told of it: a trigger as the push would have made it.
//!
//! The delivery that comes late after all changes nothing: it is known by its commit, and by the
//! second of GitHub's clock, which is not after the one in which GitHub said where the branch is, or in
//! which the next push came.

use candlefish_ids::{DeliveryId, EnvironmentId};
use jiff::Timestamp;

use super::{
    Delivery, Error, decide,
    push::{Head, Push},
    store,
};
use crate::ctx::{Ctx, Tx};

/// The event of a delivery that there was not.
pub(super) const EVENT: &str = "head";

/// A branch as GitHub shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) repository: String,
    pub(crate) branch: String,
    pub(crate) commit: String,
    pub(crate) message: String,
    pub(crate) author: String,
    pub(crate) author_email: String,
    pub(crate) committed_at: Option<Timestamp>,
    /// When GitHub said so, in seconds of its clock; where the branch went on since, when the next push
    /// came.
    pub(crate) at: i64,
    /// What it was at when we last knew; empty when we never did, or when history was rewritten since.
    pub(crate) before: String,
    /// What came since, oldest first.
    pub(crate) commits: Vec<String>,
    /// What changed since; none when not all of it is known.
    pub(crate) files: Option<Vec<String>>,
}

/// Decides a head for one environment, unless a push told of it meanwhile; false when it is no news.
pub(crate) async fn decide(
    ctx: &Ctx,
    environment: EnvironmentId,
    seen: Seen,
) -> Result<bool, Error> {
    let delivery = Delivery {
        id: DeliveryId::new(),
        event: EVENT.to_owned(),
        received_at: ctx.now().await?.timestamp(),
        attempts: 0,
        traceparent: String::new(),
    };
    let head = Head::new(
        &seen.message,
        &seen.author,
        &seen.author_email,
        seen.committed_at,
    );
    decide::of_environment(ctx, &delivery, &Push::of_head(seen, head), environment).await
}

/// How far behind GitHub may be when it says where a branch is, in seconds: its answer is dated when it
/// is sent, and the second of a push is one of another machine.
const BEHIND: i64 = 60;

/// A look as it is decided, where the newest push that is known here says something else, and said it
/// before; none where it is no news. Of a commit that is known GitHub's word may be older than it says,
/// until the newest push is a minute old: a branch that was put back to it is seen by a later look. One
/// that is not known is news although it was replaced just now, and came no later than what replaced it.
pub(super) async fn news(
    tx: &mut Tx,
    environment: EnvironmentId,
    push: &Push,
) -> Result<Option<Push>, sqlx::Error> {
    let Some(newest) = store::find_newest_push(tx, environment, push.branch()).await? else {
        return Ok(Some(push.clone()));
    };
    if newest.commit == push.after {
        return Ok(None);
    }
    let calm = push.pushed_at.map(|at| at - BEHIND);
    let told = store::find_told(tx, environment, push, calm).await?;
    if let (false, Some(at)) = (told.itself, told.replaced_at) {
        let mut dated = push.clone();
        dated.pushed_at = Some(at);
        return Ok(Some(dated));
    }
    let until = if told.itself { calm } else { push.pushed_at };
    let is_later = newest.pushed_at.is_none_or(|at| Some(at) <= until);
    Ok(is_later.then(|| push.clone()))
}
