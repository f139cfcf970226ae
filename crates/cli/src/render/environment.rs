//! Environments, holds, edges.

use candlefish_proto::deploy::{
    Closing, Deployment, Edge, Environment, Hold, ListEdgesResponse, ListEnvironmentsResponse,
    Policy, PushRule, Stop, edge,
    policy::{OnNoEvidence, Order},
    strategy,
};

use super::{Look, Tone, deployment::labelled, ending::Now, stop, table::Table, words};

/// The environments of a site.
pub(crate) fn list(answer: &ListEnvironmentsResponse, look: &Look) -> String {
    let mut table = Table::new(["ENVIRONMENT", "LIVE", "FOR", "URL", "STATE"]);
    for environment in &answer.environments {
        let live = if environment.live_release_id.is_empty() {
            "nothing"
        } else {
            &environment.live_release_id
        };
        table.row([
            format!("{}/{}", environment.site, environment.slug),
            words::short(live),
            words::lasted(environment.live_since.as_ref(), &look.now),
            environment.url.clone(),
            state(environment, look),
        ]);
    }
    table.text("There is no environment yet. Make one: candlefish env create SITE/ENV")
}

/// Held, acting, pending: what is out of the ordinary.
fn state(environment: &Environment, look: &Look) -> String {
    let mut parts = Vec::new();
    if let Some(closed) = &environment.closed {
        let when = words::ago(closed.since.as_ref(), &look.now);
        parts.push(look.paint(Tone::Faint, &format!("closed {when}")));
    }
    if let Some(hold) = &environment.hold {
        parts.push(look.paint(Tone::Wait, &format!("held by {}", hold.by)));
    }
    if let Some(stop) = environment.stops.first() {
        parts.push(look.paint(Tone::Wait, &format!("stopped by {}", stop.by)));
    }
    if !environment.acting_deployment_id.is_empty() {
        parts.push(format!(
            "{} acts",
            words::short(&environment.acting_deployment_id)
        ));
    }
    if environment.pending_count > 0 {
        parts.push(format!(
            "{} pending",
            words::count(environment.pending_count)
        ));
    }
    if !environment.not_restorable.is_empty() {
        parts.push(look.paint(Tone::Bad, "not every release is restorable"));
    }
    parts.join(", ")
}

/// One environment in full.
pub(crate) fn full(environment: &Environment, look: &Look) -> String {
    let place = format!("{}/{}", environment.site, environment.slug);
    let mut lines = vec![labelled(
        "Environment",
        &format!("{place}  {}", environment.url),
        "",
        look,
    )];
    lines.extend(live(environment, look));
    if let Some(hold) = &environment.hold {
        lines.extend(held(&place, &holder(hold, look), look));
    }
    lines.extend(environment.stops.iter().flat_map(|one| stopped(one, look)));
    if !environment.acting_deployment_id.is_empty() {
        lines.push(labelled(
            "Acting",
            &environment.acting_deployment_id,
            "",
            look,
        ));
    }
    if environment.pending_count > 0 {
        let pending = format!(
            "{}  candlefish why {place}",
            words::counted(environment.pending_count, "deployment")
        );
        lines.push(labelled("Pending", &pending, "", look));
    }
    if !environment.not_restorable.is_empty() {
        lines.push(labelled(
            "Restorable",
            &look.paint(Tone::Bad, &environment.not_restorable),
            "",
            look,
        ));
    }
    lines.extend(reached(environment, look));
    lines.join("\n")
}

/// What is live there, or why nothing is.
fn live(environment: &Environment, look: &Look) -> Vec<String> {
    let mut lines = Vec::new();
    if environment.pull_request > 0 {
        let number = environment.pull_request.to_string();
        lines.push(labelled("Pull request", &number, "", look));
    }
    if let Some(one) = &environment.closed {
        lines.push(labelled("Closed", &closed(one, look), "", look));
    } else if environment.live_release_id.is_empty() {
        lines.push(labelled("Live", "nothing yet", "", look));
    } else {
        let since = words::lasted(environment.live_since.as_ref(), &look.now);
        let by = words::short(&environment.live_deployment_id);
        lines.push(labelled(
            "Live",
            &format!("{} for {since}, by {by}", environment.live_release_id),
            "",
            look,
        ));
    }
    lines
}

/// Asks before a preview is closed.
pub(crate) fn closes(environment: &Environment) -> String {
    let acting = Some(environment.acting_deployment_id.clone()).filter(|id| !id.is_empty());
    let pending = Some(environment.pending_count).filter(|pending| *pending > 0);
    let pending = pending.map(|pending| words::counted(pending, "waiting deployment"));
    let ending: Vec<_> = acting.into_iter().chain(pending).collect();
    let ends = match ending.as_slice() {
        [] => String::new(),
        ending => format!(" It ends {}.", ending.join(" and ")),
    };
    format!(
        "  Close {}/{}? {} serves nothing from then on, and nothing deploys there.{ends}",
        environment.site, environment.slug, environment.url
    )
}

