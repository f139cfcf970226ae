//! Why something is not moving: since when, who can clear it, and how.

use candlefish_proto::deploy::{
    Blocker, Deployment, Environment,
    blocker::Kind,
    deployment::{self, State},
};

use super::{
    Look, Tone,
    ending::{self, Held},
    environment,
    lane::{self, Around},
    pad, release, words,
};

const NAME: usize = 12;

/// What is waited for, in one word.
pub(crate) fn name(kind: Kind) -> &'static str {
    match kind {
        Kind::Unspecified => "something",
        Kind::Lane => "lane",
        Kind::Content => "content",
        Kind::Hold => "hold",
        Kind::Timer => "timer",
        Kind::Evidence => "evidence",
        Kind::Edge => "edge",
        Kind::Quarantine => "quarantine",
        Kind::Provider => "provider",
        Kind::Stop => "stop",
    }
}

/// Whether it still stands.
pub(crate) fn stands(blocker: &Blocker) -> bool {
    blocker.cleared_at.is_none()
}

/// Below the steps of a deployment that moves: what it waits for, without the intervals that the
/// steps themselves show.
pub(crate) fn standing(deployment: &Deployment, look: &Look) -> Vec<String> {
    let shown = deployment
        .blockers
        .iter()
        .filter(|b| stands(b) && b.kind() != Kind::Timer);
    shown
        .flat_map(|blocker| {
            let since = words::since(blocker.since.as_ref(), &look.now).map(words::about);
            let since = since
                .map(|since| format!("for {since}"))
                .unwrap_or_default();
            let sign = look.paint(Tone::Wait, "‖");
            let left = format!(
                "  {sign} {}{}",
                pad(name(blocker.kind()), 18),
                blocker.message
            );
            let action = (!blocker.action.is_empty())
                .then(|| look.line(&format!("    {}{}", pad("", 18), action(blocker)), ""));
            [Some(look.line(&left, &since)), action]
                .into_iter()
                .flatten()
        })
        .collect()
}

/// Who wrote it, or who asked for it.
fn who(deployment: &Deployment) -> &str {
    let author = deployment
        .release
        .as_ref()
        .map(|release| release.author.as_str())
        .unwrap_or_default();
    if author.is_empty() {
        deployment.created_by.as_str()
    } else {
        author
    }
}

/// Why a deployment is not moving, and what there is around it.
pub(crate) fn why(deployment: &Deployment, around: &Around, look: &Look) -> String {
    let held = match around {
        Around::Ended(held) => *held,
        Around::Shared { .. } | Around::Unread(_) => Held::No,
    };
    let mut lines = told(deployment, held, look);
    if words::is_terminal(deployment.state()) {
        return lines.join("\n");
    }
    if deployment.blockers.iter().any(stands) {
        lines.push(String::new());
    }
    lines.extend(lane::lines(deployment, around, look));
    lines.extend(overtaken(deployment, look));
    lines.extend(lane::first(around, look));
    lines.join("\n")
}

/// What a deployment is, and each reason why it is not moving. Once it has ended, what is to be done
/// depends on whether its environment is held.
pub(super) fn told(deployment: &Deployment, held: Held, look: &Look) -> Vec<String> {
    let state = deployment.state();
    let title = deployment
        .release
        .as_ref()
        .map(release::title)
        .unwrap_or_default();
    let who = who(deployment);
    let asked = words::ago(deployment.created_at.as_ref(), &look.now);
    let subject = format!("  {}  {title} ({who}, {asked})", deployment.id);
    if words::is_terminal(state) {
        let ended = format!("{subject} is over: {}", words::state(state));
        let next = ending::next(deployment, held)
            .into_iter()
            .map(|line| format!("  {line}"));
        return std::iter::once(ending::with_reason(&ended, deployment))
            .chain(next)
            .collect();
    }
    let reasons = each(&deployment.blockers, look);
    if reasons.is_empty() {
        let doing = format!("{subject} is {}", words::state(state));
        return vec![
            ending::with_reason(&doing, deployment),
            format!(
                "  Nothing blocks it. Watch: candlefish watch {}",
                deployment.id
            ),
        ];
    }
    let head = [format!("{subject} is {}:", doing(state)), String::new()];
    head.into_iter().chain(reasons).collect()
}

