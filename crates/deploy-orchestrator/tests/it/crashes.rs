//! A crash after every version of a deployment: it ends as it would have, with one terminal event,
//! and visitors get what they should.
//!
//! What is guaranteed: a first run without a crash counts the transactions that give versions, from the
//! call on that begins what is tested, which is the first. Then each number has a run of its own, in
//! which exactly so many of them have committed when the process dies: the database keeps the next one
//! from going on until then, and it rolls back. So every version that anybody could see is the last one
//! once; which are given on the way within one transaction nobody sees. A run that comes to its end in
//! fewer, because it happened to wait less, dies after its end; it proves nothing, and is tried again. What
//! no run reached then is beyond what they mostly come to, and such counts are few: whatever the least is
//! that a run gives, each version up to that was the last one once.

use std::collections::BTreeSet;

use candlefish_ids::DeploymentId;
use candlefish_proto::deploy::{self as pb, deployment::State, step::Kind as Step};
use candlefish_testkit::poll_until;
use sqlx::{Postgres, pool::PoolConnection};

use crate::{
    api::{Api, millis, policy, recreate},
    edge::Edge,
    sandbox::{Orchestrator, SOON, Sandbox},
};

/// Counts the transactions that give versions in the environment that is watched, each once by its
/// number, and lets one too many wait for who holds the lock. What rolls back takes its count along;
/// the lock of the lane lets no two of them at it.
const GATE: &str = "
    CREATE TABLE watched (environment_id uuid PRIMARY KEY, may_pass bigint NOT NULL);
    CREATE TABLE passed (environment_id uuid, act bigint, PRIMARY KEY (environment_id, act));
    CREATE FUNCTION gate() RETURNS trigger LANGUAGE plpgsql SET lock_timeout = 0 AS $$
    DECLARE
        most bigint;
    BEGIN
        SELECT w.may_pass INTO most FROM watched w WHERE w.environment_id = NEW.environment_id;
        IF most IS NULL THEN
            RETURN NULL;
        END IF;
        INSERT INTO passed VALUES (NEW.environment_id, txid_current()) ON CONFLICT DO NOTHING;
        IF (SELECT count(*) FROM passed p WHERE p.environment_id = NEW.environment_id) > most THEN
            PERFORM pg_advisory_xact_lock_shared(79);
        END IF;
        RETURN NULL;
    END $$;
    CREATE TRIGGER gate AFTER INSERT OR UPDATE OF version ON deployment
        FOR EACH ROW EXECUTE FUNCTION gate()";

/// What waits for nothing but a bake or an interval to pass, both of a second, need not wait: the second
/// passes. Not before a crash that is due, for what is to die while it waits shall be waiting yet.
const HURRY: &str = "
    UPDATE clock_offset SET by = by + interval '1 second' WHERE EXISTS (
        SELECT FROM watched w
        JOIN deployment d ON d.environment_id = w.environment_id
        JOIN step s ON s.deployment_id = d.id
        WHERE s.kind IN ('bake', 'analyse') AND s.state = 'ready'
          AND s.run_at > clock() AND s.run_at <= clock() + interval '1 second'
          AND (SELECT count(*) FROM passed p WHERE p.environment_id = w.environment_id) < w.may_pass)";

/// What the dead claimed, nobody else has before its lease of a second runs out: the second passes while
/// nobody lives. What was not claimed finds the time that it left.
const LEASE_RUNS_OUT: &str = "
    UPDATE clock_offset SET by = by + interval '1 second'
    WHERE EXISTS (SELECT FROM step WHERE state = 'running')";

/// What the runs of this file are to be crashed in, besides others; together all there are, as
/// [`the_runs_come_to_every_step_forward_and_back`] proves.
const EVERY_PLAN: &[Step] = &[
    Step::Prepare,
    Step::Stage,
    Step::VerifyCandidate,
    Step::Switch,
    Step::VerifyLive,
    Step::Finish,
];
const BAKES: &[Step] = &[Step::Bake];
const WATCHES: &[Step] = &[Step::Shift, Step::Analyse];
const GOES_BACK: &[Step] = &[Step::Return, Step::Unstage];
const ROLLS_BACK: &[Step] = &[Step::Prepare, Step::Stage, Step::Switch, Step::Finish];

