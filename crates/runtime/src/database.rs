//! The pool of a process, with the limits that every session sets.

use std::time::Duration;

use sqlx::{
    PgPool, Postgres,
    pool::PoolConnection,
    postgres::{PgConnectOptions, PgPoolOptions},
};
use tokio::time::Instant;

use crate::refusal::{Code, Refusal};

mod begin;
mod migrate;
mod watch;

pub use begin::begin;
pub use migrate::{MigrateError, migrate};
pub use watch::watch;

/// An exhausted pool answers after this: within a second, with what the call does besides. It bounds the
/// making of a connection too, and no more can be had for that: the driver knows one limit for both. On
/// a busy machine a connection may take longer; calls that begin together are refused then, so [`open`]
/// makes a pool's connections before its process serves.
const ACQUIRE_TIMEOUT: Duration = Duration::from_millis(900);
/// How long a process that starts waits for a database that starts beside it.
const PATIENCE: Duration = Duration::from_secs(10);
/// Before a database that refused at once is asked again.
const AGAIN: Duration = Duration::from_millis(100);
/// Short, so that a failover or a new password reaches every connection soon.
const MAX_LIFETIME: Duration = Duration::from_mins(2);
/// A connection used a moment ago is taken as alive; one that rested is asked first.
const TRUSTED_IDLE: Duration = Duration::from_secs(1);

/// Of every session, on the server's side: a client that gives up in the middle of the driver's own `begin`
/// would leave the connection inside a transaction ([`begin()`] does not).
const LIMITS: [(&str, &str); 4] = [
    ("statement_timeout", "5s"),
    ("lock_timeout", "2s"),
    ("idle_in_transaction_session_timeout", "10s"),
    // Every statement of ours is short. Compiling one for the machine takes longer than running it,
    // and the planner chooses that by an estimate which is high for tables that nobody analysed yet.
    ("jit", "off"),
];

/// Prepared statements that a connection keeps: more than any service has.
const STATEMENTS: usize = 400;

/// The server is going, coming or full.
const GOING: [&str; 7] = [
    "08000", "08003", "08006", "57P01", "57P02", "57P03", "53300",
];
/// Statement and lock timeouts, deadlock, serialization, idle in transaction, and read only, which
/// an old primary is after a failover.
const CONTENDED: [&str; 6] = ["57014", "55P03", "40P01", "40001", "25P03", "25006"];

