//! What people see, as snapshots: the sketches of the product's experience, from messages with
//! fixed times.

use candlefish_proto::deploy::{
    Blocker, BlueGreen, Canary, Deployment, Environment, Hold, Lane, ListBlockersResponse, Release,
    Rollback, Step, Strategy, Waited, blocker,
    deployment::{Kind, State},
    step, strategy,
};
use insta::assert_snapshot;
use jiff::{SignedDuration, civil::date, tz::TimeZone};

use super::{ending::Now, environment::Kept, lane::Around, *};
use crate::watch::Outcome;

mod decisions;
mod failures;
mod lists;
mod moving;
mod pushes;
mod tables;

const DEP: &str = "dep_01k8qw4f9cfk2t0v1e6m7r8x9a";
const EARLIER: &str = "dep_01k8qtzz9cfk2t0v1e6m7r8x9b";
const REL: &str = "rel_01k8qv2h8cfk2t0v1e6m7r8x9c";
const BEFORE: &str = "rel_01k8pt7d3cfk2t0v1e6m7r8x9d";

/// 2026-11-20 14:04:00 in Berlin, a Friday; plus seconds.
#[expect(clippy::unnecessary_wraps, reason = "as fields of messages are")]
fn at(seconds: i64) -> Option<prost_types::Timestamp> {
    let second = start().timestamp().as_second() + seconds;
    Some(prost_types::Timestamp {
        seconds: second,
        nanos: 0,
    })
}

/// As [`at`], plus milliseconds.
#[expect(clippy::unnecessary_wraps, reason = "as fields of messages are")]
fn at_ms(ms: i64) -> Option<prost_types::Timestamp> {
    let time = start().timestamp() + SignedDuration::from_millis(ms);
    Some(prost_types::Timestamp {
        seconds: time.as_second(),
        nanos: time.subsec_nanosecond(),
    })
}

fn start() -> Zoned {
    let berlin = TimeZone::get("Europe/Berlin").unwrap();
    date(2026, 11, 20).at(14, 4, 0, 0).to_zoned(berlin).unwrap()
}

#[expect(clippy::unnecessary_wraps, reason = "as fields of messages are")]
fn seconds(seconds: i64) -> Option<prost_types::Duration> {
    Some(prost_types::Duration { seconds, nanos: 0 })
}

/// A pipe, so many seconds after the start.
fn look(after: i64) -> Look {
    Look {
        width: 100,
        height: None,
        cuts: false,
        colour: false,
        now: &start() + SignedDuration::from_secs(after),
    }
}

fn release() -> Release {
    Release {
        id: REL.to_owned(),
        site: "docs".to_owned(),
        commit: "4ac21e0b5d2f4f10c1a7f0de9b0c3c2f0f6f5a11".to_owned(),
        message: "Fix install page".to_owned(),
        author: "Ada Byron".to_owned(),
        branches: vec!["main".to_owned()],
        file_count: 1124,
        byte_count: 38_213_004,
        created_at: at(-2),
        ..Release::default()
    }
}

fn before() -> Release {
    Release {
        id: BEFORE.to_owned(),
        commit: "9b1d0aa2b4e6f80123456789abcdef0123456789".to_owned(),
        created_at: at(-2 * 24 * 3600),
        ..release()
    }
}

fn step(ord: i32, kind: step::Kind, weight: i32, interval: i64) -> Step {
    Step {
        id: format!("step_{ord}"),
        ord,
        kind: kind.into(),
        state: step::State::Pending.into(),
        weight,
        interval: (interval > 0).then(|| seconds(interval)).flatten(),
        ..Step::default()
    }
}

/// A canary that has just been accepted.
fn canary() -> Deployment {
    use step::Kind::{
        Analyse, Bake, Finish, Prepare, Shift, Stage, Switch, VerifyCandidate, VerifyLive,
    };
    let canary = Canary {
        weights: vec![10, 50],
        interval: seconds(30),
        bake: seconds(120),
    };
    Deployment {
        id: DEP.to_owned(),
        site: "docs".to_owned(),
        environment: "production".to_owned(),
        release_id: REL.to_owned(),
        release: Some(release()),
        kind: Kind::Standard.into(),
        strategy: Some(Strategy {
            kind: Some(strategy::Kind::Canary(canary)),
        }),
        state: State::Pending.into(),
        steps: vec![
            step(1, Prepare, 0, 0),
            step(2, Stage, 0, 0),
            step(3, VerifyCandidate, 0, 0),
            step(4, Shift, 10, 0),
            step(5, Analyse, 10, 30),
            step(6, Shift, 50, 0),
            step(7, Analyse, 50, 30),
            step(8, Switch, 0, 0),
            step(9, VerifyLive, 0, 0),
            step(10, Bake, 0, 120),
            step(11, Finish, 0, 0),
        ],
        created_at: at(0),
        created_by: "ada".to_owned(),
        previous_release_id: BEFORE.to_owned(),
        url: "http://docs.localhost:8080".to_owned(),
        preview_url: "http://01k8qw4f9cfk2t0v1e6m7r8x9a--docs.localhost:8080".to_owned(),
        trace_id: "4bf92f3577b34da6a3ce929d0e0e4736".to_owned(),
        version: 1,
        ..Deployment::default()
    }
}

