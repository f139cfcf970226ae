//! Every SQL string about kept answers.

use std::{collections::HashSet, time::Duration};

use candlefish_clock::Moment;
use jiff_sqlx::ToSqlx;
use sqlx::{PgConnection, postgres::types::PgInterval};

use super::Key;

/// A kept answer.
#[derive(Debug)]
pub(super) struct Kept {
    pub(super) request_hash: Vec<u8>,
    pub(super) response: Vec<u8>,
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
        "SELECT request_hash, response FROM idempotency
         WHERE principal = $1 AND method = $2 AND key = $3",
        key.principal,
        key.method,
        key.text
    )
    .fetch_optional(conn)
    .await
}

/// The places of those keys that have an answer.
pub(super) async fn list_known(
    conn: &mut PgConnection,
    keys: &[&Key],
) -> Result<HashSet<usize>, sqlx::Error> {
    let columns = Columns::of(keys);
    let places = sqlx::query_scalar!(
        r#"SELECT n.place AS "place!"
           FROM unnest($1::text[], $2::text[], $3::text[]) WITH ORDINALITY
                AS n (principal, method, key, place)
           JOIN idempotency i USING (principal, method, key)"#,
        &columns.principals,
        &columns.methods,
        &columns.texts
    )
    .fetch_all(conn)
    .await?;
    Ok(places
        .into_iter()
        .filter_map(|place| usize::try_from(place - 1).ok())
        .collect())
}

/// Keeps answers; says how many, fewer when there was one already.
pub(super) async fn insert_each(
    conn: &mut PgConnection,
    now: Moment,
    answers: &[(&Key, Vec<u8>)],
) -> Result<u64, sqlx::Error> {
    let keys: Vec<&Key> = answers.iter().map(|(key, _)| *key).collect();
    let columns = Columns::of(&keys);
    let hashes: Vec<Vec<u8>> = keys.iter().map(|key| key.request_hash.to_vec()).collect();
    let responses: Vec<Vec<u8>> = answers.iter().map(|(_, bytes)| bytes.clone()).collect();
    // Always in the same order: two transactions that share keys do not wait for each other.
    let done = sqlx::query!(
        "INSERT INTO idempotency (principal, method, key, request_hash, response, created_at)
         SELECT principal, method, key, hash, response, $6
         FROM unnest($1::text[], $2::text[], $3::text[], $4::bytea[], $5::bytea[])
              AS n (principal, method, key, hash, response)
         ORDER BY principal, method, key ON CONFLICT DO NOTHING",
        &columns.principals,
        &columns.methods,
        &columns.texts,
        &hashes,
        &responses,
        now.timestamp().to_sqlx() as _
    )
    .execute(conn)
    .await?;
    Ok(done.rows_affected())
}

/// Keys as columns.
struct Columns {
    principals: Vec<String>,
    methods: Vec<String>,
    texts: Vec<String>,
}

impl Columns {
    fn of(keys: &[&Key]) -> Self {
        Self {
            principals: keys.iter().map(|key| key.principal.clone()).collect(),
            methods: keys.iter().map(|key| key.method.to_owned()).collect(),
            texts: keys.iter().map(|key| key.text.clone()).collect(),
        }
    }
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
