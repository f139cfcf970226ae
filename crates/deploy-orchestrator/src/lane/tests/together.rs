//! Turns of several lanes in one transaction come to what each comes to alone.

use std::{panic::AssertUnwindSafe, sync::Arc, time::Duration};

use candlefish_ids::{DeploymentId, EnvironmentId, ReleaseId};
use candlefish_runtime::{
    refusal::Refusal,
    tasks::{Policy, Tasks},
};
use candlefish_testkit::wait_until;
use futures_util::{FutureExt as _, future::join_all};
use tokio::{sync::oneshot, time::Instant};

use super::{
    SITE,
    work::{came_to, claim_of, record_outside, turn},
    world::{World, broken, policy},
};
use crate::{
    deployment::{
        self, Deployment,
        create::{self, Create, To},
    },
    lane::store,
    route,
    site::{policy::Order, strategy::Strategy},
    step::{
        again,
        drive::{Asked, Claimed, Share, together},
        outcome::Outcome,
        store::Due,
        turns::{Answer, Turns},
        worker::{REST, Worker},
    },
};

/// Rounds of turns after each deployment: more than any needs that waits for nobody.
const ROUNDS: usize = 16;
const SOON: Duration = Duration::from_secs(40);

/// Counts what lane 1 tries to write to its address, also where nothing of it is committed.
const COUNT_TRIES: &str = "
    CREATE SEQUENCE tries;
    CREATE FUNCTION count_try() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        IF (SELECT e.slug = 'lane-1' FROM deployment d JOIN environment e ON e.id = d.environment_id
            WHERE d.id = NEW.deployment_id) THEN
            PERFORM nextval('tries');
        END IF;
        RETURN NULL;
    END $$;
    CREATE TRIGGER count_try AFTER UPDATE ON route FOR EACH ROW EXECUTE FUNCTION count_try();";

/// What commands and turns write, without what names a row or tells the time.
const WRITTEN: &str = "
    WITH acts AS (
        SELECT d.*, e.slug, r.commit FROM deployment d
        JOIN environment e ON e.id = d.environment_id JOIN release r ON r.id = d.release_id),
    written AS (
        SELECT concat_ws(' ', 'deployment', slug, commit, state, version, fence, weight, cause,
                         message, pivoted_at IS NULL, live_at IS NULL, finished_at IS NULL,
                         deadline_at IS NULL, deadline_left_ms IS NULL, previous_release_id IS NULL,
                         target_confirmed, pinned) AS line FROM acts
        UNION ALL
        SELECT concat_ws(' ', 'step', a.slug, a.commit, s.ord, s.kind, s.state, s.polls, s.attempt,
                         s.lost_leases, s.waits_on_edges, s.claim IS NULL, s.owner,
                         s.lease_until IS NULL, s.run_at IS NULL, s.started_at IS NULL,
                         s.finished_at IS NULL, s.message,
                         (SELECT string_agg(k, ',' ORDER BY k) FROM jsonb_object_keys(s.detail) k),
                         (SELECT string_agg(concat(w -> 'epoch', '/', w -> 'version'), ',')
                          FROM jsonb_array_elements(s.detail -> 'written') w))
        FROM step s JOIN acts a ON a.id = s.deployment_id
        UNION ALL
        SELECT concat_ws(' ', 'attempt', a.slug, a.commit, s.kind, t.owner, t.outcome, t.message)
        FROM step_attempt t JOIN step s ON s.id = t.step_id JOIN acts a ON a.id = s.deployment_id
        UNION ALL
        SELECT concat_ws(' ', 'route', environment, environment_id IS NULL, deployment_id IS NULL,
                         epoch, version, generation, rolling, noindex, rolled_edges, waiting_edges,
                         jsonb_path_query_array(releases, '$[*].weight'),
                         jsonb_array_length(assets_of))
        FROM route
        UNION ALL
        SELECT concat_ws(' ', 'blocker', a.slug, a.commit, b.kind, b.owner, b.cleared_at IS NULL)
        FROM blocker b JOIN acts a ON a.id = b.deployment_id
        UNION ALL
        SELECT concat_ws(' ', 'log', a.slug, a.commit, l.step_ord, l.message,
                         row_number() OVER (PARTITION BY a.id ORDER BY l.id))
        FROM deployment_log l JOIN acts a ON a.id = l.deployment_id
        UNION ALL
        SELECT concat_ws(' ', 'fact', event_type, entity_version, count(*))
        FROM outbox GROUP BY event_type, entity_version
        UNION ALL
        SELECT concat_ws(' ', 'environment', e.slug, e.version, e.live_release_id IS NULL,
                         l.fence, l.superseded_in_row, l.lasts_ms IS NULL)
        FROM environment e JOIN lane l ON l.environment_id = e.id
        UNION ALL
        SELECT concat_ws(' ', 'record', e.slug, o.kind, o.by, o.reason)
        FROM record o JOIN environment e ON e.id = o.environment_id)
    SELECT regexp_replace(line, '[a-z]+_[0-9a-z]{26}', 'ID', 'g') FROM written ORDER BY 1";

