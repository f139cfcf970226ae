//! Stops of the line.

use candlefish_proto::deploy::{ListStopsResponse, SetStopRequest, Stop};

use super::{Look, Tone, table::Table, words};

/// `docs`, or `everything`.
pub(super) fn scope(stop: &Stop) -> &str {
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

/// What a stop would do; asked before everything is stopped.
pub(crate) fn stops(asked: &SetStopRequest, look: &Look) -> String {
    let until = words::moment(asked.until.as_ref())
        .map(|until| format!(" until {}", words::clock(until, &look.now)))
        .unwrap_or_default();
    let acts = if asked.pauses {
        "what acts is paused"
    } else {
        "what acts is let through"
    };
    let (what, place) = match asked.site.as_str() {
        "" => ("everything", "on any site"),
        site => (site, "there"),
    };
    format!("  Stop {what}{until}? Nothing but a rollback begins {place}, and {acts}.")
}

/// What a lift means, beside what stands there still, or why that could not be read.
pub(crate) fn lifted(
    stop: &Stop,
    others: &Result<ListStopsResponse, String>,
    look: &Look,
) -> String {
    let scope = scope(stop);
    let others = match others {
        Ok(others) => others.stops.as_slice(),
        Err(why) => {
            return format!(
                "The stop of {scope} is lifted. What else is stopped could not be read: {why}\n\
                 See: candlefish stop list"
            );
        }
    };
    // What stops a part lets the rest go on.
    let goes_on = !others
        .iter()
        .any(|one| one.site.is_empty() || one.site == stop.site);
    let first = match (goes_on, others.is_empty()) {
        (true, true) => format!("{scope} goes on: what the stop kept has its turn."),
        (true, false) => "Everything else goes on: what the stop kept has its turn.".to_owned(),
        (false, _) => format!("The stop of {scope} is lifted, but another keeps it:"),
    };
    let others = others.iter().flat_map(|one| {
        let stands = format!("still stopped: {}", line(one, look));
        [stands, format!("lift: {}", lift(one))]
    });
    std::iter::once(first)
        .chain(others)
        .collect::<Vec<_>>()
        .join("\n")
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
