use candlefish_proto::deploy::blocker::Kind;
use serde_json::{Value, json};

use super::*;

const LIFT_HOLD: &str = "candlefish hold lift docs/production --reason …";
const LIFT_DOCS: &str = "candlefish stop lift docs --reason …";
const LIFT_EVERYTHING: &str = "candlefish stop lift --reason …";

fn at(minute: u8) -> String {
    format!("2026-11-29T10:{minute:02}:00Z")
}

/// A blocker of the ledger.
fn standing(kind: &str, since: u8, action: &str) -> Value {
    json!({
        "kind": kind, "since": at(since), "until": null, "owner": "somebody", "message": "words",
        "action": action,
    })
}

fn hold(since: u8) -> Value {
    json!({ "since": at(since), "by": "grace", "reason": "search is broken" })
}

/// Of everything without a site.
fn stop(site: Option<&str>, since: u8) -> Value {
    json!({
        "id": "01900000-0000-7000-8000-000000000001", "site": site, "pauses": false,
        "reason": "the registry is down", "since": at(since), "by": "erin", "until": at(50),
    })
}

fn kept(standing: &[Value], hold: Option<Value>, stops: &[Value]) -> Kept {
    let besides = json!({ "place": "docs/production", "hold": hold, "stops": stops });
    let kept = json!({ "standing": standing, "besides": besides });
    serde_json::from_value(kept).unwrap()
}

/// The kind of each, the minute since when, and what clears it.
fn listed(shown: &[pb::Blocker]) -> Vec<(Kind, i64, &str)> {
    let minute = |one: &pb::Blocker| one.since.as_ref().unwrap().seconds / 60 % 60;
    shown
        .iter()
        .map(|one| (one.kind(), minute(one), &*one.action))
        .collect()
}

#[test]
fn what_lacks_content_is_kept_by_stops_and_the_hold_as_well() {
    let content = standing("content", 1, "candlefish deploy DIR");
    let stops = [stop(None, 7), stop(Some("docs"), 6)];
    let shown = kept(&[content], Some(hold(5)), &stops).shown();
    let expected = [
        (Kind::Content, 1, "candlefish deploy DIR"),
        (Kind::Stop, 7, LIFT_EVERYTHING),
        (Kind::Stop, 6, LIFT_DOCS),
        (Kind::Hold, 5, LIFT_HOLD),
    ];
    assert_eq!(listed(&shown), expected);
    let words = shown.iter().skip(1).map(|one| {
        assert_eq!(one.owner, "approver");
        (one.message.as_str(), one.until.is_some())
    });
    let expected = [
        ("everything is stopped by erin: the registry is down", true),
        ("docs is stopped by erin: the registry is down", true),
        ("docs/production is held by grace: search is broken", false),
    ];
    assert_eq!(words.collect::<Vec<_>>(), expected);
}

#[test]
fn what_is_charged_is_told_once_and_since_when_it_keeps_the_deployment() {
    let charged = standing("stop", 9, LIFT_DOCS);
    let shown = kept(&[charged], Some(hold(5)), &[stop(Some("docs"), 6)]).shown();
    let expected = [(Kind::Stop, 6, LIFT_DOCS), (Kind::Hold, 5, LIFT_HOLD)];
    assert_eq!(listed(&shown), expected);
    let charged = standing("hold", 4, LIFT_HOLD);
    let shown = kept(&[charged], Some(hold(5)), &[]).shown();
    assert_eq!(listed(&shown), [(Kind::Hold, 4, LIFT_HOLD)]);
}

#[test]
fn of_two_stops_the_one_that_is_not_charged_is_told_too() {
    let charged = standing("stop", 7, LIFT_EVERYTHING);
    let stops = [stop(None, 7), stop(Some("docs"), 6)];
    let shown = kept(&[charged], None, &stops).shown();
    let expected = [(Kind::Stop, 7, LIFT_EVERYTHING), (Kind::Stop, 6, LIFT_DOCS)];
    assert_eq!(listed(&shown), expected);
}

#[test]
fn the_ledger_is_told_as_it_is_and_what_it_cleared_may_stand_again() {
    let cleared = |kind: &str, action: &str| {
        let mut one = standing(kind, 1, action);
        one["cleared_at"] = json!(at(3));
        one
    };
    let charged = standing("stop", 9, LIFT_DOCS);
    let ledger = json!([cleared("content", ""), cleared("hold", LIFT_HOLD), charged]);
    let ledger = serde_json::from_value(ledger).unwrap();
    let kept = kept(&[charged], Some(hold(5)), &[stop(Some("docs"), 6)]);
    let told: Vec<_> = kept.after(ledger).into_iter().map(Told::shown).collect();
    let expected = [
        (Kind::Content, 1, ""),
        (Kind::Hold, 1, LIFT_HOLD),
        (Kind::Stop, 9, LIFT_DOCS),
        (Kind::Hold, 5, LIFT_HOLD),
    ];
    assert_eq!(listed(&told), expected);
}

#[test]
fn a_rollback_and_what_acts_tell_the_ledger_alone() {
    let standing = [standing("edge", 2, "candlefish edges")];
    let kept = json!({ "standing": standing, "besides": null });
    let kept: Kept = serde_json::from_value(kept).unwrap();
    let expected = [(Kind::Edge, 2, "candlefish edges")];
    assert_eq!(listed(&kept.shown()), expected);
}
