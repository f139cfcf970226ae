//! How a deployment ended, or what is to be done now.

use candlefish_proto::deploy::{
    Deployment, Environment,
    deployment::{Kind, State},
    step,
};
use jiff::SignedDuration;

use super::{Look, Tone, blockers, words};
use crate::watch::Outcome;

/// What is so now where a deployment went: what it left there may be gone.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) enum Now {
    /// Its environment is not held, or nothing that is said depends on it.
    #[default]
    Free,
    /// Its environment is held.
    Held,
    /// It succeeded, and another deployment is live since, by its id; empty where nothing is.
    Gone(String),
    /// It could not be read.
    Unread,
}

impl Now {
    /// As the environment of a deployment was read, or was not.
    pub(crate) fn of(deployment: &Deployment, read: &Result<Environment, String>) -> Self {
        let is_gone = |environment: &Environment| {
            went_live(deployment) && environment.live_deployment_id != deployment.id
        };
        match read {
            Ok(environment) if is_gone(environment) => {
                Self::Gone(environment.live_deployment_id.clone())
            }
            Ok(environment) if environment.hold.is_some() => Self::Held,
            Ok(_) => Self::Free,
            Err(_) => Self::Unread,
        }
    }
}

/// Whether it ended as what its environment serves, so that another may be live there by now. What
/// still acts is what visitors get.
fn went_live(deployment: &Deployment) -> bool {
    deployment.state() == State::Succeeded && deployment.kind() != Kind::Preview
}

/// Whether what is said of a deployment depends on its environment: it succeeded, and may be live no
/// more, or is a rollback that is live, and may be held no more.
pub(crate) fn asks_for_now(deployment: &Deployment) -> bool {
    went_live(deployment) || is_live_rollback(deployment)
}

fn is_live_rollback(deployment: &Deployment) -> bool {
    let is_live = match deployment.state() {
        State::Succeeded => true,
        State::Running | State::Waiting => deployment.live_at.is_some(),
        _ => false,
    };
    is_live && deployment.kind() == Kind::Rollback
}

/// What is said when watching ends.
pub(crate) fn text(deployment: &Deployment, outcome: Outcome, now: &Now, look: &Look) -> String {
    let is_gone = matches!(now, Now::Gone(_));
    let mut lines = match outcome {
        // The lines after it say all of it, whatever that makes of the outcome.
        Outcome::Live | Outcome::Failed | Outcome::Superseded if is_gone => Vec::new(),
        Outcome::Live => vec![live(deployment, now, look)],
        Outcome::Failed | Outcome::Cancelled | Outcome::Superseded => vec![ended(deployment, look)],
        Outcome::Waiting(patience) => waiting(deployment, patience, look),
        Outcome::Interrupted if deployment.state() == State::Cancelling => {
            vec!["Stopped watching. It is being undone all the same.".to_owned()]
        }
        Outcome::Interrupted => vec!["Stopped watching. The deployment goes on.".to_owned()],
    };
    let next = match outcome {
        Outcome::Waiting(_) | Outcome::Interrupted => going(deployment),
        _ => next(deployment, now),
    };
    lines.extend(next);
    lines
        .iter()
        .map(|line| format!("  {line}"))
        .collect::<Vec<_>>()
        .join("\n")
}

fn live(deployment: &Deployment, now: &Now, look: &Look) -> String {
    let end = deployment
        .live_at
        .as_ref()
        .or(deployment.finished_at.as_ref());
    let took = words::between(deployment.created_at.as_ref(), end);
    let after = took
        .map(|took| format!(" after {}", words::duration(took)))
        .unwrap_or_default();
    if deployment.kind() == Kind::Preview {
        let words = look.paint(Tone::Good, "Verified");
        return format!(
            "{words} on {}{after}; no environment was touched.",
            words::address(deployment)
        );
    }
    let bake = match baked_at(deployment) {
        Some(until) if !words::is_terminal(deployment.state()) => {
            format!(
                " (bake until {}, then done)",
                words::clock(until, &look.now)
            )
        }
        _ => String::new(),
    };
    let verb = match deployment.kind() {
        // Nobody looked whether it still is.
        _ if *now == Now::Unread && went_live(deployment) => "Went live",
        Kind::Rollback => "Live again",
        _ => "Live",
    };
    format!(
        "{} on {}{after}{bake}.",
        look.paint(Tone::Good, verb),
        deployment.url
    )
}

