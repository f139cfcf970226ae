//! Every SQL string about the step's row.

use std::time::Duration;

use candlefish_clock::Moment;
use candlefish_ids::{DeploymentId, StepId};
use jiff_sqlx::Timestamp;
use serde_json::Value;
use sqlx::PgConnection;
use uuid::Uuid;

use super::{AWAY, Step, outcome::Wait};
use crate::{
    ctx::{read, stored},
    deployment::plan::{PLAN_VERSION, Planned, StepKind},
};

mod due;
mod each;
mod lock;
pub(crate) mod paused;

pub(crate) use due::{Due, list_due, list_reported, next_due_in};
pub(crate) use each::{Note, insert_each, list_each, steps_of, write_each};
pub(crate) use lock::{Found, Wanted, is_claimed_by, lock_claimed, lock_due, lock_each};

/// A step row before it is known to be one that this binary understands.
struct Row {
    id: Uuid,
    deployment_id: Uuid,
    ord: i32,
    kind: String,
    weight: i32,
    interval_ms: i64,
    undo_of: Option<Uuid>,
    attempt: i32,
    lost_leases: i32,
    started_at: Option<Timestamp>,
    detail: Value,
    message: String,
}

impl Row {
    /// None for a kind that a newer binary wrote: that one will claim it.
    fn known(self) -> Option<Step> {
        Some(Step {
            id: StepId::from_uuid(self.id),
            deployment_id: DeploymentId::from_uuid(self.deployment_id),
            ord: self.ord,
            kind: StepKind::from_word(&self.kind)?,
            weight: self.weight,
            interval: Duration::from_millis(u64::try_from(self.interval_ms).unwrap_or(0)),
            is_undo: self.undo_of.is_some(),
            attempt: self.attempt,
            lost_leases: self.lost_leases,
            started_at: self.started_at.map(read),
            detail: self.detail,
            message: self.message,
        })
    }
}

/// Writes the forward steps of a deployment that is granted its lane: the first is ready, the others
/// are pending. Answers the first.
pub(crate) async fn insert_plan(
    conn: &mut PgConnection,
    now: Moment,
    deployment: DeploymentId,
    steps: &[Planned],
) -> Result<Option<Step>, sqlx::Error> {
    let mut ids = Vec::with_capacity(steps.len());
    let mut ords = Vec::with_capacity(steps.len());
    let mut kinds = Vec::with_capacity(steps.len());
    let mut weights = Vec::with_capacity(steps.len());
    let mut intervals = Vec::with_capacity(steps.len());
    let mut details = Vec::with_capacity(steps.len());
    let mut spans = Vec::with_capacity(steps.len());
    for (place, step) in (1..).zip(steps) {
        let id = StepId::new().uuid();
        ids.push(id);
        ords.push(place);
        kinds.push(step.kind.word().to_owned());
        weights.push(step.weight);
        intervals.push(i64::try_from(step.interval.as_millis()).unwrap_or(i64::MAX));
        details.push(detail_of(step));
        spans.push(span_id(id));
    }
    sqlx::query!(
        "INSERT INTO step (id, deployment_id, ord, kind, plan_version, weight, interval_ms, state,
                           run_at, detail, span_id)
         SELECT n.id, $1, n.ord, n.kind, $2, n.weight, n.interval_ms,
                CASE n.ord WHEN 1 THEN 'ready' ELSE 'pending' END,
                CASE n.ord WHEN 1 THEN $10::timestamptz END, n.detail, n.span_id
         FROM unnest($3::uuid[], $4::int[], $5::text[], $6::int[], $7::bigint[], $8::jsonb[],
                     $9::text[]) AS n(id, ord, kind, weight, interval_ms, detail, span_id)",
        deployment.uuid(),
        PLAN_VERSION,
        &ids,
        &ords,
        &kinds,
        &weights,
        &intervals,
        &details,
        &spans,
        stored(now) as _
    )
    .execute(conn)
    .await?;
    let first = steps.first().zip(ids.first());
    Ok(first.map(|(step, id)| Step {
        id: StepId::from_uuid(*id),
        deployment_id: deployment,
        ord: 1,
        kind: step.kind,
        weight: step.weight,
        interval: step.interval,
        is_undo: false,
        attempt: 0,
        lost_leases: 0,
        started_at: None,
        detail: detail_of(step),
        message: String::new(),
    }))
}

fn detail_of(step: &Planned) -> Value {
    match step.batch {
        0 => serde_json::json!({}),
        batch => serde_json::json!({ "batch": batch }),
    }
}

