//! What GitHub lists of pull requests, when no delivery told of it: a trigger as the delivery would have
//! made it. The delivery that comes late after all says nothing newer.

use candlefish_ids::DeliveryId;

use super::{
    judge::{Follows, Known, judge},
    read::{Action, Described, PullRequest},
    store,
};
use crate::{
    ctx::Ctx,
    github::GitHub,
    trigger::{Delivery, Error, store as triggers},
};

/// The event of a delivery that there was not.
const EVENT: &str = "pull";

/// Decides a pull request as it is listed, at every site of its repository. One that nothing is known
/// of counts when it was opened after that second of GitHub's clock.
pub(crate) async fn decide(
    ctx: &Ctx,
    github: &GitHub,
    listed: Described,
    new_since: Option<i64>,
) -> Result<(), Error> {
    let told = match PullRequest::listed(listed, new_since) {
        Ok(told) => told,
        Err(error) => {
            tracing::warn!(%error, "a listed pull request is passed over");
            return Ok(());
        }
    };
    let delivery = Delivery {
        id: DeliveryId::new(),
        event: EVENT.to_owned(),
        received_at: ctx.now().await?.timestamp(),
        attempts: 0,
        traceparent: String::new(),
    };
    super::decide(ctx, Some(github), &delivery, &told).await
}

/// Whether [`decide`] would find something that is not known, at any site. Nothing is written.
pub(crate) async fn has_news(
    ctx: &Ctx,
    listed: Described,
    new_since: Option<i64>,
) -> Result<bool, Error> {
    let Ok(told) = PullRequest::listed(listed, new_since) else {
        return Ok(false);
    };
    let mut conn = ctx.pool.acquire().await?;
    for site in triggers::list_sites(&mut conn, &told.repository).await? {
        let known = store::find(&mut conn, site.id, &told).await?;
        if is_news(known.as_ref(), &told) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Whether it says anything that is not known; what a delivery says always counts.
pub(super) fn is_news(known: Option<&Known>, told: &PullRequest) -> bool {
    let Action::Seen { is_new } = told.action else {
        return true;
    };
    let Some(known) = known else {
        return is_new && told.is_open;
    };
    let changed = known.is_open != told.is_open || known.head != told.head;
    changed
        && matches!(
            judge(Some(known), told),
            Follows::Open { .. } | Follows::Close
        )
}
