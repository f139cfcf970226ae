//! What pushes did not tell: per repository, deliveries that did not arrive are asked for once more,
//! a head that no trigger knows becomes one, as its push would have, and so does a pull request that is
//! not as we know it. So does a push that is missing between two that are known, where the later one was
//! passed over by its files: it alone said nothing of those of the missing one.
//!
//! Where GitHub brings deliveries once more, they come first: all else of that repository is decided by the
//! sweep after it, a moment later, which asks for none. So each push has its own turn in a queue, and one that
//! does not arrive after all keeps a head back once for each time that it is asked for. While more is missing than
//! one sweep asks for, the next one asks on, and all else waits for some of those.
//!
//! The App's own webhook is of all repositories and a row of its own, swept when it comes to that. So where an App
//! asks, a sweep that finds news leaves it to the one after it too, and makes the App's row due: that one waits
//! until the App's is swept, though not for ever.
//!
//! A repository is swept by one process at a time: its row is due again only after the lease, should
//! that process be lost. What is done twice all the same changes nothing twice.

use std::{collections::BTreeSet, time::Duration};

use candlefish_ids::EnvironmentId;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use self::{
    missing::{Looked, Round},
    pauses::{Pauses, head_start, longest_wait},
};
use super::{Error, GitHub, Relation, heads::Head, store};
use crate::{
    ctx::Ctx,
    step::worker::chain,
    trigger::{self, head::Seen, pull_request::seen},
};

mod missing;
mod pauses;
mod unanswered;

/// GitHub keeps a delivery for so long, and brings it once more when it is asked to.
const KEPT: Duration = Duration::from_hours(72);
/// At least so much of what the last sweep looked at is looked at again.
const OVERLAP: Duration = Duration::from_hours(2);
/// Should its process be lost, a sweep is another's after so many pauses between sweeps.
const LEASE_IN_PAUSES: u32 = 5;
/// Not sooner: what takes longer is swept by two, which changes nothing twice.
const LEAST_LEASE: Duration = Duration::from_secs(10);
/// Not later: no sweep takes longer.
const LONGEST_LEASE: Duration = Duration::from_mins(5);

/// Sweeps of a repository that failed one after the other, some five minutes: then a push is decided without
/// the comparison that GitHub does not manage, as that of a large change.
const PATIENCE: i32 = 10;

/// A repository to sweep.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Due {
    /// In lower case; empty for the App's own webhook, which is of no repository.
    pub(super) repository: String,
    pub(super) attempts: i32,
    /// Seconds since it was swept whole; none before the first time.
    pub(super) swept_ago: Option<i64>,
    /// The second of GitHub's clock in which its pull requests were looked at first, since it has previews.
    pub(super) pulls_since: Option<i64>,
    /// And last.
    pub(super) pulls_at: Option<i64>,
    /// The sweep before left to this one what it did not decide, for deliveries that it asked for, or that the App's
    /// own webhook is to be asked for; this one asks for none. Of the App's own row: it was to be swept once more.
    pub(super) is_second: bool,
    /// Sweeps just before that asked for deliveries, had more to ask for, and left all else.
    pub(super) rounds: i32,
}

impl Due {
    /// How far back deliveries may be missing, when sweeps come so often: a try of ours comes twelve of
    /// those after another at the latest.
    fn back(&self, sweep: Duration) -> Duration {
        let overlap = OVERLAP.max(sweep * 13);
        let ago = self.swept_ago.and_then(|ago| u64::try_from(ago).ok());
        ago.map_or(KEPT, |ago| KEPT.min(Duration::from_secs(ago) + overlap))
    }
}

/// How a sweep of a repository ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Finished<'a> {
    /// Until the next sweep.
    pub(super) pause: Duration,
    /// Why it ended early; empty when it did not.
    pub(super) note: &'a str,
    /// All deliveries were looked at.
    pub(super) looked: bool,
    /// The next sweep decides what this one left for what GitHub brings once more; the one after it comes in
    /// this time, or at once where that is over. None where nothing was left so.
    pub(super) then: Option<Duration>,
    /// As in [`Due`], with this one; 0 where the next sweep does not ask on.
    pub(super) rounds: i32,
}

/// A branch that an environment follows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Followed {
    pub(super) environment: EnvironmentId,
    /// As the site has it.
    pub(super) repository: String,
    pub(super) branch: String,
    /// The newest commit that a trigger knows.
    pub(super) pushed: Option<String>,
    /// Where it was at the last look.
    pub(super) seen: Option<String>,
    /// `pushed` was pushed to a repository of another name: the site had another one then, or it was
    /// called so.
    pub(super) is_moved: bool,
}