/// Adds an undo step after all others.
pub(crate) async fn insert_undo(
    conn: &mut PgConnection,
    deployment: DeploymentId,
    kind: StepKind,
    undo_of: StepId,
    ready_at: Option<Moment>,
) -> Result<(), sqlx::Error> {
    let id = StepId::new().uuid();
    sqlx::query!(
        "INSERT INTO step (id, deployment_id, ord, kind, plan_version, undo_of, state, run_at, span_id)
         SELECT $2, $1, max(ord) + 1, $3, $4, $5, $6, $7, $8 FROM step WHERE deployment_id = $1",
        deployment.uuid(),
        id,
        kind.word(),
        PLAN_VERSION,
        undo_of.uuid(),
        if ready_at.is_some() { "ready" } else { "pending" },
        ready_at.map(stored) as _,
        span_id(id)
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// The last 64 bits of an id are random enough to name a span.
pub(crate) fn span_id(id: Uuid) -> String {
    let (_, low) = id.as_u64_pair();
    format!("{low:016x}")
}

/// Leaves every open step behind; answers how many.
pub(crate) async fn abandon_open(
    conn: &mut PgConnection,
    now: Moment,
    deployment: DeploymentId,
) -> Result<u64, sqlx::Error> {
    let done = sqlx::query!(
        "UPDATE step SET state = 'abandoned', finished_at = $2, lease_until = NULL
         WHERE deployment_id = $1 AND state IN ('pending', 'ready', 'running', 'quarantined')",
        deployment.uuid(),
        stored(now) as _
    )
    .execute(conn)
    .await?;
    Ok(done.rows_affected())
}

/// The steps that were ever begun, with their detail, in order.
pub(crate) async fn list_begun(
    conn: &mut PgConnection,
    deployment: DeploymentId,
) -> Result<Vec<Step>, sqlx::Error> {
    let rows = sqlx::query_as!(
        Row,
        r#"SELECT id, deployment_id, ord, kind, weight, interval_ms, undo_of, attempt, lost_leases,
                  started_at AS "started_at: Timestamp", detail, message
           FROM step WHERE deployment_id = $1 AND started_at IS NOT NULL ORDER BY ord"#,
        deployment.uuid()
    )
    .fetch_all(conn)
    .await?;
    Ok(rows.into_iter().filter_map(Row::known).collect())
}

/// When the candidate of a deployment had passed its verification; none before that, and without one.
pub(crate) async fn find_verified_at(
    conn: &mut PgConnection,
    deployment: DeploymentId,
) -> Result<Option<Moment>, sqlx::Error> {
    let verified_at = sqlx::query_scalar!(
        r#"SELECT finished_at AS "at: Timestamp" FROM step
           WHERE deployment_id = $1 AND kind = 'verify_candidate' AND state = 'done'"#,
        deployment.uuid()
    )
    .fetch_optional(conn)
    .await?;
    Ok(verified_at.flatten().map(read))
}

/// Makes the first pending step ready; none when all are done.
pub(crate) async fn ready_next(
    conn: &mut PgConnection,
    now: Moment,
    deployment: DeploymentId,
) -> Result<Option<Step>, sqlx::Error> {
    let row = sqlx::query_as!(
        Row,
        r#"UPDATE step SET state = 'ready', run_at = $2
           WHERE deployment_id = $1 AND state = 'pending' AND ord = (
               SELECT min(ord) FROM step WHERE deployment_id = $1 AND state = 'pending')
           RETURNING id, deployment_id, ord, kind, weight, interval_ms, undo_of, attempt,
                     lost_leases, started_at AS "started_at: Timestamp", detail, message"#,
        deployment.uuid(),
        stored(now) as _
    )
    .fetch_optional(conn)
    .await?;
    Ok(row.and_then(Row::known))
}

/// Closes a step as done and makes the first pending one ready, in one statement; none when all are
/// done.
pub(crate) async fn close_and_ready_next(
    conn: &mut PgConnection,
    now: Moment,
    step: &Step,
    message: &str,
) -> Result<Option<Step>, sqlx::Error> {
    let row = sqlx::query_as!(
        Row,
        r#"WITH closed AS (
               UPDATE step SET state = 'done', message = $3, finished_at = $2, lease_until = NULL,
                   waits_on_edges = false, started_at = COALESCE(started_at, $2), detail = $4
               WHERE id = $1)
           UPDATE step SET state = 'ready', run_at = $2
           WHERE deployment_id = $5 AND state = 'pending' AND ord = (
               SELECT min(ord) FROM step WHERE deployment_id = $5 AND state = 'pending')
           RETURNING id, deployment_id, ord, kind, weight, interval_ms, undo_of, attempt,
                     lost_leases, started_at AS "started_at: Timestamp", detail, message"#,
        step.id.uuid(),
        stored(now) as _,
        message,
        step.detail,
        step.deployment_id.uuid()
    )
    .fetch_optional(conn)
    .await?;
    Ok(row.and_then(Row::known))
}

/// Claims a step for a worker; answers the claim number.
pub(crate) async fn claim(
    conn: &mut PgConnection,
    now: Moment,
    id: StepId,
    owner: &str,
    lease: Duration,
    lost: bool,
) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar!(
        r#"UPDATE step SET state = 'running', owner = $3, claim = nextval('claim_seq'),
               lease_until = $4, lost_leases = lost_leases + $5,
               started_at = COALESCE(started_at, $2)
           WHERE id = $1 RETURNING claim AS "claim!""#,
        id.uuid(),
        stored(now) as _,
        owner,
        stored(now.plus(lease)) as _,
        i32::from(lost)
    )
    .fetch_one(conn)
    .await
}

