//! Every SQL string about kept answers.

use std::time::Duration;

use sqlx::{PgConnection, postgres::types::PgInterval};

use super::Key;

#[derive(Debug)]
pub(super) struct Kept {
    pub(super) request_hash: Vec<u8>,
    pub(super) response: Option<Vec<u8>>,
    pub(super) made: String,
}

/// Waits for whoever holds the key, and holds it until the transaction ends.
pub(super) async fn hold(conn: &mut PgConnection, key: &Key) -> Result<(), sqlx::Error> {
    // A statement of its own: one that also read the row would read it as it was before the wait.
    sqlx::query!(
        "SELECT pg_advisory_xact_lock(hashtextextended(concat_ws(E'\\n', 'idempotency', $1::text, $2::text, $3::text), 0))",
        key.principal,
        key.method,
        key.text
    )
    .execute(conn)
    .await?;
    Ok(())
}

pub(super) async fn find(conn: &mut PgConnection, key: &Key) -> Result<Option<Kept>, sqlx::Error> {
    sqlx::query_as!(
        Kept,
        "SELECT request_hash, response, made FROM idempotency
         WHERE principal = $1 AND method = $2 AND key = $3",
        key.principal,
        key.method,
        key.text
    )
    .fetch_optional(conn)
    .await
}

pub(super) async fn insert(
    conn: &mut PgConnection,
    key: &Key,
    response: Option<&[u8]>,
    made: &str,
) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "INSERT INTO idempotency (principal, method, key, request_hash, response, made, created_at)
         VALUES ($1, $2, $3, $4, $5, $6, clock())",
        key.principal,
        key.method,
        key.text,
        key.request_hash.as_slice(),
        response,
        made
    )
    .execute(conn)
    .await?;
    Ok(())
}

pub(super) async fn delete_before(
    conn: &mut PgConnection,
    age: Duration,
    limit: i64,
) -> Result<u64, sqlx::Error> {
    let age = PgInterval::try_from(age).map_err(sqlx::Error::Encode)?;
    let done = sqlx::query!(
        "DELETE FROM idempotency WHERE (principal, method, key) IN (
             SELECT principal, method, key FROM idempotency
             WHERE created_at < (SELECT clock()) - $1::interval ORDER BY created_at LIMIT $2 FOR UPDATE SKIP LOCKED)",
        age,
        limit
    )
    .execute(conn)
    .await?;
    Ok(done.rows_affected())
}