/// How each lane's releases go live, in this order.
fn strategies() -> [Strategy; 5] {
    let second = Duration::from_secs(1);
    [
        Strategy::Recreate,
        Strategy::Recreate,
        Strategy::BlueGreen { bake: second },
        Strategy::Rolling {
            batch: 1,
            bake: Duration::ZERO,
        },
        Strategy::Canary {
            weights: vec![10, 50],
            interval: second,
            bake: Duration::ZERO,
        },
    ]
}

impl World {
    /// One with a lane for each strategy, and two edges.
    async fn of_lanes(order: Order) -> Self {
        let world = Self::new(1, order).await;
        let policy = serde_json::to_string(&policy(order)).unwrap();
        for (number, _strategy) in strategies().iter().enumerate() {
            let environment = EnvironmentId::new().uuid();
            world
                .act(&format!(
                    "INSERT INTO environment (id, site_id, slug, kind, policy, created_at, created_by)
                         SELECT '{environment}', id, 'lane-{number}', 'standard', '{policy}',
                                clock(), 'erin' FROM site;
                     INSERT INTO lane (environment_id) VALUES ('{environment}');"
                ))
                .await;
        }
        let joins = "INSERT INTO edge (id, boot, address, heard_at, joined_at)
                         VALUES ('edge-2', 'boot', '127.0.0.1:1', clock(), clock())";
        world.act(joins).await;
        world
    }

    async fn deploy_to_all(&self, release_id: ReleaseId) {
        for (number, strategy) in strategies().into_iter().enumerate() {
            let cmd = Create {
                site: SITE.to_owned(),
                to: To::Environment(format!("lane-{number}")),
                release_id,
                strategy: Some(strategy),
                reason: String::new(),
                lift_hold: String::new(),
            };
            let made = Box::pin(create::create(&self.ctx, &self.caller, None, cmd)).await;
            made.map(drop).map_err(Refusal::from).unwrap();
        }
    }

    /// A second later both edges hold what is written, and these are due.
    async fn next_due(&self) -> Vec<Due> {
        self.pass(1).await;
        self.edge_reports().await;
        self.act(
            "UPDATE edge SET heard_at = clock();
             INSERT INTO edge_route (edge_id, host, epoch, version)
                 SELECT 'edge-2', host, epoch, version FROM edge_route WHERE edge_id = 'edge-1'
             ON CONFLICT (edge_id, host) DO UPDATE
                 SET epoch = excluded.epoch, version = excluded.version",
        )
        .await;
        self.due().await
    }

    async fn take_alone(&self, due: Vec<Due>) {
        for one in due {
            let mut next = turn(&self.ctx, "worker", one, &mut None).await;
            while let Some(claimed) = next.map_err(broken).unwrap() {
                let fine = Ok(Outcome::done(""));
                next = record_outside(&self.ctx, "worker", (&claimed, &fine), &mut None).await;
            }
        }
    }

    async fn take_together(&self, due: Vec<Due>) {
        let mut asked: Vec<Asked> = due.into_iter().map(Asked::Due).collect();
        while !asked.is_empty() {
            let claimed = self.share_turns(asked).await.unwrap().into_iter();
            let done = claimed.map(|claimed| came_to(claimed, Ok(Outcome::done(""))));
            asked = done.collect();
        }
    }

    /// As the worker takes them; answers how many turns failed, also by a panic.
    async fn take_by_turns(&self, due: Vec<Due>) -> usize {
        let turns = Turns::new();
        let mut asked: Vec<Asked> = due.into_iter().map(Asked::Due).collect();
        let mut failed = 0;
        while !asked.is_empty() {
            let answers: Vec<_> = asked.into_iter().map(|one| turns.ask(one)).collect();
            let taken = answers.into_iter();
            let taken = taken.map(|one| {
                AssertUnwindSafe(again::turn(&self.ctx, "worker", &turns, one)).catch_unwind()
            });
            let mut done = Vec::new();
            for taken in join_all(taken).await {
                match taken {
                    Ok(Ok(taken)) => done.extend(claim_of(taken)),
                    Ok(Err(_)) | Err(_) => failed += 1,
                }
            }
            let done = done.into_iter();
            let done = done.map(|claimed| came_to(claimed, Ok(Outcome::done(""))));
            asked = done.collect();
        }
        failed
    }

