//! What waits in an environment.

use candlefish_ids::{DeploymentId, EnvironmentId};
use sqlx::PgConnection;

/// How many deployments are pending in an environment, counted up to `most`. Needs the lane's lock.
pub(in crate::deployment) async fn count_waiting(
    conn: &mut PgConnection,
    environment: EnvironmentId,
    most: i64,
) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar!(
        r#"SELECT count(*) AS "count!" FROM (
               SELECT 1 FROM deployment WHERE environment_id = $1 AND state = 'pending' LIMIT $2)
               AS waiting"#,
        environment.uuid(),
        most
    )
    .fetch_one(conn)
    .await
}

/// The pending deployment of an environment that was admitted first, and what keeps it, in words that
/// may be empty; none where nothing is pending. Needs the lane's lock.
pub(in crate::deployment) async fn find_oldest_waiting(
    conn: &mut PgConnection,
    environment: EnvironmentId,
) -> Result<Option<(DeploymentId, String)>, sqlx::Error> {
    let row = sqlx::query!(
        r#"SELECT d.id, COALESCE(b.message, '') AS "message!" FROM deployment d
           LEFT JOIN blocker b ON b.deployment_id = d.id AND b.cleared_at IS NULL
           WHERE d.environment_id = $1 AND d.state = 'pending' ORDER BY d.admission LIMIT 1"#,
        environment.uuid()
    )
    .fetch_optional(conn)
    .await?;
    Ok(row.map(|row| (DeploymentId::from_uuid(row.id), row.message)))
}
