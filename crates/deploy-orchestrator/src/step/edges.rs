//! Waiting until every live edge has followed: shared by the steps that change routes.
//!
//! An edge that does not follow in time is set aside and named; it cannot keep a deployment, least of
//! all a rollback, from ending. It is set aside for all lanes, so an edge that follows others meanwhile
//! is given its time anew: see ADR 0073.

use std::time::Duration;

use candlefish_clock::Moment;
use candlefish_ids::ReleaseId;
use serde_json::{Value, json};

use super::{
    Step,
    outcome::{Outcome, Wait},
    shared,
};
use crate::{
    blocker::{self, Blocker},
    config::Config,
    ctx::Tx,
    deployment::{
        Deployment,
        plan::{Kind, StepKind},
        state::Cause,
    },
    edge::{self, store::Follower},
    noun,
    route::Written,
};

/// A wait shorter than this is not worth a blocker.
pub(super) const NAMED_AFTER: Duration = Duration::from_secs(1);

/// An edge that follows others is waited for so many times as long as one that does nothing, and no
/// longer: it may be able to do everything but this.
const MOST_PATIENCES: u32 = 10;

/// In a step's detail: edges may lack what it sends visitors back to, as no route named it before.
pub(super) const FETCHES: &str = "fetches";

/// How the edges stand towards what was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Standing {
    /// Every live edge followed. Those that are not live are named; gone are those of them that were not
    /// heard for a day.
    Followed {
        live: usize,
        absent: Vec<String>,
        gone: Vec<String>,
    },
    /// Not yet; or it cannot be.
    Not(Box<NotYet>),
}

/// Why the edges have not followed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NotYet {
    pub(crate) live: usize,
    pub(crate) needed: usize,
    /// Live edges that have not followed.
    pub(crate) behind: Vec<Follower>,
    /// The first reason of an edge that cannot, when all that are behind cannot, and will not be able to.
    pub(crate) refused: Option<String>,
}

/// Judges the followers; pure.
pub(crate) fn judge(followers: &[Follower], needed: usize) -> Standing {
    let live: Vec<&Follower> = followers.iter().filter(|one| one.live).collect();
    let behind: Vec<&Follower> = live.iter().copied().filter(|one| !one.applied).collect();
    if live.len() >= needed && behind.is_empty() {
        let silent = |lately: bool| {
            let silent = followers.iter().filter(|one| !one.live);
            let silent = silent.filter(|one| one.lately == lately);
            silent.map(|one| one.id.clone()).collect()
        };
        return Standing::Followed {
            live: live.len(),
            absent: silent(true),
            gone: silent(false),
        };
    }
    let all_refuse = !behind.is_empty()
        && behind.len() == live.len()
        && behind
            .iter()
            .all(|one| !one.error.is_empty() && !one.passes);
    Standing::Not(Box::new(NotYet {
        live: live.len(),
        needed,
        refused: behind
            .first()
            .filter(|_| all_refuse)
            .map(|one| one.error.clone()),
        behind: behind.into_iter().cloned().collect(),
    }))
}

/// What a step that writes routes remembers.
pub(super) fn remember(step: &mut Step, now: Moment, written: &[Written]) {
    let object = step
        .detail
        .as_object_mut()
        .expect("a step's detail is an object");
    object.insert("written".to_owned(), json!(written));
    object.insert(
        "written_at_ms".to_owned(),
        json!(now.timestamp().as_millisecond()),
    );
}

/// The routes that a step wrote; empty before it did.
pub(super) fn written(step: &Step) -> Vec<Written> {
    step.detail
        .get("written")
        .and_then(|written| serde_json::from_value(written.clone()).ok())
        .unwrap_or_default()
}

/// No edge was absent when the step was done.
pub(super) fn all_followed(step: &Step) -> bool {
    let absent = step.detail.get("absent").and_then(Value::as_array);
    step.detail.get("unconfirmed").is_none() && absent.is_none_or(Vec::is_empty)
}

/// Since when edges are waited for; none before anything was written.
fn waits_since(step: &Step) -> Option<Moment> {
    let written_at = step.detail.get("written_at_ms").and_then(Value::as_i64)?;
    let written_at = jiff::Timestamp::from_millisecond(written_at).ok()?;
    Some(Moment::from_database(written_at))
}