    async fn live_lanes(&self) -> Vec<String> {
        let live = "SELECT e.slug FROM deployment d JOIN environment e ON e.id = d.environment_id
                    WHERE d.state = 'succeeded' ORDER BY 1";
        self.texts(live).await
    }
}

/// Turns of all lanes, alone in one world and shared in the other: what is written stays the same.
async fn assert_alike(alone: &World, shared: &World) {
    for _round in 0..ROUNDS {
        alone.take_alone(alone.next_due().await).await;
        shared.take_together(shared.next_due().await).await;
        assert_eq!(alone.texts(WRITTEN).await, shared.texts(WRITTEN).await);
    }
}

/// Both releases went live on all lanes but the last, whose shares want evidence.
async fn assert_all_live(world: &World) {
    let mut live = world.live_lanes().await;
    live.retain(|slug| slug != "lane-4");
    let plain = (0..4).flat_map(|lane| [format!("lane-{lane}"), format!("lane-{lane}")]);
    assert_eq!(live, plain.collect::<Vec<_>>());
}

#[tokio::test]
async fn turns_that_share_a_transaction_write_what_each_writes_alone() {
    let order = Order::Latest;
    let (alone, shared) = (World::of_lanes(order).await, World::of_lanes(order).await);
    for number in [0, 1] {
        alone.deploy_to_all(alone.releases[number]).await;
        shared.deploy_to_all(shared.releases[number]).await;
        assert_alike(&alone, &shared).await;
    }
    assert_all_live(&shared).await;
}

#[tokio::test]
async fn what_waits_for_lanes_is_started_together_as_each_is_alone() {
    let order = Order::Queue;
    let (alone, shared) = (World::of_lanes(order).await, World::of_lanes(order).await);
    for number in [0, 1] {
        alone.deploy_to_all(alone.releases[number]).await;
        shared.deploy_to_all(shared.releases[number]).await;
    }
    assert_alike(&alone, &shared).await;
    assert_alike(&alone, &shared).await;
    assert_all_live(&shared).await;
}

#[tokio::test]
async fn what_is_read_of_many_lanes_is_what_is_read_of_each() {
    let world = World::of_lanes(Order::Latest).await;
    world.deploy_to_all(world.releases[0]).await;
    for _round in 0..ROUNDS {
        world.take_alone(world.next_due().await).await;
    }
    let ids = world
        .texts("SELECT id::text FROM environment ORDER BY id")
        .await;
    let ids = ids.into_iter();
    let ids: Vec<_> = ids
        .map(|id| EnvironmentId::from_uuid(id.parse().unwrap()))
        .collect();
    world
        .act(&format!(
            "INSERT INTO environment_host (host, environment_id)
                 SELECT 'own-' || number || '.example', '{}' FROM generate_series(1, 2) number",
            ids[1].uuid()
        ))
        .await;
    let mut tx = world.ctx.begin().await.unwrap();
    let live = store::list_live(&mut tx, &ids).await.unwrap();
    let hosts = route::list_own_hosts(&mut tx, &ids).await.unwrap();
    assert_eq!(hosts.keys().copied().collect::<Vec<_>>(), [ids[1]]);
    assert_eq!(hosts[&ids[1]], ["own-1.example", "own-2.example"]);
    for id in &ids {
        let alone = store::find_live(&mut tx, *id).await.unwrap();
        assert_eq!(live.get(id).cloned(), alone);
    }
    // One that somebody holds is left out, and not waited for.
    let held = store::lock(&mut tx, ids[0]).await.unwrap();
    let mut other = world.ctx.begin().await.unwrap();
    let locked = store::try_lock_each(&mut other, &ids).await.unwrap();
    other.abandon().await.unwrap();
    let mut all = vec![held];
    for id in &ids[1..] {
        all.extend(store::try_lock(&mut tx, *id).await.unwrap());
    }
    assert_eq!(locked, all[1..]);
    assert_eq!(all.len(), ids.len());
}

