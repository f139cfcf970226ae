//! The whole platform under fire, judged by a checker that asks neither the services nor their API.
//!
//! `cargo xtask chaos --deployments N --faults M --seed S` sets the environment of a longer run.

use std::time::Duration;

use candlefish_devstack::{Service, Stack};
use candlefish_testkit::checker;
use e2e::{
    chaos::{self, Fate, Plan},
    visitors,
};

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
        lanes: 20,
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

    // The relay numbers what the last commits wrote; edges follow the last routes.
    candlefish_devstack::wait_until(Duration::from_secs(30), "every invariant holds", || async {
        let broken = checker::database(&url).await;
        if broken.is_empty() {
            Ok(())
        } else {
            Err(format!("{broken:#?}"))
        }
    })
    .await
    .unwrap();
    let http = reqwest::Client::new();
    for (host, release) in checker::live(&url, "localhost").await {
        for edge in stack.edges() {
            let what = format!("{} serves {release} on {host}", edge.id);
            candlefish_devstack::wait_until(Duration::from_secs(30), &what, || async {
                let page = visitors::fetch(&http, edge.address, &host, "/").await;
                let page = page.map_err(|error| format!("{error:#}"))?;
                if page.release == release {
                    Ok(())
                } else {
                    Err(page.release)
                }
            })
            .await
            .unwrap();
        }
    }

    // A run that did little proves little.
    let accepted = i64::try_from(done.accepted.len()).unwrap();
    let known: i64 = counts
        .iter()
        .filter(|(name, _)| *name != "pivoted")
        .map(|(_, n)| n)
        .sum();
    assert_eq!(known, accepted, "what was accepted is what is there");
    let scaled = |share: u64| plan.deployments * share / 200;
    assert!(
        counts["pivoted"] >= i64::try_from(scaled(120)).unwrap(),
        "{counts:?}"
    );
    for fate in [
        Fate::Cancelled,
        Fate::AbortedPastThePivot,
        Fate::RolledBack,
        Fate::Broken,
    ] {
        assert!(done.fates[&fate] >= scaled(20), "{:?}", done.fates);
    }
    let fired: u64 = done.faults.values().sum();
    assert!(fired * 100 >= (plan.faults + 2) * 80, "{:?}", done.faults);
    for kind in [
        "orchestrator",
        "gateway",
        "edge",
        "postgres",
        "streams deleted",
    ] {
        assert!(
            done.faults.contains_key(kind),
            "{kind} saw no fault: {:?}",
            done.faults
        );
    }
    stack.stop().await.unwrap();
}
