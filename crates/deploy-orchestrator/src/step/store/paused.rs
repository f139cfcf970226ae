//! Steps that a stop of the line keeps from beginning.

use candlefish_clock::Moment;
use candlefish_ids::{EnvironmentId, SiteId};
use sqlx::PgConnection;
use uuid::Uuid;

use crate::{ctx::stored, step::Step};

/// Keeps a step that has not begun until the stop ends by itself; one that is lifted wakes it before.
pub(crate) async fn pause(
    conn: &mut PgConnection,
    step: &Step,
    until: Moment,
) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "UPDATE step SET run_at = $2 WHERE id = $1",
        step.id.uuid(),
        stored(until) as _
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Makes due what a stop of this scope kept; each looks again whether another one keeps it.
pub(crate) async fn wake(
    conn: &mut PgConnection,
    now: Moment,
    site: Option<SiteId>,
) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "UPDATE step t SET run_at = LEAST(t.run_at, $2) FROM blocker b, deployment d
         WHERE b.kind = 'stop' AND b.cleared_at IS NULL AND d.id = b.deployment_id
           AND d.state = 'waiting' AND ($1::uuid IS NULL OR d.site_id = $1)
           AND t.deployment_id = d.id AND t.state = 'ready' AND t.started_at IS NULL",
        site.map(SiteId::uuid),
        stored(now) as _
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Lanes after one, by id, where something pending still says that a stop keeps it although none
/// does.
pub(crate) async fn list_left(
    conn: &mut PgConnection,
    after: Option<EnvironmentId>,
    limit: i64,
) -> Result<Vec<EnvironmentId>, sqlx::Error> {
    let ids = sqlx::query_scalar!(
        "SELECT DISTINCT d.environment_id FROM blocker b JOIN deployment d ON d.id = b.deployment_id
         WHERE b.kind = 'stop' AND b.cleared_at IS NULL AND d.state = 'pending'
           AND d.environment_id > $1
           AND NOT EXISTS (SELECT 1 FROM stop t WHERE t.ended_at IS NULL
                           AND t.until > (SELECT clock())
                           AND (t.site_id = d.site_id OR t.site_id IS NULL))
         ORDER BY d.environment_id LIMIT $2",
        after.map_or(Uuid::nil(), EnvironmentId::uuid),
        limit
    )
    .fetch_all(conn)
    .await?;
    Ok(ids.into_iter().map(EnvironmentId::from_uuid).collect())
}
