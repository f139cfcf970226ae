//! Watching whether the database answers.

use std::{io::ErrorKind, time::Duration};

use sqlx::{Connection as _, PgConnection, PgPool};
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use super::kind;
use crate::ops::Readiness;

/// Failed looks after which a database counts as silent.
const SILENT_AFTER: u32 = 3;

/// What looks wait for.
#[derive(Debug, Clone, Copy)]
struct Patience {
    /// One look, for its answer.
    look: Duration,
    /// All of them, for one that is answered.
    silence: Duration,
}

/// The server itself ends a statement after five seconds, so that an answer that takes longer does not come
/// from it; and a machine that starts anew is there within a minute.
const PATIENCE: Patience = Patience {
    look: Duration::from_secs(5),
    silence: Duration::from_mins(1),
};

/// What came of a look.
#[derive(Debug)]
enum Look {
    Fine,
    /// Somebody said no, or the pool is busy.
    Failed(sqlx::Error),
    /// Nobody said anything.
    Unanswered,
}

/// Says in `readiness`, as `database`, whether the database answers; until `stopping`.
///
/// A pool that is busy for a moment is no fault: a replica that is taken out of traffic for it
/// would leave its load to the others.
///
/// It returns as well when nothing at all has answered for a minute. A machine that is gone, or a network that
/// swallows, ends no connection: whoever waits for an answer on one waits for a quarter of an hour, and with
/// all who do the process has to begin anew. A server that refuses is there: it is waited for.
pub async fn watch(
    pool: PgPool,
    readiness: Readiness,
    every: Duration,
    stopping: CancellationToken,
) {
    watch_within(pool, readiness, every, PATIENCE, stopping).await;
}

async fn watch_within(
    pool: PgPool,
    readiness: Readiness,
    every: Duration,
    patience: Patience,
    stopping: CancellationToken,
) {
    let mut failed = 0;
    let mut silent_since = None;
    loop {
        let looking = look(&pool, patience.look);
        let Some(looked) = stopping.run_until_cancelled(looking).await else {
            return;
        };
        match looked {
            Look::Fine => {
                (failed, silent_since) = (0, None);
                readiness.set("database", Ok(()));
            }
            Look::Failed(error) => {
                failed += 1;
                silent_since = None;
                if failed >= SILENT_AFTER {
                    readiness.set("database", Err(kind(&error).to_owned()));
                }
            }
            Look::Unanswered => {
                failed += 1;
                readiness.set("database", Err("nothing answers".to_owned()));
                // From the end of a look: a process that stood still has asked nobody meanwhile.
                let since: Instant = *silent_since.get_or_insert_with(Instant::now);
                if since.elapsed() >= patience.silence {
                    tracing::error!("nothing has answered where the database was: giving up");
                    return;
                }
            }
        }
        let pause = tokio::time::sleep(every);
        if stopping.run_until_cancelled(pause).await.is_none() {
            return;
        }
    }
}

async fn look(pool: &PgPool, patience: Duration) -> Look {
    let mut connection = match pool.acquire().await {
        Ok(connection) => connection,
        Err(sqlx::Error::PoolTimedOut) => return look_past(pool, patience).await,
        Err(error) => return unfit(error),
    };
    let asked = sqlx::query("SELECT 1").execute(&mut *connection);
    let answer = timeout(patience, asked).await;
    match answer {
        Ok(Ok(_)) => Look::Fine,
        Ok(Err(error)) => unfit(error),
        Err(_elapsed) => {
            // The pool would ask it once more, and wait.
            connection.close_on_drop();
            Look::Unanswered
        }
    }
}

/// A pool that gave no connection in time is busy, is refused again and again, or is not answered: one
/// more connection tells.
async fn look_past(pool: &PgPool, patience: Duration) -> Look {
    let options = pool.connect_options();
    let connected = async { PgConnection::connect_with(&options).await?.close().await };
    match timeout(patience, connected).await {
        Ok(Err(error)) => unfit(error),
        Ok(Ok(())) => Look::Failed(sqlx::Error::PoolTimedOut),
        Err(_elapsed) => Look::Unanswered,
    }
}