/// What is done with a deployment that something keeps.
pub(super) fn doing(state: State) -> &'static str {
    if state == State::Cancelling {
        "being undone"
    } else {
        "waiting"
    }
}

/// Each reason that stands, by its number: in words, until when, since when, who can clear it and how.
pub(super) fn each(blockers: &[Blocker], look: &Look) -> Vec<String> {
    let standing = blockers.iter().filter(|one| stands(one));
    let numbered = standing
        .zip(1..)
        .map(|(blocker, place)| numbered(place, blocker, look));
    numbered.flatten().collect()
}

/// Why a deployment is not moving, with where that is.
pub(crate) fn why_there(deployment: &Deployment, around: &Around, look: &Look) -> String {
    let place = format!("{}/{}", deployment.site, deployment.environment);
    format!("{place}\n{}", why(deployment, around, look))
}

/// Whether a newer commit can take its place, and who decides that.
fn overtaken(deployment: &Deployment, look: &Look) -> Option<String> {
    let open = deployment.state() != State::Cancelling && deployment.pivoted_at.is_none();
    if deployment.kind() != deployment::Kind::Standard || !open {
        return None;
    }
    let id = &deployment.id;
    Some(match &deployment.pin {
        Some(pin) => format!(
            "  No newer commit takes its place: it is pinned {}",
            super::deployment::pinned(pin, look)
        ),
        None => format!(
            "  A newer commit may take its place, unless somebody pins it: candlefish pin {id} \
             --reason \"…\"   (approver)"
        ),
    })
}

fn numbered(place: usize, blocker: &Blocker, look: &Look) -> Vec<String> {
    let mut what = blocker.message.trim_end_matches('.').to_owned();
    if let Some(until) = words::moment(blocker.until.as_ref()) {
        let left = look.now.timestamp().duration_until(until);
        if left.is_positive() {
            what = format!(
                "{what} (until {}, in {})",
                words::clock(until, &look.now),
                words::duration(left)
            );
        }
    } else if waits_for_a_person(blocker.kind()) {
        what = format!("{what} (no end by itself)");
    }
    let mut lines = vec![format!(
        "  {place}. {}{what}",
        pad(name(blocker.kind()), NAME)
    )];
    let indent = format!("     {}", pad("", NAME));
    if let Some(since) = words::since(blocker.since.as_ref(), &look.now) {
        lines.push(format!(
            "{indent}since {} ({})",
            words::duration(since),
            owner(blocker)
        ));
    }
    if !blocker.action.is_empty() {
        lines.push(format!("{indent}{}", action(blocker)));
    }
    lines
}

/// Nothing but a person ends it. A stop ends by itself, and so does a lack of evidence when visitors
/// come.
fn waits_for_a_person(kind: Kind) -> bool {
    matches!(kind, Kind::Hold | Kind::Quarantine)
}

fn action(blocker: &Blocker) -> String {
    format!("→ {}", blocker.action)
}

fn owner(blocker: &Blocker) -> String {
    match blocker.owner.as_str() {
        "" | "platform" => "the platform clears it by itself".to_owned(),
        "time" if blocker.action.is_empty() => "time clears it".to_owned(),
        "time" => "time clears it; a deployer can pass it".to_owned(),
        "github" => "GitHub clears it; it is asked again by itself".to_owned(),
        role => format!(
            "{} {role} can clear it",
            if role.starts_with(['a', 'e', 'i', 'o', 'u']) {
                "an"
            } else {
                "a"
            }
        ),
    }
}

/// An environment in which nothing waits.
pub(crate) fn idle(environment: &Environment, look: &Look) -> String {
    let place = format!("{}/{}", environment.site, environment.slug);
    let live = if environment.live_release_id.is_empty() {
        "nothing is live there".to_owned()
    } else {
        let release = words::short(&environment.live_release_id);
        format!(
            "{release} is live for {}",
            words::lasted(environment.live_since.as_ref(), &look.now)
        )
    };
    if let Some(closed) = &environment.closed {
        let words = environment::closed(closed, look);
        return format!("  {place} is closed, and nothing deploys there any more: {words}");
    }
    let mut lines = vec![format!("  Nothing waits for {place}: {live}.")];
    lines.extend(lane::of_environment(environment, look));
    lines.join("\n")
}