/// When the bake ends: known once it began, and near enough before.
fn baked_at(deployment: &Deployment) -> Option<jiff::Timestamp> {
    let bake = deployment
        .steps
        .iter()
        .find(|s| s.kind() == step::Kind::Bake)?;
    let begun = bake.started_at.as_ref().or(deployment.live_at.as_ref());
    let length = words::length(bake.interval.as_ref())?;
    if length.is_zero() {
        return None;
    }
    words::moment(begun)?.checked_add(length).ok()
}

fn ended(deployment: &Deployment, look: &Look) -> String {
    let place = words::place(&deployment.site, &deployment.environment, deployment.kind());
    let (tone, what, then) = match deployment.state() {
        State::RolledBack => (Tone::Bad, "Rolled back", after_return(deployment, &place)),
        State::Failed => (Tone::Bad, "Failed", after_failure(deployment, &place)),
        State::Cancelled if deployment.target_confirmed == Some(false) => (
            Tone::Wait,
            "Cancelled",
            "Not every edge confirmed that it serves nothing of it: candlefish edges".to_owned(),
        ),
        State::Cancelled => {
            let then = taken_back(deployment, &place).unwrap_or_default();
            (Tone::Wait, "Cancelled", then)
        }
        State::Superseded => (Tone::Wait, "Superseded", String::new()),
        state => (Tone::Usual, words::state(state), String::new()),
    };
    let what = with_reason(&look.paint(tone, what), deployment);
    format!("{what} {then}").trim_end().to_owned()
}

/// What visitors get of one that was sent back.
fn after_return(deployment: &Deployment, place: &str) -> String {
    let back = match deployment.previous_release_id.as_str() {
        // What took its place says what they get.
        _ if deployment.cause == "preempted" => return String::new(),
        "" => "the release before",
        release => release,
    };
    format!("{place} serves {back} again.")
}

/// What visitors get of one that failed.
fn after_failure(deployment: &Deployment, place: &str) -> String {
    // A rollback that was not undone stays where it went.
    let stays = deployment.kind() == Kind::Rollback && deployment.target_confirmed.is_none();
    match (deployment.pivoted_at, stays) {
        (None, _) => taken_back(deployment, place)
            .unwrap_or_else(|| "Nothing is live that was not before.".to_owned()),
        (Some(_), true) => format!("{place} stays on the release that it went back to."),
        (Some(_), false) => nothing_before(place),
    }
}

fn nothing_before(place: &str) -> String {
    format!("There was no release to go back to: {place} serves nothing now.")
}

/// What visitors get after a rollback that ended before it moved traffic, and undid what it had preempted;
/// none after anything else.
fn taken_back(deployment: &Deployment, place: &str) -> Option<String> {
    let returned = deployment
        .steps
        .iter()
        .any(|one| one.kind() == step::Kind::Return && one.state() == step::State::Done);
    let is_own = deployment.kind() == Kind::Rollback && deployment.pivoted_at.is_none();
    (is_own && returned).then(|| match deployment.previous_release_id.as_str() {
        "" => nothing_before(place),
        release => format!("{place} serves {release} now."),
    })
}

/// What is the case, and the deployment's own words about it, which may begin with the same word.
pub(super) fn with_reason(what: &str, deployment: &Deployment) -> String {
    let message = deployment.message.trim_end_matches('.');
    let first = console::strip_ansi_codes(what).to_lowercase();
    match message.strip_prefix(first.as_str()) {
        _ if message.is_empty() => format!("{what}."),
        Some(rest) => format!("{what}{rest}."),
        None => format!("{what}: {message}."),
    }
}