#[tokio::test]
async fn where_one_changed_under_its_lock_none_is_saved() {
    let world = World::of_lanes(Order::Latest).await;
    world.deploy_to_all(world.releases[0]).await;
    let ids = world.texts("SELECT id::text FROM deployment").await;
    let ids = ids.into_iter();
    let ids: Vec<_> = ids
        .map(|id| DeploymentId::from_uuid(id.parse().unwrap()))
        .collect();
    let mut tx = world.ctx.begin().await.unwrap();
    let locked = deployment::store::lock_each(&mut tx, &ids).await.unwrap();
    let mut locked: Vec<Deployment> = locked.into_values().collect();
    assert_eq!(locked.len(), ids.len());
    let mut all: Vec<&mut Deployment> = locked.iter_mut().collect();
    deployment::store::save_each(&mut tx, &mut all)
        .await
        .unwrap();
    all[1].version -= 1;
    let refused = deployment::store::save_each(&mut tx, &mut all).await;
    let changed = all[1].id;
    assert!(
        matches!(&refused, Err(deployment::store::Error::Version(id)) if *id == changed),
        "{refused:?}"
    );
}

#[tokio::test]
async fn a_turn_that_fails_takes_no_other_with_it() {
    let world = World::of_lanes(Order::Latest).await;
    world.deploy_to_all(world.releases[0]).await;
    world
        .act(
            "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
                 IF (SELECT slug = 'lane-1' FROM environment WHERE id = NEW.environment_id) THEN
                     RAISE EXCEPTION 'nobody writes this one';
                 END IF;
                 RETURN NEW;
             END $$;
             CREATE TRIGGER refuse BEFORE UPDATE ON deployment
                 FOR EACH ROW EXECUTE FUNCTION refuse();",
        )
        .await;
    let mut failed = 0;
    for _round in 0..ROUNDS {
        failed += world.take_by_turns(world.next_due().await).await;
    }
    assert!(failed > 0);
    assert_eq!(world.live_lanes().await[..2], ["lane-0", "lane-2"]);
    world.act("DROP TRIGGER refuse ON deployment").await;
    for _round in 0..ROUNDS {
        failed = world.take_by_turns(world.next_due().await).await;
        assert_eq!(failed, 0);
    }
    assert_eq!(
        world.live_lanes().await[..3],
        ["lane-0", "lane-1", "lane-2"]
    );
}

#[tokio::test]
async fn a_turn_that_panics_takes_no_other_with_it() {
    let world = World::of_lanes(Order::Latest).await;
    world.deploy_to_all(world.releases[0]).await;
    world
        .act(
            "UPDATE step SET detail = '[]' WHERE state = 'pending' AND deployment_id IN (
                 SELECT d.id FROM deployment d JOIN environment e ON e.id = d.environment_id
                 WHERE e.slug = 'lane-1')",
        )
        .await;
    let mut failed = 0;
    for _round in 0..ROUNDS {
        failed += world.take_by_turns(world.next_due().await).await;
    }
    assert!(failed > 0);
    assert_eq!(world.live_lanes().await[..2], ["lane-0", "lane-2"]);
}

#[tokio::test]
async fn a_deployment_whose_turn_panics_is_taken_again_by_the_same_process_but_not_at_once() {
    let world = World::of_lanes(Order::Latest).await;
    world.deploy_to_all(world.releases[0]).await;
    let stage = "kind = 'stage' AND deployment_id IN (
                     SELECT d.id FROM deployment d JOIN environment e ON e.id = d.environment_id
                     WHERE e.slug = 'lane-1')";
    world.act(COUNT_TRIES).await;
    world
        .act(&format!("UPDATE step SET detail = '[]' WHERE {stage}"))
        .await;
    assert!(world.next_due().await.len() > 1);
    let (tasks, begun) = (Tasks::new(), Instant::now());
    let worker = Worker::new(world.ctx.clone(), "worker", Arc::default(), tasks.clone());
    let stops = Policy::StopProcess;
    let working = tasks.spawn("worker", stops, worker.run(tasks.stopping()));
    wait_until(SOON, "a third try", async || {
        let tried = "SELECT (last_value >= 3)::text FROM tries";
        world.texts(tried).await == ["true"]
    })
    .await;
    assert!(begun.elapsed() >= 2 * REST, "{:?}", begun.elapsed());
    world
        .act(&format!("UPDATE step SET detail = '{{}}' WHERE {stage}"))
        .await;
    wait_until(SOON, "the lane to be staged", async || {
        world.next_due().await;
        let staged = format!("SELECT state FROM step WHERE {stage}");
        world.texts(&staged).await == ["done"]
    })
    .await;
    assert!(tasks.drain(SOON).await);
    working.await.unwrap();
}

