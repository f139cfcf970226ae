use candlefish_clock::ManualClock;
use candlefish_ids::{DeploymentId, StepId};

use super::*;
use crate::{
    deployment::plan::StepKind,
    site::policy::OnNoEvidence::{Advance, Return, Wait as Person},
    step::verdict::Verdict::{Fail, NotEnoughData, Pass, ProviderDown},
};

const ENOUGH: i32 = 50;
const HOST: &str = "docs.localhost";

fn step() -> Step {
    Step {
        id: StepId::new(),
        deployment_id: DeploymentId::new(),
        ord: 5,
        kind: StepKind::Analyse,
        weight: 10,
        interval: Duration::from_secs(30),
        is_undo: false,
        attempt: 0,
        lost_leases: 0,
        started_at: None,
        detail: serde_json::Value::Null,
        message: String::new(),
    }
}

/// What an analysis comes to that is told these verdicts one after the other; all but the last one
/// must leave it open.
fn told(on_no_evidence: OnNoEvidence, verdicts: &[Verdict]) -> Outcome {
    let policy = Policy {
        on_no_evidence,
        ..Policy::default()
    };
    let known = Known {
        now: ManualClock::at_second(1_000).now(),
        enough_at: None,
        verified_at: Some(ManualClock::at_second(60 * 61).now()),
    };
    let mut step = step();
    let next = |step: &Step, verdict: &Verdict| {
        let memory = serde_json::from_value(step.detail.clone()).unwrap_or_default();
        let words = format!("{verdict:?}");
        conclude(&known, &policy, step, memory, (*verdict, words))
    };
    let (last, before) = verdicts.split_last().unwrap();
    for verdict in before {
        let Outcome::Wait(wait) = next(&step, verdict) else {
            panic!("{verdict:?} of {verdicts:?} ended it");
        };
        step.detail = wait.detail;
    }
    next(&step, last)
}

/// What keeps it, when it goes on.
fn kept(outcome: Outcome) -> blocker::Kind {
    match outcome {
        Outcome::Wait(wait) => wait.blocker.unwrap().kind,
        ended => panic!("{ended:?}"),
    }
}

fn counted(requests: i64, failed: i64) -> Counted {
    Counted { requests, failed }
}

fn hosts(names: &[&str]) -> Vec<String> {
    names.iter().map(|&name| name.to_owned()).collect()
}

fn all(counted: Counted) -> Sum {
    Sum {
        counted,
        rate: 0.0,
        sampled_ms: None,
    }
}

fn memory(candidate: Counted, stable: Counted) -> Memory {
    let mut memory = Memory::default();
    begin(
        &mut memory,
        1,
        &hosts(&[HOST]),
        (all(candidate), all(stable)),
    );
    memory
}

#[test]
fn the_first_good_interval_passes_also_after_a_bad_one() {
    let passed = Outcome::done("Pass");
    let befores: [&[Verdict]; 3] = [&[], &[Fail], &[NotEnoughData, ProviderDown, Fail]];
    for before in befores {
        let verdicts = [before, &[Pass]].concat();
        assert_eq!(told(Advance, &verdicts), passed, "{verdicts:?}");
    }
}

#[test]
fn two_bad_intervals_in_a_row_blame_the_release() {
    let blamed = Outcome::failed(Cause::Verdict, "Fail");
    assert_eq!(told(Advance, &[Fail, Fail]), blamed);
    assert_eq!(told(Person, &[NotEnoughData, Fail, Fail]), blamed);
    assert_eq!(kept(told(Advance, &[Fail])), blocker::Kind::Timer);
}

#[test]
fn an_interval_says_how_a_person_passes_it() {
    let Outcome::Wait(wait) = told(Advance, &[NotEnoughData]) else {
        panic!("one empty interval ended it");
    };
    let blocker = wait.blocker.unwrap();
    assert_eq!(blocker.owner, "time");
    assert!(
        blocker.action.starts_with("candlefish advance dep_"),
        "{}",
        blocker.action
    );
}

