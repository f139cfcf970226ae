//! The living comment: one for each pull request of a repository that has previews, of however many
//! sites, made once and changed in place.
//!
//! ```text
//! noted ──intent──▶ made ──▶ says what is, site by site ──all closed──▶ done
//!           │         ▲              ▲                                    │
//!           └ no word ┘              └─────────────one opened─────────────┘
//!  looked for by our mark in its text and by who wrote it, then adopted or made
//! ```
//!
//! As in [`super::write`] the intent is a commit of its own before the call that makes it. Changing it
//! is the same however often it is done, so that needs none. It shows what is *now*.

mod text;

use std::time::Duration;

use candlefish_ids::EnvironmentId;
use sqlx::PgConnection;
use tokio_util::sync::CancellationToken;

pub(super) use text::Shown;

use super::{
    Error, GitHub, store,
    turns::{self, Ending, Turn, Unfinished, mark},
};
use crate::{ctx::Ctx, site::host};

/// A turn: a comment that does not say what is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct CommentTurn {
    /// In lower case.
    pub(super) repository: String,
    pub(super) number: i32,
    pub(super) claim: i64,
    pub(super) attempts: i32,
    /// Tries before that GitHub refused, since it was last told.
    pub(super) refusals: i32,
    pub(super) github_id: Option<u64>,
    /// A call that makes it may have worked.
    pub(super) creating: bool,
    /// What it will have said.
    pub(super) told: String,
    /// By site.
    pub(super) shown: Vec<Shown>,
}

impl CommentTurn {
    /// It says that every preview is closed.
    pub(super) fn is_closed(&self) -> bool {
        self.shown.iter().all(Shown::is_closed)
    }
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

    const WHAT: &'static str = "comments";

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
        ending: Ending<'_>,
    ) -> Result<bool, sqlx::Error> {
        store::put_comment_off(conn, self, ending).await
    }

    fn repository(&self) -> &str {
        &self.repository
    }

    fn row(&self) -> String {
        self.number.to_string()
    }

    async fn look_around(&self, github: &GitHub) -> Result<(), Error> {
        github.sees(&self.repository, "/pulls").await
    }

    fn attempts(&self) -> i32 {
        self.attempts
    }

    fn refusals(&self) -> i32 {
        self.refusals
    }

    /// What somebody deleted is not made again. An App that is not installed there is answered so too,
    /// and may be installed again.
    fn is_gone(&self, error: &Error) -> bool {
        error.is_not_found() && !error.is_for_want_of_rights() && self.github_id.is_some()
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
    let body = text::body(turn.number, &turn.shown, |preview| {
        let config = &ctx.config;
        let host = host::of_environment(&preview.site, &preview.environment, &config.domain);
        host::url(&host, config.site_port)
    });
    let known = match turn.github_id {
        None if turn.creating => find(github, turn).await?,
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

/// The comment that a call made whose answer was lost.
async fn find(github: &GitHub, turn: &CommentTurn) -> Result<Option<u64>, Error> {
    for mark in text::marks(turn.number, &turn.shown) {
        let found = github
            .find_comment(&turn.repository, turn.number, &mark)
            .await?;
        if found.is_some() {
            return Ok(found);
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::{super::error::INSTALLATION, *};

    #[test]
    fn only_a_comment_that_is_not_there_is_gone() {
        let turn = |github_id| CommentTurn {
            repository: "example/docs".to_owned(),
            number: 12,
            claim: 1,
            attempts: 1,
            refusals: 0,
            github_id,
            creating: false,
            told: String::new(),
            shown: Vec::new(),
        };
        let refused = |call, status| Error::Refused {
            call,
            status,
            message: "Not Found".to_owned(),
        };
        assert!(turn(Some(1)).is_gone(&refused("update_comment", 404)));
        assert!(!turn(None).is_gone(&refused("create_comment", 404)));
        assert!(!turn(Some(1)).is_gone(&refused("update_comment", 403)));
        assert!(!turn(Some(1)).is_gone(&refused(INSTALLATION, 404)));
    }
}
