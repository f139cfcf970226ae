//! What became of a push, and what holds and stops the environments that it concerns.

use std::collections::BTreeSet;

use candlefish_proto::deploy::{
    Delivery, Environment, GetEnvironmentRequest, ListTriggersResponse, Stop, Trigger, Undecided,
    deployment::State,
    trigger::{Outcome, Reason},
};

use super::{Look, Tone, blockers, lane, words};

/// Where to look for a push that is not known here.
const WHERE: &str = "\
What was pushed to a repository that no site has is shown only to tokens of all sites, and not
with --site. Is it the repository of yours? See candlefish sites show SITE
Has it reached Candlefish? GitHub lists each delivery with our answer under the repository's
Settings, Webhooks, Recent deliveries; Redeliver there sends one again, and a repeat is harmless.";

/// An environment that a push concerns.
#[derive(Debug)]
pub(crate) struct There {
    /// `docs/production`.
    pub(crate) place: String,
    /// It, or why it could not be read.
    pub(crate) read: Result<Environment, String>,
}

/// The environments of which a push does not tell whether they are held or stopped, and of which that
/// may be why it is not what visitors see: each once, as the triggers name them.
pub(crate) fn concerned(answer: &ListTriggersResponse) -> Vec<GetEnvironmentRequest> {
    let told = answer.triggers.iter().filter(|one| tells_all(one));
    let mut seen: BTreeSet<_> = told.map(place).collect();
    let concerned = answer.triggers.iter().filter(|one| concerns(one));
    concerned
        .map(place)
        .filter(|place| seen.insert(*place))
        .map(|(site, environment)| GetEnvironmentRequest {
            site: site.to_owned(),
            environment: environment.to_owned(),
        })
        .collect()
}

fn place(trigger: &Trigger) -> (&str, &str) {
    (&trigger.site, &trigger.environment)
}

/// Whether its blockers tell what holds and stops the environment: that keeps all that is pending there.
fn tells_all(trigger: &Trigger) -> bool {
    trigger.deployment_state() == State::Pending && trigger.blockers.iter().any(blockers::stands)
}

/// Whether it came to something in its environment, or would have but for a release or a newer commit. What
/// another branch or other files left alone is none of its business.
fn concerns(trigger: &Trigger) -> bool {
    let is_so = match trigger.outcome() {
        Outcome::Created | Outcome::Superseded => true,
        Outcome::Ignored => matches!(
            trigger.reason(),
            Reason::RejectedRelease | Reason::BannedRelease | Reason::Older
        ),
        Outcome::Closed | Outcome::Unspecified => false,
    };
    is_so && !trigger.environment.is_empty()
}

/// Every push of a commit, newest first, and what became of it everywhere; what keeps those environments;
/// and what is to be decided yet.
pub(crate) fn text(
    commit: &str,
    answer: &ListTriggersResponse,
    there: &[There],
    look: &Look,
) -> String {
    let text = if answer.triggers.is_empty() {
        unknown(commit)
    } else {
        story(answer, look)
    };
    let mut parts = vec![text];
    parts.extend(kept(answer, there, look));
    parts.extend(undecided(answer, look));
    parts.join("\n\n")
}

/// What became of one delivery: its triggers, what keeps their environments, and what is known of it as a
/// whole where these do not say all.
pub(crate) fn delivery(
    id: &str,
    answer: &ListTriggersResponse,
    there: &[There],
    look: &Look,
) -> String {
    let left_none = answer.triggers.is_empty();
    let mut parts = Vec::new();
    if !left_none {
        parts.push(story(answer, look));
        parts.extend(kept(answer, there, look));
    }
    match &answer.delivery {
        Some(told) if left_none || told.decided_at.is_none() => {
            parts.push(as_a_whole(told, left_none, look));
        }
        None if left_none => parts.push(format!(
            "Nothing is known of {id}, or nothing that this token may see.\n\
             What left no trigger is shown only to tokens of all sites, for 31 days after it was decided."
        )),
        _ => {}
    }
    parts.extend(undecided(answer, look));
    parts.join("\n\n")
}