#[tokio::test]
async fn one_that_failed_goes_alone_until_a_turn_of_it_is_committed() {
    let world = World::of_lanes(Order::Latest).await;
    world.deploy_to_all(world.releases[0]).await;
    let due = world.next_due().await[0];
    let (turns, id) = (Turns::new(), due.deployment_id);
    let goes_alone = || {
        let told = turns.ask(Asked::Due(due)).try_recv();
        matches!(told, Ok(Answer::Alone(..)))
    };
    let take = async || {
        let answered = turns.ask(Asked::Due(due));
        let turn = Box::pin(again::turn(&world.ctx, "worker", &turns, answered)).await;
        turns.note(id, &turn);
        turn.map_err(broken).unwrap()
    };
    turns.failed(id, Instant::now());
    let mut held = world.ctx.begin().await.unwrap();
    store::lock(&mut held, due.environment_id).await.unwrap();
    assert!(take().await.is_none());
    held.abandon().await.unwrap();
    assert!(goes_alone());
    assert!(take().await.is_some());
    assert!(!goes_alone());
}

#[tokio::test]
async fn a_stop_that_pauses_another_site_lets_turns_share() {
    let world = World::of_lanes(Order::Latest).await;
    world.deploy_to_all(world.releases[0]).await;
    world
        .act(
            "INSERT INTO site SELECT (json_populate_record(s, json_build_object(
                 'id', '019a0000-0000-7000-8000-000000000001', 'slug', 'another'))).* FROM site s;
             INSERT INTO stop (id, site_id, pauses, reason, set_at, set_by, until)
                 SELECT id, id, true, 'r', clock(), 'erin', clock() + interval '1 day'
                 FROM site WHERE slug = 'another'",
        )
        .await;
    let due = world.next_due().await;
    assert!(due.len() > 1);
    let asked: Vec<Asked> = due.into_iter().map(Asked::Due).collect();
    let shares = Box::pin(together(&world.ctx, "worker", &asked, &mut None)).await;
    for share in shares.unwrap() {
        assert!(matches!(share, Share::Taken(_)), "{share:?}");
    }
}

#[tokio::test]
async fn turns_whose_commit_fails_leave_nothing_and_come_again() {
    let world = World::of_lanes(Order::Latest).await;
    world.deploy_to_all(world.releases[0]).await;
    for _round in 0..ROUNDS {
        let due = world.next_due().await;
        let before = world.texts(WRITTEN).await;
        world.act("UPDATE refusal SET stands = true").await;
        world.take_by_turns(due).await;
        assert_eq!(world.texts(WRITTEN).await, before);
        world.act("UPDATE refusal SET stands = false").await;
        world.take_by_turns(world.next_due().await).await;
    }
    assert_eq!(
        world.live_lanes().await[..3],
        ["lane-0", "lane-1", "lane-2"]
    );
}

#[tokio::test]
async fn what_a_commit_without_an_answer_did_is_found_and_not_done_again() {
    let world = World::of_lanes(Order::Latest).await;
    world.deploy_to_all(world.releases[0]).await;
    let turns = Turns::new();
    let id = |claimed: &Claimed| (claimed.step.id, claimed.claim);
    let mut asked: Vec<Asked> = Vec::new();
    for _round in 0..4 * ROUNDS {
        if asked.is_empty() {
            asked = world.next_due().await.into_iter().map(Asked::Due).collect();
        }
        let shares = Box::pin(together(&world.ctx, "worker", &asked, &mut None)).await;
        let written = world.texts(WRITTEN).await;
        let mut next = Vec::new();
        for (one, share) in asked.into_iter().zip(shares.unwrap()) {
            let Share::Taken(claimed) = share else {
                panic!("{one:?} is plain");
            };
            let drawn = claimed.as_deref().map(id);
            let (told, answered) = oneshot::channel();
            told.send(Answer::Unheard(one, claimed)).unwrap();
            let found = again::turn(&world.ctx, "worker", &turns, answered).await;
            let found = claim_of(found.map_err(broken).unwrap());
            assert_eq!(found.as_ref().map(id), drawn);
            next.extend(found.map(|claimed| came_to(claimed, Ok(Outcome::done("")))));
        }
        assert_eq!(world.texts(WRITTEN).await, written);
        asked = next;
    }
    let live = world.live_lanes().await;
    assert_eq!(
        live,
        (0..5)
            .map(|lane| format!("lane-{lane}"))
            .collect::<Vec<_>>()
    );
}
