//! Every SQL string about the lane's own row.

use std::{collections::HashMap, time::Duration};

use candlefish_ids::{DeploymentId, EnvironmentId, ReleaseId};
use jiff_sqlx::Timestamp;
use sqlx::PgConnection;
use uuid::Uuid;

use crate::{
    ctx::{Tx, read, stored},
    deployment::{Deployment, plan::Kind},
    github,
};

mod kept;
mod live;
mod seen;

pub(crate) use kept::{find_kept, select_kept};
pub(crate) use live::{Lasted, WentLive, note_lasted_each, set_live_each};
pub(crate) use seen::{
    Contenders, Related, Setting, find_head, list_contenders, list_descents, list_heads,
    list_settings,
};

/// A locked lane.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Lane {
    pub(crate) environment_id: EnvironmentId,
    pub(crate) fence: i64,
    pub(crate) superseded_in_row: i32,
    /// Its environment is closed: nothing is granted any more.
    pub(crate) closed: bool,
}

/// Locks a lane and then reads the clock: the beginning of every command.
pub(crate) async fn lock(tx: &mut Tx, environment: EnvironmentId) -> Result<Lane, sqlx::Error> {
    // The clock is read of what is locked already: after the wait, not before. The advisory lock is
    // the gate that a stop of the line closes (`stop::store`): passed with the lane, so that what is
    // read from here on knows of every stop that was answered.
    let row = sqlx::query!(
        r#"WITH locked AS MATERIALIZED (
               SELECT fence, superseded_in_row, closed FROM lane WHERE environment_id = $1 FOR UPDATE)
           SELECT fence, superseded_in_row, closed, clock() AS "now!: Timestamp" FROM locked
           WHERE pg_advisory_xact_lock_shared(4001) IS NOT NULL"#,
        environment.uuid()
    )
    .fetch_one(&mut **tx)
    .await?;
    tx.set_clock(read(row.now));
    Ok(Lane {
        environment_id: environment,
        fence: row.fence,
        superseded_in_row: row.superseded_in_row,
        closed: row.closed,
    })
}

/// Locks several lanes, always in the same order, and then reads the clock.
pub(crate) async fn lock_each(
    tx: &mut Tx,
    environments: &[EnvironmentId],
) -> Result<Vec<Lane>, sqlx::Error> {
    let ids: Vec<Uuid> = environments.iter().map(|id| id.uuid()).collect();
    // The gate comes after every lane, as in `lock`: whoever waits for a lane inside the gate, with
    // a stop before it and the lane's holder behind the stop, would wait for ever.
    let rows = sqlx::query!(
        r#"WITH locked AS MATERIALIZED (
               SELECT environment_id, fence, superseded_in_row, closed FROM lane
               WHERE environment_id = ANY((SELECT $1::uuid[])::uuid[])
               ORDER BY environment_id FOR UPDATE),
           gate AS MATERIALIZED (
               SELECT pg_advisory_xact_lock_shared(4001) AS passed
               FROM (SELECT count(*) FROM locked) AS every)
           SELECT environment_id, fence, superseded_in_row, closed, clock() AS "now!: Timestamp"
           FROM gate CROSS JOIN locked WHERE gate.passed IS NOT NULL"#,
        &ids
    )
    .fetch_all(&mut **tx)
    .await?;
    if let Some(last) = rows.last() {
        tx.set_clock(read(last.now));
    }
    Ok(rows
        .into_iter()
        .map(|row| Lane {
            environment_id: EnvironmentId::from_uuid(row.environment_id),
            fence: row.fence,
            superseded_in_row: row.superseded_in_row,
            closed: row.closed,
        })
        .collect())
}

/// Raises the fence; what acted under the one before can act no more.
pub(crate) async fn raise_fence(
    conn: &mut PgConnection,
    lane: &mut Lane,
) -> Result<(), sqlx::Error> {
    lane.fence = sqlx::query_scalar!(
        "UPDATE lane SET fence = fence + 1 WHERE environment_id = $1 RETURNING fence",
        lane.environment_id.uuid()
    )
    .fetch_one(conn)
    .await?;
    Ok(())
}

