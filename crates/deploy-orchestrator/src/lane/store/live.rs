//! What becomes of several lanes whose turns share a transaction.

use std::time::Duration;

use candlefish_clock::Moment;
use candlefish_ids::EnvironmentId;
use serde::Serialize;
use sqlx::{PgConnection, types::Json};
use uuid::Uuid;

use crate::{ctx::stored, deployment::Deployment};

/// A deployment whose release is its environment's from now on, and who asked for it.
#[derive(Debug, Serialize)]
pub(crate) struct WentLive {
    environment: Uuid,
    site: Uuid,
    release: Uuid,
    deployment: Uuid,
    by: String,
    reason: String,
}

impl WentLive {
    pub(crate) fn of(deployment: &Deployment) -> Self {
        Self {
            environment: deployment.environment_id.uuid(),
            site: deployment.site_id.uuid(),
            release: deployment.release_id.uuid(),
            deployment: deployment.id.uuid(),
            by: deployment.created_by.clone(),
            reason: deployment.reason.clone(),
        }
    }
}

/// How long a deployment acted that went live, in the lane of this environment.
#[derive(Debug, Serialize)]
pub(crate) struct Lasted {
    environment: Uuid,
    lasted_ms: i64,
}

impl Lasted {
    pub(crate) fn new(environment: EnvironmentId, lasted: Duration) -> Self {
        Self {
            environment: environment.uuid(),
            lasted_ms: i64::try_from(lasted.as_millis()).unwrap_or(i64::MAX / 4),
        }
    }
}

/// Each one's release is its environment's now, unless that was closed meanwhile, as
/// [`super::set_live`] says of one that is no rollback.
pub(crate) async fn set_live_each(
    conn: &mut PgConnection,
    now: Moment,
    live: &[WentLive],
) -> Result<(), sqlx::Error> {
    let ids: Vec<Uuid> = live.iter().map(|one| one.environment).collect();
    // By the ids as well: of the JSON the planner expects so many that it would read the whole table.
    sqlx::query!(
        "UPDATE environment e SET live_release_id = n.release, live_deployment_id = n.deployment,
             live_since = $2, version = e.version + 1
         FROM jsonb_to_recordset($1::jsonb) AS n(environment uuid, release uuid, deployment uuid)
         WHERE e.id = ANY((SELECT $3::uuid[])::uuid[]) AND e.id = n.environment
           AND e.closed_at IS NULL",
        Json(live) as _,
        stored(now) as _,
        &ids
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Remembers how long each acted, as [`super::note_lasted`] does of one.
pub(crate) async fn note_lasted_each(
    conn: &mut PgConnection,
    lasted: &[Lasted],
) -> Result<(), sqlx::Error> {
    let ids: Vec<Uuid> = lasted.iter().map(|one| one.environment).collect();
    sqlx::query!(
        "UPDATE lane l SET lasts_ms = (3 * coalesce(l.lasts_ms, n.lasted_ms) + n.lasted_ms) / 4
         FROM jsonb_to_recordset($1::jsonb) AS n(environment uuid, lasted_ms bigint)
         WHERE l.environment_id = ANY((SELECT $2::uuid[])::uuid[])
           AND l.environment_id = n.environment",
        Json(lasted) as _,
        &ids
    )
    .execute(conn)
    .await?;
    Ok(())
}