fn waited(step: &Step, now: Moment) -> Duration {
    waits_since(step).map_or(Duration::ZERO, |since| now.since(since))
}

/// Looks whether every live edge followed what the step wrote; none when they did, with the words to
/// say so in `step.message`.
pub(super) async fn await_followers(
    config: &Config,
    tx: &mut Tx,
    deployment: &Deployment,
    step: &mut Step,
) -> Result<Option<Outcome>, sqlx::Error> {
    let now = tx.now();
    let routes = written(step);
    let needed = deployment.needed_edges();
    let followers = shared::followers(tx, deployment, &routes).await?;
    match judge(&followers, needed) {
        Standing::Followed { live, absent, gone } => {
            let object = step
                .detail
                .as_object_mut()
                .expect("a step's detail is an object");
            object.insert("absent".to_owned(), json!(absent));
            let stale = stale(deployment, step.kind);
            step.message = followed_words(stale, live, &absent) + &gone_words(&gone);
            Ok(None)
        }
        Standing::Not(not) if step.is_undo && waited(step, now) >= config.edge_patience => {
            // An undo ends by its deadline, whoever followed; the record says that not all did.
            if step.detail.get(FETCHES).is_some() {
                let patience = Patience::of(config.edge_patience, None);
                let stalled = given_up(&not, waits_since(step), patience, now);
                set_aside(tx, deployment, &stalled, patience).await?;
            }
            let (confirmed, absent) = confirmed(&followers);
            step.message = unconfirmed_words(stale(deployment, step.kind), confirmed, &absent);
            let object = step
                .detail
                .as_object_mut()
                .expect("a step's detail is an object");
            object.insert("absent".to_owned(), json!(absent));
            object.insert("unconfirmed".to_owned(), json!(true));
            Ok(None)
        }
        Standing::Not(not) => still_waiting(config, tx, deployment, step, *not)
            .await
            .map(Some),
    }
}

/// The edges that serve what last moved this deployment's traffic, and what to wait for when a live
/// one does not: it joined while the traffic moved, and nobody could wait for it then.
pub(super) async fn serving(
    config: &Config,
    tx: &mut Tx,
    deployment: &Deployment,
    step: &mut Step,
) -> Result<(Vec<Follower>, Option<Outcome>), sqlx::Error> {
    let now = tx.now();
    let begun = shared::list_begun(tx, deployment.id).await?;
    let moves = |step: &&Step| matches!(step.kind, StepKind::Shift | StepKind::Switch);
    let routes = begun.iter().rfind(moves).map(written).unwrap_or_default();
    let mut followers = shared::followers(tx, deployment, &routes).await?;
    followers.retain(|one| one.live);
    let behind = followers.iter().filter(|one| !one.applied);
    let behind: Vec<Follower> = behind.cloned().collect();
    if behind.is_empty() {
        return Ok((followers, None));
    }
    if written(step).is_empty() {
        remember(step, now, &routes);
    }
    let not = NotYet {
        live: followers.len(),
        needed: 0,
        behind,
        refused: None,
    };
    let outcome = still_waiting(config, tx, deployment, step, not).await?;
    followers.retain(|one| one.applied);
    Ok((followers, Some(outcome)))
}

/// What an edge may still serve that did not hear of this step: of an undo, what is undone.
fn stale(deployment: &Deployment, kind: StepKind) -> Option<ReleaseId> {
    match kind {
        StepKind::Return => deployment.given_up(),
        StepKind::Unstage => Some(deployment.release_id),
        _ => deployment.replaced(),
    }
}

fn followed_words(stale: Option<ReleaseId>, live: usize, absent: &[String]) -> String {
    let edges = noun::counted(live + absent.len(), "edge");
    if absent.is_empty() {
        return format!("{live} of {edges}");
    }
    let (absent, stale) = (absent.join(", "), may_still_serve(stale));
    format!("{live} of {edges}; {absent} unreachable{stale}")
}

/// Those that most likely do not come back; should one serve on, unheard, somebody must know of it.
fn gone_words(gone: &[String]) -> String {
    if gone.is_empty() {
        return String::new();
    }
    format!("; {} not heard for a day", gone.join(", "))
}

