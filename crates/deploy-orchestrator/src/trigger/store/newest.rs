//! The newest push that is known of a branch.

use candlefish_ids::EnvironmentId;
use sqlx::PgConnection;

/// A push that is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::trigger) struct Known {
    pub(in crate::trigger) commit: String,
    pub(in crate::trigger) pushed_at: Option<i64>,
}

/// The newest push to a branch that was decided in an environment, by the sender's clock.
pub(in crate::trigger) async fn find_newest_push(
    conn: &mut PgConnection,
    environment: EnvironmentId,
    branch: &str,
) -> Result<Option<Known>, sqlx::Error> {
    sqlx::query_as!(
        Known,
        "SELECT commit, pushed_at FROM trigger WHERE environment_id = $1 AND branch = $2
         ORDER BY pushed_at DESC NULLS LAST, id DESC LIMIT 1",
        environment.uuid(),
        branch
    )
    .fetch_optional(conn)
    .await
}
