//! No sequence of events leaves a lane with work and neither a runner nor a blocker that is true.
//!
//! Random commands, the real ones, on a real database, with no loop beside them: what a wake-up would
//! do is done when it is asked for, and no sweep mends what a command forgot. Looked at after each.
//!
//! There are the lane of `production`, to which `main` is pushed, the lane of a pull request's preview,
//! whose head moves, and those of single previews. [`command`] is what people ask for, [`delivery`] what
//! GitHub tells and who uploads, [`work`] what workers, edges and time do, [`crash`] a process that
//! dies. [`claim`] is looked at after each of them, [`drain`] at the end.

mod beginning;
mod claim;
mod command;
mod crash;
mod delivery;
mod drain;
mod together;
mod work;
mod world;

use std::collections::HashMap;

use world::World;

use crate::site::policy::Order;

const SITE: &str = "docs";
const PLACE: &str = "production";
/// Of a pull request.
const PREVIEW: &str = "pr-12";
const REPOSITORY: &str = "example/docs";
/// Commands of one sequence.
const COMMANDS: usize = 160;
/// Sequences of a run, and at most so many where those did not meet all that they must.
const SEQUENCES: u64 = 5;
const MOST: u64 = 15;
/// Turns in which lanes that nothing keeps must become empty.
const TURNS: usize = 600;

/// What a run must have met: walks that met none of these have shown nothing about them. By the weights
/// of [`command`] a sequence meets each of them more often than not; others, such as a return to the
/// release before, are rarer, and a run in ten would ask for more of them than it has time for.
const MUST: [&str; 12] = [
    "succeeded",
    "failed",
    "cancelled",
    "superseded",
    "held",
    "stopped",
    "paused",
    "settled",
    "without content",
    "push created",
    "pull request created",
    "close",
];

/// What became of deployments, pushes and pull requests, what kept them, and what was done to previews.
/// A stop keeps what waits, or pauses what acts.
const MET: &str = "
    SELECT state FROM deployment
    UNION ALL SELECT 'without content' FROM deployment
              WHERE cause = 'deadline' AND started_at IS NULL
    UNION ALL SELECT CASE WHEN b.kind = 'hold' THEN 'held'
                          WHEN d.started_at <= b.since THEN 'paused'
                          ELSE 'stopped' END
              FROM blocker b JOIN deployment d ON d.id = b.deployment_id
              WHERE b.kind IN ('hold', 'stop')
    UNION ALL SELECT 'settled' FROM blocker WHERE kind = 'timer' AND message LIKE '%settles%'
    UNION ALL SELECT CASE WHEN pull_request IS NULL THEN 'push ' ELSE 'pull request ' END || outcome
              FROM trigger
    UNION ALL SELECT kind FROM record WHERE kind IN ('close', 'reopen')";

async fn sequence(seed: u64, order: Order) -> HashMap<String, usize> {
    println!("seed {seed} under {order:?}");
    let mut world = World::new(seed, order).await;
    for _command in 0..COMMANDS {
        world.command().await;
        world.assert_free().await;
    }
    world.assert_drains().await;
    let mut met = HashMap::new();
    for one in world.texts(MET).await {
        *met.entry(one).or_insert(0) += 1;
    }
    met
}

async fn sequences(order: Order) {
    let first = u64::from(uuid::Uuid::new_v4().as_fields().0);
    let mut met: HashMap<String, usize> = HashMap::new();
    let mut missing = MUST.to_vec();
    for number in 0..MOST {
        for (one, count) in Box::pin(sequence(first + number, order)).await {
            *met.entry(one).or_insert(0) += count;
        }
        missing.retain(|one| !met.contains_key(*one));
        if missing.is_empty() && number + 1 >= SEQUENCES {
            break;
        }
        println!("not met yet: {missing:?}");
    }
    assert!(missing.is_empty(), "no sequence met {missing:?}: {met:?}");
}

#[tokio::test]
async fn no_sequence_of_events_traps_a_lane_that_lets_the_latest_pass() {
    sequences(Order::Latest).await;
}

#[tokio::test]
async fn no_sequence_of_events_traps_a_lane_that_queues() {
    sequences(Order::Queue).await;
}
