//! How a deployment ended, or what is to be done now.

use candlefish_proto::deploy::{
    Deployment, Environment,
    deployment::{Kind, State},
    step,
};
use jiff::SignedDuration;

use super::{Look, Tone, blockers, words};
use crate::watch::Outcome;

/// Whether the environment of a deployment is held now: a hold that a rollback set may be gone.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Held {
    /// It is not, or nothing that is said depends on it.
    #[default]
    No,
    /// It is.
    Yes,
    /// It could not be read.
    Unknown,
}

impl Held {
    /// As an environment was read, or was not.
    pub(crate) fn of(read: &Result<Environment, String>) -> Self {
        match read {
            Ok(environment) if environment.hold.is_some() => Self::Yes,
            Ok(_) => Self::No,
            Err(_) => Self::Unknown,
        }
    }
}

/// Whether what is said of a deployment depends on its environment being held: of a rollback that is
/// live.
pub(crate) fn asks_for_hold(deployment: &Deployment) -> bool {
    let is_live = match deployment.state() {
        State::Succeeded => true,
        State::Running | State::Waiting => deployment.live_at.is_some(),
        _ => false,
    };
    is_live && deployment.kind() == Kind::Rollback
}

/// What is said when watching ends.
pub(crate) fn text(deployment: &Deployment, outcome: Outcome, held: Held, look: &Look) -> String {
    let mut lines = match outcome {
        Outcome::Live => vec![live(deployment, look)],
        Outcome::Failed | Outcome::Cancelled | Outcome::Superseded => vec![ended(deployment, look)],
        Outcome::Waiting(patience) => waiting(deployment, patience),
        Outcome::Interrupted => vec!["Stopped watching. The deployment goes on.".to_owned()],
    };
    let next = match outcome {
        Outcome::Waiting(_) | Outcome::Interrupted => going(deployment),
        _ => next(deployment, held),
    };
    lines.extend(next);
    lines
        .iter()
        .map(|line| format!("  {line}"))
        .collect::<Vec<_>>()
        .join("\n")
}

fn live(deployment: &Deployment, look: &Look) -> String {
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
    let verb = if deployment.kind() == Kind::Rollback {
        "Live again"
    } else {
        "Live"
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

fn waiting(deployment: &Deployment, patience: SignedDuration) -> Vec<String> {
    let mut lines = vec![format!(
        "Still {} after {}:",
        words::state(deployment.state()),
        words::duration(patience)
    )];
    let standing = deployment.blockers.iter().filter(|b| blockers::stands(b));
    lines.extend(standing.map(|b| format!("  {}: {}", blockers::name(b.kind()), b.message)));
    if lines.len() == 1 && !deployment.message.is_empty() {
        lines.push(format!("  {}", deployment.message));
    }
    lines
}

/// The commands for a deployment that goes on.
fn going(deployment: &Deployment) -> Vec<String> {
    let id = &deployment.id;
    vec![
        format!("Go on watching: candlefish watch {id}"),
        format!("Why it waits:   candlefish why {id}"),
        format!("Cancel it:      candlefish cancel {id}"),
    ]
}

/// The commands that make sense now.
pub(crate) fn next(deployment: &Deployment, held: Held) -> Vec<String> {
    if asks_for_hold(deployment) {
        return hold(deployment, held).into_iter().collect();
    }
    let id = &deployment.id;
    let place = format!("{}/{}", deployment.site, deployment.environment);
    let is_live = deployment.live_at.is_some();
    match (deployment.state(), deployment.kind()) {
        (State::Succeeded, Kind::Preview) => {
            vec![format!("Open it: candlefish open {id}")]
        }
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
fn hold(deployment: &Deployment, held: Held) -> Option<String> {
    let slug = &deployment.environment;
    let place = format!("{}/{slug}", deployment.site);
    match held {
        Held::No => None,
        Held::Yes => Some(format!(
            "{slug} is held. Lift it: candlefish hold lift {place} --reason \"…\""
        )),
        Held::Unknown => Some(format!(
            "Whether {slug} is still held could not be read: candlefish status {place}"
        )),
    }
}
