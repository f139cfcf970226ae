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
//! with what was to be told, and it is given up only when it is long over. What is refused so alone, while
//! others are told, counts as refused and keeps nothing else.

use std::{future::Future, time::Duration};

use candlefish_runtime::metrics::GITHUB_RESTING;
use sqlx::PgConnection;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{
    Error, GitHub,
    rests::{self, Refusal, Rests},
};
use crate::{backoff, ctx::Ctx, step::worker::chain};

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
    /// Our credentials are refused, for this or whatever is told: it is given up as well when it is long over.
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

    /// What tells it from the others of its repository.
    fn row(&self) -> String;

    /// Asks for something that GitHub shows to whoever may see the repository.
    fn look_around(&self, github: &GitHub) -> impl Future<Output = Result<(), Error>> + Send;

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
            Some(left) if rests.is_refused(turn.repository(), &turn.row()) => {
                Err(Unfinished::Unwelcome { left: left + LAST })
            }
            Some(left) => Err(Unfinished::Unwelcome { left }),
            None => carry(ctx, github, &turn).await,
        };
        let stand = stand_of(rests, &turn, carried.as_ref().err());
        let Err(error) = carried else {
            continue;
        };
        let words = chain(&error);
        let ending = ending(&turn, &error, &words, (settings.timeout, stand));
        let mut conn = ctx.pool.acquire().await?;
        let given_up = turn.put_off(&mut conn, ending).await?;
        // Of what only waits with the others the log knows already.
        if given_up || !matches!(error, Unfinished::Unwelcome { .. }) {
            turn.log(&words, given_up);
        }
    }
    Ok(())
}

/// Tells GitHub. Who may not see a repository is answered as if nothing were there: what was not found is
/// found missing only where the repository is seen.
async fn carry<T: Turn>(ctx: &Ctx, github: &GitHub, turn: &T) -> Result<(), Unfinished> {
    let carried = turn.carry(ctx, github).await;
    let is_missing = matches!(
        &carried,
        Err(Unfinished::GitHub(error)) if error.is_not_found() && !error.is_for_want_of_rights()
    );
    if is_missing {
        turn.look_around(github).await?;
    }
    carried
}

/// What a turn says of our credentials at its repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stand {
    /// They are not refused, or it says nothing of them.
    Open,
    /// They are: it is left alone for so long.
    Rests(Duration),
    /// They are not: what is told is refused, alone. It counts where another was told since the last time.
    Alone { counts: bool },
}

fn stand_of<T: Turn>(rests: &mut Rests, turn: &T, error: Option<&Unfinished>) -> Stand {
    let (repository, what) = (turn.repository(), T::WHAT);
    let is_back = match error {
        Some(Unfinished::Unwelcome { left }) => return Stand::Rests(*left),
        Some(Unfinished::GitHub(error)) if error.is_of_credentials() => {
            return refused(rests, turn, error);
        }
        // It says nothing of them.
        Some(Unfinished::GitHub(error)) if !error.is_final() => return Stand::Open,
        Some(Unfinished::Sql(_) | Unfinished::Overtaken) => return Stand::Open,
        Some(Unfinished::GitHub(_)) => rests.taken(repository),
        None => rests.told(repository, &turn.row()),
    };
    if is_back {
        tracing::info!(repository, what, "GitHub takes our credentials again");
    }
    Stand::Open
}

fn refused<T: Turn>(rests: &mut Rests, turn: &T, error: &Error) -> Stand {
    let (repository, what, row) = (turn.repository(), T::WHAT, turn.row());
    let about = (row.as_str(), error.may_be_of_one());
    match rests.refused(repository, about, Instant::now()) {
        // The log says it with what is told.
        Refusal::OfOne { counts } => Stand::Alone { counts },
        Refusal::OfAll { lasts, is_new } => {
            if is_new {
                tracing::warn!(
                    repository, what, %error,
                    "GitHub refuses our credentials: the repository is told nothing for a while, again \
                     and again until it takes them"
                );
            } else {
                tracing::debug!(
                    repository, what, rest = ?lasts, %error, "GitHub refuses our credentials still"
                );
            }
            Stand::Rests(lasts + LAST)
        }
    }
}

/// What follows from an error, when a call may be on its way for `quiet`, and from what it says of our
/// credentials. However often GitHub failed, only what it refuses is given up.
fn ending<'a, T: Turn>(
    turn: &T,
    error: &Unfinished,
    note: &'a str,
    (quiet, stand): (Duration, Stand),
) -> Ending<'a> {
    let (pause, refused, is_gone) = match (error, stand) {
        (_, Stand::Rests(rest)) => (rest, false, false),
        // Nobody was told since: whether it is about us now is for another to say.
        (_, Stand::Alone { counts: false }) => (rests::LONGEST, false, false),
        (Unfinished::GitHub(error), Stand::Open | Stand::Alone { counts: true }) => (
            pause(error, turn.attempts(), quiet),
            error.is_final(),
            turn.is_gone(error),
        ),
        (Unfinished::Sql(_) | Unfinished::Overtaken | Unfinished::Unwelcome { .. }, _) => {
            (backoff::after(turn.attempts()), false, false)
        }
    };
    Ending {
        pause,
        note,
        refused,
        given_up: is_gone || refused && turn.refusals() + 1 >= MOST_REFUSALS,
        unwelcome: stand != Stand::Open,
    }
}

/// How long until the next turn; a call that may still be on its way is given its time.
fn pause(error: &Error, attempts: i32, quiet: Duration) -> Duration {
    let pause = error.left().unwrap_or_else(|| backoff::after(attempts));
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
