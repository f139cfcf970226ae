//! Asks GitHub how two commits stand to each other that meet on a lane and that nothing we know
//! relates, and lets the lane choose again when it has said so.
//!
//! A pair is a row before it is asked about. What comes first on a lane until GitHub answers is what
//! was admitted first, as it is without GitHub.

use std::time::Duration;

use candlefish_ids::{EnvironmentId, SiteId};
use tokio_util::sync::CancellationToken;

use super::{Error, GitHub, store};
use crate::{backoff, ctx::Ctx, deployment, lane, step::worker::chain};

/// Pairs of one look.
const AT_ONCE: i64 = 50;

/// Two commits to compare.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Pair {
    pub(super) site: SiteId,
    pub(super) repository: String,
    pub(super) one: String,
    pub(super) other: String,
    pub(super) attempts: i32,
}

/// Why a look ended early.
#[derive(Debug, thiserror::Error)]
enum Unfinished {
    #[error("read or write comparisons")]
    Sql(#[from] sqlx::Error),
    #[error("let a lane choose again")]
    Lane(#[from] deployment::Error),
}

/// Compares until `stopping`.
pub(crate) async fn run(ctx: Ctx, github: GitHub, stopping: CancellationToken) {
    loop {
        if let Err(error) = look(&ctx, &github, &stopping).await {
            tracing::debug!(error = %chain(&error), "commits were not compared; the next look is");
        }
        tokio::select! {
            () = stopping.cancelled() => return,
            () = tokio::time::sleep(ctx.config.sweep) => {}
        }
    }
}

async fn look(ctx: &Ctx, github: &GitHub, stopping: &CancellationToken) -> Result<(), Unfinished> {
    let mut conn = ctx.pool.acquire().await?;
    store::note_unrelated(&mut conn, AT_ONCE).await?;
    store::forget_unanswered(&mut conn).await?;
    drop(conn);
    while !stopping.is_cancelled() {
        // As long as a call may take, and then again: another replica does not ask meanwhile.
        let lease = github.settings().timeout * 2 + Duration::from_secs(1);
        let mut conn = ctx.pool.acquire().await?;
        let Some(pair) = store::claim_pair(&mut conn, lease).await? else {
            return Ok(());
        };
        drop(conn);
        carry(ctx, github, &pair).await?;
    }
    Ok(())
}

async fn carry(ctx: &Ctx, github: &GitHub, pair: &Pair) -> Result<(), Unfinished> {
    let (one, other) = (&pair.one, &pair.other);
    let compared = github.compare(&pair.repository, one, other).await;
    let mut conn = ctx.pool.acquire().await?;
    let relation = match compared {
        Ok(comparison) => comparison.relation,
        Err(error) => {
            let pause = pause(&error, pair.attempts);
            let words = chain(&error);
            tracing::info!(
                repository = pair.repository, one, other, error = %words,
                "two commits are not compared yet: the one that was admitted first comes first"
            );
            return Ok(store::put_pair_off(&mut conn, pair, pause, &words).await?);
        }
    };
    store::save_relation(&mut conn, pair, relation).await?;
    tracing::info!(
        repository = pair.repository,
        one,
        other,
        ?relation,
        "GitHub says how two commits stand to each other"
    );
    let lanes = store::list_lanes_to_choose(&mut conn, pair).await?;
    drop(conn);
    for environment in lanes {
        choose(ctx, environment).await?;
    }
    Ok(())
}

/// How long until the same is asked again: what is refused may be allowed one day.
fn pause(error: &Error, attempts: i32) -> Duration {
    let pause = error.left().unwrap_or_else(|| backoff::after(attempts));
    if error.is_final() {
        pause.max(Duration::from_hours(1))
    } else {
        pause
    }
}

async fn choose(ctx: &Ctx, environment: EnvironmentId) -> Result<(), deployment::Error> {
    let mut tx = ctx.begin().await.map_err(deployment::Error::Begin)?;
    let mut lane = lane::store::lock(&mut tx, environment).await?;
    lane::grant::grant(ctx, &mut tx, &mut lane).await?;
    Ok(ctx.commit(tx).await?)
}
