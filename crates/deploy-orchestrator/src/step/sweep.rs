//! The sweep: deadlines that passed, and lanes that could grant. Everything else is prompt; this is
//! what makes a lost wake-up cost seconds only.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use candlefish_ids::{DeploymentId, EnvironmentId};
use sqlx::PgConnection;
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;
use uuid::Uuid;

use super::{AWAY, worker::chain};
use crate::{
    ctx::Ctx,
    deployment::{
        self, Error,
        apply::{Change, apply_and_record},
        event::SYSTEM,
        plan::{PLAN_VERSION, StepKind},
        state::{Cause, Event},
    },
    lane, stop, trace,
};

/// Lanes at once.
const LANES: i64 = 200;

/// In leases: for how long a late deployment is left to the worker that its step waits for. It is
/// longer than a suspect is left to an idle one: who has not come by then does not come.
const LEFT_FOR: u32 = 8;

/// What fails in each sweep is said again after this, as other outages are: its lane stands still meanwhile.
const AGAIN: Duration = Duration::from_mins(10);

/// What a sweep leaves as it is, for the next one.
#[derive(Debug, Default)]
pub(crate) struct Left {
    /// Late deployments that are left to a worker, and since when.
    late: HashMap<Uuid, Instant>,
    /// Deployments and lanes with which this sweep failed, and the one before, each with when that was said
    /// last.
    failing: HashMap<Uuid, Instant>,
    failed: HashMap<Uuid, Instant>,
}

impl Left {
    fn leaves(&mut self, id: Uuid, longest: Duration) -> bool {
        self.late.entry(id).or_insert_with(Instant::now).elapsed() < longest
    }

    /// A sweep begins: what failed in the one before is known.
    fn turn_over(&mut self) {
        self.failed = std::mem::take(&mut self.failing);
    }

    /// Notes how it went with one; true when it fails and that is to be said.
    fn fails_anew<T, E>(&mut self, id: Uuid, went: &Result<T, E>) -> bool {
        went.is_err() && self.fails_at(Instant::now(), id)
    }

    /// Notes that it fails with one; true when it did not in the sweep before, or was not said for [`AGAIN`].
    fn fails_at(&mut self, now: Instant, id: Uuid) -> bool {
        let lately = |said: &&Instant| now.saturating_duration_since(**said) < AGAIN;
        let said = self.failed.get(&id).filter(lately).copied();
        self.failing.insert(id, said.unwrap_or(now));
        said.is_none()
    }
}

/// Sweeps until `stopping`.
pub(crate) async fn run(ctx: Ctx, stopping: CancellationToken) {
    let mut left = Left::default();
    loop {
        if let Err(error) = sweep(&ctx, &mut left).await {
            tracing::debug!(error = %chain(&error), "a sweep failed; the next one looks again");
            // Nor could a worker come.
            left.late.clear();
        }
        tokio::select! {
            () = stopping.cancelled() => return,
            () = ctx.nudges.lanes.notified() => {}
            () = tokio::time::sleep(ctx.config.sweep) => {}
        }
    }
}

/// One sweep.
pub(crate) async fn sweep(ctx: &Ctx, left: &mut Left) -> Result<(), Error> {
    left.turn_over();
    end_all_late(ctx, left).await?;
    let lifted = stop::lift::end_expired(ctx).await;
    // No lane has this id.
    let is_new = left.fails_anew(Uuid::nil(), &lifted);
    if let (true, Err(error)) = (is_new, lifted) {
        tracing::warn!(error = %chain(&error), "a stop whose time has passed did not end");
    }
    choose_again(ctx, left).await
}

/// Lets the lanes choose that may have missed something: all of them, page by page, for a stop of
/// everything may have kept thousands.
async fn choose_again(ctx: &Ctx, told: &mut Left) -> Result<(), Error> {
    let mut after = None;
    loop {
        let mut conn = ctx.pool.acquire().await?;
        let left = lane::store::list_unheard(&mut conn, after, LANES).await?;
        drop(conn);
        after = left.last().copied();
        if after.is_none() {
            return Ok(());
        }
        for environment in left {
            let granted = grant(ctx, environment).await;
            let is_new = told.fails_anew(environment.uuid(), &granted);
            if let (true, Err(error)) = (is_new, granted) {
                tracing::warn!(
                    environment.id = %environment, error = %chain(&error), "a lane could not choose"
                );
            }
        }
    }
}

async fn grant(ctx: &Ctx, environment: EnvironmentId) -> Result<(), Error> {
    let mut tx = ctx.begin().await.map_err(Error::Begin)?;
    let mut lane = lane::store::lock(&mut tx, environment).await?;
    lane::grant(ctx, &mut tx, &mut lane).await?;
    Ok(ctx.commit(tx).await?)
}

