//! Lines of a deployment's log, events, and what waits for a person.

use candlefish_proto::{
    deploy::{ListQueueItemsResponse, LogLine, QueueItem, queue_item},
    event::Envelope,
};

use super::{Look, table::Table, words};

/// `14:05:12  2  staged on edge-1`.
pub(crate) fn log_line(line: &LogLine, look: &Look) -> String {
    let step = if line.step_ord == 0 {
        String::new()
    } else {
        line.step_ord.to_string()
    };
    format!(
        "{}  {step:>3}  {}",
        at(line.at.as_ref(), look),
        line.message
    )
}

/// One event on one line.
pub(crate) fn event(event: &Envelope, look: &Look) -> String {
    let place = match (event.site.as_str(), event.environment.as_str()) {
        ("", _) => String::new(),
        (site, "") => site.to_owned(),
        (site, environment) => format!("{site}/{environment}"),
    };
    let time = at(event.time.as_ref(), look);
    format!(
        "{time}  {:<34} {place:<22} {}  by {}",
        event.r#type, event.entity, event.actor
    )
}

fn at(time: Option<&prost_types::Timestamp>, look: &Look) -> String {
    let time = words::moment(time).map(|time| time.to_zoned(look.now.time_zone().clone()));
    let Some(time) = time else {
        return "--:--:--".to_owned();
    };
    let format = if time.date() == look.now.date() {
        "%H:%M:%S%.3f"
    } else {
        "%Y-%m-%d %H:%M:%S"
    };
    time.strftime(format).to_string()
}

/// What waits for a person; `all` when nothing narrowed it.
pub(crate) fn queue(answer: &ListQueueItemsResponse, all: bool, look: &Look) -> String {
    let mut table = Table::new(["ITEM", "KIND", "FOR", "WHAT", "WHY"]);
    for item in &answer.items {
        table.row([
            item.id.clone(),
            kind(item.kind()).to_owned(),
            words::lasted(item.since.as_ref(), &look.now),
            item.summary.clone(),
            words::shorten(&item.error, 60),
        ]);
    }
    table.text(if all {
        "Nothing waits for a person."
    } else {
        "Nothing that waits for a person fits."
    })
}

fn kind(kind: queue_item::Kind) -> &'static str {
    match kind {
        queue_item::Kind::Unspecified => "unknown",
        queue_item::Kind::Step => "step",
        queue_item::Kind::DeadLetter => "dead letter",
    }
}

/// One item in full.
pub(crate) fn queue_item(item: &QueueItem, look: &Look) -> String {
    let since = words::lasted(item.since.as_ref(), &look.now);
    let mut lines = vec![
        format!("  {}  {}, for {since}", item.id, kind(item.kind())),
        format!("  {}", item.summary),
    ];
    if !item.deployment_id.is_empty() {
        lines.push(format!("  of {}", item.deployment_id));
    }
    if !item.consumer.is_empty() {
        lines.push(format!("  not applied by {}", item.consumer));
    }
    lines.push(format!("  {}", item.error));
    lines.push(String::new());
    lines.push(format!(
        "  Back to work: candlefish queues replay {} --reason \"…\"",
        item.id
    ));
    lines.push(format!(
        "  Give it up:   candlefish queues discard {} --reason \"…\"",
        item.id
    ));
    lines.join("\n")
}
