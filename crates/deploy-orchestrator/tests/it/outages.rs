//! The database dies while a worker writes: what its step came to is not lost, nor done again.
//!
//! Leases are longer than any test waits: nobody takes a step over.

use candlefish_testkit::{poll_until, wait_until};
use sqlx::{Postgres, pool::PoolConnection};

use crate::{
    api::policy,
    edge::Edge,
    sandbox::{Orchestrator, SOON, Sandbox},
};

const LONG_LEASE: [(&str, &str); 1] = [("CANDLEFISH_LEASE_MS", "600000")];

/// Keeps a commit from its end.
struct Gate {
    held: PoolConnection<Postgres>,
}

impl Gate {
    /// Closed before commits that bring a step of this kind from one state to another.
    async fn before(sandbox: &Sandbox, kind: &str, (from, to): (&str, &str)) -> Self {
        sandbox
            .act(&format!(
                "CREATE FUNCTION gate() RETURNS trigger LANGUAGE plpgsql SET lock_timeout = 0 AS
                     $$ BEGIN PERFORM pg_advisory_xact_lock_shared(78); RETURN NULL; END $$;
                 CREATE CONSTRAINT TRIGGER gate AFTER UPDATE ON step
                     DEFERRABLE INITIALLY DEFERRED FOR EACH ROW
                     WHEN (NEW.kind = '{kind}' AND OLD.state = '{from}' AND NEW.state = '{to}')
                     EXECUTE FUNCTION gate()"
            ))
            .await;
        let mut held = sandbox.pool.acquire().await.unwrap();
        sqlx::query("SELECT pg_advisory_lock(78)")
            .execute(&mut *held)
            .await
            .unwrap();
        Self { held }
    }

    /// Waits until a commit is there; answers the process of its session.
    async fn reached(&self, sandbox: &Sandbox) -> i32 {
        poll_until(SOON, "a commit at the gate", async || {
            let process: Option<i32> = sqlx::query_scalar(
                "SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND objid = 78 AND NOT granted
                 AND database = (SELECT oid FROM pg_database WHERE datname = current_database())",
            )
            .fetch_optional(&sandbox.pool)
            .await
            .unwrap();
            process.ok_or(())
        })
        .await
    }

    async fn open(&mut self) {
        sqlx::query("SELECT pg_advisory_unlock(78)")
            .execute(&mut *self.held)
            .await
            .unwrap();
    }
}

struct World {
    sandbox: Sandbox,
    orchestrator: Orchestrator,
    edge: Edge,
    gate: Gate,
    /// Of the session whose commit is at the gate.
    session: i32,
}

impl World {
    /// A deployment of one page whose step of this kind is just coming to another state.
    async fn at(kind: &str, states: (&str, &str)) -> Self {
        let (sandbox, orchestrator, edge, api) = Sandbox::started_with(&LONG_LEASE).await;
        api.create_environment("production", policy()).await;
        let release = sandbox.release(&api, "one").await;
        let gate = Gate::before(&sandbox, kind, states).await;
        api.deploy("production", &release).await;
        Self {
            session: gate.reached(&sandbox).await,
            sandbox,
            orchestrator,
            edge,
            gate,
        }
    }

    async fn steps(&self, condition: &str) -> i64 {
        let steps = format!("SELECT count(*) FROM step WHERE {condition}");
        self.sandbox.number(&steps).await
    }

    /// The deployment goes live, and every step was worked on once.
    async fn goes_on(&self) {
        // Not by a call: it could be given a connection that is dead yet.
        let live = "SELECT count(*) FROM deployment WHERE state = 'succeeded'";
        wait_until(SOON, "the deployment to succeed", async || {
            self.sandbox.number(live).await == 1
        })
        .await;
        assert_eq!(self.steps("lost_leases > 0").await, 0);
        // The first page has two addresses; the candidate and what is live are looked at.
        assert_eq!(self.edge.pages(), (4, 4));
        for kind in ["verify_candidate", "verify_live"] {
            let told = format!("SELECT count(*) FROM deployment_log WHERE message LIKE '{kind}%'");
            assert_eq!(self.sandbox.number(&told).await, 1, "{kind}");
        }
    }
}

async fn is_written_after_the_end_of_its_session(kind: &str) {
    let mut world = World::at(kind, ("running", "done")).await;
    world.orchestrator.loses_database().await;
    let ended = format!("SELECT pg_terminate_backend({})", world.session);
    world.sandbox.act(&ended).await;
    let left = format!(
        "SELECT count(*) FROM pg_stat_activity WHERE pid = {}",
        world.session
    );
    wait_until(SOON, "the session to end", async || {
        world.sandbox.number(&left).await == 0
    })
    .await;
    let unwritten = format!("kind = '{kind}' AND state = 'running'");
    assert_eq!(world.steps(&unwritten).await, 1);
    world.gate.open().await;
    world.orchestrator.finds_database();
    world.goes_on().await;
}

#[tokio::test]
async fn what_a_candidate_came_to_is_written_when_the_database_is_back() {
    Box::pin(is_written_after_the_end_of_its_session("verify_candidate")).await;
}

#[tokio::test]
async fn what_a_look_at_the_live_release_came_to_is_written_when_the_database_is_back() {
    Box::pin(is_written_after_the_end_of_its_session("verify_live")).await;
}

#[tokio::test]
async fn an_outcome_whose_commit_was_not_answered_is_written_once() {
    let mut world = World::at("verify_candidate", ("running", "done")).await;
    world.orchestrator.loses_database().await;
    world.orchestrator.finds_database();
    // The next try comes while the commit before it is still on its way.
    let waits = format!(
        "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'
         AND datname = current_database() AND pid <> {} AND query LIKE '%FROM lane%'",
        world.session
    );
    wait_until(SOON, "another try", async || {
        world.sandbox.number(&waits).await > 0
    })
    .await;
    world.gate.open().await;
    world.goes_on().await;
}

#[tokio::test]
async fn a_claim_whose_commit_was_not_answered_is_worked_on() {
    let mut world = World::at("verify_candidate", ("ready", "running")).await;
    world.orchestrator.loses_database().await;
    world.gate.open().await;
    wait_until(SOON, "the commit", async || {
        world.steps("state = 'running'").await == 1
    })
    .await;
    assert_eq!(world.edge.pages(), (0, 0));
    world.orchestrator.finds_database();
    world.goes_on().await;
}