/// By whom a preview was closed, when and why.
pub(crate) fn closed(closing: &Closing, look: &Look) -> String {
    let when = words::ago(closing.since.as_ref(), &look.now);
    format!("by {} ({when}): \"{}\"", closing.by, closing.reason)
}

/// Where people reach it, and which pushes do by themselves.
fn reached(environment: &Environment, look: &Look) -> Vec<String> {
    let mut lines = Vec::new();
    if !environment.hosts.is_empty() {
        lines.push(labelled("Hosts", &environment.hosts.join(", "), "", look));
    }
    if let Some(rule) = environment
        .pushes
        .as_ref()
        .filter(|rule| !rule.branch.is_empty())
    {
        lines.push(labelled("Pushes", &rule_words(rule), "", look));
    }
    lines
}

/// Which pushes deploy by themselves.
pub(crate) fn pushes(environment: &Environment) -> String {
    let place = format!("{}/{}", environment.site, environment.slug);
    match environment
        .pushes
        .as_ref()
        .filter(|rule| !rule.branch.is_empty())
    {
        Some(rule) => format!("Pushes to {} deploy to {place}.", rule_words(rule)),
        None => format!(
            "No push deploys to {place} by itself. Let one: candlefish env pushes {place} --branch main"
        ),
    }
}

/// `main that change docs/`.
pub(super) fn rule_words(rule: &PushRule) -> String {
    if rule.paths.is_empty() {
        return rule.branch.clone();
    }
    format!("{} that change {}", rule.branch, rule.paths.join(", "))
}

/// What keeps the environment of a deployment.
#[derive(Debug, Default)]
pub(crate) struct Kept {
    /// What holds and stops it, for below that deployment.
    pub(crate) lines: Vec<String>,
    /// Whether it is held, and the deployment still live there.
    pub(crate) now: Now,
}

/// What holds and stops the environment of a deployment: it keeps the next one, whatever this one does.
/// What could not be read is told as that.
pub(crate) fn kept(
    deployment: &Deployment,
    read: &Result<Environment, String>,
    look: &Look,
) -> Kept {
    Kept {
        lines: standing(read, look),
        now: Now::of(deployment, read),
    }
}

fn standing(read: &Result<Environment, String>, look: &Look) -> Vec<String> {
    let environment = match read {
        Ok(environment) => environment,
        Err(why) => {
            let words = format!("could not be read, and may be held or stopped: {why}");
            return vec![labelled("Environment", &words, "", look)];
        }
    };
    let place = format!("{}/{}", environment.site, environment.slug);
    let hold = environment.hold.as_ref();
    let hold = hold.map(|one| held(&place, &format!("{place} {}", holder(one, look)), look));
    let stops = environment.stops.iter().map(|one| stopped(one, look));
    hold.into_iter().chain(stops).flatten().collect()
}

/// `by grace (10 min ago): "search is broken"`.
fn holder(hold: &Hold, look: &Look) -> String {
    let since = words::ago(hold.since.as_ref(), &look.now);
    format!("by {} ({since}): \"{}\"", hold.by, hold.reason)
}

fn held(place: &str, words: &str, look: &Look) -> [String; 2] {
    let lift = format!("lift: candlefish hold lift {place} --reason \"…\"");
    [
        labelled("Held", &look.paint(Tone::Wait, words), "", look),
        labelled("", &lift, "", look),
    ]
}

fn stopped(one: &Stop, look: &Look) -> [String; 2] {
    let words = look.paint(Tone::Wait, &stop::line(one, look));
    let lift = format!("lift: {}", stop::lift(one));
    [
        labelled("Stopped", &words, "", look),
        labelled("", &lift, "", look),
    ]
}

/// Whether an environment is held.
pub(crate) fn hold(environment: &Environment, look: &Look) -> String {
    let place = format!("{}/{}", environment.site, environment.slug);
    let Some(hold) = &environment.hold else {
        return format!("{place} is not held.");
    };
    let mut lines = vec![
        format!("{place} is held {}", holder(hold, look)),
        "Nothing but a rollback deploys until it is lifted:".to_owned(),
        format!("  candlefish hold lift {place} --reason \"…\""),
    ];
    if environment.pending_count > 0 {
        lines.push(format!(
            "Then {} will go on.",
            words::counted(environment.pending_count, "deployment")
        ));
    }
    lines.join("\n")
}