/// Runs for one version, until one dies right after it.
const TRIES: usize = 3;

/// What is known of the environment that is watched: how many transactions have passed, whether all
/// its deployments have ended, and their steps in words.
type Seen = (i64, bool, String);

/// Keeps transactions from giving versions. One connection for the whole test: it holds the lock.
struct Gate {
    held: PoolConnection<Postgres>,
}

impl Gate {
    async fn new(sandbox: &Sandbox) -> Self {
        sandbox.act(GATE).await;
        let held = sandbox.pool.acquire().await.unwrap();
        Self { held }
    }

    /// Counts in this environment from now on, and lets no more pass than `most`, if that is said.
    async fn watch(&mut self, environment: &str, most: Option<i64>) {
        self.act("DELETE FROM watched").await;
        if most.is_some() {
            self.act("SELECT pg_advisory_lock(79)").await;
        }
        sqlx::query("INSERT INTO watched SELECT id, $2::bigint FROM environment WHERE slug = $1")
            .bind(environment)
            .bind(most.unwrap_or(i64::MAX))
            .execute(&mut *self.held)
            .await
            .unwrap();
    }

    async fn seen(&mut self) -> Seen {
        sqlx::query_as(
            "SELECT (SELECT count(*) FROM passed p WHERE p.environment_id = w.environment_id),
                    NOT EXISTS (SELECT FROM deployment d
                                WHERE d.environment_id = w.environment_id AND d.finished_at IS NULL),
                    (SELECT COALESCE(string_agg(s.kind || ' ' || s.state || ' ' || s.message, '; '
                                                ORDER BY d.admission, s.ord), '')
                     FROM deployment d JOIN step s ON s.deployment_id = d.id
                     WHERE d.environment_id = w.environment_id)
             FROM watched w",
        )
        .fetch_one(&mut *self.held)
        .await
        .unwrap()
    }

    /// Waits until exactly so many have passed, or all has ended in fewer.
    async fn reached(&mut self, count: i64) {
        poll_until(SOON, "a version to die at", async || {
            match self.seen().await {
                (passed, over, _) if passed == count || over => Ok(()),
                seen => {
                    self.act(HURRY).await;
                    Err(seen)
                }
            }
        })
        .await;
    }

    /// Waits until all has ended; answers how many have passed.
    async fn ended(&mut self) -> i64 {
        poll_until(SOON, "the end", async || match self.seen().await {
            (passed, true, _) => Ok(passed),
            seen => {
                self.act(HURRY).await;
                Err(seen)
            }
        })
        .await
    }

    /// Keeps nobody any more. What waited for a process that is dead meanwhile finds nobody to answer,
    /// and rolls back.
    async fn open(&mut self) {
        self.act("UPDATE watched SET may_pass = 9223372036854775807")
            .await;
        self.act("SELECT pg_advisory_unlock(79)").await;
    }

    async fn act(&mut self, statement: &'static str) {
        sqlx::query(statement)
            .execute(&mut *self.held)
            .await
            .unwrap();
    }
}

/// What the test does to a deployment besides letting it go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Then {
    Nothing,
    /// Aborts it while it bakes.
    Abort,
    /// The same, when the release before it was banned: it goes past that.
    AbortOverBanned,
    /// Goes back by hand once it is live.
    RollBack,
}

struct World {
    sandbox: Sandbox,
    /// None for the moment between a crash and the next start.
    orchestrator: Option<Orchestrator>,
    edges: Vec<Edge>,
    api: Api,
    gate: Gate,
    old: String,
    /// The release that is banned, where one is.
    banned: String,
    new: String,
}

impl World {
    async fn new() -> Self {
        let short = [
            ("CANDLEFISH_LEASE_MS", "1000"),
            ("CANDLEFISH_SWEEP_MS", "200"),
        ];
        let (sandbox, orchestrator, first, api) = Sandbox::started_with(&short).await;
        let second = Edge::start(&sandbox, "edge-2", orchestrator.running.address).await;
        api.wait_for_live_edges(2).await;
        Self {
            old: sandbox.release(&api, "old").await,
            banned: String::new(),
            new: sandbox.release(&api, "new").await,
            gate: Gate::new(&sandbox).await,
            sandbox,
            orchestrator: Some(orchestrator),
            edges: vec![first, second],
            api,
        }
    }