/// Closes the step at a place: from and to in milliseconds after the start.
fn done(deployment: &mut Deployment, ord: i32, from: i64, to: i64, message: &str) {
    let step = deployment
        .steps
        .iter_mut()
        .find(|step| step.ord == ord)
        .unwrap();
    step.set_state(step::State::Done);
    (step.started_at, step.finished_at) = (at_ms(from), at_ms(to));
    step.message = message.to_owned();
}

/// In its first analysis, 18 of 30 s.
fn analysing() -> Deployment {
    let mut deployment = canary();
    deployment.set_state(State::Waiting);
    deployment.started_at = at(0);
    deployment.pivoted_at = at_ms(300);
    deployment.weight = 10;
    done(&mut deployment, 1, 10, 22, "");
    done(&mut deployment, 2, 30, 71, "2 of 2 edges");
    done(&mut deployment, 3, 80, 260, "1,124 of 1,124 files match");
    done(&mut deployment, 4, 270, 300, "");
    let step = deployment
        .steps
        .iter_mut()
        .find(|step| step.ord == 5)
        .unwrap();
    step.set_state(step::State::Ready);
    step.started_at = at_ms(1000);
    step.message = "candidate 412 requests, 0.0 % failed · stable 3,711, 0.1 %".to_owned();
    deployment.blockers = vec![Blocker {
        kind: blocker::Kind::Timer.into(),
        since: at_ms(1000),
        until: at(31),
        owner: "time".to_owned(),
        message: "watches 10 % of the traffic for 30 s".to_owned(),
        action: format!("candlefish advance {DEP}"),
        ..Blocker::default()
    }];
    deployment
}

/// Live after 1 min 3 s, baking for 2 min.
fn live() -> Deployment {
    let mut deployment = analysing();
    done(
        &mut deployment,
        5,
        1000,
        31_000,
        "candidate 688 requests, 0.0 % failed",
    );
    done(&mut deployment, 6, 31_010, 31_040, "");
    done(
        &mut deployment,
        7,
        31_050,
        61_050,
        "candidate 3,420 requests, 0.1 % failed",
    );
    done(&mut deployment, 8, 61_060, 61_400, "2 of 2 edges");
    done(
        &mut deployment,
        9,
        61_410,
        63_000,
        "1,124 of 1,124 files match",
    );
    let step = deployment
        .steps
        .iter_mut()
        .find(|step| step.ord == 10)
        .unwrap();
    step.set_state(step::State::Ready);
    step.started_at = at(63);
    deployment.live_at = at(63);
    deployment.weight = 100;
    deployment.blockers.clear();
    deployment
}

fn ended(state: State, cause: &str, message: &str) -> Deployment {
    let mut deployment = analysing();
    deployment.set_state(state);
    deployment.cause = cause.to_owned();
    deployment.message = message.to_owned();
    deployment.finished_at = at(64);
    deployment.blockers.clear();
    for step in &mut deployment.steps {
        if step.finished_at.is_none() {
            step.set_state(step::State::Abandoned);
        }
    }
    deployment
}

fn environment() -> Environment {
    Environment {
        site: "docs".to_owned(),
        slug: "production".to_owned(),
        url: "http://docs.localhost:8080".to_owned(),
        live_release_id: REL.to_owned(),
        live_deployment_id: DEP.to_owned(),
        live_since: at(63),
        ..Environment::default()
    }
}

fn hold() -> Hold {
    Hold {
        since: at(-600),
        by: "grace".to_owned(),
        reason: "search is broken".to_owned(),
        deployment_id: String::new(),
    }
}

/// What keeps a deployment since the start.
fn blocked(kind: blocker::Kind, owner: &str, message: &str, action: &str) -> Blocker {
    Blocker {
        kind: kind.into(),
        since: at(0),
        owner: owner.to_owned(),
        message: message.to_owned(),
        action: action.to_owned(),
        ..Blocker::default()
    }
}
