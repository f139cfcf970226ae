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
    Content, Page,
    chaos::{self, Complaint, Done, Fate, Outcomes, Plan, REPOSITORY},
    rng::Rng,
};

const BROKEN: &str = "broken: ";
/// The relay numbers what the last commits wrote; edges follow the last routes.
const SETTLES_WITHIN: Duration = Duration::from_secs(10);
/// GitHub is told of the last deployments after the tries that failed, and a lease.
const SHOWN_WITHIN: Duration = Duration::from_secs(90);

/// What a run has of faults.
const FAULTS: [&str; 6] = [
    "orchestrator",
    "gateway",
    "edge",
    "frozen",
    "postgres",
    "streams deleted",
];

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
    let faults = number("CANDLEFISH_CHAOS_FAULTS", 30);
    let plan = Plan {
        seed: number("CANDLEFISH_CHAOS_SEED", 1),
        deployments: number("CANDLEFISH_CHAOS_DEPLOYMENTS", 200),
        lanes: number("CANDLEFISH_CHAOS_LANES", 20),
        pushes: number("CANDLEFISH_CHAOS_PUSHES", 24),
        faults,
        freezes: number("CANDLEFISH_CHAOS_FREEZES", faults / 4),
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
        "seed {} · {:?} · {} pushes, {} not taken at once, {} broken off, {} answers lost · {} pages · faults {:?} · {counts:?}",
        plan.seed,
        done.fates,
        done.pushed.len(),
        done.missed,
        done.broken_off,
        github.faults_fired(),
        done.pages,
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
    if broken.contains_key(chaos::DEADLOCKS) {
        println!(
            "{}",
            deadlocks(&stack.postgres().process().tail(POSTGRES_SAID))
        );
    }
    assert!(broken.is_empty(), "{broken:#?}");
    let outcomes = Outcomes::count(&url, &done).await.unwrap();
    println!("{outcomes:?}");
    let too_little = too_little(plan, &done, outcomes);
    assert!(too_little.is_empty(), "{too_little:#?}");
    let lost = github.faults_fired();
    assert!(lost * 4 >= done.pushed.len(), "{lost} answers were lost");
    stack.stop().await.unwrap();
}

/// Lines of Postgres's log that are looked through for its deadlocks, and those that tell of one.
const POSTGRES_SAID: usize = 600;
const OF_ONE_DEADLOCK: usize = 16;

/// What Postgres said of its deadlocks: who waited for whom, and with which statements.
fn deadlocks(log: &str) -> String {
    let lines: Vec<&str> = log.lines().collect();
    let told = lines.iter().enumerate().filter_map(|(place, line)| {
        let told = lines.iter().skip(place).take(OF_ONE_DEADLOCK);
        line.contains("deadlock detected")
            .then(|| told.copied().collect::<Vec<_>>().join("\n"))
    });
    told.collect::<Vec<_>>().join("\n\n")
}

/// What is broken when the platform has come to rest.
#[expect(clippy::print_stdout, reason = "what a run found is its result")]
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
        broken.extend(checker::blame(&url, &done.flawed).await);
        broken.extend(checker::pushes(&url, REPOSITORY, &done.pushed).await);
        broken.extend(checker::shown(&url, github, REPOSITORY).await);
        broken.extend(checker::edges(&url, "localhost", &seen, &done.marks).await);
        if !chaos::without_excuse()
            && let Some(words) = broken.remove(chaos::DEADLOCKS)
        {
            println!("not judged here: {words:?}");
        }
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

