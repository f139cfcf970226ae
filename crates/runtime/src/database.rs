//! The pool of a process, with the limits that every session sets.

use std::time::Duration;

use sqlx::{
    PgPool,
    postgres::{PgConnectOptions, PgPoolOptions},
};

use crate::refusal::{Code, Refusal};

/// An exhausted pool answers within a second.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(1);
/// Short, so that a failover or a new password reaches every connection soon.
const MAX_LIFETIME: Duration = Duration::from_mins(2);
/// A connection used a moment ago is taken as alive; one that rested is asked first.
const TRUSTED_IDLE: Duration = Duration::from_secs(1);

/// The server is going, coming or full.
const GOING: [&str; 7] = [
    "08000", "08003", "08006", "57P01", "57P02", "57P03", "53300",
];
/// Statement and lock timeouts, deadlock, serialization, idle in transaction, and read only, which
/// an old primary is after a failover.
const CONTENDED: [&str; 6] = ["57014", "55P03", "40P01", "40001", "25P03", "25006"];

/// Why the text is not a database's address. It may hold a password, so no text of it is shown.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Another kind of address.
    #[error("the database's address must begin with postgres://")]
    Scheme,
    /// Something in it.
    #[error("read the database's address")]
    Parse(#[source] sqlx::Error),
}

/// A pool of at most `max` connections. Connects when first used, so that a process starts while
/// its database is down, and says so.
#[expect(
    clippy::unused_async,
    reason = "callers should not care that connecting comes later"
)]
pub async fn connect(url: &str, max: u32) -> Result<PgPool, Error> {
    // Limits live on the server's side: a client that gives up in the middle of `begin` would
    // leave the connection inside a transaction.
    if !url.starts_with("postgres://") && !url.starts_with("postgresql://") {
        return Err(Error::Scheme);
    }
    let options: PgConnectOptions = url.parse().map_err(Error::Parse)?;
    let options = options.options([
        ("statement_timeout", "5s"),
        ("lock_timeout", "2s"),
        ("idle_in_transaction_session_timeout", "10s"),
    ]);
    Ok(PgPoolOptions::new()
        .max_connections(max)
        .acquire_timeout(ACQUIRE_TIMEOUT)
        .max_lifetime(MAX_LIFETIME)
        .test_before_acquire(false)
        .before_acquire(|connection, meta| {
            Box::pin(async move {
                if meta.idle_for > TRUSTED_IDLE {
                    sqlx::Connection::ping(connection).await?;
                }
                Ok(true)
            })
        })
        .connect_lazy_with(options))
}

/// Whether the same call may succeed later ([`Code::Unavailable`]) or never ([`Code::Internal`]).
pub fn code(error: &sqlx::Error) -> Code {
    match error {
        sqlx::Error::PoolTimedOut
        | sqlx::Error::PoolClosed
        | sqlx::Error::Io(_)
        | sqlx::Error::Tls(_)
        | sqlx::Error::WorkerCrashed => Code::Unavailable,
        sqlx::Error::Database(refused) => {
            let state = refused.code().unwrap_or_default();
            let passes = GOING.contains(&&*state) || CONTENDED.contains(&&*state);
            if passes {
                Code::Unavailable
            } else {
                Code::Internal
            }
        }
        _ => Code::Internal,
    }
}

/// The refusal of a call that the database failed; names no table.
pub fn refuse(act: &'static str, error: &sqlx::Error) -> Refusal {
    match code(error) {
        Code::Unavailable => {
            tracing::warn!("database: {act}: {error}");
            Refusal::new(
                Code::Unavailable,
                "database-unavailable",
                "the database does not answer in time; try again",
            )
            .retry_after(Duration::from_secs(1))
        }
        code => Refusal::new(code, "database", format!("{act}: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_database_that_is_down_refuses_within_a_second_as_unavailable() {
        // Port 9 is closed everywhere we run.
        let pool = connect("postgres://nobody@127.0.0.1:9/none", 1)
            .await
            .unwrap();
        let begun = tokio::time::Instant::now();
        let error = pool.acquire().await.unwrap_err();
        assert!(
            begun.elapsed() < Duration::from_secs(3),
            "{:?}",
            begun.elapsed()
        );
        assert_eq!(code(&error), Code::Unavailable);
        assert_eq!(refuse("begin", &error).reason(), "database-unavailable");
    }

    #[tokio::test]
    async fn an_address_that_is_none_is_refused_at_once() {
        assert!(connect("mysql://localhost/what", 1).await.is_err());
        assert!(connect("postgres://localhost:port/what", 1).await.is_err());
    }

    #[test]
    fn a_broken_statement_is_our_fault() {
        assert_eq!(
            code(&sqlx::Error::ColumnNotFound("id".to_owned())),
            Code::Internal
        );
    }
}
