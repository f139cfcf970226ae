//! Watching a deployment: its newest version, first as it is, then whenever it changes, until it is
//! terminal. Level-triggered: versions that pass between two looks are skipped, the last never is.

use std::sync::Arc;

use candlefish_ids::DeploymentId;
use candlefish_proto::deploy as pb;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tonic::Status;

use super::{Error, store, view};
use crate::ctx::Ctx;

/// Sends until terminal, until the watcher goes, or until `stopping`.
pub(super) async fn run(
    ctx: Ctx,
    id: DeploymentId,
    after_version: i32,
    sender: mpsc::Sender<Result<pb::Deployment, Status>>,
    stopping: CancellationToken,
) {
    let mut seen = after_version;
    loop {
        let nudge = Arc::clone(&ctx.nudges.watchers);
        let nudged = nudge.notified();
        match newer(&ctx, id, seen).await {
            Ok(Some((deployment, terminal))) => {
                seen = deployment.version;
                if sender.send(Ok(deployment)).await.is_err() || terminal {
                    return;
                }
            }
            Ok(None) => {}
            Err(error) => {
                // The watcher goes away or comes again; either way there is nobody to tell.
                let _gone = sender.send(Err(error.into())).await;
                return;
            }
        }
        tokio::select! {
            () = stopping.cancelled() => {
                let words = "this replica stops; watch again";
                let _gone = sender.send(Err(Status::unavailable(words))).await;
                return;
            }
            () = sender.closed() => return,
            () = nudged => {}
            () = tokio::time::sleep(ctx.config.poll) => {}
        }
    }
}

/// The deployment when it is newer than what was seen, and whether it is terminal.
async fn newer(
    ctx: &Ctx,
    id: DeploymentId,
    seen: i32,
) -> Result<Option<(pb::Deployment, bool)>, Error> {
    let mut conn = ctx.pool.acquire().await?;
    let version = store::find_version(&mut conn, id).await?;
    let Some((version, terminal)) = version else {
        return Err(super::error::unknown(id).into());
    };
    // A watcher that has seen the end is told it once more, so that its stream ends with it.
    if version <= seen && !terminal {
        return Ok(None);
    }
    let found = store::find(&mut conn, id).await?;
    let found = found.ok_or_else(|| super::error::unknown(id))?;
    let deployment = view::whole(ctx, &mut conn, found).await?;
    // It may have ended since it was looked at.
    let terminal = terminal || deployment.finished_at.is_some();
    Ok(Some((deployment, terminal)))
}
