//! A deployment: its head, as it moves, and in full.

use candlefish_proto::deploy::{
    Deployment, ListDeploymentsResponse,
    deployment::{Kind, Pin, State},
    step,
};

use super::{
    Look, Tone, blockers, ending, environment::Kept, pad, release, steps, table::Table, words,
};

/// Where the values of the head begin.
const LABEL: usize = 13;

/// `Release      rel_…`: one line above the steps.
pub(crate) fn labelled(label: &str, value: &str, right: &str, look: &Look) -> String {
    look.line(&format!("  {}{value}", pad(label, LABEL)), right)
}

/// What goes where, over what.
pub(crate) fn head(deployment: &Deployment, look: &Look) -> String {
    let place = words::place(&deployment.site, &deployment.environment, deployment.kind());
    let mut value = match deployment.kind() {
        Kind::Rollback => format!("rollback of {place}"),
        Kind::Preview => format!("of {place}"),
        Kind::Standard | Kind::Unspecified => {
            format!(
                "{} to {place}",
                words::strategy(deployment.strategy.as_ref())
            )
        }
    };
    if !deployment.previous_release_id.is_empty() {
        value = format!(
            "{value}, over {}",
            words::short(&deployment.previous_release_id)
        );
    }
    labelled(
        "Deployment",
        &format!("{}  {value}", deployment.id),
        "",
        look,
    )
}

/// As it moves: steps, and why it is not moving.
pub(crate) fn live(deployment: &Deployment, look: &Look) -> Vec<String> {
    let mut lines = steps::lines(deployment, look);
    if !words::is_terminal(deployment.state()) {
        lines.extend(blockers::standing(deployment, look));
    }
    lines
}

/// Everything about one deployment, and what keeps its environment
/// ([`kept`](super::environment::kept)).
pub(crate) fn full(deployment: &Deployment, kept: &Kept, look: &Look) -> String {
    let mut lines = Vec::new();
    if let Some(built) = &deployment.release {
        let value = format!(
            "{}  {}",
            words::short(&deployment.release_id),
            release::origin(built)
        );
        lines.push(labelled("Release", &value, "", look));
    }
    lines.push(head(deployment, look));
    lines.push(labelled("State", &state(deployment, look), "", look));
    let asked = format!(
        "{} by {}",
        words::ago(deployment.created_at.as_ref(), &look.now),
        deployment.created_by
    );
    let asked = if deployment.reason.is_empty() {
        asked
    } else {
        format!("{asked}: \"{}\"", deployment.reason)
    };
    lines.push(labelled("Asked", &asked, "", look));
    if let Some(pin) = &deployment.pin {
        lines.push(labelled("Pinned", &pinned(pin, look), "", look));
    }
    if !deployment.retry_of.is_empty() {
        lines.push(labelled("Repeats", &deployment.retry_of, "", look));
    }
    lines.extend_from_slice(&kept.lines);
    lines.push(String::new());
    lines.extend(live(deployment, look));
    let next = ending::next(deployment, &kept.now);
    if !next.is_empty() {
        lines.push(String::new());
    }
    lines.extend(next.into_iter().map(|line| format!("  {line}")));
    lines.join("\n")
}

/// `by ada, 5 min ago: "it fixes the login"`.
pub(crate) fn pinned(pin: &Pin, look: &Look) -> String {
    let asked = words::ago(pin.at.as_ref(), &look.now);
    format!("by {}, {asked}: \"{}\"", pin.by, pin.reason)
}

/// The state, with how long and why.
fn state(deployment: &Deployment, look: &Look) -> String {
    let state = deployment.state();
    let mut text = look.paint(tone(state), words::state(state));
    if is_baking(deployment) {
        text.push_str(", live and baking");
    }
    if let Some(took) = words::between(
        deployment.created_at.as_ref(),
        deployment.finished_at.as_ref(),
    ) {
        text = format!("{text} after {}", words::duration(took));
    }
    if !deployment.message.is_empty() {
        text = format!("{text}: {}", deployment.message);
    }
    text
}

/// Live, and the release before is kept ready.
fn is_baking(deployment: &Deployment) -> bool {
    let mut active = deployment
        .steps
        .iter()
        .filter(|step| steps::is_active(step));
    deployment.live_at.is_some() && active.any(|step| step.kind() == step::Kind::Bake)
}

/// Deployments, one line each.
pub(crate) fn list(answer: &ListDeploymentsResponse, look: &Look) -> String {
    let mut table = Table::new(["DEPLOYMENT", "TO", "WHAT", "BY", "ASKED", "STATE"]);
    for deployment in &answer.deployments {
        let what = deployment
            .release
            .as_ref()
            .map(release::title)
            .unwrap_or_default();
        table.row([
            deployment.id.clone(),
            words::place(&deployment.site, &deployment.environment, deployment.kind()),
            words::shorten(&what, 40),
            deployment.created_by.clone(),
            words::ago(deployment.created_at.as_ref(), &look.now),
            look.paint(tone(deployment.state()), words::state(deployment.state())),
        ]);
    }
    table.text("There is no deployment yet.")
}

/// How a state is shown.
pub(crate) fn tone(state: State) -> Tone {
    match state {
        State::Succeeded => Tone::Good,
        State::Failed | State::RolledBack => Tone::Bad,
        State::Cancelled | State::Superseded => Tone::Faint,
        State::Unspecified
        | State::Pending
        | State::Running
        | State::Waiting
        | State::Cancelling => Tone::Wait,
    }
}
