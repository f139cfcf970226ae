//! Previews that have their age are closed: those of pull requests by their last push, single ones by
//! when they were made. So are, by the same loop, those of a repository that was left ([`moved`]).

use candlefish_ids::EnvironmentId;
use tokio_util::sync::CancellationToken;

use super::{close, moved, store};
use crate::{
    ctx::Ctx,
    deployment::{Error, event::SYSTEM},
    lane,
    step::worker::chain,
};

/// Closes until `stopping`.
pub(crate) async fn run(ctx: Ctx, stopping: CancellationToken) {
    while stopping
        .run_until_cancelled(tokio::time::sleep(ctx.config.reconcile))
        .await
        .is_some()
    {
        if let Err(error) = sweep(&ctx).await {
            tracing::debug!(error = %chain(&error), "a look at old previews failed");
        }
        if let Err(error) = moved::sweep(&ctx).await {
            tracing::debug!(error = %chain(&error), "a look at previews left behind failed");
        }
    }
}

/// One sweep.
pub(crate) async fn sweep(ctx: &Ctx) -> Result<(), Error> {
    let mut conn = ctx.pool.acquire().await?;
    let old = store::list_old(&mut conn).await?;
    drop(conn);
    for id in old {
        // One that cannot be closed must not keep the others.
        if let Err(error) = end(ctx, id).await {
            tracing::warn!(
                environment.id = %id, error = %chain(&error), "an old preview was not closed"
            );
        }
    }
    Ok(())
}

async fn end(ctx: &Ctx, id: EnvironmentId) -> Result<(), Error> {
    let mut tx = ctx.begin().await.map_err(Error::Begin)?;
    let mut lane = lane::store::lock(&mut tx, id).await?;
    // Asked again: a push may have come meanwhile.
    if lane.closed || !store::is_old(&mut tx, id).await? {
        return Ok(());
    }
    let reason = "nobody pushed to it for as long as the site's previews stay";
    close::close(ctx, &mut tx, &mut lane, SYSTEM, reason).await?;
    Ok(ctx.commit(tx).await?)
}
