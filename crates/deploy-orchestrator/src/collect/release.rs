//! Whether a release's content may go, decided with the release locked: whoever would deploy it
//! shares that lock, and finds it collected afterwards or keeps it.

use candlefish_ids::{Digest, ReleaseId};

use super::{Error, blobs_of, store};
use crate::{
    blob,
    ctx::{Ctx, Tx},
    deployment::target,
    release,
};

/// Collects a release unless something keeps it; true when it did. One whose manifest is lost has
/// nothing to unname, unless it was counted: then it stays until the manifest can be read.
pub(super) async fn collect(
    ctx: &Ctx,
    id: ReleaseId,
    blobs: Option<&[(Digest, u64)]>,
) -> Result<bool, Error> {
    let mut tx = ctx.begin().await?;
    let after = ctx.config.collect_after;
    let Some(found) = store::lock_due(&mut tx, id, after).await? else {
        return Ok(false);
    };
    let now = tx.read_clock().await?;
    let unreadable = found.counted && blobs.is_none();
    if found.kept || unreadable || is_kept_to_return(&mut tx, id).await? {
        // Looked at again well before a day has passed, however late it became free.
        store::look_later(&mut tx, id, after / 4).await?;
        ctx.commit(tx).await?;
        return Ok(false);
    }
    if let (Some(blobs), true) = (blobs, found.counted) {
        blob::store::unname(&mut tx, now, blobs).await?;
    }
    store::collect(&mut tx, now, id).await?;
    release::tell_collected(&mut tx, id).await?;
    ctx.commit(tx).await?;
    tracing::info!(release.id = %id, "the content of a release is no longer kept");
    Ok(true)
}

/// Some environment keeps it among its last ones, or would go back to it.
async fn is_kept_to_return(tx: &mut Tx, id: ReleaseId) -> Result<bool, Error> {
    for place in store::list_places(tx, id).await? {
        if place.newer < place.keep {
            return Ok(true);
        }
        let ways = [
            (place.live, None),
            (place.acts, None),
            (place.acts.filter(|_acts| place.goes.is_some()), place.goes),
        ];
        for (leaves, passes) in ways {
            if let Some(leaves) = leaves
                && target::find_before(tx, place.environment, leaves, passes).await? == Some(id)
            {
                return Ok(true);
            }
        }
    }
    Ok(false)
}

/// Drafts on which nobody worked for a day name nothing any more; they do again when somebody does. One whose
/// manifest is lost cannot be counted out: it is looked at again a day later, so that it takes no other's place.
pub(super) async fn unname_drafts(ctx: &Ctx) -> Result<(), Error> {
    let after = ctx.config.collect_after;
    let mut conn = ctx.pool.acquire().await?;
    let idle = store::list_idle_drafts(&mut conn, after).await?;
    drop(conn);
    for (id, manifest) in idle {
        let Some(blobs) = blobs_of(ctx, manifest).await? else {
            tracing::warn!(release.id = %id, "the manifest of draft {id} cannot be read");
            let mut conn = ctx.pool.acquire().await?;
            store::look_at_draft_later(&mut conn, id, after).await?;
            continue;
        };
        let mut tx = ctx.begin().await?;
        let now = tx.read_clock().await?;
        if store::unname_draft(&mut tx, id, after).await? {
            blob::store::unname(&mut tx, now, &blobs).await?;
        }
        ctx.commit(tx).await?;
    }
    Ok(())
}