/// Whether the release was rejected where it went: it had traffic, and hurt.
fn is_rejected(deployment: &Deployment) -> bool {
    deployment.state() == State::RolledBack
        && matches!(
            deployment.cause.as_str(),
            "aborted" | "verification" | "verdict"
        )
}

fn waiting(deployment: &Deployment, patience: SignedDuration, look: &Look) -> Vec<String> {
    let mut lines = vec![format!(
        "Still {} after {}:",
        words::state(deployment.state()),
        words::duration(patience)
    )];
    lines.extend(blockers::each(&deployment.blockers, look));
    if lines.len() == 1 && !deployment.message.is_empty() {
        lines.push(format!("  {}", deployment.message));
    }
    lines
}

/// The commands for a deployment that goes on. What is being undone is cancelled already.
fn going(deployment: &Deployment) -> Vec<String> {
    let id = &deployment.id;
    let mut lines = vec![
        format!("Go on watching: candlefish watch {id}"),
        format!("Why it waits:   candlefish why {id}"),
    ];
    if deployment.state() != State::Cancelling {
        lines.push(format!("Cancel it:      candlefish cancel {id}"));
    }
    lines
}

/// The commands that make sense now. Of one that is live no more there is nothing to undo: that would
/// undo what others did since.
pub(crate) fn next(deployment: &Deployment, now: &Now) -> Vec<String> {
    let id = &deployment.id;
    let place = format!("{}/{}", deployment.site, deployment.environment);
    if let Now::Gone(by) = now {
        let by = if by.is_empty() { "nothing" } else { by };
        return vec![
            format!("It was live; {by} is now."),
            format!("What is live:   candlefish status {place}"),
        ];
    }
    if is_live_rollback(deployment) {
        return hold(deployment, now).into_iter().collect();
    }
    let is_live = deployment.live_at.is_some();
    match (deployment.state(), deployment.kind()) {
        (State::Succeeded, Kind::Preview) => {
            vec![format!("Open it: candlefish open {id}")]
        }
        (State::Succeeded, _) if *now == Now::Unread => vec![format!(
            "Whether it is still live could not be read: candlefish status {place}"
        )],
        (State::Succeeded, _) => vec![format!("Undo: candlefish rollback {place}")],
        (State::Running | State::Waiting, _) if is_live => {
            vec![format!("Undo: candlefish rollback {place}")]
        }
        (State::RolledBack, _) if is_rejected(deployment) => vec![
            format!("What happened: candlefish logs {id}"),
            format!(
                "It is rejected there until somebody clears it: candlefish releases clear {} --env {} --reason \"…\"",
                deployment.release_id, deployment.environment
            ),
        ],
        (State::Failed | State::Cancelled | State::RolledBack, kind) => vec![
            format!("What happened: candlefish logs {id}"),
            match kind {
                // Neither is repeated: another one is made anew.
                Kind::Preview => format!(
                    "Another one:   candlefish deploy DIR --site {} --preview",
                    deployment.site
                ),
                Kind::Rollback => format!("Another one:   candlefish rollback {place}"),
                Kind::Standard | Kind::Unspecified => {
                    format!("Once more:     candlefish retry {id}")
                }
            },
        ],
        (State::Superseded, _) => match deployment.superseded_by.as_str() {
            "" => Vec::new(),
            by => vec![format!("Watch that one: candlefish watch {by}")],
        },
        _ => going(deployment),
    }
}

/// After a rollback: that its environment is held, as long as it is.
fn hold(deployment: &Deployment, now: &Now) -> Option<String> {
    let slug = &deployment.environment;
    let place = format!("{}/{slug}", deployment.site);
    match now {
        Now::Free | Now::Gone(_) => None,
        Now::Held => Some(format!(
            "{slug} is held. Lift it: candlefish hold lift {place} --reason \"…\""
        )),
        Now::Unread => Some(format!(
            "Whether {slug} is still held could not be read: candlefish status {place}"
        )),
    }
}
