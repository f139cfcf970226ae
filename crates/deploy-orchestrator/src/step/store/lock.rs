//! A step as the transaction that goes on with it finds it.

use std::collections::HashMap;

use candlefish_clock::Moment;
use candlefish_ids::StepId;
use jiff_sqlx::Timestamp;
use serde::Serialize;
use sqlx::{PgConnection, types::Json};
use uuid::Uuid;

use super::{Due, Row};
use crate::{
    ctx::{read, stored},
    step::Step,
};

/// A step as a turn finds it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Found {
    pub(crate) step: Step,
    /// A worker has it, or had: found due, its lease ran out.
    pub(crate) is_claimed: bool,
    /// Some stop of the line pauses what acts on its site; which one is asked when one does.
    pub(crate) pausing: bool,
    /// From when on its turn could come: its time, or the end of the lease of who has it.
    pub(crate) due_at: Option<Moment>,
    /// Some blocker of its deployment stands.
    pub(crate) blocked: bool,
}

/// The one reading of a found step, for each way to find it.
macro_rules! select_found {
    ($rest:literal, $($argument:expr),+) => {
        sqlx::query!(
            r#"SELECT id, deployment_id, ord, kind, weight, interval_ms, undo_of, attempt,
                      lost_leases, started_at AS "started_at: Timestamp", detail, message, state,
                      GREATEST(run_at, lease_until) AS "due_at: Timestamp",
                      EXISTS (SELECT 1 FROM stop t WHERE t.ended_at IS NULL AND t.pauses
                              AND (t.site_id IS NULL OR t.site_id = (
                                  SELECT d.site_id FROM deployment d
                                  WHERE d.id = step.deployment_id))) AS "pausing!",
                      EXISTS (SELECT 1 FROM blocker b WHERE b.deployment_id = step.deployment_id
                              AND b.cleared_at IS NULL) AS "blocked!"
               FROM step "# + $rest,
            $($argument),+
        )
    };
}

/// A found step of its row; none for a kind that a newer binary wrote.
macro_rules! found {
    ($row:ident) => {{
        let step = Row {
            id: $row.id,
            deployment_id: $row.deployment_id,
            ord: $row.ord,
            kind: $row.kind,
            weight: $row.weight,
            interval_ms: $row.interval_ms,
            undo_of: $row.undo_of,
            attempt: $row.attempt,
            lost_leases: $row.lost_leases,
            started_at: $row.started_at,
            detail: $row.detail,
            message: $row.message,
        };
        step.known().map(|step| Found {
            is_claimed: $row.state == "running",
            pausing: $row.pausing,
            due_at: $row.due_at.map(read),
            blocked: $row.blocked,
            step,
        })
    }};
}

/// Locks a step that is still due at `now`; none when somebody was faster.
pub(crate) async fn lock_due(
    conn: &mut PgConnection,
    now: Moment,
    id: StepId,
    edges_reported: bool,
) -> Result<Option<Found>, sqlx::Error> {
    let row = select_found!(
        "WHERE id = $1 AND (run_at <= $2 OR (waits_on_edges AND $3))
           AND (state = 'ready' OR (state = 'running' AND lease_until < $2))
         FOR UPDATE",
        id.uuid(),
        stored(now) as _,
        edges_reported
    )
    .fetch_optional(conn)
    .await?;
    Ok(row.and_then(|row| found!(row)))
}

/// Locks a claimed step, whose worker is at hand; none when the claim is no longer ours.
pub(crate) async fn lock_claimed(
    conn: &mut PgConnection,
    id: StepId,
    claim: i64,
) -> Result<Option<Found>, sqlx::Error> {
    let row = select_found!(
        "WHERE id = $1 AND claim = $2 AND state = 'running' FOR UPDATE",
        id.uuid(),
        claim
    )
    .fetch_optional(conn)
    .await?;
    Ok(row.and_then(|row| found!(row)))
}

/// A step that a turn goes on with, among others.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct Wanted {
    #[serde(rename = "wanted")]
    id: Uuid,
    /// The claim under which it was worked on; none for one that was found due.
    held: Option<i64>,
    reported: bool,
}

impl Wanted {
    /// One that [`lock_due`] would lock.
    pub(crate) fn due(due: &Due) -> Self {
        Self {
            id: due.step_id.uuid(),
            held: None,
            reported: due.edges_reported,
        }
    }

    /// One that [`lock_claimed`] would lock.
    pub(crate) const fn claimed(id: StepId, claim: i64) -> Self {
        Self {
            id: id.uuid(),
            held: Some(claim),
            reported: false,
        }
    }
}

/// Locks several steps, each that is still due at `now` or whose claim is still ours. Their lanes are
/// locked already.
pub(crate) async fn lock_each(
    conn: &mut PgConnection,
    now: Moment,
    wanted: &[Wanted],
) -> Result<HashMap<StepId, Found>, sqlx::Error> {
    let ids: Vec<Uuid> = wanted.iter().map(|one| one.id).collect();
    // By the ids as well: of the JSON the planner expects so many that it would read the whole table.
    let rows = select_found!(
        "JOIN jsonb_to_recordset($1::jsonb) AS n(wanted uuid, held bigint, reported bool)
             ON n.wanted = id
         WHERE id = ANY((SELECT $3::uuid[])::uuid[])
           AND CASE WHEN n.held IS NULL
               THEN (run_at <= $2 OR (waits_on_edges AND n.reported))
                    AND (state = 'ready' OR (state = 'running' AND lease_until < $2))
               ELSE claim = n.held AND state = 'running' END
         FOR UPDATE OF step",
        Json(wanted) as _,
        stored(now) as _,
        &ids
    )
    .fetch_all(conn)
    .await?;
    let found = rows.into_iter().filter_map(|row| found!(row));
    Ok(found.map(|found| (found.step.id, found)).collect())
}

/// Whether a claim stands that a worker drew, in a transaction whose end it did not hear of. By its
/// number alone another's could be taken for it: a server that crashes may give a number again of
/// which nothing was committed.
pub(crate) async fn is_claimed_by(
    conn: &mut PgConnection,
    id: StepId,
    claim: i64,
    owner: &str,
) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar!(
        r#"SELECT EXISTS (
               SELECT 1 FROM step
               WHERE id = $1 AND claim = $2 AND owner = $3 AND state = 'running') AS "stands!""#,
        id.uuid(),
        claim,
        owner
    )
    .fetch_one(conn)
    .await
}
