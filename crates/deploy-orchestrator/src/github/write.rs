//! Tells GitHub of the deployments that triggers made, and of others of the same commit in the same
//! environment, such as a retry: each is written once, and so is each of its states.
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

use candlefish_ids::{DeploymentId, EnvironmentId};
use sqlx::PgConnection;
use tokio_util::sync::CancellationToken;

use super::{
    Error, GitHub, store,
    turns::{self, Ending, Turn, Unfinished, mark},
    writing::{NewDeployment, NewStatus},
};
use crate::{ctx::Ctx, site::host};

/// A turn: something that GitHub does not know yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct DeploymentTurn {
    pub(super) deployment: DeploymentId,
    pub(super) claim: i64,
    pub(super) attempts: i32,
    /// Tries before that GitHub refused, since it was last told.
    pub(super) refusals: i32,
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

impl DeploymentTurn {
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

/// Traffic came back to a release of which GitHub was told that it is inactive.
pub(crate) async fn tell_live_again(
    conn: &mut PgConnection,
    environment: EnvironmentId,
) -> Result<(), sqlx::Error> {
    store::tell_live_again(conn, environment).await
}

/// Tells until `stopping`.
pub(crate) async fn run(ctx: Ctx, github: GitHub, stopping: CancellationToken) {
    turns::run::<DeploymentTurn>(ctx, github, stopping).await;
}

impl Turn for DeploymentTurn {
    type Mark = Mark;

    const WHAT: &'static str = "deployments";

    async fn note(conn: &mut PgConnection) -> Result<(), sqlx::Error> {
        store::note_deployments(conn).await
    }

    async fn claim(conn: &mut PgConnection, lease: Duration) -> Result<Option<Self>, sqlx::Error> {
        store::claim_deployment(conn, lease).await
    }

    async fn carry(&self, ctx: &Ctx, github: &GitHub) -> Result<(), Unfinished> {
        let id = match self.github_id {
            Some(id) => id,
            None => create(ctx, github, self).await?,
        };
        tell(ctx, github, self, id).await
    }

    async fn mark(&self, conn: &mut PgConnection, mark: Mark) -> Result<bool, sqlx::Error> {
        store::mark_deployment(conn, self, mark).await
    }

    async fn put_off(
        &self,
        conn: &mut PgConnection,
        ending: Ending<'_>,
    ) -> Result<bool, sqlx::Error> {
        store::put_deployment_off(conn, self, ending).await
    }

    fn repository(&self) -> &str {
        &self.repository
    }

    fn row(&self) -> String {
        self.deployment.to_string()
    }

    async fn look_around(&self, github: &GitHub) -> Result<(), Error> {
        github.sees(&self.repository, "/deployments").await
    }

    fn attempts(&self) -> i32 {
        self.attempts
    }

    fn refusals(&self) -> i32 {
        self.refusals
    }

    fn log(&self, error: &str, given_up: bool) {
        let id = self.deployment;
        if given_up {
            tracing::warn!(
                deployment.id = %id, error,
                "GitHub refuses to know of a deployment: it is not told again"
            );
        } else {
            tracing::info!(deployment.id = %id, error, "GitHub does not know it yet");
        }
    }
}

async fn create(ctx: &Ctx, github: &GitHub, turn: &DeploymentTurn) -> Result<u64, Unfinished> {
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

async fn tell(
    ctx: &Ctx,
    github: &GitHub,
    turn: &DeploymentTurn,
    id: u64,
) -> Result<(), Unfinished> {
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
