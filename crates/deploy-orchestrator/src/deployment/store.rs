//! Every SQL string about the deployment's own row and its log.

use std::time::Duration;

use candlefish_clock::Moment;
use candlefish_ids::{DeploymentId, EnvironmentId, ReleaseId, SiteId};
use candlefish_proto::deploy as pb;
use jiff_sqlx::Timestamp;
use sqlx::PgConnection;
use uuid::Uuid;

use super::{
    Deployment,
    pin::Pin,
    plan::Kind,
    state::{Acting, Ending, Outcome, State},
};
use crate::{
    ctx::{Line, Tx, read, stored},
    lane::store::select_kept,
};

/// A row that no command could have written.
#[derive(Debug, thiserror::Error)]
#[error("deployment {id} has an impossible {column}")]
pub(crate) struct Inconsistent {
    id: DeploymentId,
    column: &'static str,
}

/// Why a row could not be read or written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error(transparent)]
    Sql(#[from] sqlx::Error),
    #[error(transparent)]
    Inconsistent(#[from] Inconsistent),
    /// Somebody else changed it since it was read: a command forgot the lock.
    #[error("deployment {0} changed under its lock")]
    Version(DeploymentId),
}

struct Row {
    id: Uuid,
    site_id: Uuid,
    site: String,
    environment_id: Uuid,
    environment: String,
    release_id: Uuid,
    kind: String,
    strategy: serde_json::Value,
    policy: serde_json::Value,
    state: String,
    cause: String,
    message: String,
    fence: i64,
    version: i32,
    pinned: bool,
    pinned_at: Option<Timestamp>,
    pinned_by: String,
    pin_reason: String,
    weight: i32,
    created_at: Timestamp,
    created_by: String,
    started_at: Option<Timestamp>,
    pivoted_at: Option<Timestamp>,
    live_at: Option<Timestamp>,
    finished_at: Option<Timestamp>,
    deadline_at: Option<Timestamp>,
    deadline_left_ms: Option<i64>,
    undo_ends: Option<String>,
    previous_release_id: Option<Uuid>,
    retry_of: Option<Uuid>,
    leaves_release_id: Option<Uuid>,
    superseded_by: Option<Uuid>,
    reason: String,
    target_confirmed: Option<bool>,
    trace_id: String,
    span_id: String,
}

impl Row {
    fn state(&self, id: DeploymentId) -> Result<State, Inconsistent> {
        let impossible = |column| Inconsistent { id, column };
        let acting = self.started_at.map(|started_at| Acting {
            started_at: read(started_at),
            pivoted_at: self.pivoted_at.map(read),
            live_at: self.live_at.map(read),
        });
        let started = || acting.ok_or_else(|| impossible("started_at"));
        Ok(match self.state.as_str() {
            "pending" => State::Pending,
            "running" => State::Running(started()?),
            "waiting" => State::Waiting(started()?),
            "cancelling" => {
                let ends = self.undo_ends.as_deref().and_then(Ending::from_word);
                let ends = ends.ok_or_else(|| impossible("undo_ends"))?;
                State::Cancelling {
                    acting: started()?,
                    ends,
                }
            }
            word => {
                let outcome = Outcome::from_word(word).ok_or_else(|| impossible("state"))?;
                let at = self
                    .finished_at
                    .map(read)
                    .ok_or_else(|| impossible("finished_at"))?;
                State::Ended {
                    outcome,
                    at,
                    acting,
                }
            }
        })
    }

    fn pin(&self) -> Option<Pin> {
        self.pinned.then(|| Pin {
            // An older replica says neither when nor why.
            at: read(self.pinned_at.unwrap_or(self.created_at)),
            by: self.pinned_by.clone(),
            reason: self.pin_reason.clone(),
        })
    }
}

impl TryFrom<Row> for Deployment {
    type Error = Inconsistent;

    fn try_from(row: Row) -> Result<Self, Inconsistent> {
        let id = DeploymentId::from_uuid(row.id);
        let impossible = |column| Inconsistent { id, column };
        Ok(Self {
            id,
            state: row.state(id)?,
            pin: row.pin(),
            site_id: SiteId::from_uuid(row.site_id),
            site: row.site,
            environment_id: EnvironmentId::from_uuid(row.environment_id),
            environment: row.environment,
            release_id: ReleaseId::from_uuid(row.release_id),
            kind: Kind::from_word(&row.kind).ok_or_else(|| impossible("kind"))?,
            strategy: serde_json::from_value(row.strategy)
                .map_err(|_unreadable| impossible("strategy"))?,
            policy: serde_json::from_value(row.policy)
                .map_err(|_unreadable| impossible("policy"))?,
            cause: row.cause,
            message: row.message,
            fence: row.fence,
            version: row.version,
            weight: row.weight,
            created_at: read(row.created_at),
            created_by: row.created_by,
            deadline_at: row.deadline_at.map(read),
            deadline_left: row
                .deadline_left_ms
                .map(|left| Duration::from_millis(u64::try_from(left).unwrap_or(0))),
            previous_release_id: row.previous_release_id.map(ReleaseId::from_uuid),
            retry_of: row.retry_of.map(DeploymentId::from_uuid),
            leaves_release_id: row.leaves_release_id.map(ReleaseId::from_uuid),
            superseded_by: row.superseded_by.map(DeploymentId::from_uuid),
            reason: row.reason,
            target_confirmed: row.target_confirmed,
            trace_id: row.trace_id,
            span_id: row.span_id,
        })
    }
}

/// The one reading of a deployment, for each way to find it.
macro_rules! select_deployment {
    ($rest:literal, $($argument:expr),+) => {
        sqlx::query_as!(
            Row,
            r#"SELECT d.id, d.site_id, s.slug AS site, d.environment_id, e.slug AS environment,
                      d.release_id, d.kind, d.strategy, d.policy, d.state, d.cause, d.message,
                      d.fence, d.version, d.pinned, d.pinned_at AS "pinned_at: Timestamp",
                      d.pinned_by, d.pin_reason, d.weight,
                      d.created_at AS "created_at: Timestamp", d.created_by,
                      d.started_at AS "started_at: Timestamp",
                      d.pivoted_at AS "pivoted_at: Timestamp", d.live_at AS "live_at: Timestamp",
                      d.finished_at AS "finished_at: Timestamp",
                      d.deadline_at AS "deadline_at: Timestamp", d.deadline_left_ms, d.undo_ends,
                      d.previous_release_id, d.retry_of, d.leaves_release_id, d.superseded_by,
                      d.reason, d.target_confirmed, d.trace_id, d.span_id
               FROM deployment d
               JOIN site s ON s.id = d.site_id
               JOIN environment e ON e.id = d.environment_id "# + $rest,
            $($argument),+
        )
    };
}

mod content;
mod list;
mod many;
pub(super) mod surroundings;
mod waiting;

pub(super) use content::{list_without_content, replace_release};
pub(super) use list::{Listing, Narrowing, Scope, list};
pub(crate) use many::{insert_each, lock_each, save_each, save_never_acted};
pub(super) use surroundings::{Step, Steps, Surroundings};
pub(super) use waiting::{count_waiting, find_oldest_waiting, is_kept};

/// The deployment; none when there is none.
pub(crate) async fn find(
    conn: &mut PgConnection,
    id: DeploymentId,
) -> Result<Option<Deployment>, Error> {
    let row = select_deployment!("WHERE d.id = $1", id.uuid())
        .fetch_optional(conn)
        .await?;
    Ok(row.map(Deployment::try_from).transpose()?)
}

/// Lines of a deployment's log after one, oldest first: (id, when, step, words).
pub(super) async fn list_log(
    conn: &mut PgConnection,
    id: DeploymentId,
    after: i64,
    limit: i64,
) -> Result<Vec<(i64, Moment, i32, String)>, sqlx::Error> {
    let rows = sqlx::query!(
        r#"SELECT id, at AS "at: Timestamp", step_ord, message FROM deployment_log
           WHERE deployment_id = $1 AND id > $2 ORDER BY id LIMIT $3"#,
        id.uuid(),
        after,
        limit
    )
    .fetch_all(conn)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| (row.id, read(row.at), row.step_ord, row.message))
        .collect())
}

