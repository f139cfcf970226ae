//! Steps that a stop of the line keeps from beginning.

use candlefish_clock::Moment;
use candlefish_ids::SiteId;
use sqlx::PgConnection;

use crate::{ctx::stored, step::Step};

/// Keeps a step that has not begun, or only announced itself, until the stop ends by itself; one that is lifted wakes it before.
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
           AND t.deployment_id = d.id AND t.state = 'ready'
           AND (t.started_at IS NULL OR t.detail ? 'announces')",
        site.map(SiteId::uuid),
        stored(now) as _
    )
    .execute(conn)
    .await?;
    Ok(())
}