/// How many edges confirmed, and those that did not. One that is not live may have forgotten it since.
fn confirmed(followers: &[Follower]) -> (usize, Vec<String>) {
    let (mut confirmed, mut absent) = (0, Vec::new());
    for one in followers.iter().filter(|one| one.lately) {
        if one.live && one.applied {
            confirmed += 1;
        } else {
            absent.push(one.id.clone());
        }
    }
    (confirmed, absent)
}

/// All that confirmed may still be too few for the policy.
fn unconfirmed_words(stale: Option<ReleaseId>, confirmed: usize, absent: &[String]) -> String {
    let all = confirmed + absent.len();
    if all == 0 {
        return "no edge confirmed in time: none was heard of for a day".to_owned();
    }
    let edges = noun::counted(all, "edge");
    let words = format!("{confirmed} of {edges} confirmed in time");
    if absent.is_empty() {
        return words;
    }
    let (absent, stale) = (absent.join(", "), may_still_serve(stale));
    format!("{words}; {absent} did not{stale}")
}

fn may_still_serve(stale: Option<ReleaseId>) -> String {
    stale.map_or_else(String::new, |release| {
        format!(", may still serve {release}")
    })
}

async fn still_waiting(
    config: &Config,
    tx: &mut Tx,
    deployment: &Deployment,
    step: &Step,
    not: NotYet,
) -> Result<Outcome, sqlx::Error> {
    let now = tx.now();
    let waited = waited(step, now);
    let patience = patience(config, deployment, step, &not);
    if let Some(error) = not.refused.as_ref().filter(|_| !step.is_undo) {
        return Ok(Outcome::failed(Cause::Verification, error));
    }
    let since = waits_since(step);
    let stalled = given_up(&not, since, patience, now);
    set_aside(tx, deployment, &stalled, patience).await?;
    let blocker = if not.live < not.needed {
        few(not.live, not.needed, deployment, step)
    } else {
        let names: Vec<String> = not.behind.iter().map(named).collect();
        let message = format!("waiting for {}", names.join(", "));
        // Then those that are behind are set aside, and nobody waits for them any more; or, where that would
        // be all, the deployment ends.
        let ends = |one| Some(counts_from(since?, one, patience).plus(patience.idle));
        let until = if step.is_undo || not.behind.len() < not.live {
            not.behind.iter().filter_map(ends).max()
        } else {
            deployment.deadline_at
        };
        Blocker {
            until: until.filter(|at| *at > now),
            ..behind(message)
        }
    };
    let message = blocker.message.clone();
    let blocker = (waited >= NAMED_AFTER).then_some(blocker);
    // An edge's report wakes the step at once; the poll only covers a report that another replica got.
    let again_in = (waited / 4).clamp(Duration::from_millis(100), Duration::from_millis(500));
    Ok(Outcome::Wait(Wait {
        again_in,
        on_edges: true,
        message,
        blocker,
        detail: step.detail.clone(),
    }))
}

/// An edge that is behind, with what it waits for itself.
fn named(one: &Follower) -> String {
    if one.passes {
        format!("{} ({})", one.id, one.error)
    } else {
        one.id.clone()
    }
}

/// How long live edges are waited for before they are set aside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Patience {
    /// One that does nothing.
    idle: Duration,
    /// One that follows others, at most.
    most: Duration,
}

impl Patience {
    fn of(idle: Duration, bound: Option<Duration>) -> Self {
        let most = idle.saturating_mul(MOST_PATIENCES);
        let most = bound.map_or(most, |bound| most.min(bound).max(idle));
        Self { idle, most }
    }
}

/// What sends visitors back is in a hurry, as long as edges have what it goes to; and a rollback keeps no
/// visitor for an edge that copies while others have followed.
fn patience(config: &Config, deployment: &Deployment, step: &Step, not: &NotYet) -> Patience {
    let hurried = step.is_undo || deployment.kind == Kind::Rollback;
    let idle = if hurried && step.detail.get(FETCHES).is_none() {
        config.edge_patience_hurried
    } else {
        config.edge_patience
    };
    let suffices = suffices(deployment.kind, not);
    Patience::of(idle, suffices.then_some(config.edge_patience))
}

