//! A database for one test.

use std::{path::Path, str::FromStr, time::Duration};

use sha2::{Digest as _, Sha256};
use sqlx::{
    AssertSqlSafe, Connection, Executor, PgConnection, PgPool,
    migrate::Migrator,
    postgres::{PgConnectOptions, PgPoolOptions},
};

use crate::servers;

/// How long a database may take to be made.
const LONGEST: Duration = Duration::from_secs(30);

/// How many databases of tests that have ended are kept: each drop is a checkpoint, which has
/// little to do for the ones that follow it.
const LEFT_AT_MOST: usize = 50;

/// Where the system has an entry for each process that runs.
const PROCESSES: &str = "/proc";

/// Defines `clock()` with an offset that [`Database::advance`] moves. For `clock()` to be this
/// one, a test runs it after the migrations.
pub const OFFSET_CLOCK: &str = "
    CREATE TABLE IF NOT EXISTS clock_offset (by interval NOT NULL);
    INSERT INTO clock_offset SELECT interval '0' WHERE NOT EXISTS (SELECT FROM clock_offset);
    CREATE OR REPLACE FUNCTION clock() RETURNS timestamptz LANGUAGE sql VOLATILE
        AS 'SELECT clock_timestamp() + (SELECT by FROM clock_offset)';
";

/// A fresh database. It goes when its test has ended and others want room, at the latest with the
/// server that `cargo xtask test` removes.
#[derive(Debug, Clone)]
pub struct Database {
    options: PgConnectOptions,
}

impl Database {
    /// Creates a database and runs these scripts in it.
    pub async fn fresh(scripts: &[&str]) -> Self {
        let database = Self::made(&server(), "").await;
        database.run(scripts).await;
        database
    }

    /// Creates a database with these migrations: the first test that asks for them runs them, all others
    /// get a copy of what it made. What is set for a database as such is not copied.
    pub async fn migrated(migrator: &Migrator) -> Self {
        let server = server();
        let template = template_of(migrator);
        // Of those that come at once, one prepares; the lock ends with its session.
        let mut conn = PgConnection::connect_with(&server).await.unwrap();
        sqlx::query("SELECT pg_advisory_lock(hashtextextended($1, 0))")
            .bind(&template)
            .execute(&mut conn)
            .await
            .unwrap();
        let is_there: bool =
            sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM pg_database WHERE datname = $1)")
                .bind(&template)
                .fetch_one(&mut conn)
                .await
                .unwrap();
        if !is_there {
            prepare(&mut conn, &server, migrator, &template).await;
        }
        conn.close().await.unwrap();
        Self::made(&server, &format!("TEMPLATE {template}")).await
    }

    /// Runs these scripts, one after the other.
    pub async fn run(&self, scripts: &[&str]) {
        let mut conn = PgConnection::connect_with(&self.options).await.unwrap();
        for script in scripts {
            conn.execute(AssertSqlSafe((*script).to_owned()))
                .await
                .unwrap();
        }
        conn.close().await.unwrap();
    }

    async fn made(server: &PgConnectOptions, like: &str) -> Self {
        sweep(server).await;
        let name = name_for(std::process::id());
        create(server, &name, like).await;
        Self {
            // As the sessions of services are.
            options: server.clone().database(&name).options([("jit", "off")]),
        }
    }

    /// How to connect to it.
    pub fn options(&self) -> PgConnectOptions {
        self.options.clone()
    }

    /// Its address, for a process or a pool that takes one.
    pub fn url(&self) -> String {
        let name = self.options.get_database().unwrap();
        let server = servers::database_url();
        let (base, query) = server.split_once('?').unwrap_or((&server, ""));
        let (base, _other) = base.rsplit_once('/').unwrap();
        if query.is_empty() {
            format!("{base}/{name}")
        } else {
            format!("{base}/{name}?{query}")
        }
    }

    /// A pool of a few connections.
    pub fn pool(&self) -> PgPool {
        PgPoolOptions::new()
            .max_connections(10)
            .acquire_timeout(Duration::from_secs(10))
            .connect_lazy_with(self.options())
    }

    /// Moves the clock of a database that has [`OFFSET_CLOCK`] forward.
    pub async fn advance(&self, by: Duration) {
        let mut conn = PgConnection::connect_with(&self.options).await.unwrap();
        sqlx::query("UPDATE clock_offset SET by = by + make_interval(secs => $1)")
            .bind(by.as_secs_f64())
            .execute(&mut conn)
            .await
            .unwrap();
    }
}

fn server() -> PgConnectOptions {
    PgConnectOptions::from_str(&servers::database_url()).unwrap()
}

/// A name that other migrations do not have.
fn template_of(migrator: &Migrator) -> String {
    let mut sum = Sha256::new();
    for migration in migrator.iter() {
        sum.update(&migration.checksum);
    }
    let sum = hex::encode(sum.finalize());
    format!("migrated_{}", sum.get(..16).unwrap_or(&sum))
}

/// A name that tells whose it is: tests have a process each.
fn name_for(process: u32) -> String {
    format!("test_{process}_{}", uuid::Uuid::new_v4().simple())
}

/// The process of whoever made this database.
fn maker(name: &str) -> Option<u32> {
    let (process, _unique) = name.strip_prefix("test_")?.split_once('_')?;
    process.parse().ok()
}

/// Drops what tests that have ended left, if that is much: a thousand of them are more than ten
/// gigabytes. One test does it, the others go on.
async fn sweep(server: &PgConnectOptions) {
    if let Err(error) = sweep_beyond(LEFT_AT_MOST, server, |_name| true).await {
        tracing::warn!(%error, "databases of tests that have ended stay for the next one");
    }
}

