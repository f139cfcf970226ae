//! Watching a deployment: its newest version, first as it is, then whenever it changes, until it is
//! terminal. Level-triggered: what passes between two looks is skipped, the last never is. A watcher
//! that comes again after the end has nothing to be told. One that knows a later version than there
//! is was told it by a database that was set back since: it is told what is now.
//!
//! What keeps a deployment from its lane changes without a new version of it: the same one is told
//! again then.

use std::{cmp::Ordering, sync::Arc, time::Duration};

use candlefish_ids::DeploymentId;
use candlefish_proto::deploy as pb;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tonic::Status;

use super::{
    Error,
    store::{self, Glance},
    view,
};
use crate::ctx::Ctx;

/// Looks are at least this far from each other: every commit of this process wakes every watcher.
const GATHER: Duration = Duration::from_millis(10);

/// To a watcher.
type Sender = mpsc::Sender<Result<pb::Deployment, Status>>;

/// Sends until terminal, until the watcher goes, or until `stopping`, also while the watcher takes nothing.
pub(super) async fn run(
    ctx: Ctx,
    id: DeploymentId,
    after_version: i32,
    sender: Sender,
    stopping: CancellationToken,
) {
    // A place for the last words: nobody waits until there is one.
    let Ok(last) = sender.clone().reserve_owned().await else {
        return;
    };
    // What stood when it was told of that version, nobody knows: what stands now is told once more.
    let mut told = Told {
        version: after_version,
        blockers: Vec::new(),
    };
    loop {
        let nudge = Arc::clone(&ctx.nudges.watchers);
        let nudged = nudge.notified();
        match newer(&ctx, id, &told).await {
            Ok(News::Changed(deployment)) => {
                told = Told::of(&deployment);
                let terminal = deployment.finished_at.is_some();
                match hand(&sender, *deployment, &stopping).await {
                    Handed::Taken if !terminal => {}
                    Handed::Taken | Handed::Gone => return,
                    Handed::Stopping => break,
                }
            }
            Ok(News::Nothing) => {}
            Ok(News::Over) => return,
            Err(error) => {
                // The watcher goes away or comes again; either way there is nobody to tell.
                drop(last.send(Err(error.into())));
                return;
            }
        }
        // A nudge meanwhile is kept.
        tokio::time::sleep(GATHER).await;
        tokio::select! {
            () = stopping.cancelled() => break,
            () = sender.closed() => return,
            () = nudged => {}
            () = tokio::time::sleep(ctx.config.poll) => {}
        }
    }
    let words = "this replica stops; watch again";
    drop(last.send(Err(Status::unavailable(words))));
}

/// What became of what was sent.
#[derive(Debug, PartialEq, Eq)]
enum Handed {
    /// It waits in the buffer at least.
    Taken,
    /// The watcher went.
    Gone,
    /// The buffer was full until the process was to stop.
    Stopping,
}

async fn hand(sender: &Sender, deployment: pb::Deployment, stopping: &CancellationToken) -> Handed {
    tokio::select! {
        () = stopping.cancelled() => Handed::Stopping,
        sent = sender.send(Ok(deployment)) => match sent {
            Ok(()) => Handed::Taken,
            Err(_) => Handed::Gone,
        },
    }
}

/// What a watcher was told last.
#[derive(Debug)]
struct Told {
    version: i32,
    /// Those that stood.
    blockers: Vec<pb::Blocker>,
}

impl Told {
    fn of(deployment: &pb::Deployment) -> Self {
        Self {
            version: deployment.version,
            blockers: deployment.blockers.clone(),
        }
    }

    /// Whether there is something else now.
    fn lacks(&self, glance: &Glance) -> bool {
        match glance.version.cmp(&self.version) {
            Ordering::Equal => !glance.terminal && glance.blockers != self.blockers,
            // Versions go back by a restore alone; what was told then is not what is now.
            Ordering::Less | Ordering::Greater => true,
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

async fn newer(ctx: &Ctx, id: DeploymentId, told: &Told) -> Result<News, Error> {
    let mut conn = ctx.pool.acquire().await?;
    let Some(glance) = store::find_glance(&mut conn, id).await? else {
        return Err(super::error::unknown(id).into());
    };
    if !told.lacks(&glance) {
        return Ok(if glance.terminal {
            News::Over
        } else {
            News::Nothing
        });
    }
    let found = store::find(&mut conn, id).await?;
    let found = found.ok_or_else(|| super::error::unknown(id))?;
    let deployment = view::whole(ctx, &mut conn, found).await?;
    Ok(News::Changed(Box::new(deployment)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_watcher_that_takes_nothing_holds_no_stop_up_and_is_told_of_it_all_the_same() {
        let (sender, mut watcher) = mpsc::channel(2);
        let stopping = CancellationToken::new();
        let last = sender.clone().reserve_owned().await.unwrap();
        let told = pb::Deployment::default();
        let first = hand(&sender, told.clone(), &stopping).await;
        assert_eq!(first, Handed::Taken);
        let (second, ()) = tokio::join!(hand(&sender, told.clone(), &stopping), async {
            stopping.cancel();
        });
        assert_eq!(second, Handed::Stopping);
        drop(last.send(Err(Status::unavailable("it stops"))));
        assert_eq!(watcher.recv().await.unwrap().unwrap(), told);
        assert!(watcher.recv().await.unwrap().is_err());
        drop(watcher);
        let stopping = CancellationToken::new();
        assert_eq!(hand(&sender, told, &stopping).await, Handed::Gone);
    }
}