#[test]
fn bad_intervals_with_an_empty_one_between_are_not_in_a_row() {
    for empty in [NotEnoughData, ProviderDown] {
        let parted = told(Return, &[Fail, empty, Fail]);
        assert_eq!(kept(parted), blocker::Kind::Timer, "{empty:?}");
        let blamed = told(Return, &[Fail, empty, Fail, Fail]);
        assert_eq!(blamed, Outcome::failed(Cause::Verdict, "Fail"));
    }
}

#[test]
fn three_empty_intervals_in_a_row_leave_it_to_the_policy() {
    let empty = [NotEnoughData, ProviderDown, NotEnoughData];
    let advanced = "NotEnoughData; goes on by the verification of 01:01 UTC (synthetic)";
    assert_eq!(told(Advance, &empty), Outcome::done(advanced));
    // Nothing speaks against the release, so it is not rejected.
    let returned = Outcome::failed(Cause::Evidence, "NotEnoughData; the policy goes back");
    assert_eq!(told(Return, &empty), returned);
    assert_eq!(kept(told(Person, &empty)), blocker::Kind::Evidence);
}

#[test]
fn empty_intervals_with_a_bad_one_between_are_not_in_a_row() {
    for policy in [Advance, Return, Person] {
        let parted = [
            NotEnoughData,
            NotEnoughData,
            Fail,
            ProviderDown,
            ProviderDown,
        ];
        assert_eq!(kept(told(policy, &parted)), blocker::Kind::Timer);
    }
}

#[test]
fn what_waits_for_a_person_goes_on_by_evidence_that_comes_later() {
    let empty = [NotEnoughData; 3];
    let verdicts = [&empty[..], &[Pass]].concat();
    assert_eq!(told(Person, &verdicts), Outcome::done("Pass"));
    let verdicts = [&empty[..], &[Fail, Fail]].concat();
    let blamed = Outcome::failed(Cause::Verdict, "Fail");
    assert_eq!(told(Person, &verdicts), blamed);
}

#[test]
fn only_what_was_counted_in_the_interval_is_judged() {
    let memory = memory(counted(1_000, 900), counted(10_000, 0));
    let now = (counted(1_100, 900), counted(11_000, 0));
    let (verdict, words) = judged(&memory, now, true, ENOUGH);
    assert_eq!(verdict, Pass, "{words}");
    let now = (counted(1_100, 950), counted(11_000, 0));
    let (verdict, words) = judged(&memory, now, true, ENOUGH);
    assert_eq!(verdict, Fail, "{words}");
    assert_eq!(
        words,
        "fail: candidate 100 requests, 50.0 % failed · stable 1,000, 0.0 %"
    );
}

#[test]
fn counters_that_were_forgotten_blame_nobody_and_the_next_interval_is_judged() {
    let before = (counted(0, 0), counted(100_000, 2_000));
    // 2 % of both failed; without the edge's earlier boot stable has less than it began with.
    let now = (counted(100, 2), counted(1_000, 20));
    let mut memory = memory(before.0, before.1);
    let (verdict, words) = judged(&memory, now, true, ENOUGH);
    assert_eq!(verdict, NotEnoughData, "{words}");
    assert!(words.contains("forgotten"), "{words}");
    begin(&mut memory, 2, &hosts(&[HOST]), (all(now.0), all(now.1)));
    let next = (counted(200, 4), counted(2_000, 40));
    assert_eq!(judged(&memory, next, true, ENOUGH).0, Pass);
    let next = (counted(200, 52), counted(2_000, 40));
    assert_eq!(judged(&memory, next, true, ENOUGH).0, Fail);
}

#[test]
fn either_counter_of_either_release_tells_that_some_were_forgotten() {
    let before = counted(100, 50);
    let more = counted(300, 50);
    for less in [counted(99, 50), counted(300, 49)] {
        for now in [(less, more), (more, less)] {
            let judged = judged(&memory(before, before), now, true, ENOUGH);
            assert_eq!(judged.0, NotEnoughData, "{now:?}");
        }
    }
    let judged = judged(&memory(before, before), (more, more), true, ENOUGH);
    assert_eq!(judged.0, Pass);
}

