//! Statements about the steps of several deployments, whose turns share a transaction.

use std::{collections::HashMap, time::Duration};

use candlefish_clock::Moment;
use candlefish_ids::{DeploymentId, StepId};
use jiff_sqlx::Timestamp;
use serde::Serialize;
use serde_json::Value;
use sqlx::{PgConnection, types::Json};
use uuid::Uuid;

use super::Row;
use crate::{
    ctx::stored,
    deployment::plan::{PLAN_VERSION, Planned},
    step::{Step, outcome::Wait},
};

/// What is to be written to a step; what is none stays as it is.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Note {
    id: Uuid,
    state: &'static str,
    message: Option<String>,
    detail: Option<Value>,
    waits_on_edges: Option<bool>,
    /// From now on, in microseconds, as finely as the database counts.
    run_in_us: Option<i64>,
    begins: bool,
    polls: i32,
    lost_leases: i32,
}

impl Note {
    /// It is the next one: ready now.
    pub(crate) const fn readied(id: StepId) -> Self {
        Self {
            id: id.uuid(),
            state: "ready",
            message: None,
            detail: None,
            waits_on_edges: None,
            run_in_us: Some(0),
            begins: false,
            polls: 0,
            lost_leases: 0,
        }
    }

    /// As [`super::close`] writes it.
    pub(crate) fn done(step: &Step, message: &str) -> Self {
        Self {
            id: step.id.uuid(),
            state: "done",
            message: Some(message.to_owned()),
            detail: Some(step.detail.clone()),
            waits_on_edges: Some(false),
            run_in_us: None,
            begins: true,
            polls: 0,
            lost_leases: 0,
        }
    }

    /// As [`super::wait`] writes it.
    pub(crate) fn waits(step: &Step, wait: &Wait) -> Self {
        let again_in = i64::try_from(wait.again_in.as_micros());
        Self {
            id: step.id.uuid(),
            state: "ready",
            message: Some(wait.message.clone()),
            detail: Some(wait.detail.clone()),
            waits_on_edges: Some(wait.on_edges),
            run_in_us: Some(again_in.unwrap_or(i64::MAX)),
            begins: true,
            polls: 1,
            lost_leases: 0,
        }
    }

    /// As [`super::claim`] writes it.
    pub(crate) fn claimed(id: StepId, lost: bool) -> Self {
        Self {
            id: id.uuid(),
            state: "running",
            message: None,
            detail: None,
            waits_on_edges: None,
            run_in_us: None,
            begins: true,
            polls: 0,
            lost_leases: i32::from(lost),
        }
    }

    /// After another of the same step in the same transaction.
    pub(crate) fn after(self, earlier: &Self) -> Self {
        Self {
            run_in_us: self.run_in_us.or(earlier.run_in_us),
            ..self
        }
    }

    pub(crate) fn is_of_same_step(&self, other: &Self) -> bool {
        self.id == other.id
    }
}

/// Writes what was noted of steps, one note for each; answers the claims that were drawn, by step.
pub(crate) async fn write_each(
    conn: &mut PgConnection,
    now: Moment,
    notes: &[Note],
    owner: &str,
    lease: Duration,
) -> Result<HashMap<StepId, i64>, sqlx::Error> {
    if notes.is_empty() {
        return Ok(HashMap::new());
    }
    let ids: Vec<Uuid> = notes.iter().map(|note| note.id).collect();
    // By the ids as well: of the JSON the planner expects so many that it would read the whole table.
    let rows = sqlx::query!(
        "UPDATE step s SET state = n.state, message = COALESCE(n.message, s.message),
             detail = COALESCE(n.detail, s.detail),
             waits_on_edges = COALESCE(n.waits_on_edges, s.waits_on_edges),
             run_at = COALESCE($2::timestamptz + n.run_in_us * interval '1 microsecond', s.run_at),
             started_at = CASE WHEN n.begins THEN COALESCE(s.started_at, $2) ELSE s.started_at END,
             finished_at = CASE n.state WHEN 'done' THEN $2 ELSE s.finished_at END,
             lease_until = CASE n.state WHEN 'running' THEN $3::timestamptz END,
             owner = CASE n.state WHEN 'running' THEN $4 ELSE s.owner END,
             claim = CASE n.state WHEN 'running' THEN nextval('claim_seq')
                                  WHEN 'done' THEN s.claim END,
             polls = s.polls + n.polls, lost_leases = s.lost_leases + n.lost_leases
         FROM jsonb_to_recordset($1::jsonb) AS n(
             id uuid, state text, message text, detail jsonb, waits_on_edges bool,
             run_in_us bigint, begins bool, polls int, lost_leases int)
         WHERE s.id = ANY((SELECT $5::uuid[])::uuid[]) AND s.id = n.id
         RETURNING s.id, s.state, s.claim",
        Json(notes) as _,
        stored(now) as _,
        stored(now.plus(lease)) as _,
        owner,
        &ids
    )
    .fetch_all(conn)
    .await?;
    if rows.len() != notes.len() {
        // What was not written must not pass for it.
        return Err(sqlx::Error::RowNotFound);
    }
    Ok(rows
        .into_iter()
        .filter(|row| row.state == "running")
        .filter_map(|row| Some((StepId::from_uuid(row.id), row.claim?)))
        .collect())
}