/// Raises the fences of several lanes.
pub(crate) async fn raise_fence_each(
    conn: &mut PgConnection,
    lanes: &mut [&mut Lane],
) -> Result<(), sqlx::Error> {
    let ids: Vec<Uuid> = lanes
        .iter()
        .map(|lane| lane.environment_id.uuid())
        .collect();
    let rows = sqlx::query!(
        "UPDATE lane SET fence = fence + 1
         WHERE environment_id = ANY((SELECT $1::uuid[])::uuid[]) RETURNING environment_id, fence",
        &ids
    )
    .fetch_all(conn)
    .await?;
    for lane in lanes {
        let id = lane.environment_id.uuid();
        let row = rows.iter().find(|row| row.environment_id == id);
        lane.fence = row.ok_or(sqlx::Error::RowNotFound)?.fence;
    }
    Ok(())
}

/// Counts acting deployments that were superseded in a row; zero begins anew.
pub(crate) async fn save_superseded_in_row(
    conn: &mut PgConnection,
    lane: &mut Lane,
    count: i32,
) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "UPDATE lane SET superseded_in_row = $2 WHERE environment_id = $1",
        lane.environment_id.uuid(),
        count
    )
    .execute(conn)
    .await?;
    lane.superseded_in_row = count;
    Ok(())
}

/// Remembers how long a deployment acted that went live: a quarter of what the next one is thought to
/// take.
pub(crate) async fn note_lasted(
    conn: &mut PgConnection,
    environment: EnvironmentId,
    lasted: Duration,
) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "UPDATE lane SET lasts_ms = (3 * coalesce(lasts_ms, $2) + $2) / 4 WHERE environment_id = $1",
        environment.uuid(),
        i64::try_from(lasted.as_millis()).unwrap_or(i64::MAX / 4)
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Makes the lane of a new environment.
pub(crate) async fn insert(
    conn: &mut PgConnection,
    environment: EnvironmentId,
) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "INSERT INTO lane (environment_id) VALUES ($1)",
        environment.uuid()
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Locks a lane unless somebody holds it: for workers, who come again.
pub(crate) async fn try_lock(
    tx: &mut Tx,
    environment: EnvironmentId,
) -> Result<Option<Lane>, sqlx::Error> {
    let row = sqlx::query!(
        r#"WITH locked AS MATERIALIZED (
               SELECT fence, superseded_in_row, closed FROM lane WHERE environment_id = $1
               FOR UPDATE SKIP LOCKED)
           SELECT fence, superseded_in_row, closed, clock() AS "now!: Timestamp" FROM locked
           WHERE pg_advisory_xact_lock_shared(4001) IS NOT NULL"#,
        environment.uuid()
    )
    .fetch_optional(&mut **tx)
    .await?;
    let Some(row) = row else { return Ok(None) };
    tx.set_clock(read(row.now));
    Ok(Some(Lane {
        environment_id: environment,
        fence: row.fence,
        superseded_in_row: row.superseded_in_row,
        closed: row.closed,
    }))
}

/// Locks those of several lanes that nobody holds, always in the same order, and then reads the clock.
pub(crate) async fn try_lock_each(
    tx: &mut Tx,
    environments: &[EnvironmentId],
) -> Result<Vec<Lane>, sqlx::Error> {
    let ids: Vec<Uuid> = environments.iter().map(|id| id.uuid()).collect();
    // The gate after every lane, as in `lock_each`. The array is hidden from the planner, which would
    // plan anew for each.
    let rows = sqlx::query!(
        r#"WITH locked AS MATERIALIZED (
               SELECT environment_id, fence, superseded_in_row, closed FROM lane
               WHERE environment_id = ANY((SELECT $1::uuid[])::uuid[])
               ORDER BY environment_id FOR UPDATE SKIP LOCKED),
           gate AS MATERIALIZED (
               SELECT pg_advisory_xact_lock_shared(4001) AS passed
               FROM (SELECT count(*) FROM locked) AS every)
           SELECT environment_id, fence, superseded_in_row, closed, clock() AS "now!: Timestamp"
           FROM gate CROSS JOIN locked WHERE gate.passed IS NOT NULL"#,
        &ids
    )
    .fetch_all(&mut **tx)
    .await?;
    if let Some(last) = rows.last() {
        tx.set_clock(read(last.now));
    }
    Ok(rows
        .into_iter()
        .map(|row| Lane {
            environment_id: EnvironmentId::from_uuid(row.environment_id),
            fence: row.fence,
            superseded_in_row: row.superseded_in_row,
            closed: row.closed,
        })
        .collect())
}

