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
    if let Err(error) = sweep_beyond(LEFT_AT_MOST, server).await {
        tracing::warn!(%error, "databases of tests that have ended stay for the next one");
    }
}

async fn sweep_beyond(at_most: usize, server: &PgConnectOptions) -> sqlx::Result<()> {
    let mut conn = PgConnection::connect_with(server).await?;
    let names: Vec<String> =
        sqlx::query_scalar("SELECT datname FROM pg_database WHERE datname LIKE 'test\\_%'")
            .fetch_all(&mut conn)
            .await?;
    let left: Vec<&String> = names.iter().filter(|name| is_left(name)).collect();
    if left.len() > at_most && is_mine_to_sweep(&mut conn).await? {
        for name in left {
            // Its services may outlive it for a moment.
            let statement = format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)");
            conn.execute(AssertSqlSafe(statement)).await?;
        }
    }
    conn.close().await
}

fn is_left(name: &str) -> bool {
    maker(name).is_some_and(|process| !Path::new(&format!("/proc/{process}")).exists())
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

    #[tokio::test]
    async fn a_database_goes_when_its_test_has_ended() {
        let server = server();
        let mine = Database::fresh(&[]).await;
        let left = name_for(ended());
        create(&server, &left, "").await;

        // Another test may be sweeping just now.
        crate::poll_until(LONGEST, "a database that was dropped", async || {
            sweep_beyond(0, &server).await.unwrap();
            match PgConnection::connect_with(&server.clone().database(&left)).await {
                Ok(_conn) => Err("it is still there"),
                Err(_refused) => Ok(()),
            }
        })
        .await;
        let conn = PgConnection::connect_with(&mine.options()).await;
        conn.expect("what a test still uses stays");
    }
}
