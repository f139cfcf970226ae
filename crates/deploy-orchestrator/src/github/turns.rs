//! Turns at telling GitHub: what is new is noted, a turn claims one of it, and what a turn could not tell
//! is put off.
//!
//! ```text
//! noted ──claim──▶ carried ──▶ told
//!           ▲         └──▶ put off, or given up
//!           └──────pause──────┘
//! ```
//!
//! Where GitHub refuses our credentials, nothing of that repository is told for a while: nothing is wrong
//! with what was to be told, and it is given up only when it is long over.

use std::{future::Future, time::Duration};

use candlefish_runtime::metrics::GITHUB_RESTING;
use sqlx::PgConnection;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{Error, GitHub, rests::Rests};
use crate::{Config, ctx::Ctx, step::worker::chain};

/// Refusals after which something is let be, if nothing was told between them.
const MOST_REFUSALS: i32 = 6;
/// What was refused for our credentials comes so long after the others that wait for the same rest, should it
/// be one that is refused whoever asks: another is tried first.
const LAST: Duration = Duration::from_secs(1);

/// How a turn ends that brought nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ending<'a> {
    /// The next one comes after it, unless none does.
    pub(super) pause: Duration,
    /// What went wrong.
    pub(super) note: &'a str,
    /// GitHub refused it: that is counted.
    pub(super) refused: bool,
    pub(super) given_up: bool,
    /// Our credentials are refused, whatever is told: it is given up as well when it is long over.
    pub(super) unwelcome: bool,
}

/// Something that GitHub does not know yet, in the hands of one process.
pub(super) trait Turn: Sized + Send + Sync {
    /// How far a turn is.
    type Mark: Send;

    /// What is told, as `/metrics` and the log call it.
    const WHAT: &'static str;

    /// Notes what is new.
    fn note(conn: &mut PgConnection) -> impl Future<Output = Result<(), sqlx::Error>> + Send;

    /// Takes the next one; it is not due again before the lease ends.
    fn claim(
        conn: &mut PgConnection,
        lease: Duration,
    ) -> impl Future<Output = Result<Option<Self>, sqlx::Error>> + Send;

    /// Tells GitHub.
    fn carry(
        &self,
        ctx: &Ctx,
        github: &GitHub,
    ) -> impl Future<Output = Result<(), Unfinished>> + Send;

    /// Writes down how far it is; false when another turn has begun.
    fn mark(
        &self,
        conn: &mut PgConnection,
        mark: Self::Mark,
    ) -> impl Future<Output = Result<bool, sqlx::Error>> + Send;

    /// The next turn comes later, or none: answers whether it is given up.
    fn put_off(
        &self,
        conn: &mut PgConnection,
        ending: Ending<'_>,
    ) -> impl Future<Output = Result<bool, sqlx::Error>> + Send;

    /// Where it is told.
    fn repository(&self) -> &str;

    /// Turns since it was last told, this one counted.
    fn attempts(&self) -> i32;

    /// Those of them before this one that GitHub refused.
    fn refusals(&self) -> i32;

    /// What it tells of is not at GitHub any more, and is not made again.
    fn is_gone(&self, _error: &Error) -> bool {
        false
    }

    /// Says in the log that GitHub does not know it yet, or never will.
    fn log(&self, error: &str, given_up: bool);
}

