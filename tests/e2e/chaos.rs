//! The whole platform under fire, judged by a checker that asks neither the services nor their API.
//!
//! `cargo xtask chaos --deployments N --faults M --seed S` sets the environment of a longer run;
//! `cargo xtask bugs` runs it against services with a bug, and reads what was found broken from the
//! lines that begin with [`BROKEN`].

use std::time::Duration;

use candlefish_devstack::{Service, Stack, wait_until};
use candlefish_testkit::{
    checker::{self, Broken, Edge},
    github::Fake,
};
use e2e::{
    chaos::{self, Done, Fate, Outcomes, Plan, REPOSITORY},
    rng::Rng,
};

const BROKEN: &str = "broken: ";
/// The relay numbers what the last commits wrote; edges follow the last routes.
const SETTLES_WITHIN: Duration = Duration::from_secs(10);
/// GitHub is told of the last deployments after the tries that failed, and a lease.
const SHOWN_WITHIN: Duration = Duration::from_secs(90);

/// Those that go wrong.
const FATES: [Fate; 5] = [
    Fate::Cancelled,
    Fate::AbortedPastThePivot,
    Fate::RolledBack,
    Fate::Broken,
    Fate::Late,
];

fn number(name: &str, default: u64) -> u64 {
    match std::env::var(name) {
        Ok(text) => text.parse().unwrap(),
        Err(_) => default,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_deployments_under_fire_keep_every_invariant() {
    let plan = Plan {
        seed: number("CANDLEFISH_CHAOS_SEED", 1),
        deployments: number("CANDLEFISH_CHAOS_DEPLOYMENTS", 200),
        lanes: number("CANDLEFISH_CHAOS_LANES", 20),
        pushes: number("CANDLEFISH_CHAOS_PUSHES", 24),
        faults: number("CANDLEFISH_CHAOS_FAULTS", 30),
    };
    let github = Fake::start().await;
    let stack = Stack::builder()
        .replicas(2, 2, 2)
        .lease_ms(1000)
        .env(Service::Orchestrator, "CANDLEFISH_SWEEP_MS", "500")
        .env(Service::Orchestrator, "CANDLEFISH_LOG", "info")
        .env(Service::Orchestrator, "CANDLEFISH_GITHUB_API", &github.url())
        .env(Service::Orchestrator, "CANDLEFISH_GITHUB_TOKEN", "ghp_chaos")
        // The lease of a turn is five times that: longer than anybody is frozen.
        .env(Service::Orchestrator, "CANDLEFISH_GITHUB_TIMEOUT_MS", "2000")
        .env(Service::Orchestrator, "CANDLEFISH_GITHUB_WRITE_PAUSE_MS", "1")
        .env(Service::Orchestrator, "CANDLEFISH_GITHUB_REST_MS", "500")
        .env(Service::Orchestrator, "CANDLEFISH_GITHUB_SWEEP_MS", "3000")
        .start()
        .await
        .unwrap();
    github.hook(&format!("{}/v1/webhooks/github", stack.gateway_url()));
    let done = chaos::run(&stack, &github, plan).await.unwrap();
    let url = stack.superuser_database_url();
    let counts = checker::counts(&url).await;
    println!(
        "seed {} · {:?} · {} pushes, {} not taken at once, {} broken off, {} answers lost · faults {:?} · {counts:?}",
        plan.seed,
        done.fates,
        done.pushed.len(),
        done.missed,
        done.broken_off,
        github.faults_fired(),
        done.faults
    );
    let broken = if done.broken.is_empty() {
        at_rest(&stack, &github, &done).await
    } else {
        done.broken.clone()
    };
    for claim in broken.keys() {
        println!("{BROKEN}{claim}");
    }
    assert!(broken.is_empty(), "{broken:#?}");
    let outcomes = Outcomes::count(&url, &done).await.unwrap();
    println!("{outcomes:?}");
    did_much(plan, &done, outcomes);
    let lost = github.faults_fired();
    assert!(lost * 4 >= done.pushed.len(), "{lost} answers were lost");
    stack.stop().await.unwrap();
}

/// What is broken when the platform has come to rest.
async fn at_rest(stack: &Stack, github: &Fake, done: &Done) -> Broken {
    let url = stack.superuser_database_url();
    let told = wait_until(SHOWN_WITHIN, "GitHub shows every deployment", || async {
        let missing = checker::shown(&url, github, REPOSITORY).await;
        if missing.contains_key(checker::SHOWN) {
            Err(String::new())
        } else {
            Ok(())
        }
    });
    // Late: then the last look says what is missing.
    let _late = told.await;
    let seen: Vec<Edge> = stack
        .edges()
        .iter()
        .map(|edge| Edge {
            name: edge.id.clone(),
            address: edge.address,
        })
        .collect();
    let judge = async || {
        let mut broken = checker::database(&url).await;
        broken.extend(checker::accepted(&url, &done.accepted).await);
        broken.extend(checker::pushes(&url, REPOSITORY, &done.pushed).await);
        broken.extend(checker::shown(&url, github, REPOSITORY).await);
        broken.extend(checker::edges(&url, "localhost", &seen, &done.marks).await);
        broken
    };
    let settled = wait_until(SETTLES_WITHIN, "every invariant holds", || async {
        let broken = judge().await;
        if broken.is_empty() {
            Ok(())
        } else {
            Err(String::new())
        }
    });
    match settled.await {
        Ok(()) => Broken::new(),
        Err(_) => judge().await,
    }
}

/// A run that did little proves little.
fn did_much(plan: Plan, done: &Done, outcomes: Outcomes) {
    let scaled = |share: u64| plan.deployments * share / 200;
    came_true(outcomes, scaled);
    for fate in FATES {
        let count = done.fates.get(&fate).copied().unwrap_or(0);
        assert!(count >= scaled(20), "{:?}", done.fates);
    }
    assert_eq!(u64::try_from(done.pushed.len()).unwrap(), plan.pushes);
    let met = plan.pushes == 0 || done.missed > 0;
    assert!(met, "no delivery met a gateway that was down");
    // The second push to a lane is the first that may break off.
    let broke = plan.pushes <= chaos::PUSHED_LANES || done.broken_off > 0;
    assert!(broke, "no connection broke while it wrote down a delivery");
    let fired: u64 = done.faults.values().sum();
    assert!(fired * 100 >= (plan.faults + 2) * 80, "{:?}", done.faults);
    for kind in [
        "orchestrator",
        "gateway",
        "edge",
        "frozen",
        "postgres",
        "streams deleted",
    ] {
        assert!(
            done.faults.contains_key(kind),
            "{kind} saw no fault: {:?}",
            done.faults
        );
    }
}

/// Enough of what was planned came true, of 200, as the database tells it: see [`chaos::fates`].
fn came_true(outcomes: Outcomes, scaled: impl Fn(u64) -> u64) {
    let least = |share: u64| i64::try_from(scaled(share)).unwrap();
    assert!(outcomes.pivoted >= least(120), "{outcomes:?}");
    for count in [
        outcomes.cancelled,
        outcomes.aborted,
        outcomes.rolled_back,
        outcomes.refuted,
    ] {
        assert!(count >= least(20), "{outcomes:?}");
    }
}

#[test]
fn a_plan_leaves_room_for_what_does_not_come_true() {
    for seed in 1..=50 {
        let plan = Plan {
            seed,
            deployments: 200,
            lanes: 20,
            pushes: 0,
            faults: 0,
        };
        let lanes = chaos::fates(&mut Rng::seeded(seed), plan);
        assert_eq!(lanes.len(), 20);
        assert_eq!(lanes.concat().len(), 200);
        for fate in FATES {
            let planned = lanes.iter().flatten().filter(|one| **one == fate);
            assert_eq!(planned.count(), 27, "{fate:?}, seed {seed}");
        }
        let stays = |fate: &Fate| matches!(fate, Fate::Ordinary | Fate::Late);
        for lane in lanes.iter().filter(|lane| lane.iter().any(stays)) {
            let back = lane.iter().position(|fate| *fate == Fate::RolledBack);
            let stay = lane.iter().position(stays);
            assert!(
                back.is_none() || stay < back,
                "nothing to go back to: {lane:?}, seed {seed}"
            );
        }
    }
}
