//! Deliveries that did not arrive: GitHub is asked to bring them once more, so many in one sweep.

use std::{
    collections::{BTreeSet, HashMap},
    time::Duration,
};

use super::{
    Due, Finished, Unfinished,
    pauses::{Pauses, head_start, longest_wait},
};
use crate::{
    ctx::Ctx,
    github::{Error, GitHub, heads::Sent, store},
};

/// Where the gateway takes deliveries.
const RECEIVED_AT: &str = "/v1/webhooks/github";
/// Asked for by one sweep. After a long outage thousands are missing: each takes one of the 5,000 calls
/// that GitHub allows in an hour, and a turn of a second, in which the repository is nobody else's.
const MOST: usize = 100;
/// Of what is missing, where that is more than `MOST`. Of the 3,000 tries that are looked at it is 250, so
/// that the oldest do not slide out of the list before their turn, and a sweep ends within its lease.
const SHARE: usize = 12;
/// Of the pause between two sweeps, where something is left. With the usual five minutes and the time that
/// a sweep takes itself, 100 in four minutes and 250 in seven, that is 1,440 in an hour, and 2,250 at the
/// most: the other half of GitHub's limit is for all else.
const SOONER: u32 = 2;
/// Sweeps one after the other that ask for deliveries until all else is decided although more are missing. That is
/// 600 or more, and about half an hour.
const MOST_ROUNDS: i32 = 6;

/// How far a sweep looked at deliveries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Looked {
    /// They may not be seen, or are none of ours.
    Not,
    /// Some that are missing are left for the next sweep.
    Partly,
    /// All that are missing were asked for, as far as that is due.
    Whole,
}

impl Looked {
    /// Until the next sweep, when they mostly come so far from each other.
    pub(super) fn pause(self, sweep: Duration) -> Duration {
        match self {
            Self::Partly => sweep / SOONER,
            Self::Not | Self::Whole => sweep,
        }
    }
}

/// Asks for deliveries once more that did not arrive, by any try of the newest.
pub(super) async fn redeliver(
    ctx: &Ctx,
    github: &GitHub,
    due: &Due,
    round: &mut Round,
) -> Result<Looked, Unfinished> {
    let repository = &due.repository;
    for hook in github.hooks(repository).await? {
        if !hook.active || !hook.url().ends_with(RECEIVED_AT) {
            continue;
        }
        let sent = github
            .deliveries(repository, hook.id, due.back(github.settings().sweep))
            .await?;
        let lost = missing(&sent);
        round.missing += lost.len();
        for one in lost {
            if round.asks(ctx, github, repository, one).await? {
                let asked = github.redeliver(repository, hook.id, one.id).await;
                round.counts(one, asked)?;
            }
        }
    }
    if round.missing > 0 && !round.holds() {
        // Another process may be asking, whose lease is over.
        let head_start = head_start(github.settings());
        let mut conn = ctx.pool.acquire().await?;
        round.is_lately = store::was_asked_lately(&mut conn, repository, head_start).await?;
    }
    Ok(round.end(repository))
}

/// The same for the App's own webhook, where that comes to us. Nothing says of which repository a delivery
/// is: whatever was left, of any, is decided when it had its time.
pub(super) async fn redeliver_to_app(
    ctx: &Ctx,
    github: &GitHub,
    due: &Due,
    round: &mut Round,
) -> Result<Looked, Unfinished> {
    if !github.is_app() {
        let mut conn = ctx.pool.acquire().await?;
        store::forget_repository(&mut conn, "").await?;
        return Ok(Looked::Not);
    }
    match github.app_hook().await {
        Ok(url) if url.ends_with(RECEIVED_AT) => {}
        Ok(_elsewhere) => return Ok(Looked::Not),
        Err(error) if error.is_final() => {
            tracing::debug!(%error, "the App's deliveries are not looked at");
            return Ok(Looked::Not);
        }
        Err(error) => return Err(error.into()),
    }
    let sent = github
        .app_deliveries(due.back(github.settings().sweep))
        .await?;
    let lost = missing(&sent);
    round.missing = lost.len();
    let asked = ask_app(ctx, github, lost, round).await;
    let put_off = put_off(ctx, github, round, head_start(github.settings())).await;
    // What GitHub says tells when to ask again.
    asked?;
    put_off?;
    Ok(round.end(""))
}

