//! Watching a deployment: its newest version, first as it is, then whenever it changes, until it is
//! terminal. Level-triggered: versions that pass between two looks are skipped, the last never is. A
//! watcher that comes again after the end has nothing to be told.

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
            Ok(News::Changed(deployment)) => {
                seen = deployment.version;
                let terminal = deployment.finished_at.is_some();
                if sender.send(Ok(*deployment)).await.is_err() || terminal {
                    return;
                }
            }
            Ok(News::Nothing) => {}
            Ok(News::Over) => return,
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

/// What there is to tell.
enum News {
    Changed(Box<pb::Deployment>),
    Nothing,
    /// The terminal version was seen: nothing follows it.
    Over,
}

async fn newer(ctx: &Ctx, id: DeploymentId, seen: i32) -> Result<News, Error> {
    let mut conn = ctx.pool.acquire().await?;
    let version = store::find_version(&mut conn, id).await?;
    let Some((version, terminal)) = version else {
        return Err(super::error::unknown(id).into());
    };
    if version <= seen {
        return Ok(if terminal { News::Over } else { News::Nothing });
    }
    let found = store::find(&mut conn, id).await?;
    let found = found.ok_or_else(|| super::error::unknown(id))?;
    let deployment = view::whole(ctx, &mut conn, found).await?;
    Ok(News::Changed(Box::new(deployment)))
}