    /// Dies when exactly so many transactions have passed, or after the end; answers after how many.
    async fn crash_after(&mut self, count: i64) -> i64 {
        self.gate.reached(count).await;
        let gone = self.orchestrator.take();
        gone.unwrap().kill().await;
        let (passed, over, steps) = self.gate.seen().await;
        let is_over = over && passed < count;
        assert!(
            passed == count || is_over,
            "{passed} instead of {count}: {steps}"
        );
        self.gate.open().await;
        self.gate.act(LEASE_RUNS_OUT).await;
        let next = self.sandbox.start().await;
        for edge in &self.edges {
            edge.turn_to(next.running.address);
        }
        self.api = self.sandbox.api(next.running.address);
        self.orchestrator = Some(next);
        passed
    }

    /// Begins what is tested, with at most so many transactions from there on; answers the deployment.
    async fn begin(
        &mut self,
        environment: &str,
        strategy: &pb::Strategy,
        then: Then,
        most: Option<i64>,
    ) -> String {
        if then == Then::Nothing {
            self.gate.watch(environment, most).await;
        }
        let made = self
            .api
            .create(environment, &self.new, Some(strategy.clone()))
            .await;
        let id = made.unwrap().into_inner().id;
        match then {
            Then::Nothing => id,
            Then::Abort | Then::AbortOverBanned => {
                self.api.wait_in(&id, pb::step::Kind::Bake).await;
                if then == Then::AbortOverBanned {
                    self.api.ban(&self.banned).await.unwrap();
                }
                self.gate.watch(environment, most).await;
                self.api.abort(&id).await.unwrap();
                id
            }
            Then::RollBack => {
                self.api.wait_for(&id, &[State::Succeeded]).await;
                self.gate.watch(environment, most).await;
                let made = self.api.roll_back(environment).await.unwrap();
                made.into_inner().deployment.unwrap().id
            }
        }
    }

    /// Deploys in an environment of its own, crashing after so many transactions; answers what became of
    /// it, and how many it took: until it died, where it did.
    async fn run(
        &mut self,
        environment: &str,
        strategy: &pb::Strategy,
        then: Then,
        crash_after: Option<i64>,
    ) -> (Vec<String>, i64) {
        self.api.create_environment(environment, policy()).await;
        self.api.deploy_whole(environment, &self.old).await;
        if then == Then::AbortOverBanned {
            self.banned = self.sandbox.release(&self.api, environment).await;
            self.api.deploy_whole(environment, &self.banned).await;
        }
        let id = self.begin(environment, strategy, then, crash_after).await;
        let died_after = match crash_after {
            Some(count) => Some(self.crash_after(count).await),
            None => None,
        };
        let passed = self.gate.ended().await;
        let passed = died_after.unwrap_or(passed);
        let ended = self.api.deployment(&id).await;
        let events = format!(
            "SELECT count(*) FROM outbox WHERE entity = '{id}' AND event_type LIKE '%.ended.%'"
        );
        assert_eq!(self.sandbox.number(&events).await, 1, "terminal events");
        let told = format!(
            "SELECT count(*) FROM record WHERE kind = 'live' AND deployment_id = '{}'",
            id.parse::<DeploymentId>().unwrap().uuid()
        );
        let live = i64::from(ended.live_at.is_some());
        assert_eq!(self.sandbox.number(&told).await, live, "told as live");
        let serves = match ended.state() {
            State::Succeeded => &ended.release_id,
            _ => &self.old,
        };
        let host = format!("{environment}--docs.localhost");
        for edge in &self.edges {
            edge.wait_until_it_serves(&host, serves).await;
        }
        let live = self.api.environment(environment).await.live_release_id;
        assert_eq!(&live, serves);
        (picture(&ended), passed)
    }
}