/// Asks for what is missing. Meanwhile only what is due soon is put off: hundreds of rows are not written for each of
/// hundreds of deliveries.
async fn ask_app(
    ctx: &Ctx,
    github: &GitHub,
    lost: Vec<&Sent>,
    round: &mut Round,
) -> Result<(), Unfinished> {
    let soon = head_start(github.settings()) / 2;
    for one in lost {
        if round.asks(ctx, github, "", one).await? {
            round.counts(one, github.redeliver_to_app(one.id).await)?;
            put_off(ctx, github, round, soon).await?;
        }
    }
    Ok(())
}

/// What was left, and is due within `soon`, has a head start from now on, where something is brought.
async fn put_off(
    ctx: &Ctx,
    github: &GitHub,
    round: &Round,
    soon: Duration,
) -> Result<(), sqlx::Error> {
    if round.brought == 0 {
        return Ok(());
    }
    let settings = github.settings();
    let (head_start, in_all) = (head_start(settings), longest_wait(settings));
    let mut conn = ctx.pool.acquire().await?;
    store::put_repositories_off(&mut conn, head_start, soon, in_all).await
}

/// What one sweep asked for, and left.
#[derive(Debug, Default)]
pub(super) struct Round {
    /// The App's own webhook is to be asked before news are decided.
    is_before_app: bool,
    /// There are news, which were left for that.
    has_news: bool,
    /// What is missing was asked for just now, by another process.
    is_lately: bool,
    /// Found missing so far.
    missing: usize,
    asked: usize,
    /// Of these GitHub said that it brings them, or may have said so.
    brought: usize,
    /// Came after the last that it may ask for. Not all of them are due: some were asked for lately.
    left: usize,
}

impl Round {
    pub(super) fn new(is_before_app: bool) -> Self {
        Self {
            is_before_app,
            ..Self::default()
        }
    }

    pub(super) const fn is_before_app(&self) -> bool {
        self.is_before_app
    }

    /// Whether this is left to the next sweep, when it is news: it is noted that there are some.
    pub(super) const fn leaves_news(&mut self, is_news: bool) -> bool {
        let is_left = is_news && self.is_before_app;
        self.has_news |= is_left;
        is_left
    }

    /// How the sweep ends that comes to this.
    pub(super) fn finished<'a>(
        &self,
        due: &Due,
        pauses: Pauses,
        note: &'a str,
        looked: bool,
    ) -> Finished<'a> {
        let has_more = !looked && (self.brought > 0 || self.left > 0);
        // Who must wait longer than usual before it may ask on has let heads wait enough.
        let asks_on = has_more && due.rounds + 1 < MOST_ROUNDS && pauses.next <= pauses.between;
        // The App's own webhook has nothing else to decide.
        let leaves = self.holds() && !asks_on && !due.repository.is_empty();
        Finished {
            pause: if leaves { pauses.second } else { pauses.next },
            note,
            looked,
            then: leaves.then_some(pauses.next),
            rounds: if asks_on { due.rounds + 1 } else { 0 },
        }
    }

    /// Whether a delivery that did not arrive is to be asked for once more; notes that it is.
    async fn asks(
        &mut self,
        ctx: &Ctx,
        github: &GitHub,
        repository: &str,
        missing: &Sent,
    ) -> Result<bool, sqlx::Error> {
        if self.is_over() {
            self.left += 1;
            return Ok(false);
        }
        let asks = is_asked(ctx, github, repository, missing).await?;
        self.asked += usize::from(asks);
        Ok(asks)
    }

    /// Counts what GitHub brings once more. One that it does not bring any more keeps no other.
    fn counts(&mut self, missing: &Sent, asked: Result<(), Error>) -> Result<(), Error> {
        let is_brought = asked.as_ref().err().is_none_or(Error::may_have_worked);
        self.brought += usize::from(is_brought);
        match asked {
            Err(error) if error.is_final() => {
                tracing::info!(guid = missing.guid, %error, "a delivery is not brought once more");
                Ok(())
            }
            done => done,
        }
    }

    /// Something is on its way, or may be: what comes by itself is not to be found first.
    pub(super) const fn holds(&self) -> bool {
        self.brought > 0 || self.left > 0 || self.is_lately || self.has_news
    }

    fn is_over(&self) -> bool {
        self.asked >= MOST.max(self.missing / SHARE)
    }

    fn end(&self, repository: &str) -> Looked {
        if self.left == 0 {
            return Looked::Whole;
        }
        tracing::info!(
            repository,
            asked = self.asked,
            left = self.left,
            "more deliveries did not arrive than one sweep asks for: the next one goes on"
        );
        Looked::Partly
    }
}

