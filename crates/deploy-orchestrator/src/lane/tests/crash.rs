//! The process dies in the middle of a command, and starts again.
//!
//! A command is dropped at one of its waits, with the connections that it had, or has done all but its
//! commit. Where nothing may commit, the database refuses each: nothing at all is left then. Of what
//! did commit the rest is done by the sweeps.

use std::{
    collections::HashSet, future::poll_fn, mem::replace, pin::pin, task::Poll, time::Duration,
};

use candlefish_testkit::wait_until;
use sqlx::{PgPool, postgres::PgPoolOptions};

use super::{command::CHOICES, world::World};

/// Everything that commands on lanes write, but for what only speaks of it.
const TABLES: [&str; 14] = [
    "environment",
    "lane",
    "release",
    "rejection",
    "ban",
    "deployment",
    "step",
    "blocker",
    "route",
    "trigger",
    "pull_request",
    "stop",
    "record",
    "outbox",
];
/// More than a command waits, mostly.
const WAITS: usize = 80;
/// How the sessions of a process that will die are called.
const DOOMED: &str = "doomed";
const SOON: Duration = Duration::from_secs(40);

/// Lets the database refuse commits when it is told to.
pub(super) fn script() -> String {
    let watched = TABLES.map(|table| {
        format!(
            "CREATE CONSTRAINT TRIGGER crash AFTER INSERT OR UPDATE OR DELETE ON {table}
                 DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION crash();"
        )
    });
    format!(
        "CREATE TABLE refusal (stands boolean NOT NULL);
         INSERT INTO refusal VALUES (false);
         CREATE FUNCTION crash() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
             IF (SELECT stands FROM refusal) THEN
                 RAISE EXCEPTION 'the process died before its commit' USING ERRCODE = '57P01';
             END IF;
             RETURN NULL;
         END $$;
         {}",
        watched.concat()
    )
}

impl World {
    pub(super) async fn crash(&mut self) {
        let (commits, waits) = match self.dice.below(3) {
            0 => (true, self.dice.below(WAITS)),
            1 => (false, self.dice.below(WAITS)),
            _ => (false, usize::MAX),
        };
        let choice = self.dice.below(CHOICES);
        self.say(format!("a crash after {waits} waits, commits: {commits}"));
        let before = self.rows().await;
        self.refuse_commits(!commits).await;
        self.die_in(choice, waits).await;
        self.refuse_commits(false).await;
        if !commits {
            let after = self.rows().await;
            let changed: Vec<_> = before.symmetric_difference(&after).collect();
            assert!(
                changed.is_empty(),
                "what did not commit changed {changed:#?}\nafter\n{}",
                self.told()
            );
        }
        self.sweep().await.unwrap();
    }

    async fn refuse_commits(&self, stands: bool) {
        self.act(&format!("UPDATE refusal SET stands = {stands}"))
            .await;
    }

    /// Begins a command with connections of its own, waits for it so often, and lets go of all of them.
    async fn die_in(&mut self, choice: usize, waits: usize) {
        let doomed = self.doomed();
        let lasting = replace(&mut self.ctx.pool, doomed);
        let attempt = Box::pin(self.attempt(choice));
        // What it would have answered nobody hears.
        drop(killed_after(waits, attempt).await);
        drop(replace(&mut self.ctx.pool, lasting));
        // A pool may keep what was dropped in the middle of `begin`; a process that is gone keeps nothing.
        let left = format!(
            "SELECT pg_terminate_backend(pid)::text FROM pg_stat_activity
             WHERE datname = current_database() AND application_name = '{DOOMED}'"
        );
        wait_until(SOON, "the sessions of a dead process to end", async || {
            self.texts(&left).await.is_empty()
        })
        .await;
    }

    fn doomed(&self) -> PgPool {
        let options = self.database.options().application_name(DOOMED);
        PgPoolOptions::new()
            .max_connections(4)
            .connect_lazy_with(options)
    }

    /// Every row, in words.
    async fn rows(&self) -> HashSet<String> {
        let all = TABLES.map(|table| format!("SELECT '{table} ' || x::text FROM {table} x"));
        let rows = self.texts(&all.join(" UNION ALL ")).await;
        rows.into_iter().collect()
    }
}

/// Carries something on until it has waited so often, and drops it then: none when it was not done.
async fn killed_after<F: Future>(waits: usize, work: F) -> Option<F::Output> {
    let mut work = pin!(work);
    let mut left = waits;
    poll_fn(|context| match work.as_mut().poll(context) {
        Poll::Ready(done) => Poll::Ready(Some(done)),
        Poll::Pending if left == 0 => Poll::Ready(None),
        Poll::Pending => {
            left -= 1;
            Poll::Pending
        }
    })
    .await
}
