//! Stops of the line.

use candlefish_proto::deploy::{ListStopsResponse, Stop};

use super::{Look, Tone, table::Table, words};

/// `docs`, or `everything`.
fn scope(stop: &Stop) -> &str {
    if stop.site.is_empty() {
        "everything"
    } else {
        &stop.site
    }
}

/// How a stop is lifted.
pub(crate) fn lift(stop: &Stop) -> String {
    let site = if stop.site.is_empty() {
        String::new()
    } else {
        format!("{} ", stop.site)
    };
    format!("candlefish stop lift {site}--reason \"…\"")
}

/// `until 16:04, in 2 h`.
fn until(stop: &Stop, look: &Look) -> String {
    let Some(until) = words::moment(stop.until.as_ref()) else {
        return String::new();
    };
    let left = look.now.timestamp().duration_until(until);
    if left.is_positive() {
        format!(
            "until {}, in {}",
            words::clock(until, &look.now),
            words::duration(left)
        )
    } else {
        format!("until {}", words::clock(until, &look.now))
    }
}

/// `docs by erin (5 min ago, until 16:04, in 2 h): "the registry is down"`.
pub(crate) fn line(stop: &Stop, look: &Look) -> String {
    format!(
        "{} by {} ({}, {}): \"{}\"",
        scope(stop),
        stop.by,
        words::ago(stop.since.as_ref(), &look.now),
        until(stop, look),
        stop.reason
    )
}

/// What a stop that was just set means.
pub(crate) fn set(stop: &Stop, look: &Look) -> String {
    let acts = if stop.pauses {
        "What acts is paused before its next step; undoing goes on."
    } else {
        "What acts is let through."
    };
    [
        format!("Stopped: {}", line(stop, look)),
        format!("Nothing but a rollback begins. {acts}"),
        format!("lift: {}", lift(stop)),
    ]
    .join("\n")
}

/// What a lift means.
pub(crate) fn lifted(stop: &Stop) -> String {
    format!("{} goes on: what the stop kept has its turn.", scope(stop))
}

/// All stops.
pub(crate) fn list(answer: &ListStopsResponse, look: &Look) -> String {
    let mut table = Table::new(["STOP", "WHAT", "BY", "SET", "ACTING", "STATE", "WHY"]);
    for stop in &answer.stops {
        let state = if stop.ended_at.is_some() {
            let ended = words::ago(stop.ended_at.as_ref(), &look.now);
            let ended = match stop.ended_by.as_str() {
                "system" => format!("ended {ended}"),
                person => format!("lifted by {person} {ended}"),
            };
            look.paint(Tone::Faint, &ended)
        } else {
            look.paint(Tone::Wait, &until(stop, look))
        };
        table.row([
            stop.id.clone(),
            scope(stop).to_owned(),
            stop.by.clone(),
            words::ago(stop.since.as_ref(), &look.now),
            if stop.pauses { "paused" } else { "let through" }.to_owned(),
            state,
            words::shorten(&stop.reason, 40),
        ]);
    }
    table.text("Nothing is stopped.")
}