/// Of those databases that `among` claims. One that cannot be dropped keeps no other; the first failure is
/// told when all are done.
async fn sweep_beyond(
    at_most: usize,
    server: &PgConnectOptions,
    among: impl Fn(&str) -> bool,
) -> sqlx::Result<()> {
    let mut conn = PgConnection::connect_with(server).await?;
    let names: Vec<String> = sqlx::query_scalar(
        "SELECT datname FROM pg_database WHERE datname LIKE 'test\\_%' ORDER BY datname",
    )
    .fetch_all(&mut conn)
    .await?;
    let left = names.iter().filter(|name| among(name));
    let left: Vec<&String> = left
        .filter(|name| is_left(name, Path::new(PROCESSES)))
        .collect();
    let mut swept = Ok(());
    if left.len() > at_most && is_mine_to_sweep(&mut conn).await? {
        for name in left {
            // Its services may outlive it for a moment.
            let statement = format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)");
            let dropped = conn.execute(AssertSqlSafe(statement)).await;
            swept = match swept {
                Ok(()) => dropped.map(drop),
                Err(first) => Err(first),
            };
        }
    }
    let closed = conn.close().await;
    swept.and(closed)
}

/// Whether the test that made it has ended. Where the system tells nothing of processes, not even of this
/// one, none has.
fn is_left(name: &str, processes: &Path) -> bool {
    let runs = |process: &str| processes.join(process).exists();
    maker(name).is_some_and(|process| runs("self") && !runs(&process.to_string()))
}

/// The lock ends with the session.
async fn is_mine_to_sweep(conn: &mut PgConnection) -> sqlx::Result<bool> {
    sqlx::query_scalar("SELECT pg_try_advisory_lock(hashtextextended('sweep', 0))")
        .fetch_one(conn)
        .await
}

/// Makes the database that others are copied from. It has its name only when it is whole.
async fn prepare(
    conn: &mut PgConnection,
    server: &PgConnectOptions,
    migrator: &Migrator,
    template: &str,
) {
    let made = Database::made(server, "").await;
    let pool = made.pool();
    migrator.run(&pool).await.unwrap();
    pool.close().await;
    let name = made.options.get_database().unwrap().to_owned();
    let statement = format!("ALTER DATABASE {name} RENAME TO {template}");
    // Sessions end a little later than they are closed.
    crate::poll_until(LONGEST, "a database without sessions", async || {
        conn.execute(AssertSqlSafe(statement.clone())).await
    })
    .await;
}

/// Several tests create theirs at once, and Postgres refuses that while another copies the template.
async fn create(server: &PgConnectOptions, name: &str, like: &str) {
    let statement = format!("CREATE DATABASE {name} {like}");
    crate::poll_until(LONGEST, "a fresh database", async || {
        let mut conn = PgConnection::connect_with(server).await?;
        conn.execute(AssertSqlSafe(statement.clone())).await
    })
    .await;
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The number of a process that has ended.
    fn ended() -> u32 {
        let mut child = std::process::Command::new("true").spawn().unwrap();
        child.wait().unwrap();
        child.id()
    }

    async fn is_there(server: &PgConnectOptions, name: &str) -> bool {
        let mut conn = PgConnection::connect_with(server).await.unwrap();
        let asked = "SELECT EXISTS (SELECT 1 FROM pg_database WHERE datname = $1)";
        let asked = sqlx::query_scalar(asked).bind(name);
        asked.fetch_one(&mut conn).await.unwrap()
    }

    /// Sweeps among these until one is gone: another test may be sweeping just now.
    async fn sweep_until_gone(server: &PgConnectOptions, among: &[&str], name: &str) {
        crate::poll_until(LONGEST, "a database that was dropped", async || {
            let swept = sweep_beyond(0, server, |one| among.contains(&one)).await;
            if is_there(server, name).await {
                Err(swept)
            } else {
                Ok(())
            }
        })
        .await;
    }

    #[tokio::test]
    async fn a_database_goes_when_its_test_has_ended() {
        let server = server();
        let mine = Database::fresh(&[]).await.options();
        let used = mine.get_database().unwrap();
        let left = name_for(ended());
        create(&server, &left, "").await;
        sweep_until_gone(&server, &[used, &left], &left).await;
        assert!(
            is_there(&server, used).await,
            "what a test still uses stays"
        );
    }

    #[tokio::test]
    async fn one_that_cannot_be_dropped_keeps_no_other() {
        let server = server();
        let process = ended();
        let mut left = [name_for(process), name_for(process)];
        // In the order in which they are dropped.
        left.sort_unstable();
        let [stuck, other] = left.each_ref().map(String::as_str);
        create(&server, stuck, "IS_TEMPLATE true").await;
        create(&server, other, "").await;
        sweep_until_gone(&server, &[stuck, other], other).await;
        assert!(is_there(&server, stuck).await, "no template is dropped");
        let mut conn = PgConnection::connect_with(&server).await.unwrap();
        let statement = format!("ALTER DATABASE {stuck} IS_TEMPLATE false");
        conn.execute(AssertSqlSafe(statement)).await.unwrap();
        sweep_until_gone(&server, &[stuck, other], stuck).await;
    }

    #[test]
    fn where_nothing_is_told_of_processes_no_test_has_ended() {
        let processes = Path::new(PROCESSES);
        let left = name_for(ended());
        assert!(is_left(&left, processes));
        assert!(!is_left(&name_for(std::process::id()), processes));
        assert!(!is_left(&left, Path::new("/nowhere")));
    }
}