#[test]
fn without_a_sample_the_source_is_down_whatever_was_counted() {
    for now in [counted(200, 150), counted(0, 0)] {
        let memory = memory(counted(100, 50), counted(100, 50));
        let judged = judged(&memory, (now, now), false, ENOUGH);
        let words = "provider down: no edge sent traffic samples".to_owned();
        assert_eq!(judged, (ProviderDown, words));
    }
}

#[test]
fn too_few_requests_say_how_many_there_were() {
    let memory = memory(counted(0, 0), counted(0, 0));
    let now = (counted(49, 49), counted(1_000, 0));
    let words = "not enough data: candidate 49 requests, 100.0 % failed · stable 1,000, 0.0 %";
    assert_eq!(
        judged(&memory, now, true, ENOUGH),
        (NotEnoughData, words.to_owned())
    );
    let (_, words) = judged(&memory, (counted(1, 0), counted(0, 0)), true, ENOUGH);
    assert!(words.contains("candidate 1 request, 0.0 %"), "{words}");
}

#[test]
fn an_interval_counts_on_the_hosts_that_it_began_with() {
    let (one, two) = (hosts(&[HOST]), hosts(&[HOST, "docs.example.com"]));
    for (then, now) in [(&one, &two), (&two, &one), (&two, &two)] {
        let mut memory = Memory::default();
        begin(
            &mut memory,
            1,
            then,
            (all(counted(0, 0)), all(counted(0, 0))),
        );
        let kept = serde_json::to_value(&memory).unwrap();
        let memory: Memory = serde_json::from_value(kept).unwrap();
        assert_eq!(memory.counts_on(now), then.as_slice());
    }
}

#[test]
fn an_interval_that_an_older_build_began_counts_on_the_platforms_host() {
    let kept = serde_json::json!({"began_ms": 1, "candidate": [1, 0], "stable": [2, 0]});
    let memory: Memory = serde_json::from_value(kept).unwrap();
    let now = hosts(&[HOST, "docs.example.com"]);
    assert_eq!(memory.counts_on(&now), hosts(&[HOST]).as_slice());
}

#[test]
fn enough_come_in_an_interval_or_never() {
    // A tenth of it for 30 s: 50 are needed.
    let is_enough = |rate| is_enough(&Policy::default(), &step(), rate);
    assert!(!is_enough(0.0));
    assert!(!is_enough(16.6));
    assert!(is_enough(16.7));
}

#[test]
fn a_forecast_says_how_long_a_judgement_takes_at_this_traffic() {
    let said = |rate| forecast(&Policy::default(), &step(), rate);
    // A tenth of it: 50 requests within an interval, which is judged when it ends.
    assert_eq!(
        said(16.7),
        "at 16.7 requests/s a judgement needs about 30 s"
    );
    assert_eq!(
        said(1_000.0),
        "at 1,000.0 requests/s a judgement needs about 30 s"
    );
}

#[test]
fn a_forecast_of_too_little_traffic_says_what_the_policy_does() {
    for (on_no_evidence, then) in [
        (Advance, "advances"),
        (Person, "waits for a person"),
        (Return, "goes back"),
    ] {
        let policy = Policy {
            on_no_evidence,
            ..Policy::default()
        };
        for (rate, begins) in [
            (0.0, "no traffic: about 0"),
            (10.0, "too little traffic: about 30"),
            // 49.8: one interval after the other has too few.
            (16.6, "too little traffic: about 49"),
        ] {
            let words = format!(
                "{begins} of 50 requests an interval; after 3 intervals of 30 s it {then} (policy)"
            );
            assert_eq!(forecast(&policy, &step(), rate), words);
        }
    }
}

#[test]
fn only_who_goes_on_without_evidence_needs_to_know_of_the_verification() {
    let policy = |on_no_evidence| Policy {
        on_no_evidence,
        ..Policy::default()
    };
    let after = |empty| Memory {
        empty,
        ..Memory::default()
    };
    for verdict in [NotEnoughData, ProviderDown] {
        assert!(advances(&policy(Advance), &after(2), verdict));
        assert!(!advances(&policy(Advance), &after(1), verdict));
        assert!(!advances(&policy(Person), &after(2), verdict));
    }
    assert!(!advances(&policy(Advance), &after(2), Pass));
    assert_eq!(fetches(None), "our own fetches (synthetic)");
}
