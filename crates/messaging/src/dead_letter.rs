//! Messages that could not be applied, until a person decides.
//!
//! ```text
//! parked ──replay──▶ replaying ──applied──▶ replayed
//!   │  ▲─────────────────┘ failed again
//!   └──discard──▶ discarded
//! ```

use candlefish_clock::Moment;
use candlefish_ids::DeadLetterId;
use jiff_sqlx::{Timestamp, ToSqlx};
use sqlx::PgConnection;
use uuid::Uuid;

/// One message that waits for a person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetter {
    /// Its id.
    pub id: DeadLetterId,
    /// Who could not apply it.
    pub consumer: String,
    /// Whose event it is.
    pub source: String,
    /// Its epoch; 0 when it could not be told.
    pub epoch: i32,
    /// Its number; 0 when it could not be told.
    pub seq: i64,
    /// The event's type, or its subject when it could not be read.
    pub event_type: String,
    /// The message as it came.
    pub payload: Vec<u8>,
    /// Why it could not be applied, last.
    pub error: String,
    /// How often that was tried.
    pub deliveries: i32,
    /// Since when it waits.
    pub since: Moment,
}

#[derive(Debug)]
struct Row {
    id: Uuid,
    consumer: String,
    source: String,
    epoch: i32,
    seq: i64,
    event_type: String,
    payload: Vec<u8>,
    error: String,
    deliveries: i32,
    created_at: Timestamp,
}

impl From<Row> for DeadLetter {
    fn from(row: Row) -> Self {
        Self {
            id: DeadLetterId::from_uuid(row.id),
            consumer: row.consumer,
            source: row.source,
            epoch: row.epoch,
            seq: row.seq,
            event_type: row.event_type,
            payload: row.payload,
            error: row.error,
            deliveries: row.deliveries,
            since: Moment::from_database(row.created_at.to_jiff()),
        }
    }
}

/// Which of those that wait are wanted; all when nothing is said.
#[derive(Debug, Clone, Copy, Default)]
pub struct Wanted<'a> {
    /// Of this consumer alone; empty for all.
    pub consumer: &'a str,
    /// With this text in the error; empty for all.
    pub error: &'a str,
}

/// What waits and is wanted, oldest first, after `after`.
pub async fn list(
    conn: &mut PgConnection,
    wanted: Wanted<'_>,
    after: Option<DeadLetterId>,
    limit: i64,
) -> Result<Vec<DeadLetter>, sqlx::Error> {
    let rows = sqlx::query_as!(
        Row,
        r#"SELECT id, consumer, source, epoch, seq, event_type, payload, error, deliveries,
                  created_at AS "created_at: Timestamp"
           FROM dead_letter
           WHERE state IN ('parked', 'replaying') AND ($1::uuid IS NULL OR id > $1)
             AND ($3::text = '' OR consumer = $3) AND position($4::text IN error) > 0
           ORDER BY id LIMIT $2"#,
        after.map(DeadLetterId::uuid),
        limit,
        wanted.consumer,
        wanted.error
    )
    .fetch_all(conn)
    .await?;
    Ok(rows.into_iter().map(DeadLetter::from).collect())
}

/// What a person decides about a dead letter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// Try it again; the consumer does so at its next round.
    Replay,
    /// Give it up.
    Discard,
}

/// Records a decision about one that is parked; nothing when there is none.
pub async fn decide(
    conn: &mut PgConnection,
    now: Moment,
    id: DeadLetterId,
    decision: Decision,
    by: &str,
    reason: &str,
) -> Result<Option<DeadLetter>, sqlx::Error> {
    let state = match decision {
        Decision::Replay => "replaying",
        Decision::Discard => "discarded",
    };
    let row = sqlx::query_as!(
        Row,
        r#"UPDATE dead_letter SET state = $2, decided_by = $3, reason = $4, decided_at = $5
           WHERE id = $1 AND state = 'parked'
           RETURNING id, consumer, source, epoch, seq, event_type, payload, error, deliveries,
                     created_at AS "created_at: Timestamp""#,
        id.uuid(),
        state,
        by,
        reason,
        now.timestamp().to_sqlx() as _,
    )
    .fetch_optional(conn)
    .await?;
    Ok(row.map(DeadLetter::from))
}

/// A message to park.
#[derive(Debug)]
pub(crate) struct Parked<'a> {
    pub(crate) consumer: &'a str,
    pub(crate) source: &'a str,
    pub(crate) epoch: i32,
    pub(crate) seq: i64,
    pub(crate) event_type: &'a str,
    pub(crate) payload: &'a [u8],
    pub(crate) error: &'a str,
    pub(crate) deliveries: i32,
}

pub(crate) async fn park(conn: &mut PgConnection, letter: Parked<'_>) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "INSERT INTO dead_letter
             (id, consumer, source, epoch, seq, event_type, payload, error, deliveries, created_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, clock())",
        DeadLetterId::new().uuid(),
        letter.consumer,
        letter.source,
        letter.epoch,
        letter.seq,
        letter.event_type,
        letter.payload,
        letter.error,
        letter.deliveries
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Locks one letter of the consumer that is to be tried again.
pub(crate) async fn next_replay(
    conn: &mut PgConnection,
    consumer: &str,
) -> Result<Option<DeadLetter>, sqlx::Error> {
    let row = sqlx::query_as!(
        Row,
        r#"SELECT id, consumer, source, epoch, seq, event_type, payload, error, deliveries,
                  created_at AS "created_at: Timestamp"
           FROM dead_letter WHERE state = 'replaying' AND consumer = $1
           ORDER BY id LIMIT 1 FOR UPDATE SKIP LOCKED"#,
        consumer
    )
    .fetch_optional(conn)
    .await?;
    Ok(row.map(DeadLetter::from))
}

/// Records how the new try ended.
pub(crate) async fn replayed(
    conn: &mut PgConnection,
    id: DeadLetterId,
    error: Option<&str>,
) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "UPDATE dead_letter SET state = CASE WHEN $2::text IS NULL THEN 'replayed' ELSE 'parked' END,
             error = coalesce($2, error), deliveries = deliveries + 1
         WHERE id = $1",
        id.uuid(),
        error
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// How many wait.
pub(crate) async fn count(conn: &mut PgConnection, consumer: &str) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar!(
        r#"SELECT count(*) AS "count!" FROM dead_letter
           WHERE state IN ('parked', 'replaying') AND consumer = $1"#,
        consumer
    )
    .fetch_one(conn)
    .await
}