/// What a run did too little of, in words: one that did little proves little.
fn too_little(plan: Plan, done: &Done, outcomes: Outcomes) -> Vec<String> {
    let scaled = |share: u64| plan.deployments * share / 200;
    let mut words = did_not_come_true(outcomes, scaled);
    for fate in FATES {
        let count = done.fates.get(&fate).copied().unwrap_or(0);
        if count < scaled(20) {
            words.push(format!("{fate:?}: {count} as callers saw it"));
        }
    }
    // The second push to a lane is the first that may break off.
    let breaks = plan.pushes > chaos::PUSHED_LANES;
    let fired: u64 = done.faults.values().sum();
    let pushed = u64::try_from(done.pushed.len()).unwrap();
    let bounds = [
        (pushed != plan.pushes, format!("{pushed} pushes")),
        (
            plan.pushes > 0 && done.missed == 0,
            "no delivery met a gateway that was down".to_owned(),
        ),
        (
            breaks && done.broken_off == 0,
            "no connection broke while it wrote down a delivery".to_owned(),
        ),
        (
            fired * 100 < (plan.faults + 2) * 80,
            format!("faults: {:?}", done.faults),
        ),
        (
            done.pages < plan.deployments,
            format!("{} pages of visitors", done.pages),
        ),
    ];
    let missed = bounds.into_iter().filter(|(is_missed, _)| *is_missed);
    words.extend(missed.map(|(_, words)| words));
    let unseen = FAULTS
        .iter()
        .filter(|kind| !done.faults.contains_key(*kind));
    words.extend(unseen.map(|kind| format!("{kind} saw no fault")));
    words
}

/// Of what was planned too little came true, of 200, as the database tells it: see [`chaos::fates`].
fn did_not_come_true(outcomes: Outcomes, scaled: impl Fn(u64) -> u64) -> Vec<String> {
    let bounds = [
        ("pivoted", outcomes.pivoted, 120),
        ("cancelled", outcomes.cancelled, 20),
        ("aborted past the pivot", outcomes.aborted, 20),
        ("rolled back", outcomes.rolled_back, 20),
        ("refuted", outcomes.refuted, 20),
    ];
    let missed = bounds
        .into_iter()
        .filter(|(_, count, share)| *count < i64::try_from(scaled(*share)).unwrap());
    missed
        .map(|(what, count, _)| format!("{what}: {count} by the rows"))
        .collect()
}

/// A run of 200 that did just enough, and its plan.
fn just_enough() -> (Plan, Done, Outcomes) {
    let plan = Plan {
        seed: 1,
        deployments: 200,
        lanes: 20,
        pushes: 1,
        faults: 30,
        freezes: 7,
    };
    let pushed = checker::Pushed {
        commit: "c1".to_owned(),
        place: "pushed/branch-0".to_owned(),
        delivery: None,
    };
    // 26 of 32 are 81 %.
    let faults = FAULTS.into_iter().zip([7, 6, 6, 5, 1, 1]);
    let done = Done {
        fates: FATES.into_iter().map(|fate| (fate, 20)).collect(),
        pushed: vec![pushed],
        missed: 1,
        faults: faults.collect(),
        pages: 200,
        ..Done::default()
    };
    let outcomes = Outcomes {
        pivoted: 120,
        cancelled: 20,
        aborted: 20,
        rolled_back: 20,
        refuted: 20,
    };
    (plan, done, outcomes)
}

#[test]
fn a_run_that_did_just_enough_did_enough() {
    let (plan, done, outcomes) = just_enough();
    assert_eq!(too_little(plan, &done, outcomes), Vec::<String>::new());
}

#[test]
fn a_run_of_which_too_little_came_true_proves_nothing() {
    let (plan, done, enough) = just_enough();
    let mut poor = [enough; 5];
    poor[0].pivoted = 119;
    poor[1].cancelled = 19;
    poor[2].aborted = 19;
    poor[3].rolled_back = 19;
    poor[4].refuted = 19;
    let found = [
        "pivoted: 119 by the rows",
        "cancelled: 19 by the rows",
        "aborted past the pivot: 19 by the rows",
        "rolled back: 19 by the rows",
        "refuted: 19 by the rows",
    ];
    for (outcomes, words) in poor.into_iter().zip(found) {
        assert_eq!(too_little(plan, &done, outcomes), [words]);
    }
    for fate in FATES {
        let mut poor = done.clone();
        poor.fates.insert(fate, 19);
        let words = format!("{fate:?}: 19 as callers saw it");
        assert_eq!(too_little(plan, &poor, enough), [words]);
    }
}