/// What the lifting of a hold leaves.
pub(crate) fn lifted(environment: &Environment, look: &Look) -> String {
    if environment.hold.is_some() {
        return hold(environment, look);
    }
    let place = format!("{}/{}", environment.site, environment.slug);
    let goes_on = match (
        &*environment.acting_deployment_id,
        environment.pending_count,
    ) {
        ("", 0) => String::new(),
        ("", 1) => " 1 deployment waits.".to_owned(),
        ("", pending) => format!(" {} wait.", words::counted(pending, "deployment")),
        (acting, _) => format!(" {acting} acts."),
    };
    format!("The hold of {place} is lifted.{goes_on}")
}

/// How deployments of an environment go.
pub(crate) fn policy(policy: &Policy, look: &Look) -> String {
    let time = |length| words::length(length).map_or_else(|| "default".to_owned(), words::duration);
    let told = |number: i32, say: fn(i32) -> String| match number {
        0 => "default".to_owned(),
        number => say(number),
    };
    let requests = |number: i32| words::counted(number, "request");
    let releases = |number: i32| words::counted(number, "release");
    let order = match policy.order() {
        Order::Queue => "queue: each has its turn",
        Order::Latest | Order::Unspecified => "latest: a newer commit supersedes",
    };
    let evidence = match policy.on_no_evidence() {
        OnNoEvidence::Wait => "wait for a person",
        OnNoEvidence::Return => "send traffic back",
        OnNoEvidence::Advance | OnNoEvidence::Unspecified => "go on with our own fetches",
    };
    let lines = [
        ("Order", order.to_owned()),
        ("Strategy", strategy(policy)),
        ("Settle", time(policy.settle.as_ref())),
        ("Deadline", time(policy.deadline.as_ref())),
        (
            "No evidence",
            format!("{evidence} (below {})", told(policy.min_requests, requests)),
        ),
        (
            "Content",
            format!(
                "a push waits for it, at most: {}",
                time(policy.content_deadline.as_ref())
            ),
        ),
        (
            "Edges",
            format!("at least {}", told(policy.min_edges, words::count)),
        ),
        ("Keep", told(policy.keep_releases, releases)),
    ];
    lines
        .iter()
        .map(|(label, value)| labelled(label, value, "", look))
        .collect::<Vec<_>>()
        .join("\n")
}

/// `canary 10 %, 50 %, each 30 s, bake 10 min`.
pub(super) fn strategy(policy: &Policy) -> String {
    let mut name = words::strategy(policy.strategy.as_ref()).to_owned();
    let bake = match policy.strategy.as_ref().and_then(|s| s.kind.as_ref()) {
        Some(strategy::Kind::Rolling(rolling)) => rolling.bake.as_ref(),
        Some(strategy::Kind::BlueGreen(blue_green)) => blue_green.bake.as_ref(),
        Some(strategy::Kind::Canary(canary)) => {
            let weights: Vec<_> = canary
                .weights
                .iter()
                .map(|weight| format!("{weight} %"))
                .collect();
            let interval = words::length(canary.interval.as_ref())
                .map(words::duration)
                .unwrap_or_default();
            name = format!("{name} {}, each {interval}", weights.join(", "));
            canary.bake.as_ref()
        }
        Some(strategy::Kind::Recreate(_)) | None => None,
    };
    match words::length(bake) {
        Some(bake) if !bake.is_zero() => format!("{name}, bake {}", words::duration(bake)),
        _ => name,
    }
}

/// All edges.
pub(crate) fn edges(answer: &ListEdgesResponse, look: &Look) -> String {
    let mut table = Table::new(["EDGE", "ADDRESS", "RELEASES", "ROUTES", "HEARD", "STATE"]);
    for edge in &answer.edges {
        table.row([
            edge.id.clone(),
            edge.address.clone(),
            words::count(edge.staged_count),
            words::count(edge.route_count),
            words::ago(edge.heard_at.as_ref(), &look.now),
            edge_state(edge, look),
        ]);
    }
    table.text("No edge was heard for 30 days.")
}

fn edge_state(edge: &Edge, look: &Look) -> String {
    let (tone, name) = match edge.state() {
        edge::State::Live => (Tone::Good, "live"),
        edge::State::Joining => (Tone::Wait, "joining"),
        edge::State::Failing => (Tone::Bad, "failing"),
        edge::State::Silent => (Tone::Bad, "silent"),
        edge::State::Unspecified => (Tone::Faint, "unknown"),
    };
    let name = look.paint(tone, name);
    if edge.message.is_empty() {
        name
    } else {
        format!("{name}: {}", edge.message)
    }
}
