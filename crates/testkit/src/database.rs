//! A database for one test.

use std::{str::FromStr, time::Duration};

use sqlx::{
    AssertSqlSafe, Connection, Executor, PgConnection, PgPool,
    postgres::{PgConnectOptions, PgPoolOptions},
};

use crate::servers;

/// Defines `clock()` with an offset that [`Database::advance`] moves. For `clock()` to be this
/// one, a test runs it after the migrations.
pub const OFFSET_CLOCK: &str = "
    CREATE TABLE IF NOT EXISTS clock_offset (by interval NOT NULL);
    INSERT INTO clock_offset SELECT interval '0' WHERE NOT EXISTS (SELECT FROM clock_offset);
    CREATE OR REPLACE FUNCTION clock() RETURNS timestamptz LANGUAGE sql VOLATILE
        AS 'SELECT clock_timestamp() + (SELECT by FROM clock_offset)';
";

/// A fresh database; it goes with the server that `cargo xtask test` removes.
#[derive(Debug, Clone)]
pub struct Database {
    options: PgConnectOptions,
}

impl Database {
    /// Creates a database and runs these scripts in it.
    pub async fn fresh(scripts: &[&str]) -> Self {
        let server = PgConnectOptions::from_str(&servers::database_url()).unwrap();
        let name = format!("test_{}", uuid::Uuid::new_v4().simple());
        create(&server, &name).await;
        // As the sessions of services are.
        let database = Self {
            options: server.database(&name).options([("jit", "off")]),
        };
        let mut conn = PgConnection::connect_with(&database.options).await.unwrap();
        for script in scripts {
            conn.execute(AssertSqlSafe((*script).to_owned()))
                .await
                .unwrap();
        }
        database
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

/// Several tests create theirs at once, and Postgres refuses that while another copies the template.
async fn create(server: &PgConnectOptions, name: &str) {
    let statement = format!("CREATE DATABASE {name}");
    crate::poll_until(Duration::from_secs(30), "a fresh database", async || {
        let mut conn = PgConnection::connect_with(server).await?;
        conn.execute(AssertSqlSafe(statement.clone())).await
    })
    .await;
}
