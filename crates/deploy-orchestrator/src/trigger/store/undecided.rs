//! Every SQL string about deliveries that came, and are not decided yet.

use std::collections::HashSet;

use candlefish_clock::Moment;
use candlefish_ids::DeliveryId;
use jiff_sqlx::Timestamp;
use sqlx::PgConnection;
use uuid::Uuid;

use crate::ctx::read;

/// Deliveries of which nobody can say yet what became of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::trigger) struct Undecided {
    pub(in crate::trigger) count: i64,
    /// When the oldest came.
    pub(in crate::trigger) since: Moment,
    /// Why the one that was tried last is not decided; empty before the first failure.
    pub(in crate::trigger) error: String,
}

/// The delivery that so many newer ones follow here; none where there are fewer.
pub(in crate::trigger) async fn find_before_newest(
    conn: &mut PgConnection,
    newer: i64,
) -> Result<Option<DeliveryId>, sqlx::Error> {
    let id = sqlx::query_scalar!(
        "SELECT id FROM delivery ORDER BY id DESC LIMIT 1 OFFSET $1",
        newer
    )
    .fetch_optional(conn)
    .await?;
    Ok(id.map(DeliveryId::from_uuid))
}

/// Counts them, and those of the gateway's that are not known here; none when all are decided. A partial
/// index holds what is counted here and nothing else.
pub(in crate::trigger) async fn find_undecided(
    conn: &mut PgConnection,
    stored: &[(DeliveryId, Moment)],
) -> Result<Option<Undecided>, sqlx::Error> {
    let ids: Vec<Uuid> = stored.iter().map(|(id, _)| id.uuid()).collect();
    // One statement: what becomes known at this moment counts once.
    let row = sqlx::query!(
        r#"SELECT count(*) AS "count!", min(received_at) AS "since?: Timestamp",
                  coalesce((SELECT note FROM delivery WHERE done_at IS NULL AND attempts > 0
                            ORDER BY retry_at DESC LIMIT 1), '') AS "error!",
                  ARRAY(SELECT n.id FROM unnest($1::uuid[]) AS n (id)
                        WHERE NOT EXISTS (SELECT 1 FROM delivery d WHERE d.id = n.id)) AS "unheard!"
           FROM delivery WHERE done_at IS NULL"#,
        &ids
    )
    .fetch_one(conn)
    .await?;
    let unheard: HashSet<Uuid> = row.unheard.into_iter().collect();
    let count = i64::try_from(unheard.len()).unwrap_or(i64::MAX);
    let came = stored
        .iter()
        .filter(|(id, _)| unheard.contains(&id.uuid()))
        .map(|(_, at)| *at);
    let since = came.chain(row.since.map(read)).min();
    Ok(since.map(|since| Undecided {
        count: row.count.saturating_add(count),
        since,
        error: row.error,
    }))
}
