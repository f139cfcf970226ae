//! The living comment: one for each pull request that has a preview, made once and changed in place.
//!
//! ```text
//! noted ──intent──▶ made ──▶ says: waiting ─▶ deploying ─▶ live ─▶ closed ──reopened──▶ …
//!           │         ▲
//!           └ no word ┘ looked for by our mark in its text, then adopted or made
//! ```
//!
//! As in [`super::write`] the intent is a commit of its own before the call that makes it. Changing it
//! is the same however often it is done, so that needs none. It shows what is *now*.

use std::time::Duration;

use candlefish_ids::{DeploymentId, EnvironmentId, SiteId};
use sqlx::PgConnection;
use tokio_util::sync::CancellationToken;

use super::{
    Error, GitHub, store,
    turns::{self, Turn, Unfinished, mark},
};
use crate::{ctx::Ctx, site::host};

/// Of what somebody else said, as much as is shown.
const WORDS_MAX: usize = 300;

/// A turn: a comment that does not say what is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct CommentTurn {
    pub(super) site_id: SiteId,
    pub(super) number: i32,
    pub(super) claim: i64,
    pub(super) attempts: i32,
    pub(super) repository: String,
    pub(super) github_id: Option<u64>,
    /// A call that makes it may have worked.
    pub(super) creating: bool,
    /// What it will have said.
    pub(super) told: String,
    pub(super) shown: Shown,
}

/// What it shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Shown {
    pub(super) site: String,
    pub(super) environment: String,
    pub(super) number: i32,
    pub(super) deployment: DeploymentId,
    pub(super) commit: String,
    /// `waiting`, `deploying`, `live`, `failed`, `ended` or `closed`.
    pub(super) state: String,
    pub(super) message: String,
    pub(super) close_reason: String,
}

/// What a turn writes down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mark {
    /// A call that makes it begins; or it ended, and did nothing.
    Creating(bool),
    /// GitHub's number of it.
    Created(u64),
    Told,
}

/// A closed preview was opened again: its comment is kept up to date once more.
pub(crate) async fn open_again(
    conn: &mut PgConnection,
    environment: EnvironmentId,
) -> Result<(), sqlx::Error> {
    store::open_comment(conn, environment).await
}

/// Keeps comments up to date until `stopping`.
pub(crate) async fn run(ctx: Ctx, github: GitHub, stopping: CancellationToken) {
    turns::run::<CommentTurn>(ctx, github, stopping).await;
}

impl Turn for CommentTurn {
    type Mark = Mark;

    async fn note(conn: &mut PgConnection) -> Result<(), sqlx::Error> {
        store::note_comments(conn).await
    }

    async fn claim(conn: &mut PgConnection, lease: Duration) -> Result<Option<Self>, sqlx::Error> {
        store::claim_comment(conn, lease).await
    }

    async fn carry(&self, ctx: &Ctx, github: &GitHub) -> Result<(), Unfinished> {
        carry(ctx, github, self).await
    }

    async fn mark(&self, conn: &mut PgConnection, mark: Mark) -> Result<bool, sqlx::Error> {
        store::mark_comment(conn, self, mark).await
    }

    async fn put_off(
        &self,
        conn: &mut PgConnection,
        pause: Duration,
        note: &str,
        given_up: bool,
    ) -> Result<(), sqlx::Error> {
        store::put_comment_off(conn, self, pause, note, given_up).await
    }

    fn attempts(&self) -> i32 {
        self.attempts
    }

    /// What somebody deleted is not made again.
    fn is_gone(&self, error: &Error) -> bool {
        error.is_not_found() && self.github_id.is_some()
    }

    fn log(&self, error: &str, given_up: bool) {
        let (repository, pull_request) = (&self.repository, self.number);
        if given_up {
            tracing::warn!(
                repository,
                pull_request,
                error,
                "GitHub refuses a comment: it is not told again"
            );
        } else {
            tracing::info!(
                repository,
                pull_request,
                error,
                "a comment does not say yet what is"
            );
        }
    }
}

