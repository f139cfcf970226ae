//! What waits in an environment.

use candlefish_ids::{DeploymentId, EnvironmentId};
use sqlx::PgConnection;

use crate::ctx::{Tx, stored};

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

/// Whether nothing that comes can be granted in an environment: something acts there, or a hold or a
/// stop keeps it. Needs the lane's lock.
pub(in crate::deployment) async fn is_kept(
    tx: &mut Tx,
    environment: EnvironmentId,
) -> Result<bool, sqlx::Error> {
    let now = tx.now();
    sqlx::query_scalar!(
        r#"SELECT e.hold_by IS NOT NULL
               OR EXISTS (SELECT 1 FROM deployment d WHERE d.environment_id = e.id
                          AND d.state IN ('running', 'waiting', 'cancelling'))
               OR EXISTS (SELECT 1 FROM stop t WHERE t.ended_at IS NULL AND t.until > $2
                          AND (t.site_id = e.site_id OR t.site_id IS NULL)) AS "kept!"
           FROM environment e WHERE e.id = $1"#,
        environment.uuid(),
        stored(now) as _
    )
    .fetch_one(&mut **tx)
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