/// What is live in an environment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LiveRelease {
    pub(crate) release_id: ReleaseId,
    pub(crate) deployment_id: Option<DeploymentId>,
    pub(crate) commit: String,
}

/// The live release of an environment; none before the first.
pub(crate) async fn find_live(
    conn: &mut PgConnection,
    environment: EnvironmentId,
) -> Result<Option<LiveRelease>, sqlx::Error> {
    let row = sqlx::query!(
        "SELECT r.id, e.live_deployment_id, r.commit
         FROM environment e JOIN release r ON r.id = e.live_release_id WHERE e.id = $1",
        environment.uuid()
    )
    .fetch_optional(conn)
    .await?;
    Ok(row.map(|row| LiveRelease {
        release_id: ReleaseId::from_uuid(row.id),
        deployment_id: row.live_deployment_id.map(DeploymentId::from_uuid),
        commit: row.commit,
    }))
}

/// The live releases of several environments; those without one are left out.
pub(crate) async fn list_live(
    conn: &mut PgConnection,
    environments: &[EnvironmentId],
) -> Result<HashMap<EnvironmentId, LiveRelease>, sqlx::Error> {
    let ids: Vec<Uuid> = environments.iter().map(|id| id.uuid()).collect();
    let rows = sqlx::query!(
        "SELECT e.id AS environment_id, r.id, e.live_deployment_id, r.commit
         FROM environment e JOIN release r ON r.id = e.live_release_id
         WHERE e.id = ANY((SELECT $1::uuid[])::uuid[])",
        &ids
    )
    .fetch_all(conn)
    .await?;
    let live = rows.into_iter().map(|row| {
        let live = LiveRelease {
            release_id: ReleaseId::from_uuid(row.id),
            deployment_id: row.live_deployment_id.map(DeploymentId::from_uuid),
            commit: row.commit,
        };
        (EnvironmentId::from_uuid(row.environment_id), live)
    });
    Ok(live.collect())
}

/// The deployment's release is the environment's now, unless that was closed meanwhile.
pub(crate) async fn set_live(tx: &mut Tx, deployment: &Deployment) -> Result<(), sqlx::Error> {
    let now = tx.now();
    sqlx::query!(
        "UPDATE environment SET live_release_id = $2, live_deployment_id = $3, live_since = $4,
             version = version + 1
         WHERE id = $1 AND closed_at IS NULL",
        deployment.environment_id.uuid(),
        deployment.release_id.uuid(),
        deployment.id.uuid(),
        stored(now) as _
    )
    .execute(&mut **tx)
    .await?;
    if deployment.kind == Kind::Rollback {
        github::write::tell_live_again(tx, deployment.environment_id).await?;
    }
    Ok(())
}

/// The release before is the environment's again, if the deployment had made its own so, or what it
/// preempted had. It is live by the last deployment that made it so and was not undone: also by a
/// rollback that failed past its pivot, which stayed live, or by one that gave way to a rollback.
/// Without a name the lane would not know its commit.
pub(crate) async fn restore_live(tx: &mut Tx, deployment: &Deployment) -> Result<(), sqlx::Error> {
    let now = tx.now();
    let previous = deployment.previous_release_id.map(ReleaseId::uuid);
    let restored = sqlx::query!(
        "UPDATE environment SET live_release_id = $3, version = version + 1,
             live_since = CASE WHEN $3::uuid IS NULL THEN NULL ELSE $4::timestamptz END,
             live_deployment_id = (
                 SELECT id FROM deployment
                 WHERE environment_id = $1 AND release_id = $3 AND id <> $2
                   AND target_confirmed IS NULL
                   AND (live_at IS NOT NULL OR kind = 'rollback' AND pivoted_at IS NOT NULL)
                 ORDER BY admission DESC LIMIT 1)
         WHERE id = $1 AND (live_deployment_id = $2 OR live_release_id IS DISTINCT FROM $3)",
        deployment.environment_id.uuid(),
        deployment.id.uuid(),
        previous,
        stored(now) as _
    )
    .execute(&mut **tx)
    .await?;
    if restored.rows_affected() == 1 {
        github::write::tell_live_again(tx, deployment.environment_id).await?;
    }
    Ok(())
}

