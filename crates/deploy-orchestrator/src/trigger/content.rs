//! Content that does not come: its deployment ends, so that neither a push nor a call waits for ever.

use std::time::Duration;

use candlefish_ids::DeploymentId;
use tokio_util::sync::CancellationToken;

use super::{
    Error,
    store::{self, Overdue},
};
use crate::{
    ctx::{Ctx, Tx},
    deployment::{
        self,
        apply::{Change, apply_and_record},
        event::SYSTEM,
        push::{Missing, end_without_content},
        state::{Cause, Event},
    },
    lane::{self, store::Lane},
    step::worker::chain,
};

/// A day longer than the gateway does: what it still lists and nobody here knows is taken for new.
const DELIVERIES_KEPT: Duration = Duration::from_hours(31 * 24);
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

/// One sweep.
pub(crate) async fn sweep(ctx: &Ctx) -> Result<(), Error> {
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
    if let Some(without) = store::close_content(&mut tx, one).await? {
        let (id, commit) = (one.deployment, without.commit.as_str());
        let missing = match (&without.note, one.trigger) {
            (Some(note), _) => Some(Missing::Archive(note)),
            (None, Some(_push)) => Some(Missing::Upload),
            (None, None) => None,
        };
        if let Some(missing) = missing {
            end_without_content(ctx, &mut tx, &mut lane, id, (commit, missing)).await?;
        } else {
            end_without_upload(ctx, &mut tx, &mut lane, id, commit).await?;
        }
    }
    ctx.commit(tx).await.map_err(Error::commit)
}

/// Ends what a call made of content that was not uploaded whole: perhaps of no commit, or a preview.
async fn end_without_upload(
    ctx: &Ctx,
    tx: &mut Tx,
    lane: &mut Lane,
    id: DeploymentId,
    commit: &str,
) -> Result<(), deployment::Error> {
    let Some(mut waiting) = deployment::store::lock(tx, id).await? else {
        return Ok(());
    };
    let place = format!("{}/{}", waiting.site, waiting.environment);
    let upload = lane::content::upload(&place, waiting.kind, commit);
    let message =
        format!("its content did not come: nobody uploaded it whole in time. Upload it: {upload}");
    let change = Change::new(Event::Stops(Cause::Deadline), SYSTEM, message);
    apply_and_record(tx, lane, &mut waiting, change).await?;
    lane::grant(ctx, tx, lane).await
}