/// Lengthens a lease; false when it is lost. One that lapsed long ago is: its turn comes as that of a
/// lost worker, and moves the deadline.
pub(crate) async fn heartbeat(
    conn: &mut PgConnection,
    id: StepId,
    claim: i64,
    lease: Duration,
) -> Result<bool, sqlx::Error> {
    let done = sqlx::query!(
        "UPDATE step SET lease_until = clock() + $3::bigint * interval '1 millisecond'
         WHERE id = $1 AND claim = $2 AND state = 'running'
           AND lease_until > clock() - $4::bigint * interval '1 millisecond'",
        id.uuid(),
        claim,
        i64::try_from(lease.as_millis()).unwrap_or(i64::MAX),
        i64::try_from(AWAY.as_millis()).unwrap_or(i64::MAX)
    )
    .execute(conn)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Gives a claimed step back at a graceful stop; it costs no attempt.
pub(crate) async fn give_back(
    conn: &mut PgConnection,
    id: StepId,
    claim: i64,
) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "UPDATE step SET state = 'ready', run_at = clock(), lease_until = NULL, claim = NULL,
                         polls = polls + 1
         WHERE id = $1 AND claim = $2 AND state = 'running'",
        id.uuid(),
        claim
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Closes a step as done or failed, and no other begins.
pub(crate) async fn close(
    conn: &mut PgConnection,
    now: Moment,
    step: &Step,
    state: &'static str,
    message: &str,
) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "UPDATE step SET state = $3, message = $4, finished_at = $2, lease_until = NULL,
             waits_on_edges = false, started_at = COALESCE(started_at, $2), detail = $5
         WHERE id = $1",
        step.id.uuid(),
        stored(now) as _,
        state,
        message,
        step.detail
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Puts a step aside until its next turn.
pub(crate) async fn wait(
    conn: &mut PgConnection,
    now: Moment,
    step: &Step,
    wait: &Wait,
) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "UPDATE step SET state = 'ready', run_at = $3, waits_on_edges = $4, message = $5,
             detail = $6, lease_until = NULL, claim = NULL, polls = polls + 1,
             started_at = COALESCE(started_at, $2)
         WHERE id = $1",
        step.id.uuid(),
        stored(now) as _,
        stored(now.plus(wait.again_in)) as _,
        wait.on_edges,
        wait.message,
        wait.detail
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Counts an error and tries again later.
pub(crate) async fn retry(
    conn: &mut PgConnection,
    now: Moment,
    step: &Step,
    again_in: Duration,
    message: &str,
) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "UPDATE step SET state = 'ready', run_at = $3, message = $4, attempt = attempt + 1,
             lease_until = NULL, claim = NULL, started_at = COALESCE(started_at, $2)
         WHERE id = $1",
        step.id.uuid(),
        stored(now) as _,
        stored(now.plus(again_in)) as _,
        message
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Takes a step that ends its workers out of work.
pub(crate) async fn quarantine(
    conn: &mut PgConnection,
    step: &Step,
    message: &str,
) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "UPDATE step SET state = 'quarantined', lease_until = NULL, message = $2,
             lost_leases = lost_leases + 1
         WHERE id = $1",
        step.id.uuid(),
        message
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// The forward step that a deployment is in, while it waits for its next turn.
pub(crate) async fn find_waiting(
    conn: &mut PgConnection,
    deployment: DeploymentId,
) -> Result<Option<Step>, sqlx::Error> {
    let row = sqlx::query_as!(
        Row,
        r#"SELECT id, deployment_id, ord, kind, weight, interval_ms, undo_of, attempt, lost_leases,
                  started_at AS "started_at: Timestamp", detail, message
           FROM step WHERE deployment_id = $1 AND state = 'ready' AND undo_of IS NULL
           ORDER BY ord LIMIT 1 FOR UPDATE"#,
        deployment.uuid()
    )
    .fetch_optional(conn)
    .await?;
    Ok(row.and_then(Row::known))
}

/// A person passes a step's wait: its next turn is now, and knows.
pub(crate) async fn pass_wait(
    conn: &mut PgConnection,
    now: Moment,
    step: &Step,
) -> Result<(), sqlx::Error> {
    sqlx::query!(
        r#"UPDATE step SET run_at = $2, detail = detail || '{"advanced": true}' WHERE id = $1"#,
        step.id.uuid(),
        stored(now) as _
    )
    .execute(conn)
    .await?;
    Ok(())
}
