//! Deployments that wait for the content of their release.

use candlefish_ids::{DeploymentId, EnvironmentId, ReleaseId};
use sqlx::PgConnection;

/// What is pending on a lane with a release that is not whole. Needs the lane's lock.
pub(in crate::deployment) async fn list_without_content(
    conn: &mut PgConnection,
    environment: EnvironmentId,
    release: ReleaseId,
) -> Result<Vec<DeploymentId>, sqlx::Error> {
    let ids = sqlx::query_scalar!(
        "SELECT d.id FROM deployment d JOIN release r ON r.id = d.release_id
         WHERE d.environment_id = $1 AND d.release_id = $2 AND d.state = 'pending'
           AND r.state <> 'sealed' ORDER BY d.id",
        environment.uuid(),
        release.uuid()
    )
    .fetch_all(conn)
    .await?;
    Ok(ids.into_iter().map(DeploymentId::from_uuid).collect())
}

/// Gives what is pending on a lane with one release another. Needs the lane's lock.
pub(in crate::deployment) async fn replace_release(
    conn: &mut PgConnection,
    environment: EnvironmentId,
    before: ReleaseId,
    after: ReleaseId,
) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "UPDATE deployment SET release_id = $3, version = version + 1
         WHERE environment_id = $1 AND release_id = $2 AND state = 'pending'",
        environment.uuid(),
        before.uuid(),
        after.uuid()
    )
    .execute(conn)
    .await?;
    Ok(())
}
