//! What changed between two looks at a deployment: one line per change, with a time. For readers
//! that cannot see a line change in place: logs, pipes, screen readers.

use candlefish_proto::deploy::{
    Blocker, Deployment, Environment, Step, blocker,
    deployment::{Kind, State},
    step,
};

use super::{Look, blockers, pad, steps, words};

/// The lines for what is new since `before`.
pub(crate) fn lines(before: Option<&Deployment>, now: &Deployment, look: &Look) -> Vec<String> {
    let mut lines = Vec::new();
    let state = (before.map(Deployment::state) != Some(now.state())).then(|| state_line(now, look));
    // What a deployment came to follows from its steps; what it does now comes before them.
    let (first, last) = if words::is_terminal(now.state()) {
        (None, state)
    } else {
        (state, None)
    };
    lines.extend(first);
    for step in &now.steps {
        let old = before.and_then(|before| before.steps.iter().find(|old| old.ord == step.ord));
        lines.extend(step_line(old, step, look));
    }
    lines.extend(last);
    for blocker in now
        .blockers
        .iter()
        .filter(|b| blockers::stands(b) && is_news(b))
    {
        let known =
            before.is_some_and(|before| before.blockers.iter().any(|old| is_same(old, blocker)));
        if !known {
            let text = format!("waits for {}", blockers::in_a_line(blocker));
            lines.push(line(&text, "", look));
        }
    }
    lines
}

/// The line for a hold of its environment that was set or lifted meanwhile; nothing where the
/// deployment waits for that hold, which is one of its blockers.
pub(crate) fn hold(
    deployment: &Deployment,
    environment: &Environment,
    look: &Look,
) -> Option<String> {
    let place = format!("{}/{}", environment.site, environment.slug);
    let Some(hold) = &environment.hold else {
        return Some(line(&format!("{place} is no longer held"), "", look));
    };
    if deployment.state() == State::Pending && deployment.kind() != Kind::Rollback {
        return None;
    }
    let text = format!(
        "{place} is held by {}: \"{}\"; what is under way goes on. Lift it: candlefish hold lift \
         {place} --reason \"…\"",
        hold.by, hold.reason
    );
    Some(line(&text, "", look))
}

/// The line for a piece of work that began or goes on before there is a deployment.
pub(crate) fn work(text: &str, look: &Look) -> String {
    line(text, "", look)
}

fn state_line(now: &Deployment, look: &Look) -> String {
    match now.state() {
        State::Cancelling if !now.cause.is_empty() => {
            line(&format!("being undone: {}", now.cause), "", look)
        }
        state => line(words::state(state), "", look),
    }
}

/// An interval is a step of its own: its line says that it runs.
fn is_news(blocker: &Blocker) -> bool {
    blocker.kind() != blocker::Kind::Timer
}

fn is_same(old: &Blocker, new: &Blocker) -> bool {
    old.kind == new.kind && old.since == new.since && old.message == new.message
}

fn step_line(old: Option<&Step>, step: &Step, look: &Look) -> Option<String> {
    let shown = |step: &Step| match step.state() {
        step::State::Ready if !steps::is_active(step) => step::State::Pending,
        // Ready again with a time to come, or claimed again: the step goes on.
        step::State::Ready | step::State::Running => step::State::Running,
        state => state,
    };
    let state = shown(step);
    let is_known = old.is_some_and(|old| shown(old) == state && old.message == step.message);
    let says_nothing = match state {
        step::State::Pending | step::State::Unspecified => true,
        step::State::Abandoned => step.started_at.is_none(),
        // The line of the state says it.
        step::State::Done => step.kind() == step::Kind::Finish,
        _ => false,
    };
    if is_known || says_nothing {
        return None;
    }
    let (glyph, _) = steps::glyph(step, look);
    let text = format!("{glyph} {}{}", pad(&steps::name(step), 18), step.message);
    let took = words::between(step.started_at.as_ref(), step.finished_at.as_ref());
    Some(line(
        &text,
        &took.map(words::duration).unwrap_or_default(),
        look,
    ))
}

fn line(text: &str, took: &str, look: &Look) -> String {
    let took = if took.is_empty() {
        String::new()
    } else {
        format!("  {took}")
    };
    format!("{}  {}{took}", words::stamp(&look.now), text.trim_end())
}