/// Locks a deployment. Its lane is locked already: lane before deployment, always.
pub(crate) async fn lock(tx: &mut Tx, id: DeploymentId) -> Result<Option<Deployment>, Error> {
    let row = select_deployment!("WHERE d.id = $1 FOR UPDATE OF d", id.uuid())
        .fetch_optional(&mut **tx)
        .await?;
    Ok(row.map(Deployment::try_from).transpose()?)
}

/// What a rollback ended by taking its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Preempted {
    pub(crate) id: DeploymentId,
    pub(crate) release_id: ReleaseId,
    pub(crate) previous_release_id: Option<ReleaseId>,
    pub(crate) leaves_release_id: Option<ReleaseId>,
    pub(crate) is_rollback: bool,
    /// It was being undone already.
    pub(crate) is_undone: bool,
}

/// What this rollback preempted; none where nothing acted.
pub(crate) async fn find_preempted(
    conn: &mut PgConnection,
    by: DeploymentId,
) -> Result<Option<Preempted>, sqlx::Error> {
    let row = sqlx::query!(
        r#"SELECT id, release_id, previous_release_id, leaves_release_id,
                  kind = 'rollback' AS "is_rollback!",
                  EXISTS (SELECT 1 FROM step s WHERE s.deployment_id = d.id
                          AND s.undo_of IS NOT NULL) AS "is_undone!"
           FROM deployment d WHERE superseded_by = $1 AND cause = 'preempted'"#,
        by.uuid()
    )
    .fetch_optional(conn)
    .await?;
    Ok(row.map(|row| Preempted {
        id: DeploymentId::from_uuid(row.id),
        release_id: ReleaseId::from_uuid(row.release_id),
        previous_release_id: row.previous_release_id.map(ReleaseId::from_uuid),
        leaves_release_id: row.leaves_release_id.map(ReleaseId::from_uuid),
        is_rollback: row.is_rollback,
        is_undone: row.is_undone,
    }))
}

