//! Which steps are due.

use std::time::Duration;

use candlefish_ids::{DeploymentId, EnvironmentId, StepId};
use sqlx::PgConnection;
use uuid::Uuid;

use crate::{deployment::plan::PLAN_VERSION, edge::store::LIVE_FOR_MS, step::worker::News};

/// A step that is due, and where it belongs.
#[derive(Debug, Clone, Copy)]
#[expect(clippy::struct_excessive_bools, reason = "each is a claim of its row")]
pub(crate) struct Due {
    pub(crate) step_id: StepId,
    pub(crate) deployment_id: DeploymentId,
    pub(crate) environment_id: EnvironmentId,
    /// Due before its time, because an edge reported what it may be waiting for.
    pub(crate) edges_reported: bool,
    /// It undoes something, or its worker was lost: nothing that shares a transaction.
    pub(crate) is_lone: bool,
    /// It lost two workers.
    pub(crate) is_suspect: bool,
    /// It sends visitors back: it undoes something, or is a rollback's.
    pub(crate) returns: bool,
}

/// Steps that are due: ready ones whose time has come, and claimed ones whose lease ran out. Nothing
/// is locked; the turn itself looks again.
///
/// One that lost workers is left to an idle worker, so that it takes no other's work with it; after
/// `suspect_patience` it is anybody's, for a busy system has no idle worker.
pub(crate) async fn list_due(
    conn: &mut PgConnection,
    kinds: &[String],
    worker_is_idle: bool,
    suspect_patience: Duration,
    limit: i64,
) -> Result<Vec<Due>, sqlx::Error> {
    let rows = sqlx::query!(
        r#"SELECT s.id, s.deployment_id, d.environment_id,
                s.undo_of IS NOT NULL OR s.state = 'running' AS "is_lone!",
                s.lost_leases >= 2 AS "is_suspect!",
                s.undo_of IS NOT NULL OR d.kind = 'rollback' AS "returns!"
         FROM step s JOIN deployment d ON d.id = s.deployment_id
         WHERE s.state IN ('ready', 'running')
           AND s.run_at <= (SELECT clock())
           AND (s.state = 'ready' OR s.lease_until < (SELECT clock()))
           AND s.kind = ANY($1) AND s.plan_version <= $2
           AND (s.lost_leases < 2 OR $3
                OR GREATEST(s.run_at, s.lease_until)
                   < (SELECT clock()) - $5::bigint * interval '1 millisecond')
         ORDER BY s.run_at LIMIT $4"#,
        kinds,
        PLAN_VERSION,
        worker_is_idle,
        limit,
        i64::try_from(suspect_patience.as_millis()).unwrap_or(i64::MAX)
    )
    .fetch_all(conn)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| Due {
            step_id: StepId::from_uuid(row.id),
            deployment_id: DeploymentId::from_uuid(row.deployment_id),
            environment_id: EnvironmentId::from_uuid(row.environment_id),
            edges_reported: false,
            is_lone: row.is_lone,
            is_suspect: row.is_suspect,
            returns: row.returns,
        })
        .collect())
}

/// How long it is until a step is due that is not yet; none when that is not `within` this time.
pub(crate) async fn next_due_in(
    conn: &mut PgConnection,
    within: Duration,
) -> Result<Option<Duration>, sqlx::Error> {
    let left = sqlx::query_scalar!(
        "SELECT ceil(extract(epoch FROM min(run_at) - (SELECT clock())) * 1000)::bigint FROM step
         WHERE state IN ('ready', 'running') AND run_at > (SELECT clock())
           AND run_at < (SELECT clock()) + $1::bigint * interval '1 millisecond'",
        i64::try_from(within.as_millis()).unwrap_or(i64::MAX)
    )
    .fetch_one(conn)
    .await?;
    Ok(left.map(|left| Duration::from_millis(u64::try_from(left).unwrap_or(0))))
}

/// Steps that wait for edges, of the deployments that a report concerns: a report about one lane
/// gives the others no turn. Nor does one of an edge while another still lacks what the step wrote:
/// the turn would wait for that one, whose report comes, or for its own poll.
pub(crate) async fn list_reported(
    conn: &mut PgConnection,
    kinds: &[String],
    news: &News,
    limit: i64,
) -> Result<Vec<Due>, sqlx::Error> {
    let deployments: Vec<Uuid> = news.deployments.iter().map(|id| id.uuid()).collect();
    let environments: Vec<Uuid> = news.environments.iter().map(|id| id.uuid()).collect();
    let releases: Vec<Uuid> = news.releases.iter().map(|id| id.uuid()).collect();
    let rows = sqlx::query!(
        r#"SELECT s.id, d.id AS deployment_id, d.environment_id, s.undo_of IS NOT NULL AS "is_lone!",
                  s.lost_leases >= 2 AS "is_suspect!",
                  s.undo_of IS NOT NULL OR d.kind = 'rollback' AS "returns!"
           FROM deployment d
           JOIN step s ON s.deployment_id = d.id AND s.state = 'ready' AND s.waits_on_edges
           WHERE d.state IN ('running', 'waiting', 'cancelling')
             AND ($1 OR d.id = ANY($2) OR d.environment_id = ANY($3) OR d.release_id = ANY($4))
             AND s.kind = ANY($5) AND s.plan_version <= $6
             AND ($1 OR NOT EXISTS (
                 SELECT FROM edge e CROSS JOIN jsonb_to_recordset(s.detail -> 'written')
                             AS t(host text, epoch int, version bigint)
                 WHERE e.joined_at IS NOT NULL AND e.failing_since IS NULL
                   AND e.heard_at > (SELECT clock()) - $8::bigint * interval '1 millisecond'
                   -- Both by the key: for so few hosts all that an edge holds is not read.
                   AND COALESCE((
                       SELECT (r.epoch, r.version) < (t.epoch, t.version) FROM edge_route r
                       WHERE r.edge_id = e.id AND r.host = t.host), true)
                   -- One that cannot stage the release may end the wait.
                   AND COALESCE((
                       SELECT x.error FROM edge_release x
                       WHERE x.edge_id = e.id AND x.release_id = d.release_id), '') = ''))
           ORDER BY s.run_at LIMIT $7"#,
        news.everything,
        &deployments,
        &environments,
        &releases,
        kinds,
        PLAN_VERSION,
        limit,
        LIVE_FOR_MS
    )
    .fetch_all(conn)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| Due {
            step_id: StepId::from_uuid(row.id),
            deployment_id: DeploymentId::from_uuid(row.deployment_id),
            environment_id: EnvironmentId::from_uuid(row.environment_id),
            edges_reported: true,
            is_lone: row.is_lone,
            is_suspect: row.is_suspect,
            returns: row.returns,
        })
        .collect())
}
