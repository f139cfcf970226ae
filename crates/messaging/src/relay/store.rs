//! Every statement of the relay.

use std::time::Duration;

use candlefish_proto::event::Envelope;
use sqlx::PgPool;

use crate::{epoch, feed};

/// What a turn stamped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stamped {
    pub(crate) epoch: i32,
    pub(crate) rows: i64,
}

/// Takes the lease when nobody has it; answers its fence.
pub(crate) async fn acquire(
    pool: &PgPool,
    owner: &str,
    lease: Duration,
) -> Result<Option<i64>, sqlx::Error> {
    sqlx::query_scalar!(
        "UPDATE relay SET owner = $1, fence = fence + 1,
             lease_until = clock() + make_interval(secs => $2)
         WHERE owner IS NULL OR lease_until < clock() RETURNING fence",
        owner,
        lease.as_secs_f64()
    )
    .fetch_optional(pool)
    .await
}

/// Keeps the lease; false when it is another's.
pub(crate) async fn renew(
    pool: &PgPool,
    owner: &str,
    fence: i64,
    lease: Duration,
) -> Result<bool, sqlx::Error> {
    let kept = sqlx::query!(
        "UPDATE relay SET lease_until = clock() + make_interval(secs => $3)
         WHERE owner = $1 AND fence = $2",
        owner,
        fence,
        lease.as_secs_f64()
    )
    .execute(pool)
    .await?;
    Ok(kept.rows_affected() == 1)
}

/// Gives the lease back.
pub(crate) async fn release(pool: &PgPool, owner: &str, fence: i64) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "UPDATE relay SET owner = NULL, lease_until = NULL WHERE owner = $1 AND fence = $2",
        owner,
        fence
    )
    .execute(pool)
    .await?;
    Ok(())
}

/// Gives visible facts the next numbers; nothing when the lease is another's.
pub(crate) async fn stamp(
    pool: &PgPool,
    owner: &str,
    fence: i64,
    batch: i64,
) -> Result<Option<Stamped>, sqlx::Error> {
    let mut conn = pool.acquire().await?;
    // In order, so that it goes by the index: what waits is last in the table, behind everything
    // that was ever stamped.
    let found = crate::query_with_epoch!(
        r#"SELECT asked.epoch AS "epoch!", asked.moved AS "moved!",
                  (SELECT id FROM outbox WHERE seq IS NULL ORDER BY id LIMIT 1) IS NOT NULL
                      AS "waiting!"
           FROM "#,
        ""
    )
    .fetch_one(&mut *conn)
    .await?;
    if found.moved {
        // What was stamped and not published waits again.
        epoch::current(&mut conn).await?;
    } else if !found.waiting {
        let epoch = found.epoch;
        return Ok(Some(Stamped { epoch, rows: 0 }));
    }
    let mut tx = sqlx::Connection::begin(&mut *conn).await?;
    // The row's lock orders relays among each other: numbers are given out by one at a time.
    let Some(epoch) = sqlx::query_scalar!(
        "SELECT epoch FROM relay WHERE owner = $1 AND fence = $2 FOR UPDATE",
        owner,
        fence
    )
    .fetch_optional(&mut *tx)
    .await?
    else {
        return Ok(None);
    };
    let rows = sqlx::query_scalar!(
        r#"WITH fresh AS (
               SELECT id, row_number() OVER (ORDER BY id) AS place
               FROM (SELECT id FROM outbox WHERE seq IS NULL ORDER BY id LIMIT $1) visible
           ), stamped AS (
               UPDATE outbox o SET epoch = r.epoch, seq = r.next_seq + f.place - 1
               FROM fresh f, relay r WHERE o.id = f.id RETURNING 1
           ), counted AS (SELECT count(*) AS rows FROM stamped)
           UPDATE relay SET next_seq = next_seq + c.rows FROM counted c
           RETURNING c.rows AS "rows!""#,
        batch
    )
    .fetch_one(&mut *tx)
    .await?;
    tx.commit().await?;
    Ok(Some(Stamped { epoch, rows }))
}

/// The next facts to publish, in order.
pub(crate) async fn unpublished(
    pool: &PgPool,
    epoch: i32,
    batch: i64,
) -> Result<Vec<Envelope>, feed::Error> {
    let mut conn = pool.acquire().await?;
    let upto = sqlx::query_scalar!("SELECT published_upto FROM relay WHERE epoch = $1", epoch)
        .fetch_optional(&mut *conn)
        .await?;
    match upto {
        Some(upto) => feed::page(&mut conn, epoch, upto + 1, batch).await,
        None => Ok(Vec::new()),
    }
}

/// Records that everything up to `seq` was published; false when the lease or the epoch is
/// another.
pub(crate) async fn advance(
    pool: &PgPool,
    owner: &str,
    fence: i64,
    epoch: i32,
    seq: i64,
) -> Result<bool, sqlx::Error> {
    let advanced = sqlx::query!(
        "UPDATE relay SET published_upto = greatest(published_upto, $4)
         WHERE owner = $1 AND fence = $2 AND epoch = $3",
        owner,
        fence,
        epoch,
        seq
    )
    .execute(pool)
    .await?;
    Ok(advanced.rows_affected() == 1)
}

/// What the bus does not have yet.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Backlog {
    pub(crate) facts: i64,
    /// The age of the oldest, in seconds.
    pub(crate) lag_seconds: f64,
}

/// Measures what the bus does not have yet.
pub(crate) async fn backlog(pool: &PgPool) -> Result<Backlog, sqlx::Error> {
    let row = sqlx::query!(
        r#"SELECT r.next_seq - 1 - r.published_upto AS "facts!",
               extract(epoch FROM clock() - (SELECT created_at FROM outbox o
                   WHERE o.epoch = r.epoch AND o.seq = r.published_upto + 1))::float8 AS lag
           FROM relay r"#
    )
    .fetch_one(pool)
    .await?;
    Ok(Backlog {
        facts: row.facts,
        lag_seconds: row.lag.unwrap_or(0.0).max(0.0),
    })
}
