//! Every SQL string of the exporter.

use std::time::Duration;

use candlefish_clock::Moment;
use jiff_sqlx::Timestamp;
use sqlx::PgConnection;
use uuid::Uuid;

use crate::ctx::{read, stored};

/// A deployment with something to send.
#[derive(Debug, Clone)]
pub(super) struct Deployment {
    pub(super) id: Uuid,
    pub(super) site: String,
    pub(super) environment: String,
    pub(super) release_id: Uuid,
    pub(super) kind: String,
    pub(super) state: String,
    pub(super) cause: String,
    pub(super) message: String,
    pub(super) created_by: String,
    pub(super) created_at: Moment,
    /// None while it acts: only its steps are sent then.
    pub(super) finished_at: Option<Moment>,
    pub(super) trace_id: String,
    pub(super) span_id: String,
    pub(super) request_traceparent: String,
}

/// A step that ended since its deployment was last sent.
#[derive(Debug, Clone)]
pub(super) struct Step {
    pub(super) id: Uuid,
    pub(super) deployment_id: Uuid,
    pub(super) ord: i32,
    pub(super) kind: String,
    pub(super) state: String,
    pub(super) weight: i32,
    pub(super) is_undo: bool,
    pub(super) attempt: i32,
    pub(super) polls: i32,
    pub(super) lost_leases: i32,
    pub(super) message: String,
    pub(super) started_at: Moment,
    pub(super) finished_at: Moment,
    pub(super) span_id: String,
}

/// One claim of a step.
#[derive(Debug, Clone)]
pub(super) struct Attempt {
    pub(super) step_id: Uuid,
    pub(super) claim: i64,
    pub(super) owner: String,
    pub(super) outcome: String,
    pub(super) message: String,
    pub(super) started_at: Moment,
    pub(super) finished_at: Moment,
    pub(super) span_id: String,
}

/// A line of a deployment's log.
#[derive(Debug, Clone)]
pub(super) struct Line {
    pub(super) deployment_id: Uuid,
    pub(super) step_ord: i32,
    pub(super) at: Moment,
    pub(super) message: String,
}

/// Takes or keeps the right to send; false while another process has it.
pub(super) async fn hold(
    conn: &mut PgConnection,
    owner: &str,
    lease: Duration,
) -> Result<bool, sqlx::Error> {
    let held = sqlx::query!(
        "UPDATE trace_exporter SET owner = $1,
             lease_until = clock() + $2::bigint * interval '1 millisecond'
         WHERE owner = $1 OR owner IS NULL OR lease_until < clock()",
        owner,
        i64::try_from(lease.as_millis()).unwrap_or(i64::MAX)
    )
    .execute(conn)
    .await?;
    Ok(held.rows_affected() == 1)
}

/// Deployments that ended and were not sent, and those that act and have steps to send.
pub(super) async fn list(
    conn: &mut PgConnection,
    limit: i64,
) -> Result<Vec<Deployment>, sqlx::Error> {
    let rows = sqlx::query!(
        r#"WITH due AS (
               (SELECT id FROM deployment
                WHERE finished_at > (SELECT clock()) - interval '1 day' AND NOT traced
                ORDER BY finished_at LIMIT $1)
               UNION ALL
               (SELECT d.id FROM deployment d LEFT JOIN trace_progress p ON p.deployment_id = d.id
                WHERE d.state IN ('running', 'waiting', 'cancelling') AND EXISTS (
                    SELECT FROM step s WHERE s.deployment_id = d.id AND s.started_at IS NOT NULL
                        AND s.finished_at > coalesce(p.upto, '-infinity'))
                LIMIT $1)
           )
           SELECT d.id, si.slug AS site, e.slug AS environment, d.release_id, d.kind, d.state,
                  d.cause, d.message, d.created_by, d.created_at AS "created_at: Timestamp",
                  d.finished_at AS "finished_at: Timestamp", d.trace_id, d.span_id,
                  d.request_traceparent
           FROM due JOIN deployment d ON d.id = due.id
           JOIN site si ON si.id = d.site_id JOIN environment e ON e.id = d.environment_id
           LIMIT $1"#,
        limit
    )
    .fetch_all(conn)
    .await?;
    let deployments = rows.into_iter().map(|row| Deployment {
        id: row.id,
        site: row.site,
        environment: row.environment,
        release_id: row.release_id,
        kind: row.kind,
        state: row.state,
        cause: row.cause,
        message: row.message,
        created_by: row.created_by,
        created_at: read(row.created_at),
        finished_at: row.finished_at.map(read),
        trace_id: row.trace_id,
        span_id: row.span_id,
        request_traceparent: row.request_traceparent,
    });
    Ok(deployments.collect())
}