/// `dlv_…, installation, 3 min ago: installation names no repository`, or that it is not decided yet.
fn as_a_whole(told: &Delivery, left_none: bool, look: &Look) -> String {
    let event = match told.event.as_str() {
        "" => String::new(),
        event => format!("{event}, "),
    };
    let when = words::ago(told.received_at.as_ref(), &look.now);
    let open = if left_none {
        "not decided yet"
    } else {
        "not decided everywhere yet"
    };
    let became = match (told.decided_at.is_some(), told.note.as_str()) {
        (true, "") => "nothing follows".to_owned(),
        (true, note) => note.to_owned(),
        (false, "") => open.to_owned(),
        (false, error) => format!("{open}: {error}"),
    };
    format!("{}, {event}{when}: {became}", told.id)
}

/// `2 deliveries are not decided yet, the oldest for 40 s: …`, when there are any; and that there may be
/// more.
pub(crate) fn undecided(answer: &ListTriggersResponse, look: &Look) -> Option<String> {
    let counted = answer.undecided.as_ref().filter(|told| told.count > 0);
    let mut lines: Vec<String> = counted.map(|told| count(told, look)).into_iter().collect();
    if !answer.gateway_error.is_empty() {
        let error = &answer.gateway_error;
        lines.push(format!("whether more came is not known: {error}"));
    }
    (!lines.is_empty()).then(|| lines.join("\n"))
}

fn count(told: &Undecided, look: &Look) -> String {
    let what = match told.count {
        1 => "1 delivery is".to_owned(),
        more => format!("{} deliveries are", words::count(more)),
    };
    let lasted = words::lasted(told.since.as_ref(), &look.now);
    let why = match told.error.as_str() {
        "" => String::new(),
        error => format!(": {error}"),
    };
    format!("{what} not decided yet, the oldest for {lasted}{why}")
}

/// What holds and stops the environments, as far as no trigger tells it. A stop is told once, wherever it is.
fn kept(answer: &ListTriggersResponse, there: &[There], look: &Look) -> Option<String> {
    let mut parts: Vec<String> = Vec::new();
    for one in there {
        let told: Vec<String> = match &one.read {
            // Nothing deploys there, held or not.
            Ok(environment) if environment.closed.is_some() => Vec::new(),
            Ok(environment) => {
                let told = lane::besides(environment, |stop| is_told(answer, stop), look);
                told.into_iter().map(|lines| lines.join("\n")).collect()
            }
            Err(why) => vec![format!(
                "  {} could not be read, and may be held or stopped: {why}",
                one.place
            )],
        };
        for part in told {
            if !parts.contains(&part) {
                parts.push(part);
            }
        }
    }
    (!parts.is_empty()).then(|| parts.join("\n"))
}

/// Whether a trigger tells this stop: one of its site, or of any site where it stops everything.
fn is_told(answer: &ListTriggersResponse, stop: &Stop) -> bool {
    let stopped = answer.triggers.iter();
    let stopped = stopped.filter(|one| stop.site.is_empty() || one.site == stop.site);
    stopped
        .flat_map(|one| &one.blockers)
        .any(|one| blockers::stands(one) && lane::tells(one, stop))
}

fn story(answer: &ListTriggersResponse, look: &Look) -> String {
    let mut lines: Vec<String> = Vec::new();
    let mut delivery = "";
    for trigger in &answer.triggers {
        if trigger.delivery_id != delivery {
            if !delivery.is_empty() {
                lines.push(String::new());
            }
            delivery = &trigger.delivery_id;
            lines.push(head(trigger, look));
        }
        lines.extend(what_became(trigger, look));
    }
    lines.join("\n")
}

/// `4ac21e0 pushed to main of example/docs by Ada, 3 min ago`, or what else happened.
fn head(trigger: &Trigger, look: &Look) -> String {
    let commit = match words::short_commit(&trigger.commit) {
        "" => "something",
        commit => commit,
    };
    // What cannot be read may name neither.
    let named = |word: &str, name: &str| match name {
        "" => String::new(),
        name => format!(" {word} {name}"),
    };
    let branch = trigger.branch.as_str();
    let what = match (trigger.event.as_str(), trigger.pull_request) {
        ("" | "push", _) => format!("{commit} pushed{}", named("to", branch)),
        ("head", _) => format!("{commit} found{}", named("at", branch)),
        (_, number @ 1..) => format!("{commit} in pull request {number}"),
        (event, _) => format!("{commit} in {}", event.replace('_', " ")),
    };
    let what = what + &named("of", &trigger.repository);
    let by = match trigger.sender.as_str() {
        "" => String::new(),
        sender => format!(" by {sender}"),
    };
    let when = words::ago(trigger.received_at.as_ref(), &look.now);
    format!("{what}{by}, {when}")
}

