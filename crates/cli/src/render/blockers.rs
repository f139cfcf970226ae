//! Why something is not moving: since when, who can clear it, and how.

use candlefish_proto::deploy::{
    Blocker, Deployment, Environment,
    blocker::Kind,
    deployment::{self, State},
    policy::Order,
};

use super::{
    Look, Tone,
    ending::{self, Now},
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
    let now = match around {
        Around::Ended(now) => now,
        Around::Shared { .. } | Around::Unread(_) => &Now::Free,
    };
    let mut lines = told(deployment, now, look);
    if words::is_terminal(deployment.state()) {
        return lines.join("\n");
    }
    if deployment.blockers.iter().any(stands) {
        lines.push(String::new());
    }
    lines.extend(lane::lines(deployment, around, look));
    lines.extend(overtaken(deployment, around, look));
    lines.extend(lane::first(around, look));
    lines.join("\n")
}

/// What a deployment is, and each reason why it is not moving. Once it has ended, what is to be done
/// depends on what is so now where it went.
pub(super) fn told(deployment: &Deployment, now: &Now, look: &Look) -> Vec<String> {
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
        let next = ending::next(deployment, now)
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

/// Whether it depends on the order of its environment if a newer commit can take its place.
pub(crate) fn asks_for_order(deployment: &Deployment) -> bool {
    has_no_traffic(deployment) && deployment.pin.is_none()
}

/// A deployment that pushes order among each other, and that visitors have not seen.
fn has_no_traffic(deployment: &Deployment) -> bool {
    let goes_on = matches!(
        deployment.state(),
        State::Pending | State::Running | State::Waiting
    );
    goes_on && deployment.kind() == deployment::Kind::Standard && deployment.pivoted_at.is_none()
}

/// Whether a newer commit can take its place, and who decides that.
fn overtaken(deployment: &Deployment, around: &Around, look: &Look) -> Option<String> {
    if !has_no_traffic(deployment) {
        return None;
    }
    let acts = deployment.state() != State::Pending;
    if let Some(pin) = &deployment.pin {
        let which = if acts {
            "No newer commit takes its place"
        } else {
            "Only a newer commit that is live takes its place"
        };
        let pinned = super::deployment::pinned(pin, look);
        return Some(format!("  {which}: it is pinned {pinned}"));
    }
    let (order, kept) = match around {
        Around::Shared { lane, order, .. } => {
            let kept = lane.hold.is_some() || !lane.stops.is_empty();
            (order.as_ref(), kept)
        }
        Around::Ended(_) | Around::Unread(_) => (None, false),
    };
    Some(by_order(&deployment.id, acts, order, kept))
}

/// The same of one that nobody pinned. `kept` says that its environment is held or stopped: then nothing
/// that waits undoes what acts.
fn by_order(id: &str, acts: bool, order: Option<&Result<Order, String>>, kept: bool) -> String {
    let pin = format!("unless somebody pins it: candlefish pin {id} --reason \"…\"   (approver)");
    match order {
        Some(Ok(Order::Queue)) if acts => {
            "  No newer commit takes its place: the order here is queue.".to_owned()
        }
        // Late content of an older commit has no turn after a newer one.
        Some(Ok(Order::Queue)) => {
            "  It keeps its turn: the order here is queue. A newer commit takes \
             its place only if that acts, is live or was asked for before it."
                .to_owned()
        }
        Some(Ok(Order::Latest | Order::Unspecified)) if acts && kept => format!(
            "  No newer commit takes its place while its environment is held or stopped; after that \
             one may, {pin}"
        ),
        Some(Ok(Order::Latest | Order::Unspecified)) => {
            format!("  A newer commit may take its place, {pin}")
        }
        Some(Err(why)) => format!(
            "  The order here could not be read: {why}. If it is latest, a newer commit may take its \
             place, {pin}"
        ),
        None => format!("  If the order here is latest, a newer commit may take its place, {pin}"),
    }
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

/// What is waited for in one line: why, who can end it, and how.
pub(super) fn in_a_line(blocker: &Blocker) -> String {
    let message = blocker.message.trim_end_matches('.');
    let what = format!("{}: {message} ({})", name(blocker.kind()), owner(blocker));
    if blocker.action.is_empty() {
        return what;
    }
    format!("{what} {}", action(blocker))
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
