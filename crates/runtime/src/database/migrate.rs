//! Applying migrations: the one thing that may take long in a database.

use sqlx::{migrate::Migrator, postgres::PgPoolOptions};

use super::{ACQUIRE_TIMEOUT, AGAIN, Error, LIMITS, open, parse};

/// What a statement and its transaction may take here.
const UNLIMITED: [(&str, &str); 2] = [
    ("statement_timeout", "0"),
    ("idle_in_transaction_session_timeout", "0"),
];
/// The server's word for a lock that was not to be had in time.
const LOCK_NOT_AVAILABLE: &str = "55P03";

/// Why the schema is not what its program needs.
#[derive(Debug, thiserror::Error)]
pub enum MigrateError {
    /// The address.
    #[error(transparent)]
    Address(#[from] Error),
    /// The database.
    #[error("reach the database")]
    Unreached(#[source] sqlx::Error),
    /// A migration.
    #[error("migrate the schema")]
    Apply(#[source] sqlx::migrate::MigrateError),
}

/// Applies migrations, under the migrator's advisory lock, however long they take: an index of a large table
/// is not made in the time that a call has. For a lock each waits as briefly as any session, since whoever
/// comes after it waits as well, and is tried again until it has it.
pub async fn migrate(url: &str, migrator: &Migrator) -> Result<(), MigrateError> {
    let options = parse(url)?.options(LIMITS).options(UNLIMITED);
    let mut said = false;
    loop {
        // A session of its own for each try: one that failed keeps the migrator's lock.
        let pool = PgPoolOptions::new()
            .max_connections(1)
            .acquire_timeout(ACQUIRE_TIMEOUT)
            .connect_lazy_with(options.clone());
        open(&pool, 1).await.map_err(MigrateError::Unreached)?;
        let applied = migrator.run(&pool).await;
        pool.close().await;
        match applied {
            Err(error) if waits(&error) => {
                if !std::mem::replace(&mut said, true) {
                    tracing::info!("a migration waits for what others do with its table: {error}");
                }
                tokio::time::sleep(AGAIN).await;
            }
            applied => return applied.map_err(MigrateError::Apply),
        }
    }
}

/// Whether others had what it needs.
fn waits(error: &sqlx::migrate::MigrateError) -> bool {
    use sqlx::migrate::MigrateError as Failed;
    let (Failed::Execute(source) | Failed::ExecuteMigration(source, _)) = error else {
        return false;
    };
    let refused = source.as_database_error();
    refused
        .and_then(sqlx::error::DatabaseError::code)
        .as_deref()
        == Some(LOCK_NOT_AVAILABLE)
}

#[cfg(test)]
mod tests {
    use std::{borrow::Cow, time::Duration};

    use candlefish_testkit::{Database, poll_until};
    use sqlx::{
        AssertSqlSafe, SqlSafeStr,
        migrate::{Migration, MigrationType},
    };

    use super::*;

    const SOON: Duration = Duration::from_secs(40);

    fn migrator(statement: String) -> Migrator {
        let words = Cow::Borrowed("test");
        let sql = AssertSqlSafe(statement).into_sql_str();
        let only = Migration::new(1, words, MigrationType::Simple, sql, false);
        Migrator::with_migrations(vec![only])
    }

    #[tokio::test]
    async fn a_migration_may_take_longer_than_a_statement() {
        let database = Database::fresh(&[]).await;
        let slow = migrator("CREATE TABLE slow AS SELECT 1 AS one FROM pg_sleep(6)".to_owned());
        migrate(&database.url(), &slow).await.unwrap();
        let pool = database.pool();
        let made = sqlx::query("SELECT FROM slow").execute(&pool).await;
        assert_eq!(made.unwrap().rows_affected(), 1);
    }

    #[tokio::test]
    async fn a_migration_waits_for_a_lock_in_turns_until_it_has_it() {
        let database = Database::fresh(&["CREATE TABLE busy (id int)"]).await;
        let pool = database.pool();
        let mut tx = pool.begin().await.unwrap();
        sqlx::query("LOCK TABLE busy IN ACCESS SHARE MODE")
            .execute(&mut *tx)
            .await
            .unwrap();
        let url = database.url();
        let add = migrator("ALTER TABLE busy ADD COLUMN name text".to_owned());
        let migrating = migrate(&url, &add);
        let freed = async {
            // Its second session asks: the first was broken off.
            let mut asking = None;
            poll_until(SOON, "a second try", async || {
                let pid: Option<i32> = sqlx::query_scalar(
                    "SELECT l.pid FROM pg_locks l JOIN pg_database d ON d.oid = l.database
                     WHERE d.datname = current_database() AND NOT l.granted AND l.relation IS NOT NULL",
                )
                .fetch_optional(&pool)
                .await
                .unwrap();
                match (asking, pid) {
                    (Some(first), Some(pid)) if first != pid => return Ok(()),
                    (None, Some(pid)) => asking = Some(pid),
                    _ => {}
                }
                Err(pid)
            })
            .await;
            tx.rollback().await.unwrap();
        };
        let (migrated, ()) = tokio::join!(migrating, freed);
        migrated.unwrap();
        sqlx::query("SELECT name FROM busy")
            .execute(&pool)
            .await
            .unwrap();
    }
}