/// Ends all that is late, however many cannot be ended: none of these may keep the others. One whose
/// step was due before its deadline, and nobody came, has that turn first: it moves the deadline.
async fn end_all_late(ctx: &Ctx, left: &mut Left) -> Result<(), Error> {
    let longest = LEFT_FOR * ctx.config.lease;
    let mut tried = Vec::new();
    loop {
        let mut conn = ctx.pool.acquire().await?;
        let late = list_late(&mut conn, &tried, ctx.config.lease).await?;
        drop(conn);
        if late.is_empty() {
            left.late.retain(|id, _| tried.contains(id));
            return Ok(());
        }
        for Late {
            environment,
            deployment,
            is_due,
        } in late
        {
            tried.push(deployment.uuid());
            if is_due && left.leaves(deployment.uuid(), longest) {
                continue;
            }
            let about = trace::about(deployment);
            let ended = end_late(ctx, environment, deployment)
                .instrument(about.clone())
                .await;
            let is_new = left.fails_anew(deployment.uuid(), &ended);
            if let (true, Err(error)) = (is_new, ended) {
                about.in_scope(|| {
                    tracing::warn!(
                        deployment.id = %deployment, error = %chain(&error),
                        "a passed deadline did not end it"
                    );
                });
            }
        }
    }
}

async fn end_late(ctx: &Ctx, environment: EnvironmentId, id: DeploymentId) -> Result<(), Error> {
    let mut tx = ctx.begin().await.map_err(Error::Begin)?;
    let mut lane = lane::store::lock(&mut tx, environment).await?;
    let Some(mut deployment) = deployment::store::lock(&mut tx, id).await? else {
        return Ok(());
    };
    let now = tx.now();
    if deployment.deadline_at.is_none_or(|deadline| deadline > now)
        || !deployment.state.holds_lane()
    {
        return Ok(());
    }
    let change = Change::new(Event::Stops(Cause::Deadline), SYSTEM, "its deadline passed");
    apply_and_record(&mut tx, &mut lane, &mut deployment, change).await?;
    lane::grant(ctx, &mut tx, &mut lane).await?;
    Ok(ctx.commit(tx).await?)
}

/// A deployment whose deadline has passed.
struct Late {
    environment: EnvironmentId,
    deployment: DeploymentId,
    /// Its step was due before that, and nobody came.
    is_due: bool,
}

/// Deployments whose deadline has passed and that were not tried yet, the longest overdue first.
async fn list_late(
    conn: &mut PgConnection,
    tried: &[Uuid],
    lease: Duration,
) -> Result<Vec<Late>, sqlx::Error> {
    let kinds = StepKind::ALL.map(|kind| kind.word().to_owned());
    let rows = sqlx::query!(
        r#"SELECT environment_id, id, EXISTS (
               SELECT 1 FROM step s WHERE s.deployment_id = d.id AND s.state IN ('ready', 'running')
                 AND s.kind = ANY($2) AND s.plan_version <= $3
                 AND GREATEST(s.run_at, s.lease_until - $5::bigint * interval '1 millisecond')
                     < LEAST(d.deadline_at,
                             (SELECT clock()) - $4::bigint * interval '1 millisecond')) AS "is_due!"
           FROM deployment d
           WHERE state IN ('running', 'waiting') AND deadline_at < (SELECT clock())
             AND id <> ALL($1)
           ORDER BY deadline_at LIMIT 100"#,
        tried,
        &kinds,
        PLAN_VERSION,
        i64::try_from(AWAY.as_millis()).unwrap_or(i64::MAX),
        i64::try_from(lease.as_millis()).unwrap_or(i64::MAX)
    )
    .fetch_all(conn)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| Late {
            environment: EnvironmentId::from_uuid(row.environment_id),
            deployment: DeploymentId::from_uuid(row.id),
            is_due: row.is_due,
        })
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fails_in_each_sweep_is_said_at_first_and_every_ten_minutes() {
        let (mut left, begins) = (Left::default(), Instant::now());
        let minutes = [0, 1, 9, 10, 11, 20];
        let said = minutes.map(|minute| {
            left.turn_over();
            left.fails_at(begins + Duration::from_mins(minute), Uuid::nil())
        });
        assert_eq!(said, [true, false, false, true, false, true]);
        // It went well once.
        left.turn_over();
        assert!(!left.fails_anew(Uuid::nil(), &Ok::<(), ()>(())));
        left.turn_over();
        assert!(left.fails_anew(Uuid::nil(), &Err::<(), ()>(())));
    }
}