/// Whether a delivery is due to be asked for once more; notes that it is.
async fn is_asked(
    ctx: &Ctx,
    github: &GitHub,
    repository: &str,
    missing: &Sent,
) -> Result<bool, sqlx::Error> {
    let (again, guid) = (github.settings().sweep, &missing.guid);
    let mut conn = ctx.pool.acquire().await?;
    // The intent comes first: whatever becomes of the call, it is not made for ever.
    let refused = missing.is_refused();
    let ask = store::note_redelivery(&mut conn, repository, guid, refused, again);
    if !ask.await? {
        return Ok(false);
    }
    tracing::info!(
        repository,
        guid,
        event = missing.event,
        "a delivery did not arrive: once more"
    );
    Ok(true)
}

/// The newest try of each delivery of which none arrived. Those that were tried least come first, or what
/// never arrives could keep the others from their turn; of these the oldest, as pushes came.
fn missing(sent: &[Sent]) -> Vec<&Sent> {
    // How many tries there were, and whether one arrived.
    let mut tries: HashMap<&str, (usize, bool)> = HashMap::new();
    for one in sent {
        let (count, arrived) = tries.entry(&one.guid).or_default();
        *count += 1;
        *arrived |= one.arrived();
    }
    let of = |one: &Sent| tries.get(one.guid.as_str()).copied().unwrap_or_default();
    let mut known = BTreeSet::new();
    let newest = sent.iter().filter(|one| known.insert(&one.guid));
    let mut missing: Vec<&Sent> = newest.filter(|one| !of(one).1).collect();
    missing.reverse();
    missing.sort_by_key(|one| of(one).0);
    missing
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(id: u64, guid: &str, status_code: i64) -> Sent {
        serde_json::from_value(serde_json::json!({
            "id": id, "guid": guid, "status_code": status_code, "event": "push"
        }))
        .unwrap()
    }

    #[test]
    fn a_delivery_is_missing_until_any_try_of_it_arrived() {
        let newest_first = [
            sent(5, "b", 502),
            sent(4, "a", 202),
            sent(3, "c", 500),
            sent(2, "b", 0),
            sent(1, "a", 500),
        ];
        let found: Vec<u64> = missing(&newest_first).iter().map(|one| one.id).collect();
        assert_eq!(found, [3, 5]);
    }

    #[test]
    fn what_was_tried_least_comes_first_and_of_that_the_oldest() {
        let newest_first = [
            sent(6, "d", 502),
            sent(5, "c", 502),
            sent(4, "b", 502),
            sent(3, "a", 502),
            sent(2, "b", 502),
            sent(1, "a", 502),
        ];
        let found: Vec<u64> = missing(&newest_first).iter().map(|one| one.id).collect();
        assert_eq!(found, [5, 6, 3, 4]);
    }

    #[test]
    fn what_github_brings_or_may_bring_comes_first_and_what_it_refuses_does_not() {
        let call = "redeliver";
        let gone = Error::Refused {
            call,
            status: 422,
            message: "no such delivery".to_owned(),
        };
        let left = Duration::from_secs(1);
        let after = Duration::from_secs(10);
        for (asked, holds, ends) in [
            (Ok(()), true, false),
            (Err(gone), false, false),
            (Err(Error::Limited { left }), false, true),
            (Err(Error::Late { call, after }), true, true),
        ] {
            let mut round = Round::default();
            let counted = round.counts(&sent(1, "a", 502), asked);
            assert_eq!(
                (round.holds(), counted.is_err()),
                (holds, ends),
                "{counted:?}"
            );
        }
    }

    #[test]
    fn a_sweep_asks_for_more_where_what_is_missing_nears_what_is_listed() {
        for (missing, most) in [(0, 100), (130, 100), (1_200, 100), (3_000, 250)] {
            let is_over = |asked| {
                let round = Round {
                    missing,
                    asked,
                    ..Round::default()
                };
                round.is_over()
            };
            assert!(!is_over(most - 1) && is_over(most), "{missing}");
        }
    }

    fn due(repository: &str, rounds: i32) -> Due {
        Due {
            repository: repository.to_owned(),
            attempts: 1,
            swept_ago: None,
            pulls_since: None,
            pulls_at: None,
            is_second: false,
            rounds,
        }
    }

    #[test]
    fn while_more_is_missing_heads_wait_for_so_many_sweeps_and_no_longer() {
        let between = Duration::from_mins(5);
        let pause = Looked::Partly.pause(between);
        let head_start = Duration::from_secs(10);
        let asked = Round {
            asked: MOST,
            brought: MOST,
            left: 30,
            ..Round::default()
        };
        let ends = |one: &Due, note| {
            let pauses = Pauses {
                between,
                next: pause,
                second: head_start,
            };
            let finished = asked.finished(one, pauses, note, false);
            (finished.pause, finished.then, finished.rounds)
        };
        // One that fails half way is no other.
        for note in ["", "failed"] {
            for rounds in 0..5 {
                let one = due("example/docs", rounds);
                assert_eq!(ends(&one, note), (pause, None, rounds + 1));
            }
        }
        let last = due("example/docs", 5);
        for note in ["", "failed"] {
            assert_eq!(ends(&last, note), (head_start, Some(pause), 0));
        }
        let hour = Duration::from_hours(1);
        let pauses = Pauses {
            between,
            next: hour,
            second: hour,
        };
        let limited = asked.finished(&due("example/docs", 0), pauses, "limited", false);
        assert_eq!(
            (limited.pause, limited.then, limited.rounds),
            (hour, Some(hour), 0)
        );
        assert_eq!(ends(&due("", 0), ""), (pause, None, 1));
        assert_eq!(ends(&due("", 5), ""), (pause, None, 0));
    }

    #[test]
    fn news_are_left_where_an_app_is_to_be_asked_first_and_webhooks_may_not_be_seen() {
        let between = Duration::from_mins(5);
        for (is_before_app, is_news) in [(true, true), (true, false), (false, true)] {
            let mut round = Round::new(is_before_app);
            let is_left = round.leaves_news(is_news);
            assert_eq!(is_left, is_before_app && is_news);
            let one = due("example/docs", 0);
            let pauses = Pauses {
                between,
                next: between,
                second: between,
            };
            let finished = round.finished(&one, pauses, "", false);
            assert_eq!(finished.then, is_left.then_some(between));
            assert_eq!(finished.rounds, 0);
        }
    }

    #[test]
    fn a_sweep_that_leaves_something_is_followed_sooner_and_counts_as_none() {
        let sweep = Duration::from_mins(5);
        let mut round = Round::default();
        assert_eq!(round.end("example/docs"), Looked::Whole);
        round.asked = MOST;
        assert!(round.is_over());
        assert_eq!(round.end("example/docs").pause(sweep), sweep);
        round.left = 1;
        let left = round.end("example/docs");
        assert_eq!(left, Looked::Partly);
        assert_eq!(left.pause(sweep), Duration::from_secs(150));
    }
}