/// Lanes after one, by id, that may have missed something: where what is pending has its content and
/// nothing acts or keeps it, or still says that its content is missing; where its release is banned,
/// or that of what acts and is not live; and where it names a hold or a stop, though none keeps it,
/// or another one for longer. One that is rightly kept is not there: there may be thousands.
pub(crate) async fn list_unheard(
    conn: &mut PgConnection,
    after: Option<EnvironmentId>,
    limit: i64,
) -> Result<Vec<EnvironmentId>, sqlx::Error> {
    let ids = sqlx::query_scalar!(
        r#"SELECT environment_id AS "environment_id!" FROM (
             SELECT p.environment_id FROM deployment p
             JOIN release r ON r.id = p.release_id
             LEFT JOIN blocker b ON b.deployment_id = p.id AND b.cleared_at IS NULL
             WHERE p.state = 'pending' AND p.environment_id > $1 AND (
                 r.state = 'sealed' AND b.kind = 'content'
                 OR r.state = 'sealed'
                    AND (p.kind = 'rollback' OR b.kind IS NULL OR b.kind NOT IN ('hold', 'stop'))
                    AND NOT EXISTS (
                        SELECT 1 FROM deployment a WHERE a.environment_id = p.environment_id
                        AND a.state IN ('running', 'waiting', 'cancelling'))
                 OR EXISTS (SELECT 1 FROM ban x WHERE x.release_id = r.id AND x.cleared_at IS NULL)
                 OR b.kind = 'hold' AND EXISTS (
                     SELECT 1 FROM environment e
                     WHERE e.id = p.environment_id AND e.hold_by IS NULL)
                 OR b.kind = 'stop' AND b.until IS DISTINCT FROM (
                     SELECT max(t.until) FROM stop t WHERE t.ended_at IS NULL
                     AND t.until > (SELECT clock())
                     AND (t.site_id = p.site_id OR t.site_id IS NULL)))
             UNION
             SELECT a.environment_id FROM deployment a
             JOIN ban x ON x.release_id = a.release_id AND x.cleared_at IS NULL
             WHERE a.state IN ('running', 'waiting') AND a.live_at IS NULL
               AND a.kind <> 'rollback' AND a.environment_id > $1) AS unheard
           ORDER BY environment_id LIMIT $2"#,
        after.map_or(Uuid::nil(), EnvironmentId::uuid),
        limit
    )
    .fetch_all(conn)
    .await?;
    Ok(ids.into_iter().map(EnvironmentId::from_uuid).collect())
}

/// Lanes where a deployment of this release is pending.
pub(crate) async fn list_waiting_for_content(
    conn: &mut PgConnection,
    release: ReleaseId,
) -> Result<Vec<EnvironmentId>, sqlx::Error> {
    let ids = sqlx::query_scalar!(
        "SELECT DISTINCT environment_id FROM deployment
         WHERE release_id = $1 AND state = 'pending' ORDER BY environment_id",
        release.uuid()
    )
    .fetch_all(conn)
    .await?;
    Ok(ids.into_iter().map(EnvironmentId::from_uuid).collect())
}

/// Lanes that must choose when a release got its content or was banned: where a deployment of it is
/// pending, or acts and is not live.
pub(crate) async fn list_concerned(
    conn: &mut PgConnection,
    release: ReleaseId,
) -> Result<Vec<EnvironmentId>, sqlx::Error> {
    let ids = sqlx::query_scalar!(
        "SELECT DISTINCT environment_id FROM deployment
         WHERE release_id = $1 AND (state = 'pending'
               OR state IN ('running', 'waiting') AND live_at IS NULL)
         ORDER BY environment_id",
        release.uuid()
    )
    .fetch_all(conn)
    .await?;
    Ok(ids.into_iter().map(EnvironmentId::from_uuid).collect())
}