/// Their steps that ended since they were last sent. Steps that never began have no span.
pub(super) async fn steps(
    conn: &mut PgConnection,
    deployments: &[Uuid],
) -> Result<Vec<Step>, sqlx::Error> {
    let rows = sqlx::query!(
        r#"SELECT s.id, s.deployment_id, s.ord, s.kind, s.state, s.weight,
                  s.undo_of IS NOT NULL AS "is_undo!", s.attempt, s.polls, s.lost_leases, s.message,
                  s.started_at AS "started_at!: Timestamp",
                  s.finished_at AS "finished_at!: Timestamp", s.span_id
           FROM step s LEFT JOIN trace_progress p ON p.deployment_id = s.deployment_id
           WHERE s.deployment_id = ANY($1) AND s.started_at IS NOT NULL
             AND s.finished_at > coalesce(p.upto, '-infinity')
           ORDER BY s.deployment_id, s.ord"#,
        deployments
    )
    .fetch_all(conn)
    .await?;
    let steps = rows.into_iter().map(|row| Step {
        id: row.id,
        deployment_id: row.deployment_id,
        ord: row.ord,
        kind: row.kind,
        state: row.state,
        weight: row.weight,
        is_undo: row.is_undo,
        attempt: row.attempt,
        polls: row.polls,
        lost_leases: row.lost_leases,
        message: row.message,
        started_at: read(row.started_at),
        finished_at: read(row.finished_at),
        span_id: row.span_id,
    });
    Ok(steps.collect())
}

/// The attempts of these steps. A step that ended has none that still runs.
pub(super) async fn attempts(
    conn: &mut PgConnection,
    steps: &[Step],
) -> Result<Vec<Attempt>, sqlx::Error> {
    let ids: Vec<Uuid> = steps.iter().map(|step| step.id).collect();
    let rows = sqlx::query!(
        r#"SELECT step_id, claim, owner, outcome AS "outcome!", message,
                  started_at AS "started_at: Timestamp",
                  finished_at AS "finished_at!: Timestamp", span_id
           FROM step_attempt WHERE step_id = ANY($1) AND finished_at IS NOT NULL
           ORDER BY step_id, claim"#,
        &ids
    )
    .fetch_all(conn)
    .await?;
    let attempts = rows.into_iter().map(|row| Attempt {
        step_id: row.step_id,
        claim: row.claim,
        owner: row.owner,
        outcome: row.outcome,
        message: row.message,
        started_at: read(row.started_at),
        finished_at: read(row.finished_at),
        span_id: row.span_id,
    });
    Ok(attempts.collect())
}

/// What their logs say.
pub(super) async fn lines(
    conn: &mut PgConnection,
    deployments: &[Uuid],
) -> Result<Vec<Line>, sqlx::Error> {
    let rows = sqlx::query!(
        r#"SELECT deployment_id, step_ord, at AS "at: Timestamp", message
           FROM deployment_log WHERE deployment_id = ANY($1) ORDER BY deployment_id, id"#,
        deployments
    )
    .fetch_all(conn)
    .await?;
    let lines = rows.into_iter().map(|row| Line {
        deployment_id: row.deployment_id,
        step_ord: row.step_ord,
        at: read(row.at),
        message: row.message,
    });
    Ok(lines.collect())
}

/// Marks what was sent, and only that: what ended meanwhile is sent next time.
pub(super) async fn mark(
    conn: &mut PgConnection,
    deployments: &[Deployment],
    steps: &[Step],
) -> Result<(), sqlx::Error> {
    let (ended, acting): (Vec<_>, Vec<_>) = deployments
        .iter()
        .partition(|deployment| deployment.finished_at.is_some());
    let ended: Vec<Uuid> = ended.iter().map(|deployment| deployment.id).collect();
    sqlx::query!(
        "UPDATE deployment SET traced = true WHERE id = ANY($1)",
        &ended
    )
    .execute(&mut *conn)
    .await?;
    sqlx::query!(
        "DELETE FROM trace_progress WHERE deployment_id = ANY($1)",
        &ended
    )
    .execute(&mut *conn)
    .await?;
    for deployment in acting {
        let upto = steps
            .iter()
            .filter(|step| step.deployment_id == deployment.id)
            .map(|step| step.finished_at)
            .max();
        if let Some(upto) = upto {
            sqlx::query!(
                "INSERT INTO trace_progress (deployment_id, upto) VALUES ($1, $2)
                 ON CONFLICT (deployment_id) DO UPDATE SET upto = excluded.upto",
                deployment.id,
                stored(upto) as _
            )
            .execute(&mut *conn)
            .await?;
        }
    }
    Ok(())
}