async fn carry(ctx: &Ctx, github: &GitHub, turn: &CommentTurn) -> Result<(), Unfinished> {
    let host = host::of_environment(
        &turn.shown.site,
        &turn.shown.environment,
        &ctx.config.domain,
    );
    let body = turn.shown.body(&host::url(&host, ctx.config.site_port));
    let known = match turn.github_id {
        None if turn.creating => {
            let mark = turn.shown.mark();
            github
                .find_comment(&turn.repository, turn.number, &mark)
                .await?
        }
        known => known,
    };
    if let Some(id) = known {
        if turn.github_id.is_none() {
            mark(ctx, turn, Mark::Created(id)).await?;
        }
        github.update_comment(&turn.repository, id, &body).await?;
        return mark(ctx, turn, Mark::Told).await;
    }
    mark(ctx, turn, Mark::Creating(true)).await?;
    let made = github
        .create_comment(&turn.repository, turn.number, &body)
        .await;
    match made {
        Ok(id) => {
            mark(ctx, turn, Mark::Created(id)).await?;
            mark(ctx, turn, Mark::Told).await
        }
        Err(error) => {
            if !error.may_have_worked() {
                mark(ctx, turn, Mark::Creating(false)).await?;
            }
            Err(error.into())
        }
    }
}

impl Shown {
    pub(super) fn is_closed(&self) -> bool {
        self.state == "closed"
    }

    /// By which it is found again; shown to nobody.
    fn mark(&self) -> String {
        format!("<!-- candlefish:{}:{} -->", self.site, self.number)
    }

    /// The whole text.
    fn body(&self, address: &str) -> String {
        let short = self.commit.get(..7).unwrap_or(&self.commit);
        let (site, deployment) = (&self.site, self.deployment);
        let says = match self.state.as_str() {
            "waiting" => format!("waits for the content of {short}, or for its turn: {address}"),
            "deploying" => format!("is on its way: {address}"),
            "live" => format!("is live: {address}"),
            "failed" => format!("did not go live: {}", quoted(&self.message)),
            "closed" => format!("was torn down: {}", quoted(&self.close_reason)),
            _ => "waits for what comes next".to_owned(),
        };
        format!(
            "{}\n**The preview of {site}** {says}\n\n| commit | deployment | state |\n\
             | --- | --- | --- |\n| {short} | `{deployment}` | {} |\n",
            self.mark(),
            self.state
        )
    }
}

/// What others said, so that it is neither markup nor a mention.
fn quoted(words: &str) -> String {
    let plain = words.chars().filter(|c| !c.is_control() && *c != '`');
    let plain: String = plain.take(WORDS_MAX).collect();
    format!("`{}`", plain.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(state: &str) -> Shown {
        Shown {
            site: "docs".to_owned(),
            environment: "pr-12".to_owned(),
            number: 12,
            deployment: "dep_01h455vb4pex5vsknk084sn02q".parse().unwrap(),
            commit: "4ac21e05c5f6f4a7bb3b0f4bd1f0a2c3d4e5f607".to_owned(),
            state: state.to_owned(),
            message: "a page\n`is` missing, @ada".to_owned(),
            close_reason: "pull request 12 was merged".to_owned(),
        }
    }

    #[test]
    fn it_says_what_is_and_where() {
        let body = |state: &str| shown(state).body("http://pr-12--docs.localhost");
        let live = body("live");
        assert!(live.starts_with("<!-- candlefish:docs:12 -->\n"), "{live}");
        assert!(
            live.contains("is live: http://pr-12--docs.localhost"),
            "{live}"
        );
        assert!(
            live.contains("| 4ac21e0 | `dep_01h455vb4pex5vsknk084sn02q` | live |"),
            "{live}"
        );
        assert!(body("waiting").contains("waits for the content of 4ac21e0"));
        let closed = body("closed");
        assert!(
            closed.contains("was torn down: `pull request 12 was merged`"),
            "{closed}"
        );
        assert!(!closed.contains("http"), "{closed}");
    }

    #[test]
    fn what_others_said_is_no_markup() {
        let failed = shown("failed").body("http://x");
        assert!(
            failed.contains("did not go live: `a pageis missing, @ada`"),
            "{failed}"
        );
    }
}
