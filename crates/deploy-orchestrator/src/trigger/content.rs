//! Content that does not come: its deployment ends, so that a push never waits for ever.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::{
    Error,
    store::{self, Overdue},
};
use crate::{
    ctx::Ctx,
    deployment::push::{Missing, end_without_content},
    lane,
    step::worker::chain,
};

/// As long as the gateway keeps them.
const DELIVERIES_KEPT: Duration = Duration::from_hours(30 * 24);
/// Rows at once, so that no statement runs long.
const AT_ONCE: i64 = 5_000;

/// Ends what waited too long, until `stopping`.
pub(crate) async fn run(ctx: Ctx, stopping: CancellationToken) {
    loop {
        if let Err(error) = sweep(&ctx).await {
            tracing::debug!(error = %chain(&error), "a look at missing content failed");
        }
        tokio::select! {
            () = stopping.cancelled() => return,
            () = tokio::time::sleep(ctx.config.sweep) => {}
        }
    }
}

/// Forgets deliveries that are decided long since.
pub(crate) async fn forget(ctx: &Ctx) -> Result<(), sqlx::Error> {
    let mut conn = ctx.pool.acquire().await?;
    while store::forget_done(&mut conn, DELIVERIES_KEPT, AT_ONCE).await? > 0 {}
    Ok(())
}

async fn sweep(ctx: &Ctx) -> Result<(), Error> {
    let mut conn = ctx.pool.acquire().await?;
    let overdue = store::list_overdue(&mut conn).await?;
    drop(conn);
    for one in overdue {
        // One that cannot be ended must not keep the others.
        if let Err(error) = end(ctx, one).await {
            tracing::warn!(
                deployment.id = %one.deployment, error = %chain(&error),
                "a deployment without content did not end"
            );
        }
    }
    Ok(())
}

async fn end(ctx: &Ctx, one: Overdue) -> Result<(), Error> {
    let mut tx = ctx.begin().await?;
    let mut lane = lane::store::lock(&mut tx, one.environment).await?;
    if let Some(without) = store::close_content(&mut tx, one.trigger).await? {
        let missing = without
            .note
            .as_deref()
            .map_or(Missing::Upload, Missing::Archive);
        let missing = (without.commit.as_str(), missing);
        end_without_content(ctx, &mut tx, &mut lane, one.deployment, missing).await?;
    }
    ctx.commit(tx).await.map_err(Error::commit)
}