/// The steps of a plan, as new: the first is ready, the others are pending.
pub(crate) fn steps_of(deployment: DeploymentId, plan: &[Planned]) -> Vec<Step> {
    let steps = (1..).zip(plan).map(|(ord, step)| Step {
        id: StepId::new(),
        deployment_id: deployment,
        ord,
        kind: step.kind,
        weight: step.weight,
        interval: step.interval,
        is_undo: false,
        attempt: 0,
        lost_leases: 0,
        started_at: None,
        detail: super::detail_of(step),
        message: String::new(),
    });
    steps.collect()
}

/// A new step, as JSON among others.
#[derive(Debug, Serialize)]
struct New<'a> {
    id: Uuid,
    deployment: Uuid,
    ord: i32,
    kind: &'static str,
    weight: i32,
    interval_ms: i64,
    detail: &'a Value,
    span_id: String,
}

/// Writes the steps of several deployments that are granted their lanes, as [`super::insert_plan`] does
/// for one.
pub(crate) async fn insert_each(
    conn: &mut PgConnection,
    now: Moment,
    steps: &[Step],
) -> Result<(), sqlx::Error> {
    let rows = steps.iter().map(|step| New {
        id: step.id.uuid(),
        deployment: step.deployment_id.uuid(),
        ord: step.ord,
        kind: step.kind.word(),
        weight: step.weight,
        interval_ms: i64::try_from(step.interval.as_millis()).unwrap_or(i64::MAX),
        detail: &step.detail,
        span_id: super::span_id(step.id.uuid()),
    });
    sqlx::query!(
        "INSERT INTO step (id, deployment_id, ord, kind, plan_version, weight, interval_ms, state,
                           run_at, detail, span_id)
         SELECT n.id, n.deployment, n.ord, n.kind, $2::int, n.weight, n.interval_ms,
                CASE n.ord WHEN 1 THEN 'ready' ELSE 'pending' END,
                CASE n.ord WHEN 1 THEN $3::timestamptz END, n.detail, n.span_id
         FROM jsonb_to_recordset($1::jsonb) AS n(
             id uuid, deployment uuid, ord int, kind text, weight int, interval_ms bigint,
             detail jsonb, span_id text)",
        Json(rows.collect::<Vec<_>>()) as _,
        PLAN_VERSION,
        stored(now) as _
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// The steps of a deployment that have begun, and those that come yet; both in order.
#[derive(Debug, Default)]
pub(crate) struct Steps {
    pub(crate) begun: Vec<Step>,
    pub(crate) pending: Vec<Step>,
}

/// The steps of several deployments. One of which a newer binary wrote some is left out.
pub(crate) async fn list_each(
    conn: &mut PgConnection,
    deployments: &[DeploymentId],
) -> Result<HashMap<DeploymentId, Steps>, sqlx::Error> {
    let ids: Vec<Uuid> = deployments.iter().map(|id| id.uuid()).collect();
    let rows = sqlx::query!(
        r#"SELECT id, deployment_id, ord, kind, weight, interval_ms, undo_of, attempt, lost_leases,
                  started_at AS "started_at: Timestamp", detail, message, state
           FROM step WHERE deployment_id = ANY((SELECT $1::uuid[])::uuid[])
           ORDER BY deployment_id, ord"#,
        &ids
    )
    .fetch_all(conn)
    .await?;
    let mut all: HashMap<DeploymentId, Steps> = HashMap::new();
    let mut unknown = Vec::new();
    for row in rows {
        let deployment = DeploymentId::from_uuid(row.deployment_id);
        let is_pending = row.state == "pending";
        let step = Row {
            id: row.id,
            deployment_id: row.deployment_id,
            ord: row.ord,
            kind: row.kind,
            weight: row.weight,
            interval_ms: row.interval_ms,
            undo_of: row.undo_of,
            attempt: row.attempt,
            lost_leases: row.lost_leases,
            started_at: row.started_at,
            detail: row.detail,
            message: row.message,
        };
        let Some(step) = step.known() else {
            unknown.push(deployment);
            continue;
        };
        let steps = all.entry(deployment).or_default();
        if is_pending {
            steps.pending.push(step);
        } else if step.started_at.is_some() {
            steps.begun.push(step);
        }
    }
    all.retain(|deployment, _| !unknown.contains(deployment));
    Ok(all)
}
