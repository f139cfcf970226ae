//! Counting what stands; each count has a partial index that holds what it counts and nothing else.

use sqlx::PgConnection;

/// What stands now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Standing {
    pub(super) active: i64,
    pub(super) pending: i64,
    pub(super) quarantined: i64,
    pub(super) dead_letters: i64,
    /// That webhooks told, and that are not decided yet.
    pub(super) deliveries: i64,
}

pub(super) async fn count(conn: &mut PgConnection) -> Result<Standing, sqlx::Error> {
    sqlx::query_as!(
        Standing,
        r#"SELECT (SELECT count(*) FROM deployment
                   WHERE state IN ('running', 'waiting', 'cancelling')) AS "active!",
                  (SELECT count(*) FROM deployment WHERE state = 'pending') AS "pending!",
                  (SELECT count(*) FROM step WHERE state = 'quarantined') AS "quarantined!",
                  (SELECT count(*) FROM dead_letter
                   WHERE state IN ('parked', 'replaying')) AS "dead_letters!",
                  (SELECT count(*) FROM delivery WHERE done_at IS NULL) AS "deliveries!""#
    )
    .fetch_one(conn)
    .await
}