/// A push that no trigger knows, though one knows of the push after it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Gap {
    /// `pushed` is what was known before.
    pub(super) followed: Followed,
    /// What the branch was at when the next push came.
    pub(super) commit: String,
    /// When that came, by GitHub's clock.
    pub(super) at: i64,
}

/// Why a sweep ended early.
#[derive(Debug, thiserror::Error)]
enum Unfinished {
    #[error("read or write what the sweep knows")]
    Sql(#[from] sqlx::Error),
    #[error("ask GitHub")]
    GitHub(#[from] Error),
    #[error("decide a head")]
    Trigger(#[from] trigger::Error),
}

impl Unfinished {
    /// What comes after it fails as well.
    const fn is_of_all(&self) -> bool {
        match self {
            Self::GitHub(error) => error.is_of_every_call(),
            Self::Sql(_) | Self::Trigger(_) => false,
        }
    }
}

/// Sweeps until `stopping`.
pub(crate) async fn run(ctx: Ctx, github: GitHub, stopping: CancellationToken) {
    loop {
        if let Err(error) = look(&ctx, &github, &stopping).await {
            tracing::debug!(error = %chain(&error), "repositories were not swept; the next look is");
        }
        tokio::select! {
            () = stopping.cancelled() => return,
            () = tokio::time::sleep(ctx.config.sweep.min(github.settings().sweep)) => {}
        }
    }
}

async fn look(ctx: &Ctx, github: &GitHub, stopping: &CancellationToken) -> Result<(), sqlx::Error> {
    let mut conn = ctx.pool.acquire().await?;
    store::note_repositories(&mut conn).await?;
    if github.is_app() {
        store::note_app(&mut conn).await?;
    }
    drop(conn);
    let settings = github.settings();
    let (between, in_all) = (settings.sweep, longest_wait(settings));
    let lease = (between * LEASE_IN_PAUSES).clamp(LEAST_LEASE, LONGEST_LEASE);
    while !stopping.is_cancelled() {
        // What is asked for one after the other leaves the rest of the lease to the last call.
        let ends = Instant::now() + lease / 2;
        let mut conn = ctx.pool.acquire().await?;
        let Some(due) = store::claim_repository(&mut conn, lease, between, in_all).await? else {
            return Ok(());
        };
        drop(conn);
        let is_of_app = due.repository.is_empty();
        let mut round = Round::new(github.is_app() && !is_of_app && !due.is_second);
        let swept = sweep(ctx, github, &due, &mut round, ends).await;
        let mut conn = ctx.pool.acquire().await?;
        // Else what is left would be too old for the next sweep.
        let looked = matches!(swept, Ok(Looked::Whole));
        let pauses = Pauses::after(&swept, due.attempts, (between, head_start(settings)));
        let note = swept.err().map_or_else(String::new, |error| {
            let words = chain(&error);
            tracing::warn!(repository = due.repository, error = %words, "a repository is not swept yet");
            words
        });
        let finished = round.finished(&due, pauses, &note, looked);
        if finished.then.is_some() && github.is_app() {
            store::wake_app(&mut conn).await?;
        }
        store::finish_repository(&mut conn, &due.repository, finished).await?;
    }
    Ok(())
}

/// Answers how far deliveries were looked at. What fails keeps nothing else, unless GitHub is not to be
/// asked any more; the first such failure is answered.
async fn sweep(
    ctx: &Ctx,
    github: &GitHub,
    due: &Due,
    round: &mut Round,
    ends: Instant,
) -> Result<Looked, Unfinished> {
    if due.repository.is_empty() {
        return missing::redeliver_to_app(ctx, github, due, round).await;
    }
    let mut conn = ctx.pool.acquire().await?;
    let followed = store::list_followed(&mut conn, &due.repository).await?;
    let has_previews = store::has_previews(&mut conn, &due.repository).await?;
    if followed.is_empty() && !has_previews {
        store::forget_repository(&mut conn, &due.repository).await?;
        return Ok(Looked::Not);
    }
    if !has_previews && due.pulls_since.is_some() {
        store::forget_pulls_since(&mut conn, &due.repository).await?;
    }
    let gaps = store::list_gaps(&mut conn, &due.repository).await?;
    drop(conn);
    let mut all = Ok(());
    let looked = if due.is_second {
        Looked::Not
    } else {
        look_at_deliveries(ctx, github, due, round, &mut all).await?
    };
    if round.holds() {
        tracing::debug!(
            repository = due.repository,
            "what GitHub brings once more comes first: all else is decided by the next sweep"
        );
        return all.map(|()| looked);
    }
    for gap in &gaps {
        if !round.leaves_news(true) {
            go_on(&mut all, fill(ctx, github, gap, due.attempts).await)?;
        }
    }
    look_at_branches(ctx, github, due, &followed, round, &mut all).await?;
    if has_previews {
        go_on(&mut all, look_at_pulls(ctx, github, due, round).await)?;
    }
    let asked = unanswered::ask_again(ctx, github, &due.repository, ends).await;
    go_on(&mut all, asked)?;
    all.map(|()| looked)
}

/// Asks for deliveries once more that did not arrive; answers how far they were looked at.
async fn look_at_deliveries(
    ctx: &Ctx,
    github: &GitHub,
    due: &Due,
    round: &mut Round,
    all: &mut Result<(), Unfinished>,
) -> Result<Looked, Unfinished> {
    match missing::redeliver(ctx, github, due, round).await {
        Ok(looked) => return Ok(looked),
        // Who may not see webhooks still sees heads.
        Err(Unfinished::GitHub(error)) if error.is_final() => {
            tracing::debug!(repository = due.repository, %error, "deliveries are not looked at");
        }
        Err(error) => go_on(all, Err(error))?,
    }
    Ok(Looked::Not)
}

/// Decides heads that no trigger knows, or leaves them.
async fn look_at_branches(
    ctx: &Ctx,
    github: &GitHub,
    due: &Due,
    followed: &[Followed],
    round: &mut Round,
    all: &mut Result<(), Unfinished>,
) -> Result<(), Unfinished> {
    let branches: BTreeSet<&str> = followed.iter().map(|one| one.branch.as_str()).collect();
    for branch in branches {
        let head = match github.branch(&due.repository, branch).await {
            Ok(Some(head)) => head,
            Ok(None) => continue,
            Err(error) => {
                go_on(all, Err(error.into()))?;
                continue;
            }
        };
        for one in followed.iter().filter(|one| one.branch == branch) {
            if round.leaves_news(news(one, &head).is_some()) {
                continue;
            }
            go_on(all, repair(ctx, github, one, (&head, due.attempts)).await)?;
        }
    }
    Ok(())
}

/// Keeps the first failure for the end, and answers one that ends all.
fn go_on(all: &mut Result<(), Unfinished>, done: Result<(), Unfinished>) -> Result<(), Unfinished> {
    let Err(error) = done else {
        return Ok(());
    };
    if error.is_of_all() {
        return Err(error);
    }
    if all.is_ok() {
        *all = Err(error);
    } else {
        tracing::warn!(error = %chain(&error), "more of a repository is not swept yet");
    }
    Ok(())
}

/// Decides what is listed of pull requests, where that is not known, or leaves it.
async fn look_at_pulls(
    ctx: &Ctx,
    github: &GitHub,
    due: &Due,
    round: &mut Round,
) -> Result<(), Unfinished> {
    let repository = &due.repository;
    let overlap = i64::try_from(OVERLAP.as_secs()).unwrap_or(0);
    let since = due.pulls_at.map(|at| at - overlap);
    let (listed, at) = match github.pull_requests(repository, since).await {
        Err(error) if error.is_final() => {
            tracing::debug!(repository, %error, "pull requests are not looked at");
            return Ok(());
        }
        listed => listed?,
    };
    // Oldest change first, as deliveries come. What was opened before the first look, and was never told
    // of, gets no preview: it would be one for each pull request that there ever was.
    let mut all = Ok(());
    for one in listed.into_iter().rev() {
        let since = due.pulls_since;
        if round.is_before_app() {
            round.leaves_news(seen::has_news(ctx, one, since).await?);
            continue;
        }
        let done = seen::decide(ctx, github, one, since).await;
        go_on(&mut all, done.map_err(Unfinished::from))?;
    }
    if let Some(at) = at {
        let mut conn = ctx.pool.acquire().await?;
        let is_whole = all.is_ok() && !round.holds();
        store::save_pulls_at(&mut conn, repository, at, is_whole).await?;
    }
    all
}

/// Decides what is missing, as if its push had come. Nothing is decided again: the push after it keeps its
/// outcome, and what was delivered meanwhile too.
async fn fill(ctx: &Ctx, github: &GitHub, gap: &Gap, attempts: i32) -> Result<(), Unfinished> {
    let one = &gap.followed;
    let Some(before) = &one.pushed else {
        return Ok(());
    };
    let head = Head {
        commit: gap.commit.clone(),
        ..Head::default()
    };
    let Some(seen) = as_pushed(github, one, (&head, attempts), before, gap.at).await? else {
        // Most likely never: it is not asked for by every sweep.
        let mut conn = ctx.pool.acquire().await?;
        return Ok(store::note_gap(&mut conn, one, &gap.commit).await?);
    };
    tracing::info!(
        repository = one.repository, branch = one.branch, commit = gap.commit,
        environment.id = %one.environment,
        "no trigger knows a push before one that was passed over: it is decided now"
    );
    trigger::head::decide(ctx, one.environment, seen).await?;
    Ok(())
}

/// What was known before a head that no trigger knows, and when GitHub said where it is; none of what is no news.
fn news<'a>(one: &'a Followed, head: &Head) -> Option<(&'a str, i64)> {
    let (pushed, looked_at) = (one.pushed.as_deref(), one.seen.as_deref());
    // A look came after whatever was pushed by another name.
    let known = if one.is_moved {
        looked_at.or(pushed)
    } else {
        pushed.or(looked_at)
    };
    // Without GitHub's time nothing says whether a push came after it.
    known
        .filter(|known| *known != head.commit)
        .zip(head.seen_at)
}

/// Decides a head where no trigger knows of it, and remembers it.
async fn repair(
    ctx: &Ctx,
    github: &GitHub,
    one: &Followed,
    (head, attempts): (&Head, i32),
) -> Result<(), Unfinished> {
    if let Some((before, at)) = news(one, head)
        && let Some(seen) = as_pushed(github, one, (head, attempts), before, at).await?
    {
        tracing::info!(
            repository = one.repository, branch = one.branch, commit = head.commit,
            environment.id = %one.environment,
            "no trigger knows where a branch is: it is decided now"
        );
        if !trigger::head::decide(ctx, one.environment, seen).await? {
            // GitHub may be behind: a later look tells.
            return Ok(());
        }
    }
    let mut conn = ctx.pool.acquire().await?;
    store::save_seen(&mut conn, one, &head.commit).await?;
    Ok(())
}

/// What the push would have said. None where what is known is of another repository, and not in this one:
/// that is only looked at, as one that is connected for the first time. Without the comparison it is a push of
/// which nothing more is told.
async fn as_pushed(
    github: &GitHub,
    one: &Followed,
    (head, attempts): (&Head, i32),
    before: &str,
    at: i64,
) -> Result<Option<Seen>, Error> {
    let since = match github.compare(&one.repository, before, &head.commit).await {
        Err(error) if one.is_moved && error.is_not_found() => return Ok(None),
        Err(error) if error.is_final() => None,
        Err(error) if attempts >= PATIENCE && !one.is_moved && !error.is_of_every_call() => None,
        compared => Some(compared?).filter(|since| since.relation == Relation::Ahead),
    };
    let grew = since.is_some();
    let (commits, files) = since.map_or((Vec::new(), None), |since| (since.commits, since.files));
    Ok(Some(Seen {
        repository: one.repository.clone(),
        branch: one.branch.clone(),
        commit: head.commit.clone(),
        message: head.message.clone(),
        author: head.author.clone(),
        author_email: head.author_email.clone(),
        committed_at: head.committed_at.parse().ok(),
        at,
        before: if grew {
            before.to_owned()
        } else {
            String::new()
        },
        commits,
        files,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_every_call_meets_ends_a_sweep_and_of_the_others_the_first_is_kept() {
        let mut all = Ok(());
        for status in [500, 502] {
            let call = "compare";
            let failed = Error::Failed { call, status };
            go_on(&mut all, Err(failed.into())).unwrap();
        }
        let left = Duration::from_secs(1);
        for error in [Error::Resting { left }, Error::Limited { left }] {
            go_on(&mut all, Err(error.into())).unwrap_err();
        }
        let first = all.unwrap_err();
        assert!(
            matches!(first, Unfinished::GitHub(Error::Failed { status: 500, .. })),
            "{first:?}"
        );
    }
}
