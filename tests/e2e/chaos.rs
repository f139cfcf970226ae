//! The whole platform under fire, judged by a checker that asks neither the services nor their API.
//!
//! `cargo xtask chaos --deployments N --faults M --seed S` sets the environment of a longer run;
//! `cargo xtask bugs` runs it against services with a bug, and reads what was found broken from the
//! lines that begin with [`BROKEN`].

use std::time::Duration;

use candlefish_devstack::{Service, Stack, wait_until};
use candlefish_testkit::checker::{self, Broken, Edge};
use e2e::chaos::{self, Done, Fate, Plan};

const BROKEN: &str = "broken: ";
/// The relay numbers what the last commits wrote; edges follow the last routes.
const SETTLES_WITHIN: Duration = Duration::from_secs(10);

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
        faults: number("CANDLEFISH_CHAOS_FAULTS", 30),
    };
    let stack = Stack::builder()
        .replicas(2, 2, 2)
        .lease_ms(1000)
        .env(Service::Orchestrator, "CANDLEFISH_SWEEP_MS", "500")
        .env(Service::Orchestrator, "CANDLEFISH_LOG", "info")
        .start()
        .await
        .unwrap();
    let done = chaos::run(&stack, plan).await.unwrap();
    let url = stack.superuser_database_url();
    let counts = checker::counts(&url).await;
    println!(
        "seed {} · {:?} · faults {:?} · {counts:?}",
        plan.seed, done.fates, done.faults
    );
    let broken = if done.broken.is_empty() {
        at_rest(&stack, &done).await
    } else {
        done.broken.clone()
    };
    for claim in broken.keys() {
        println!("{BROKEN}{claim}");
    }
    assert!(broken.is_empty(), "{broken:#?}");
    did_much(plan, &done, counts["pivoted"]);
    stack.stop().await.unwrap();
}

/// What is broken when the platform has come to rest.
async fn at_rest(stack: &Stack, done: &Done) -> Broken {
    let url = stack.superuser_database_url();
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
fn did_much(plan: Plan, done: &Done, pivoted: i64) {
    let scaled = |share: u64| plan.deployments * share / 200;
    assert!(pivoted >= i64::try_from(scaled(120)).unwrap(), "{pivoted}");
    for fate in [
        Fate::Cancelled,
        Fate::AbortedPastThePivot,
        Fate::RolledBack,
        Fate::Broken,
        Fate::Late,
    ] {
        let count = done.fates.get(&fate).copied().unwrap_or(0);
        assert!(count >= scaled(20), "{:?}", done.fates);
    }
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