fn what_became(trigger: &Trigger, look: &Look) -> Vec<String> {
    let place = match (trigger.site.as_str(), trigger.environment.as_str()) {
        ("", _) => "nowhere".to_owned(),
        (site, "") => site.to_owned(),
        (site, environment) => format!("{site}/{environment}"),
    };
    let (mark, tone, word) = mark(trigger);
    let mark = look.paint(tone, mark);
    let (id, _state) = deployment(trigger);
    let id = match (trigger.outcome(), id) {
        (Outcome::Created | Outcome::Superseded, id) if trigger.reason() != Reason::Older => {
            format!("{id} ")
        }
        _ => String::new(),
    };
    let head = format!("  {mark} {place:<24} {word:<10} {id}");
    let reasons = blockers::each(&trigger.blockers, look);
    if !reasons.is_empty() {
        let head = format!("{head}is {}:", blockers::doing(trigger.deployment_state()));
        let reasons = reasons.into_iter().map(|line| format!("    {line}"));
        return std::iter::once(head).chain(reasons).collect();
    }
    let mut lines = vec![format!("{head}{}", trigger.message)];
    // An older server says in its words what keeps it, and in blockers nothing.
    if !trigger.action.is_empty() {
        lines.push(format!("{:39}{}", "", trigger.action));
    }
    lines
}

/// Its own deployment and how far that is; or, where that ended and another one made its commit live,
/// such as a retry, that one.
fn deployment(trigger: &Trigger) -> (&str, State) {
    let went_live = trigger.went_live_deployment_id.as_str();
    let state = trigger.deployment_state();
    if went_live.is_empty() || state == State::Succeeded || !words::is_terminal(state) {
        (trigger.deployment_id.as_str(), state)
    } else {
        (went_live, State::Succeeded)
    }
}

fn mark(trigger: &Trigger) -> (&'static str, Tone, &'static str) {
    match trigger.outcome() {
        Outcome::Ignored => ("·", Tone::Faint, "ignored"),
        Outcome::Superseded => ("·", Tone::Faint, "superseded"),
        Outcome::Closed => ("·", Tone::Faint, "closed"),
        Outcome::Unspecified => ("·", Tone::Faint, ""),
        Outcome::Created => match deployment(trigger).1 {
            State::Succeeded => ("✓", Tone::Good, "deployed"),
            State::Failed | State::RolledBack => ("✗", Tone::Bad, "failed"),
            State::Cancelled | State::Superseded => ("·", Tone::Faint, "ended"),
            State::Pending | State::Waiting => ("◐", Tone::Wait, "waiting"),
            State::Running | State::Cancelling | State::Unspecified => {
                ("◐", Tone::Wait, "deploying")
            }
        },
    }
}

/// Nothing came, or nothing that this token may see.
fn unknown(commit: &str) -> String {
    if commit.is_empty() {
        return "Nothing was told of this site yet, or nothing that this token may see.".to_owned();
    }
    let short = words::short_commit(commit);
    format!("Nothing is known of a push of {short}, or nothing that this token may see.\n{WHERE}")
}

/// Neither a push nor a deployment, or none that this token may see.
pub(crate) fn nothing(commit: &str, answer: &ListTriggersResponse, look: &Look) -> String {
    let short = words::short_commit(commit);
    let text = format!(
        "Neither a push nor a deployment of {short} is known, or none that this token may see.\n\
         What was deployed without a push, and has ended long ago, is found by the whole commit.\n\
         {WHERE}"
    );
    let undecided = undecided(answer, look).map(|told| format!("\n\n{told}"));
    text + &undecided.unwrap_or_default()
}
