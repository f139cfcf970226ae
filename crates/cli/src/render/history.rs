//! What went live in an environment, and what was done to it.

use candlefish_proto::deploy::{ListHistoryResponse, Record, record::Kind};

use super::{Look, table::Table, words};

/// Newest first.
pub(crate) fn list(answer: &ListHistoryResponse, look: &Look) -> String {
    let mut table = Table::new(["WHEN", "WHO", "WHAT", "WHY"]);
    for record in &answer.records {
        let when = words::moment(record.at.as_ref())
            .map(|at| words::clock(at, &look.now))
            .unwrap_or_default();
        table.row([
            when,
            record.by.clone(),
            what(record),
            words::shorten(&record.reason, 60),
        ]);
    }
    table.text("Nothing has gone live here, and nobody has held, stopped or banned anything.")
}

fn what(record: &Record) -> String {
    let scope = if record.site.is_empty() {
        "everything"
    } else {
        &record.site
    };
    let release = words::short(&record.release_id);
    let deployment = words::short(&record.deployment_id);
    match record.kind() {
        Kind::Unspecified => "did what this version does not know".to_owned(),
        Kind::Hold if record.deployment_id.is_empty() => "held".to_owned(),
        Kind::Hold => format!("held with {deployment}"),
        Kind::LiftHold => "lifted the hold".to_owned(),
        Kind::Stop => format!("stopped {scope}"),
        Kind::LiftStop => format!("lifted the stop of {scope}"),
        Kind::Ban => format!("banned {release}"),
        Kind::Unban => format!("lifted the ban of {release}"),
        Kind::Cancel => format!("cancelled {deployment}"),
        Kind::Abort => format!("aborted {deployment}"),
        Kind::Rollback if record.release_id.is_empty() => {
            format!("took everything away with {deployment}")
        }
        Kind::Rollback => format!("rolled back to {release} with {deployment}"),
        Kind::Reject => format!("rejected {release} with {deployment}"),
        Kind::Clear => format!("cleared {release}"),
        Kind::Pin => format!("pinned {deployment}"),
        Kind::Unpin => format!("unpinned {deployment}"),
        Kind::Close => "closed it".to_owned(),
        Kind::Reopen => "opened it again".to_owned(),
        Kind::Live => format!("{release} went live with {deployment}"),
        Kind::Fail => format!("{release} failed with {deployment}"),
    }
}