/// The deployment that acts on a lane.
pub(crate) async fn lock_acting(
    tx: &mut Tx,
    environment: EnvironmentId,
) -> Result<Option<Deployment>, Error> {
    let row = select_deployment!(
        "WHERE d.environment_id = $1 AND d.state IN ('running', 'waiting', 'cancelling')
         FOR UPDATE OF d",
        environment.uuid()
    )
    .fetch_optional(&mut **tx)
    .await?;
    Ok(row.map(Deployment::try_from).transpose()?)
}

/// The environment of a deployment, to lock its lane first.
pub(crate) async fn find_environment(
    conn: &mut PgConnection,
    id: DeploymentId,
) -> Result<Option<(SiteId, EnvironmentId)>, sqlx::Error> {
    let row = sqlx::query!(
        "SELECT site_id, environment_id FROM deployment WHERE id = $1",
        id.uuid()
    )
    .fetch_optional(conn)
    .await?;
    Ok(row.map(|row| {
        (
            SiteId::from_uuid(row.site_id),
            EnvironmentId::from_uuid(row.environment_id),
        )
    }))
}

/// Writes what a command changed, guarded by the version that `lock` read; the version rises by one.
pub(crate) async fn save(conn: &mut PgConnection, next: &mut Deployment) -> Result<(), Error> {
    let acting = next.state.acting().copied();
    let finished_at = match &next.state {
        State::Ended { at, .. } => Some(*at),
        _ => None,
    };
    let undo_ends = match &next.state {
        State::Cancelling { ends, .. } => Some(ends.word()),
        _ => None,
    };
    let left = next
        .deadline_left
        .map(|left| i64::try_from(left.as_millis()).unwrap_or(i64::MAX));
    let done = sqlx::query!(
        "UPDATE deployment SET state = $3, cause = $4, message = $5, fence = $6, version = $2 + 1,
             pinned = $7, weight = $8, started_at = $9, pivoted_at = $10, live_at = $11,
             finished_at = $12, deadline_at = $13, deadline_left_ms = $14, undo_ends = $15,
             previous_release_id = $16, superseded_by = $17, target_confirmed = $18,
             pinned_at = $19, pinned_by = $20, pin_reason = $21
         WHERE id = $1 AND version = $2",
        next.id.uuid(),
        next.version,
        next.state.word(),
        next.cause,
        next.message,
        next.fence,
        next.pin.is_some(),
        next.weight,
        acting.map(|acting| stored(acting.started_at)) as _,
        acting.and_then(|acting| acting.pivoted_at).map(stored) as _,
        acting.and_then(|acting| acting.live_at).map(stored) as _,
        finished_at.map(stored) as _,
        next.deadline_at.map(stored) as _,
        left,
        undo_ends,
        next.previous_release_id.map(ReleaseId::uuid),
        next.superseded_by.map(DeploymentId::uuid),
        next.target_confirmed,
        next.pin.as_ref().map(|pin| stored(pin.at)) as _,
        next.pin.as_ref().map_or("", |pin| &pin.by),
        next.pin.as_ref().map_or("", |pin| &pin.reason)
    )
    .execute(conn)
    .await?;
    if done.rows_affected() != 1 {
        return Err(Error::Version(next.id));
    }
    next.version += 1;
    Ok(())
}

/// Adds lines to the logs of deployments, in order.
pub(crate) async fn log(
    conn: &mut PgConnection,
    now: Moment,
    lines: &[Line],
) -> Result<(), sqlx::Error> {
    let ids: Vec<Uuid> = lines.iter().map(|line| line.deployment.uuid()).collect();
    let ords: Vec<i32> = lines.iter().map(|line| line.step_ord).collect();
    let words: Vec<String> = lines.iter().map(|line| line.words.clone()).collect();
    sqlx::query!(
        "INSERT INTO deployment_log (deployment_id, at, step_ord, message)
         SELECT d, $4, o, m FROM unnest($1::uuid[], $2::int[], $3::text[])
             WITH ORDINALITY AS l (d, o, m, n) ORDER BY n",
        &ids,
        &ords,
        &words,
        stored(now) as _
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// What tells whether there is something new about a deployment.
#[derive(Debug)]
pub(super) struct Glance {
    pub(super) version: i32,
    pub(super) terminal: bool,
    /// All that keeps it, as it is shown.
    pub(super) blockers: Vec<pb::Blocker>,
}

/// A glance at a deployment, in one statement: watchers look often.
pub(super) async fn find_glance(
    conn: &mut PgConnection,
    id: DeploymentId,
) -> Result<Option<Glance>, sqlx::Error> {
    let row = select_kept!(
        [query!] r#"SELECT d.version, d.finished_at IS NOT NULL AS "terminal!", "#,
        ["FROM deployment d WHERE d.id = $1"],
        id.uuid()
    )
    .fetch_optional(conn)
    .await?;
    Ok(row.map(|row| Glance {
        version: row.version,
        terminal: row.terminal,
        blockers: row.kept.0.shown(),
    }))
}
