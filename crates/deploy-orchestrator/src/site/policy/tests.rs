use proptest::prelude::{prop_assert_eq, proptest};

use super::*;

fn read(given: &pb::Policy) -> (Policy, Vec<String>) {
    let mut faults = Faults::default();
    let policy = Policy::read(&mut faults, "policy", Some(given));
    let fields = match faults.finish() {
        Ok(()) => Vec::new(),
        Err(refusal) => refusal
            .violations()
            .iter()
            .map(|fault| fault.field.clone())
            .collect(),
    };
    (policy, fields)
}

#[test]
fn an_empty_policy_is_the_default_one() {
    assert_eq!(read(&pb::Policy::default()), (Policy::default(), vec![]));
    let mut faults = Faults::default();
    assert_eq!(Policy::read(&mut faults, "policy", None), Policy::default());
}

#[test]
fn every_fault_is_named_by_its_path() {
    let seconds = |seconds| Some(prost_types::Duration { seconds, nanos: 0 });
    let canary = pb::Canary {
        weights: vec![60, 50],
        ..Default::default()
    };
    let given = pb::Policy {
        order: 9,
        strategy: Some(pb::Strategy {
            kind: Some(pb::strategy::Kind::Canary(canary)),
        }),
        settle: seconds(601),
        deadline: seconds(0),
        on_no_evidence: -1,
        min_requests: -1,
        min_edges: -1,
        keep_releases: 101,
        content_deadline: seconds(7 * 86_400 + 1),
    };
    assert_eq!(
        read(&given).1,
        [
            "policy.order",
            "policy.strategy.canary.weights[1]",
            "policy.settle",
            "policy.deadline",
            "policy.on_no_evidence",
            "policy.min_requests",
            "policy.min_edges",
            "policy.keep_releases",
            "policy.content_deadline",
        ]
    );
}

#[test]
fn the_stored_form_is_fixed() {
    let stored = serde_json::json!({
        "order": "latest",
        "strategy": {"kind": "blue_green", "bake_ms": 0},
        "settle_ms": 300,
        "deadline_ms": 1_800_000,
        "on_no_evidence": "advance",
        "min_requests": 50,
        "min_edges": 1,
        "keep_releases": 10,
        "content_deadline_ms": 3_600_000,
    });
    assert_eq!(serde_json::to_value(Policy::default()).unwrap(), stored);
}

#[test]
fn a_policy_of_an_older_or_newer_release_is_read() {
    let older = serde_json::json!({"order": "queue"});
    let policy: Policy = serde_json::from_value(older).unwrap();
    assert_eq!(
        policy,
        Policy {
            order: Order::Queue,
            ..Policy::default()
        }
    );
    let newer = serde_json::json!({"windows": ["Mon-Fri"], "min_edges": 2});
    let policy: Policy = serde_json::from_value(newer).unwrap();
    assert_eq!(
        policy,
        Policy {
            min_edges: 2,
            ..Policy::default()
        }
    );
}

proptest! {
    #[test]
    fn what_is_accepted_comes_back_from_message_and_database(
        order in 0_i32..3,
        on_no_evidence in 0_i32..4,
        settle in proptest::option::of(0_i64..=600),
        deadline in proptest::option::of(1_i64..=86_400),
        min_requests in 0..i32::MAX,
        min_edges in 0_i32..100,
        keep_releases in 0_i32..=100,
        content_deadline in proptest::option::of(1_i64..=604_800),
    ) {
        let seconds = |seconds| prost_types::Duration { seconds, nanos: 0 };
        let given = pb::Policy {
            order,
            strategy: None,
            settle: settle.map(seconds),
            deadline: deadline.map(seconds),
            on_no_evidence,
            min_requests,
            min_edges,
            keep_releases,
            content_deadline: content_deadline.map(seconds),
        };
        let (policy, fields) = read(&given);
        prop_assert_eq!(fields, Vec::<String>::new());
        prop_assert_eq!(read(&pb::Policy::from(&policy)), (policy.clone(), vec![]));
        let stored = serde_json::to_value(&policy).unwrap();
        prop_assert_eq!(serde_json::from_value::<Policy>(stored).unwrap(), policy);
    }
}
