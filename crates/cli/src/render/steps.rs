//! The steps of a deployment: what was done, what goes on, what is to come.

use candlefish_proto::deploy::{
    Deployment, Step,
    step::{Kind, State},
};

use console::measure_text_width;

use super::{Look, Tone, pad, words};

/// Where what a step found begins.
const NAME: usize = 18;
const TURNS: [&str; 4] = ["◐", "◓", "◑", "◒"];

/// `shift to 10 %`.
pub(crate) fn name(step: &Step) -> String {
    match step.kind() {
        Kind::Unspecified => "step of a newer version".to_owned(),
        Kind::Prepare => "prepare".to_owned(),
        Kind::Stage => "stage".to_owned(),
        Kind::VerifyCandidate => "verify candidate".to_owned(),
        Kind::Shift => format!("shift to {} %", step.weight),
        Kind::Analyse => "analyse".to_owned(),
        Kind::Switch => "switch".to_owned(),
        Kind::VerifyLive => "verify live".to_owned(),
        Kind::Bake => "bake".to_owned(),
        Kind::Finish => "finish".to_owned(),
        Kind::Return => "return".to_owned(),
        Kind::Unstage => "unstage".to_owned(),
    }
}

/// Whether somebody works on it, or it waits for its time.
pub(crate) fn is_active(step: &Step) -> bool {
    match step.state() {
        State::Running | State::Quarantined => true,
        State::Ready => step.started_at.is_some(),
        State::Unspecified | State::Pending | State::Done | State::Failed | State::Abandoned => {
            false
        }
    }
}

/// Every step that began, one line each, then those to come on one.
pub(crate) fn lines(deployment: &Deployment, look: &Look) -> Vec<String> {
    let mut lines = Vec::new();
    let mut coming = Vec::new();
    for step in &deployment.steps {
        match step.state() {
            State::Pending | State::Ready if !is_active(step) => coming.push(step),
            State::Abandoned if step.started_at.is_none() => {}
            // Its effect is the line that follows the steps.
            State::Done if step.kind() == Kind::Finish => {}
            _ => lines.extend(shown(step, deployment, look)),
        }
    }
    let coming: Vec<String> = coming.into_iter().filter_map(soon).collect();
    if !coming.is_empty() {
        let text = format!("  · {}", coming.join(", "));
        lines.push(look.paint(Tone::Faint, &look.line(&text, "")));
    }
    lines
}

/// One step that began. What goes on is read as it happens: what is cut of it has a line of its own.
fn shown(step: &Step, deployment: &Deployment, look: &Look) -> Vec<String> {
    let is_cut =
        look.cuts && 4 + NAME + measure_text_width(&detail(step, deployment, look)) > look.width;
    if !is_active(step) || step.message.is_empty() || !is_cut {
        return vec![line(step, deployment, look)];
    }
    let silent = Step {
        message: String::new(),
        ..step.clone()
    };
    let words = format!("    {}{}", pad("", NAME), step.message);
    vec![line(&silent, deployment, look), look.line(&words, "")]
}

/// One step on one line.
fn line(step: &Step, deployment: &Deployment, look: &Look) -> String {
    let (glyph, tone) = glyph(step, look);
    let left = format!(
        "  {} {}{}",
        look.paint(tone, glyph),
        pad(&name(step), NAME),
        detail(step, deployment, look)
    );
    let took = words::between(step.started_at.as_ref(), step.finished_at.as_ref());
    look.line(&left, &took.map(words::duration).unwrap_or_default())
}

/// The sign of a step's state, and its tone.
pub(crate) fn glyph(step: &Step, look: &Look) -> (&'static str, Tone) {
    match step.state() {
        State::Done if step.undo => ("↩", Tone::Wait),
        State::Done => ("✓", Tone::Good),
        State::Failed => ("✗", Tone::Bad),
        State::Quarantined => ("!", Tone::Bad),
        State::Abandoned => ("–", Tone::Faint),
        State::Pending | State::Unspecified => ("·", Tone::Faint),
        State::Running | State::Ready => {
            let turn = if look.colour {
                look.now.subsec_nanosecond() / 250_000_000
            } else {
                0
            };
            let turn = usize::try_from(turn).ok().and_then(|turn| TURNS.get(turn));
            (turn.copied().unwrap_or("◐"), Tone::Wait)
        }
    }
}

/// What a step found, or waits for.
fn detail(step: &Step, deployment: &Deployment, look: &Look) -> String {
    let mut parts = Vec::new();
    if is_active(step)
        && let Some(interval) = words::length(step.interval.as_ref())
        && let Some(passed) = words::since(step.started_at.as_ref(), &look.now)
    {
        // A repeated interval runs over its length; the step's own words say so.
        if passed <= interval {
            parts.push(pad(
                &format!("{} of {}", words::about(passed), words::about(interval)),
                15,
            ));
        } else {
            parts.push(pad(&format!("since {}", words::about(passed)), 15));
        }
    }
    if !step.message.is_empty() {
        parts.push(step.message.clone());
    }
    if step.kind() == Kind::Stage
        && step.state() == State::Done
        && !deployment.preview_url.is_empty()
    {
        parts.push(format!("   {}", deployment.preview_url));
    }
    if step.attempts > 0 && is_active(step) {
        parts.push(format!(
            "({})",
            words::counted(step.attempts, "failed attempt")
        ));
    }
    parts.join("  ")
}

/// A step to come, in a list of them; the last one has no words of its own.
fn soon(step: &Step) -> Option<String> {
    let length = words::length(step.interval.as_ref());
    match (step.kind(), length) {
        (Kind::Finish, _) => None,
        (Kind::Bake, Some(length)) if length.is_zero() => None,
        (_, Some(length)) => Some(format!("{} {}", name(step), words::duration(length))),
        (_, None) => Some(name(step)),
    }
}