/// What is the same whatever was killed. Whether every edge confirmed an undo is not: one that joins
/// again after the crash is not waited for.
fn picture(one: &pb::Deployment) -> Vec<String> {
    let step = |step: &pb::Step| {
        let (kind, state) = (step.kind().as_str_name(), step.state().as_str_name());
        format!("{kind} {} {state}", step.weight)
    };
    let ended = format!(
        "{} {} {} {:?}",
        one.state().as_str_name(),
        one.cause,
        one.weight,
        one.blockers
    );
    std::iter::once(ended)
        .chain(one.steps.iter().map(step))
        .collect()
}

/// Every version is the last one once; the run is done with these steps, among others.
async fn survives(strategy: pb::Strategy, then: Then, steps: &[&[Step]]) {
    let mut world = World::new().await;
    let (whole, all) = world.run("whole", &strategy, then, None).await;
    // What begins it, and at least one turn of a worker.
    assert!(all > 1, "only {all} transactions gave versions");
    for step in steps.concat() {
        let is_done = |line: &String| {
            let of = format!("{} ", step.as_str_name());
            line.starts_with(&of) && line.ends_with(" STATE_DONE")
        };
        assert!(whole.iter().any(is_done), "no {step:?} is done: {whole:?}");
    }
    let mut died_after = BTreeSet::new();
    for count in 1..=all {
        for turn in 0..TRIES {
            let environment = format!("crash-{count}-{turn}");
            let (became, passed) = world.run(&environment, &strategy, then, Some(count)).await;
            assert_eq!(became, whole, "a crash after {count} of {all}");
            if passed == count {
                died_after.insert(count);
                break;
            }
        }
    }
    let died = i64::try_from(died_after.len()).unwrap();
    // Where the first run happened to wait for each edge by itself, others need not; more is no chance.
    assert!(died * 2 >= all, "of {all} only {died_after:?}");
    let deadlocks = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()";
    assert_eq!(world.sandbox.number(deadlocks).await, 0);
}

#[test]
fn the_runs_come_to_every_step_forward_and_back() {
    let all = (1..).map_while(|number| Step::try_from(number).ok());
    let all: BTreeSet<Step> = all.collect();
    let runs = [EVERY_PLAN, BAKES, WATCHES, GOES_BACK, ROLLS_BACK].concat();
    assert_eq!(runs.into_iter().collect::<BTreeSet<_>>(), all);
}

fn short_bake() -> pb::Strategy {
    pb::Strategy {
        kind: Some(pb::strategy::Kind::BlueGreen(pb::BlueGreen {
            bake: Some(millis(1000)),
        })),
    }
}

#[tokio::test]
async fn recreate_survives_a_crash_at_every_version() {
    Box::pin(survives(recreate(), Then::Nothing, &[EVERY_PLAN])).await;
}

#[tokio::test]
async fn blue_green_survives_a_crash_at_every_version() {
    Box::pin(survives(short_bake(), Then::Nothing, &[EVERY_PLAN, BAKES])).await;
}

#[tokio::test]
async fn rolling_survives_a_crash_at_every_version() {
    let rolling = pb::Strategy {
        kind: Some(pb::strategy::Kind::Rolling(pb::Rolling {
            batch: 1,
            bake: None,
        })),
    };
    Box::pin(survives(rolling, Then::Nothing, &[EVERY_PLAN])).await;
}

#[tokio::test]
async fn canary_survives_a_crash_at_every_version() {
    let canary = pb::Strategy {
        kind: Some(pb::strategy::Kind::Canary(pb::Canary {
            weights: vec![10],
            interval: Some(millis(1000)),
            bake: None,
        })),
    };
    Box::pin(survives(canary, Then::Nothing, &[EVERY_PLAN, WATCHES])).await;
}

#[tokio::test]
async fn an_undo_survives_a_crash_at_every_version() {
    Box::pin(survives(crate::api::baking(), Then::Abort, &[GOES_BACK])).await;
}

#[tokio::test]
async fn an_undo_past_a_banned_release_survives_a_crash_at_every_version() {
    Box::pin(survives(
        crate::api::baking(),
        Then::AbortOverBanned,
        &[GOES_BACK],
    ))
    .await;
}

#[tokio::test]
async fn a_rollback_survives_a_crash_at_every_version() {
    Box::pin(survives(recreate(), Then::RollBack, &[ROLLS_BACK])).await;
}