/// The deployment needs no more edges than have followed.
fn suffices(kind: Kind, not: &NotYet) -> bool {
    let followed = not.live.saturating_sub(not.behind.len());
    kind == Kind::Rollback && followed >= not.needed.max(1)
}

/// From when the patience with an edge counts: from its last progress with anything since the write; from
/// the write alone when it told why it cannot stage the release.
fn counts_from(written_at: Moment, one: &Follower, patience: Patience) -> Moment {
    let latest = written_at.plus(patience.most.saturating_sub(patience.idle));
    one.moved_at
        .filter(|_| one.error.is_empty())
        .map_or(written_at, |moved| moved.clamp(written_at, latest))
}

/// Those that are waited for no more: none where that is every live edge. Without one no lane would move,
/// and no visitor would go back, though all of them may do all but this.
fn given_up(
    not: &NotYet,
    waits_since: Option<Moment>,
    patience: Patience,
    now: Moment,
) -> Vec<String> {
    let stalled = stalled(&not.behind, waits_since, patience, now);
    if stalled.len() < not.live {
        stalled
    } else {
        Vec::new()
    }
}

/// Of those that are behind, who made no progress for as long as the patience lasts.
fn stalled(
    behind: &[Follower],
    waits_since: Option<Moment>,
    patience: Patience,
    now: Moment,
) -> Vec<String> {
    let is_stalled = |one: &&Follower| {
        waits_since
            .is_some_and(|since| now.since(counts_from(since, one, patience)) >= patience.idle)
    };
    let stalled = behind.iter().filter(is_stalled);
    stalled.map(|one| one.id.clone()).collect()
}

/// These live edges are waited for no more.
async fn set_aside(
    tx: &mut Tx,
    deployment: &Deployment,
    behind: &[String],
    patience: Patience,
) -> Result<(), sqlx::Error> {
    if behind.is_empty() {
        return Ok(());
    }
    let (now, id) = (tx.now(), deployment.id);
    let reason = format!("did not follow {id} within {} s", patience.idle.as_secs());
    edge::store::set_aside(tx, now, behind, &reason).await?;
    shared::forget_followers(tx, id);
    tracing::warn!(deployment.id = %id, edges = ?behind, "edges are set aside: {reason}");
    Ok(())
}

/// A step that needs live edges and found too few waits for them: that is no fault of the release.
pub(super) fn too_few(live: usize, needed: usize, deployment: &Deployment, step: &Step) -> Outcome {
    let blocker = few(live, needed, deployment, step);
    Outcome::Wait(Wait {
        again_in: Duration::from_millis(500),
        on_edges: true,
        message: blocker.message.clone(),
        blocker: Some(blocker),
        detail: step.detail.clone(),
    })
}

/// That there are enough edges is for people to see to: more are started, or fewer are asked for. A
/// deployment keeps the minimum that its environment had when it was made.
fn few(live: usize, needed: usize, deployment: &Deployment, step: &Step) -> Blocker {
    let (id, more) = (deployment.id, needed.saturating_sub(live));
    let place = format!("{}/{}", deployment.site, deployment.environment);
    // A single preview's environment goes with it, and no minimum is below one.
    let cannot_be_lower = live == 0 || deployment.kind == Kind::Preview;
    Blocker {
        kind: blocker::Kind::Edge,
        until: None,
        owner: "admin",
        message: few_words(live, needed),
        // What is undone goes on without them by its deadline.
        action: if step.is_undo {
            format!("candlefish edges (shows them: start {more} more)")
        } else if cannot_be_lower {
            format!("candlefish edges (shows them: start {more} more) or candlefish cancel {id}")
        } else {
            format!(
                "candlefish edges (shows them: start \
                 {more} more) or candlefish env policy {place} --min-edges {live} (for what is \
                 deployed after it) or candlefish cancel {id}"
            )
        },
    }
}

fn few_words(live: usize, needed: usize) -> String {
    let live = noun::counted(live, "live edge");
    format!("{live}, {needed} needed")
}

/// Live edges have not followed, and are set aside when they do not in time.
fn behind(message: String) -> Blocker {
    Blocker {
        kind: blocker::Kind::Edge,
        until: None,
        owner: "platform",
        message,
        action: "candlefish edges".to_owned(),
    }
}

#[cfg(test)]
mod tests;