/// How the driver begins to say that the server answers no greeting.
const NO_GREETING: &str = "unexpected response from SSLRequest";

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
    let options = parse(url)?.options(LIMITS).options([
        // A plan is kept for as long as its session lives or its tables keep their statistics: one that
        // was made while a table was small would read the whole of it when it is large.
        ("enable_seqscan", "off"),
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

fn parse(url: &str) -> Result<PgConnectOptions, Error> {
    if !url.starts_with("postgres://") && !url.starts_with("postgresql://") {
        return Err(Error::Scheme);
    }
    let options: PgConnectOptions = url.parse().map_err(Error::Parse)?;
    Ok(options.statement_cache_capacity(STATEMENTS))
}

/// Opens the first `connections` of a pool before its process serves: waits for the database, and
/// says so, at most [`PATIENCE`], then makes the others one after the other, as far as the server
/// gives them. Loops and calls that begin together would make all of them at once, each proved to
/// the server; on a busy machine that takes longer than a call may wait.
pub async fn open(pool: &PgPool, connections: u32) -> Result<(), sqlx::Error> {
    let mut held = vec![first(pool).await?];
    for _ in 1..connections {
        match pool.acquire().await {
            Ok(connection) => held.push(connection),
            Err(error) => {
                tracing::info!(open = held.len(), "no more connections: {}", kind(&error));
                break;
            }
        }
    }
    Ok(())
}

async fn first(pool: &PgPool) -> Result<PoolConnection<Postgres>, sqlx::Error> {
    let begun = Instant::now();
    let mut said = false;
    loop {
        match pool.acquire().await {
            Err(error) if code(&error) == Code::Unavailable && begun.elapsed() < PATIENCE => {
                if !std::mem::replace(&mut said, true) {
                    tracing::info!("waiting for the database: {}", kind(&error));
                }
                tokio::time::sleep(AGAIN).await;
            }
            acquired => return acquired,
        }
    }
}

/// The kind of failure alone: the text may change each time, and hold an address.
fn kind(error: &sqlx::Error) -> &'static str {
    match error {
        sqlx::Error::PoolTimedOut => "no connection within 900 ms",
        sqlx::Error::Io(_) => "the connection is refused or breaks",
        sqlx::Error::Database(_) => "the server refuses",
        _ => "it does not answer",
    }
}

/// Whether the same call may succeed later ([`Code::Unavailable`]) or never ([`Code::Internal`]).
pub fn code(error: &sqlx::Error) -> Code {
    match error {
        sqlx::Error::PoolTimedOut
        | sqlx::Error::PoolClosed
        | sqlx::Error::Io(_)
        | sqlx::Error::Tls(_)
        | sqlx::Error::WorkerCrashed => Code::Unavailable,
        // A server in the middle of its end answers the first question with an error of the old kind.
        sqlx::Error::Protocol(words) if words.starts_with(NO_GREETING) => Code::Unavailable,
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
            // One for each call: that the database is away is said once, by whoever watches it.
            tracing::info!("database: {act}: {error}");
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
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    /// Less than a second, and almost another one for a busy machine.
    const SOON: Duration = Duration::from_millis(1_800);

    async fn is_refused_soon(pool: &PgPool) {
        let begun = Instant::now();
        let error = pool.acquire().await.unwrap_err();
        let took = begun.elapsed();
        assert!(took < SOON, "{took:?}");
        assert_eq!(code(&error), Code::Unavailable);
        assert_eq!(refuse("begin", &error).reason(), "database-unavailable");
    }

    #[tokio::test]
    async fn a_database_that_is_down_refuses_soon_as_unavailable() {
        // Port 9 is closed everywhere we run.
        let pool = connect("postgres://nobody@127.0.0.1:9/none", 1)
            .await
            .unwrap();
        is_refused_soon(&pool).await;
    }

    #[tokio::test]
    async fn an_exhausted_pool_refuses_soon_as_unavailable() {
        let database = candlefish_testkit::Database::fresh(&[]).await;
        let pool = connect(&database.url(), 2).await.unwrap();
        open(&pool, 2).await.unwrap();
        // On a busy machine the second one may take more than a call waits for.
        let mut held = Vec::new();
        while held.len() < 2 {
            held.extend(pool.acquire().await.ok());
        }
        is_refused_soon(&pool).await;
        drop(held);
        pool.acquire().await.unwrap();
    }

    #[tokio::test]
    async fn a_pool_is_opened_as_soon_as_its_database_answers() {
        let (proxy, through) = behind_a_proxy().await;
        let pool = PgPoolOptions::new()
            .max_connections(5)
            .acquire_timeout(Duration::from_secs(10))
            .connect_lazy_with(through);
        proxy.cut();
        let mut opening = std::pin::pin!(open(&pool, 3));
        let waits = tokio::time::timeout(Duration::from_millis(300), &mut opening).await;
        assert!(waits.is_err(), "{waits:?}");
        proxy.mend();
        opening.await.unwrap();
        assert_eq!(pool.size(), 3);
    }

    #[tokio::test]
    async fn a_session_compiles_nothing_reads_by_indexes_and_waits_for_no_statement_long() {
        let database = candlefish_testkit::Database::fresh(&[]).await;
        let pool = connect(&database.url(), 1).await.unwrap();
        open(&pool, 1).await.unwrap();
        for (setting, value) in [
            ("jit", "off"),
            ("enable_seqscan", "off"),
            ("statement_timeout", "5s"),
            ("lock_timeout", "2s"),
            ("idle_in_transaction_session_timeout", "10s"),
        ] {
            let shown: String = sqlx::query_scalar("SELECT current_setting($1)")
                .bind(setting)
                .fetch_one(&pool)
                .await
                .unwrap();
            assert_eq!(shown, value, "{setting}");
        }
    }

    #[tokio::test]
    async fn an_address_that_is_none_is_refused_at_once() {
        assert!(connect("mysql://localhost/what", 1).await.is_err());
        assert!(connect("postgres://localhost:port/what", 1).await.is_err());
    }

    /// Answers every connection as a server does that cannot make a process for it.
    #[tokio::test]
    async fn a_server_that_is_just_going_is_unavailable() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let tasks = crate::tasks::Tasks::new();
        let answering = tasks.spawn("server", crate::tasks::Policy::Ignore, async move {
            while let Ok((mut client, _)) = listener.accept().await {
                let mut asked = [0; 8];
                client.read_exact(&mut asked).await.unwrap();
                client.write_all(b"E").await.unwrap();
            }
        });
        let pool = connect(&format!("postgres://nobody@127.0.0.1:{port}/none"), 1)
            .await
            .unwrap();
        let error = pool.acquire().await.unwrap_err();
        assert!(matches!(error, sqlx::Error::Protocol(_)), "{error:?}");
        assert_eq!(code(&error), Code::Unavailable);
        answering.abort();
    }

    #[test]
    fn a_broken_statement_is_our_fault() {
        assert_eq!(
            code(&sqlx::Error::ColumnNotFound("id".to_owned())),
            Code::Internal
        );
    }

    /// A fresh database, and how to reach it through a proxy that can be cut.
    pub(super) async fn behind_a_proxy() -> (candlefish_testkit::Proxy, PgConnectOptions) {
        let database = candlefish_testkit::Database::fresh(&[]).await;
        let options = database.options();
        let upstream = format!("{}:{}", options.get_host(), options.get_port());
        let proxy = candlefish_testkit::Proxy::start(&upstream).await;
        let through = proxy.addr();
        let through = options.host(&through.ip().to_string()).port(through.port());
        (proxy, through)
    }
}
