//! Tells GitHub of the deployments that triggers made: each is written once, and so is each of its
//! states.
//!
//! ```text
//! noted ──intent──▶ created ──intent──▶ told: queued ─▶ in_progress ─▶ success ─▶ inactive
//!           │          ▲                                      └──▶ failure, inactive
//!           └ no word ─┘ looked for by our id, then adopted or made
//! ```
//!
//! The intent is a commit of its own before the call. A call that may have worked is looked for
//! before it is repeated, and not before as long has passed as a call may take. What a deployment is
//! *now* is told: states that passed while GitHub was away are not. No lane is locked here.

use std::time::Duration;

use candlefish_ids::DeploymentId;
use tokio_util::sync::CancellationToken;

use super::{
    Error, GitHub, store,
    writing::{NewDeployment, NewStatus},
};
use crate::{Config, ctx::Ctx, site::host, step::worker::chain};

/// Tries after which something that GitHub refuses is let be.
pub(super) const MOST_REFUSALS: i32 = 6;

/// A turn: something that GitHub does not know yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Turn {
    pub(super) deployment: DeploymentId,
    pub(super) claim: i64,
    pub(super) attempts: i32,
    pub(super) repository: String,
    pub(super) commit: String,
    pub(super) site: String,
    pub(super) environment: String,
    pub(super) is_preview: bool,
    pub(super) github_id: Option<u64>,
    /// A call that makes it may have worked.
    pub(super) creating: bool,
    /// The state of which a call may have worked.
    pub(super) telling: String,
    /// What it is now, in GitHub's words.
    pub(super) state: String,
}

impl Turn {
    /// `docs/production`, as GitHub shows it.
    fn place(&self) -> String {
        format!("{}/{}", self.site, self.environment)
    }
}

/// What a turn writes down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mark {
    /// A call that makes it begins; or it ended, and did nothing.
    Creating(bool),
    /// GitHub's number of it.
    Created(u64),
    /// A call that tells the state begins; or it ended, and did nothing.
    Telling(bool),
    Told,
}

/// Why a turn brought nothing.
#[derive(Debug, thiserror::Error)]
enum Unfinished {
    #[error("read or write what GitHub knows")]
    Sql(#[from] sqlx::Error),
    #[error("tell GitHub")]
    GitHub(#[from] Error),
    #[error("another turn has begun")]
    Overtaken,
}

/// Tells until `stopping`.
pub(crate) async fn run(ctx: Ctx, github: GitHub, stopping: CancellationToken) {
    loop {
        if let Err(error) = look(&ctx, &github, &stopping).await {
            tracing::debug!(error = %chain(&error), "GitHub was told nothing; the next look does");
        }
        tokio::select! {
            () = stopping.cancelled() => return,
            () = tokio::time::sleep(ctx.config.sweep.min(Duration::from_secs(1))) => {}
        }
    }
}

async fn look(ctx: &Ctx, github: &GitHub, stopping: &CancellationToken) -> Result<(), sqlx::Error> {
    let settings = github.settings();
    // As long as all calls of a turn may take together.
    let lease = (settings.timeout + settings.write_pause) * 5;
    let mut conn = ctx.pool.acquire().await?;
    store::note_deployments(&mut conn).await?;
    drop(conn);
    while !stopping.is_cancelled() {
        let mut tx = ctx.pool.begin().await?;
        let Some(turn) = store::claim_turn(&mut tx, lease).await? else {
            return Ok(());
        };
        tx.commit().await?;
        let Err(error) = carry(ctx, github, &turn).await else {
            continue;
        };
        let words = chain(&error);
        tracing::info!(deployment.id = %turn.deployment, error = %words, "GitHub does not know it yet");
        let (pause, given_up) = match &error {
            Unfinished::GitHub(error) => (
                pause(error, turn.attempts, settings.timeout),
                error.is_final() && turn.attempts >= MOST_REFUSALS,
            ),
            Unfinished::Sql(_) | Unfinished::Overtaken => (Config::backoff(turn.attempts), false),
        };
        if given_up {
            tracing::warn!(
                deployment.id = %turn.deployment, error = %words,
                "GitHub refuses to know of a deployment: it is not told again"
            );
        }
        let mut conn = ctx.pool.acquire().await?;
        store::put_turn_off(&mut conn, &turn, pause, &words, given_up).await?;
    }
    Ok(())
}

/// How long until the next turn; a call that may still be on its way is given its time.
pub(super) fn pause(error: &Error, attempts: i32, quiet: Duration) -> Duration {
    let pause = error.left().unwrap_or_else(|| Config::backoff(attempts));
    if error.may_have_worked() {
        pause.max(quiet)
    } else {
        pause
    }
}

async fn carry(ctx: &Ctx, github: &GitHub, turn: &Turn) -> Result<(), Unfinished> {
    let id = match turn.github_id {
        Some(id) => id,
        None => create(ctx, github, turn).await?,
    };
    tell(ctx, github, turn, id).await
}

async fn create(ctx: &Ctx, github: &GitHub, turn: &Turn) -> Result<u64, Unfinished> {
    let ours = turn.deployment.to_string();
    let environment = turn.place();
    let new = NewDeployment {
        commit: &turn.commit,
        environment: &environment,
        ours: &ours,
        is_production: turn.environment == host::PRODUCTION,
        is_transient: turn.is_preview,
    };
    let repository = &turn.repository;
    let found = if turn.creating {
        github.find_deployment(repository, &new).await?
    } else {
        None
    };
    let id = if let Some(id) = found {
        tracing::info!(deployment.id = %turn.deployment, "GitHub knows it already: adopted");
        id
    } else {
        mark(ctx, turn, Mark::Creating(true)).await?;
        match github.create_deployment(repository, &new).await {
            Ok(id) => id,
            Err(error) => {
                if !error.may_have_worked() {
                    mark(ctx, turn, Mark::Creating(false)).await?;
                }
                return Err(error.into());
            }
        }
    };
    mark(ctx, turn, Mark::Created(id)).await?;
    Ok(id)
}

async fn tell(ctx: &Ctx, github: &GitHub, turn: &Turn, id: u64) -> Result<(), Unfinished> {
    let (repository, state) = (&turn.repository, &turn.state);
    let is_there = turn.telling == *state && github.has_status(repository, id, state).await?;
    if is_there {
        return mark(ctx, turn, Mark::Told).await;
    }
    let public = github.settings().public_url.as_ref();
    let log = public.map(|url| format!("{url}/v1/deployments/{}", turn.deployment));
    let host = host::of_environment(&turn.site, &turn.environment, &ctx.config.domain);
    let address = host::url(&host, ctx.config.site_port);
    let new = NewStatus {
        state,
        log_url: log.as_deref(),
        environment_url: (state == "success").then_some(address.as_str()),
        description: &format!("{} on {}", turn.deployment, turn.place()),
    };
    mark(ctx, turn, Mark::Telling(true)).await?;
    if let Err(error) = github.create_status(repository, id, &new).await {
        if !error.may_have_worked() {
            mark(ctx, turn, Mark::Telling(false)).await?;
        }
        return Err(error.into());
    }
    mark(ctx, turn, Mark::Told).await
}

async fn mark(ctx: &Ctx, turn: &Turn, mark: Mark) -> Result<(), Unfinished> {
    let mut conn = ctx.pool.acquire().await?;
    if store::mark_turn(&mut conn, turn, mark).await? {
        Ok(())
    } else {
        Err(Unfinished::Overtaken)
    }
}
