//! A branch that is gone: one trigger for each environment that follows it, or one for the site where none
//! does. What waits there and what is live stay as they are, so no lane is locked.

use super::{
    About, Delivery, Error,
    note::Written,
    outcome::{Outcome, Reason},
    store::{self, Place, SiteOf},
};
use crate::ctx::Ctx;

/// Writes it down at a site, in `words`, all of it in one transaction: a delivery that comes again finds
/// that it is decided, whichever environments follow the branch by then.
pub(super) async fn of_site(
    ctx: &Ctx,
    delivery: &Delivery,
    about: &About,
    site: &SiteOf,
    words: &str,
) -> Result<(), Error> {
    let mut tx = ctx.begin().await?;
    let now = tx.read_clock().await?;
    if store::is_decided_at_site(&mut tx, delivery.id, site.id).await? {
        return Ok(());
    }
    let following = store::list_following(&mut tx, site.id, &about.branch).await?;
    let mut places: Vec<_> = following
        .into_iter()
        .map(|one| (Some(one.id), format!("{}/{}", site.slug, one.slug)))
        .collect();
    if places.is_empty() {
        places.push((None, String::new()));
    }
    for (environment, named) in &places {
        let written = Written {
            about,
            place: Place {
                site: Some(site.id),
                environment: *environment,
            },
            named,
            outcome: &Outcome::Ignored(Reason::Deleted, None),
            message: words,
            content_until: None,
        };
        written.insert(&mut tx, now, delivery).await?;
    }
    ctx.commit(tx).await.map_err(Error::commit)
}
