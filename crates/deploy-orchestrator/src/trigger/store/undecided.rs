//! Every SQL string about deliveries that are told of, and not decided yet.

use candlefish_clock::Moment;
use jiff_sqlx::Timestamp;
use sqlx::PgConnection;

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

/// Counts them; none when all are decided. A partial index holds what is counted and nothing else.
pub(in crate::trigger) async fn find_undecided(
    conn: &mut PgConnection,
) -> Result<Option<Undecided>, sqlx::Error> {
    let row = sqlx::query!(
        r#"SELECT count(*) AS "count!", min(received_at) AS "since?: Timestamp",
                  coalesce((SELECT note FROM delivery WHERE done_at IS NULL AND attempts > 0
                            ORDER BY retry_at DESC LIMIT 1), '') AS "error!"
           FROM delivery WHERE done_at IS NULL"#
    )
    .fetch_one(conn)
    .await?;
    Ok(row.since.map(|since| Undecided {
        count: row.count,
        since: read(since),
        error: row.error,
    }))
}