#[test]
fn a_run_without_its_faults_pushes_or_visitors_proves_nothing() {
    let (plan, done, outcomes) = just_enough();
    for kind in FAULTS {
        let mut poor = done.clone();
        // So many faults, but none of this kind.
        let count = poor.faults.remove(kind).unwrap();
        let other = if kind == "edge" { "gateway" } else { "edge" };
        *poor.faults.get_mut(other).unwrap() += count;
        let words = format!("{kind} saw no fault");
        assert_eq!(too_little(plan, &poor, outcomes), [words]);
    }
    let poor = |change: fn(&mut Done)| {
        let mut poor = done.clone();
        change(&mut poor);
        let words = too_little(plan, &poor, outcomes);
        assert_eq!(words.len(), 1, "{words:?}");
        words.concat()
    };
    let few = poor(|done| *done.faults.get_mut("orchestrator").unwrap() = 6);
    assert!(few.starts_with("faults: "), "{few}");
    let unmet = poor(|done| done.missed = 0);
    assert_eq!(unmet, "no delivery met a gateway that was down");
    assert_eq!(poor(|done| done.pushed.clear()), "0 pushes");
    assert_eq!(poor(|done| done.pages = 199), "199 pages of visitors");
    let mut many = done.clone();
    let plan = Plan { pushes: 5, ..plan };
    many.pushed = vec![many.pushed.remove(0); 5];
    assert_eq!(
        too_little(plan, &many, outcomes),
        ["no connection broke while it wrote down a delivery"]
    );
}

#[test]
fn a_plan_spreads_its_freezes_and_kills_in_turns() {
    let order = |faults, freezes| {
        let (plan, ..) = just_enough();
        chaos::order(Plan {
            faults,
            freezes,
            ..plan
        })
    };
    let places = |order: &[&str]| -> Vec<usize> {
        let turns = order.iter().enumerate();
        let frozen = turns.filter(|(_, name)| **name == "frozen");
        frozen.map(|(turn, _)| turn).collect()
    };
    // The run of 200, and the small one that finds the bugs.
    let large = order(30, 7);
    assert_eq!(large.len(), 30);
    assert_eq!(places(&large), [2, 6, 10, 14, 19, 23, 27]);
    let small = order(14, 5);
    assert_eq!(places(&small), [1, 4, 6, 9, 12]);
    for victim in ["orchestrator", "gateway", "edge"] {
        let kills = small.iter().filter(|name| **name == victim);
        assert_eq!(kills.count(), 3, "{victim}");
    }
    assert_eq!(order(3, 0), ["orchestrator", "gateway", "edge"]);
    assert_eq!(order(2, 2), ["frozen", "frozen"]);
    assert!(order(0, 0).is_empty());
}

#[test]
fn a_visitor_of_a_lane_complains_of_all_but_whole_pages_of_it() {
    let page = |status: u16, release: &str, body: &str| {
        Ok(Page {
            status,
            release: release.to_owned(),
            body: body.to_owned(),
        })
    };
    let content = Content::site("lane-1-7-late");
    for path in e2e::visitors::PATHS {
        let whole = std::str::from_utf8(content.page(path).unwrap()).unwrap();
        let judged = chaos::judge_page("lane-1", path, page(200, "rel_a", whole));
        let mark = ("rel_a".to_owned(), "lane-1-7-late".to_owned());
        assert_eq!(judged, Ok(Some(mark)), "{path}");
        let torn = &whole[..whole.len() - 2];
        for (slug, body) in [("lane-1", torn), ("lane-1", ""), ("lane-11", whole)] {
            let judged = chaos::judge_page(slug, path, page(200, "rel_a", body));
            assert!(matches!(judged, Err(Complaint::Wrong(_))), "{path} {body}");
        }
    }
    let judged = |answer| chaos::judge_page("lane-1", "/", answer);
    // Nothing is live there; that the page of a release is lost is another thing.
    assert_eq!(judged(page(404, "", "Nothing here")), Ok(None));
    let lost = judged(page(404, "rel_a", "Not here"));
    assert!(matches!(lost, Err(Complaint::Wrong(_))), "{lost:?}");
    for away in [page(503, "", "Not ready"), Err("refused".to_owned())] {
        let away = judged(away);
        assert!(matches!(away, Err(Complaint::Away(_))), "{away:?}");
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
            freezes: 0,
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