/// What our own system says for want of any answer is none.
fn unfit(error: sqlx::Error) -> Look {
    let unanswered = [
        ErrorKind::TimedOut,
        ErrorKind::HostUnreachable,
        ErrorKind::NetworkUnreachable,
    ];
    match &error {
        sqlx::Error::Io(source) if unanswered.contains(&source.kind()) => Look::Unanswered,
        _ => Look::Failed(error),
    }
}

#[cfg(test)]
mod tests {
    use candlefish_testkit::{Database, Proxy, wait_until};
    use sqlx::postgres::PgPoolOptions;
    use tokio::task::JoinHandle;

    use super::*;
    use crate::{
        database::{self, tests::behind_a_proxy},
        tasks::{Policy, Tasks},
    };

    const SOON: Duration = Duration::from_secs(20);
    const EVERY: Duration = Duration::from_millis(10);

    /// A database behind a proxy, and the watch over it.
    struct World {
        proxy: Proxy,
        readiness: Readiness,
        tasks: Tasks,
        watching: JoinHandle<()>,
    }

    impl World {
        async fn new(connects_within: Duration, patience: Patience) -> Self {
            let (proxy, through) = behind_a_proxy().await;
            let pool = PgPoolOptions::new()
                .acquire_timeout(connects_within)
                .connect_lazy_with(through);
            let (readiness, tasks) = (Readiness::new(), Tasks::new());
            let stopping = tasks.stopping();
            let watched = watch_within(pool, readiness.clone(), EVERY, patience, stopping);
            let watching = tasks.spawn("watch", Policy::StopProcess, watched);
            Self {
                proxy,
                readiness,
                tasks,
                watching,
            }
        }

        fn is_silent(&self) -> bool {
            let waiting = self.readiness.waiting();
            waiting.iter().any(|part| part.name == "database")
        }

        async fn until_ready(&self) {
            let ready = async || self.readiness.waiting().is_empty();
            wait_until(SOON, "a ready database", ready).await;
        }
    }

    #[tokio::test]
    async fn a_database_that_goes_and_comes_back_is_seen_and_waited_for() {
        let patience = Patience {
            look: SOON,
            // The first look without any answer would be one too many.
            silence: Duration::ZERO,
        };
        let world = World::new(Duration::from_millis(100), patience).await;
        world.until_ready().await;
        world.proxy.cut();
        wait_until(SOON, "a silent database", async || world.is_silent()).await;
        let refused = world.proxy.refused();
        wait_until(SOON, "more looks", async || {
            world.proxy.refused() > refused + 10
        })
        .await;
        assert!(!world.watching.is_finished());
        world.proxy.mend();
        world.until_ready().await;
        world.tasks.stop();
        world.watching.await.unwrap();
        assert_eq!(world.tasks.fault(), None);
    }

    #[tokio::test]
    async fn a_process_ends_that_gets_no_answer_at_all() {
        let patience = Patience {
            look: Duration::from_secs(1),
            silence: Duration::from_millis(500),
        };
        let world = World::new(Duration::from_millis(500), patience).await;
        world.until_ready().await;
        world.proxy.silence();
        wait_until(SOON, "a silent database", async || world.is_silent()).await;
        timeout(SOON, world.watching).await.unwrap().unwrap();
        assert_eq!(world.tasks.fault().as_deref(), Some("watch: ended"));
    }

    #[tokio::test]
    async fn a_closed_port_is_an_answer_and_so_is_a_server_beside_a_busy_pool() {
        // Port 9 is closed everywhere we run.
        let closed = database::connect("postgres://nobody@127.0.0.1:9/none", 1).await;
        let looked = look(&closed.unwrap(), SOON).await;
        assert!(matches!(looked, Look::Failed(_)), "{looked:?}");
        let database = Database::fresh(&[]).await;
        let busy = PgPoolOptions::new()
            .max_connections(1)
            .acquire_timeout(Duration::from_secs(5))
            .connect_lazy_with(database.options());
        let _held = busy.acquire().await.unwrap();
        let looked = look(&busy, SOON).await;
        let timed_out = matches!(looked, Look::Failed(sqlx::Error::PoolTimedOut));
        assert!(timed_out, "{looked:?}");
    }
}