/// Why a turn brought nothing.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unfinished {
    #[error("read or write what GitHub knows")]
    Sql(#[from] sqlx::Error),
    #[error("tell GitHub")]
    GitHub(#[from] Error),
    #[error("another turn has begun")]
    Overtaken,
    #[error("GitHub refuses our credentials for the repository: it is left alone for {left:?}")]
    Unwelcome { left: Duration },
}

/// Takes turns until `stopping`.
pub(super) async fn run<T: Turn>(ctx: Ctx, github: GitHub, stopping: CancellationToken) {
    let mut rests = Rests::new(github.settings().rest);
    loop {
        if let Err(error) = look::<T>(&ctx, &github, &mut rests, &stopping).await {
            tracing::debug!(error = %chain(&error), "GitHub was told nothing; the next look does");
        }
        let resting = if rests.is_any(Instant::now()) {
            1.0
        } else {
            0.0
        };
        metrics::gauge!(GITHUB_RESTING, "telling" => T::WHAT).set(resting);
        tokio::select! {
            () = stopping.cancelled() => return,
            () = tokio::time::sleep(ctx.config.sweep.min(Duration::from_secs(1))) => {}
        }
    }
}

async fn look<T: Turn>(
    ctx: &Ctx,
    github: &GitHub,
    rests: &mut Rests,
    stopping: &CancellationToken,
) -> Result<(), sqlx::Error> {
    let settings = github.settings();
    // As long as all calls of a turn may take together.
    let lease = (settings.timeout + settings.write_pause) * 5;
    let mut conn = ctx.pool.acquire().await?;
    T::note(&mut conn).await?;
    drop(conn);
    while !stopping.is_cancelled() {
        let mut tx = ctx.pool.begin().await?;
        let Some(turn) = T::claim(&mut tx, lease).await? else {
            return Ok(());
        };
        tx.commit().await?;
        let carried = match rests.left(turn.repository(), Instant::now()) {
            Some(left) => Err(Unfinished::Unwelcome { left }),
            None => turn.carry(ctx, github).await,
        };
        let rest = rest_of(rests, &turn, carried.as_ref().err());
        let Err(error) = carried else {
            continue;
        };
        let words = chain(&error);
        let ending = ending(&turn, &error, &words, (settings.timeout, rest));
        let mut conn = ctx.pool.acquire().await?;
        let given_up = turn.put_off(&mut conn, ending).await?;
        // Of what only waits with the others the log knows already.
        if given_up || !matches!(error, Unfinished::Unwelcome { .. }) {
            turn.log(&words, given_up);
        }
    }
    Ok(())
}

/// How long its repository is left alone after a turn; none when our credentials are not refused there.
fn rest_of<T: Turn>(rests: &mut Rests, turn: &T, error: Option<&Unfinished>) -> Option<Duration> {
    let (repository, what) = (turn.repository(), T::WHAT);
    match error {
        Some(Unfinished::Unwelcome { left }) => return Some(*left),
        Some(Unfinished::GitHub(error)) if error.is_of_credentials() => {
            let (rest, is_new) = rests.refused(repository, Instant::now());
            if is_new {
                tracing::warn!(
                    repository, what, %error,
                    "GitHub refuses our credentials: the repository is told nothing for a while, again \
                     and again until it takes them"
                );
            } else {
                tracing::debug!(repository, what, ?rest, %error, "GitHub refuses our credentials still");
            }
            return Some(rest + LAST);
        }
        // It says nothing of them.
        Some(Unfinished::GitHub(error)) if !error.is_final() => return None,
        Some(Unfinished::Sql(_) | Unfinished::Overtaken) => return None,
        Some(Unfinished::GitHub(_)) | None => {}
    }
    if rests.taken(repository) {
        tracing::info!(repository, what, "GitHub takes our credentials again");
    }
    None
}

/// What follows from an error, when a call may be on its way for `quiet`, and the repository is left alone for
/// `rest`. However often GitHub failed, only what it refuses is given up.
fn ending<'a, T: Turn>(
    turn: &T,
    error: &Unfinished,
    note: &'a str,
    (quiet, rest): (Duration, Option<Duration>),
) -> Ending<'a> {
    let (pause, refused, is_gone) = match (error, rest) {
        (_, Some(rest)) => (rest, false, false),
        (Unfinished::GitHub(error), None) => (
            pause(error, turn.attempts(), quiet),
            error.is_final(),
            turn.is_gone(error),
        ),
        (Unfinished::Sql(_) | Unfinished::Overtaken | Unfinished::Unwelcome { .. }, None) => {
            (Config::backoff(turn.attempts()), false, false)
        }
    };
    Ending {
        pause,
        note,
        refused,
        given_up: is_gone || refused && turn.refusals() + 1 >= MOST_REFUSALS,
        unwelcome: rest.is_some(),
    }
}

/// How long until the next turn; a call that may still be on its way is given its time.
fn pause(error: &Error, attempts: i32, quiet: Duration) -> Duration {
    let pause = error.left().unwrap_or_else(|| Config::backoff(attempts));
    if error.may_have_worked() {
        pause.max(quiet)
    } else {
        pause
    }
}

/// Writes down how far a turn is, in a transaction of its own.
pub(super) async fn mark<T: Turn>(ctx: &Ctx, turn: &T, mark: T::Mark) -> Result<(), Unfinished> {
    let mut conn = ctx.pool.acquire().await?;
    if turn.mark(&mut conn, mark).await? {
        Ok(())
    } else {
        Err(Unfinished::Overtaken)
    }
}
