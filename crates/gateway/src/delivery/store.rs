//! Every SQL string about deliveries.

use std::time::Duration;

use candlefish_ids::DeliveryId;
use jiff_sqlx::{Timestamp, ToSqlx};
use sqlx::{PgConnection, postgres::types::PgInterval};
use uuid::Uuid;

use super::Delivery;

/// The database's clock.
pub(super) async fn clock(conn: &mut PgConnection) -> Result<jiff::Timestamp, sqlx::Error> {
    let at = sqlx::query_scalar!(r#"SELECT clock() AS "at!: Timestamp""#)
        .fetch_one(conn)
        .await?;
    Ok(at.to_jiff())
}

/// Writes a delivery; false when its id or its body is known.
pub(super) async fn insert(
    conn: &mut PgConnection,
    delivery: &Delivery,
    hash: &[u8; 32],
    body: &[u8],
) -> Result<bool, sqlx::Error> {
    let done = sqlx::query!(
        "INSERT INTO delivery (id, source, source_id, event, body_hash, body, received_at, traceparent)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT DO NOTHING",
        delivery.id.uuid(),
        delivery.source,
        delivery.source_id,
        delivery.event,
        hash.as_slice(),
        body,
        delivery.received_at.to_sqlx() as _,
        delivery.traceparent
    )
    .execute(conn)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// The stored delivery that this one repeats; the same id counts before the same body.
pub(super) async fn find_known(
    conn: &mut PgConnection,
    delivery: &Delivery,
    hash: &[u8; 32],
) -> Result<Option<DeliveryId>, sqlx::Error> {
    let id = sqlx::query_scalar!(
        "SELECT id FROM delivery WHERE source = $1 AND (source_id = $2 OR body_hash = $3)
         ORDER BY source_id = $2 DESC LIMIT 1",
        delivery.source,
        delivery.source_id,
        hash.as_slice()
    )
    .fetch_optional(conn)
    .await?;
    Ok(id.map(DeliveryId::from_uuid))
}

struct Row {
    id: Uuid,
    source: String,
    source_id: String,
    event: String,
    received_at: Timestamp,
    size: i32,
    traceparent: String,
}

impl From<Row> for Delivery {
    fn from(row: Row) -> Self {
        Self {
            id: DeliveryId::from_uuid(row.id),
            source: row.source,
            source_id: row.source_id,
            event: row.event,
            received_at: row.received_at.to_jiff(),
            size: row.size,
            traceparent: row.traceparent,
        }
    }
}

/// A delivery and its body.
pub(super) async fn find(
    conn: &mut PgConnection,
    id: DeliveryId,
) -> Result<Option<(Delivery, Vec<u8>)>, sqlx::Error> {
    let row = sqlx::query!(
        r#"SELECT source, source_id, event, received_at AS "received_at: Timestamp",
                  octet_length(body) AS "size!", traceparent, body
           FROM delivery WHERE id = $1"#,
        id.uuid()
    )
    .fetch_optional(conn)
    .await?;
    Ok(row.map(|row| {
        let delivery = Delivery {
            id,
            source: row.source,
            source_id: row.source_id,
            event: row.event,
            received_at: row.received_at.to_jiff(),
            size: row.size,
            traceparent: row.traceparent,
        };
        (delivery, row.body)
    }))
}

/// By id, after one of them; bodies are not read.
pub(super) async fn list_after(
    conn: &mut PgConnection,
    after: Option<DeliveryId>,
    limit: i64,
) -> Result<Vec<Delivery>, sqlx::Error> {
    let rows = sqlx::query_as!(
        Row,
        r#"SELECT id, source, source_id, event, received_at AS "received_at: Timestamp",
                  octet_length(body) AS "size!", traceparent
           FROM delivery WHERE id > $1 ORDER BY id LIMIT $2"#,
        after.map_or(Uuid::nil(), DeliveryId::uuid),
        limit
    )
    .fetch_all(conn)
    .await?;
    Ok(rows.into_iter().map(Into::into).collect())
}

/// Forgets at most `limit` that are older than `age`; answers how many.
pub(super) async fn delete_before(
    conn: &mut PgConnection,
    age: Duration,
    limit: i64,
) -> Result<u64, sqlx::Error> {
    let age = PgInterval::try_from(age).map_err(sqlx::Error::Encode)?;
    let done = sqlx::query!(
        "DELETE FROM delivery WHERE id IN (
             SELECT id FROM delivery WHERE received_at < (SELECT clock()) - $1::interval
             ORDER BY received_at LIMIT $2 FOR UPDATE SKIP LOCKED)",
        age,
        limit
    )
    .execute(conn)
    .await?;
    Ok(done.rows_affected())
}
