//! Every SQL string about deliveries and triggers.

use std::{collections::HashSet, time::Duration};

use candlefish_clock::Moment;
use candlefish_ids::{DeliveryId, DeploymentId, EnvironmentId, ReleaseId, SiteId, TriggerId};
use jiff_sqlx::{Timestamp, ToSqlx};
use sqlx::{PgConnection, postgres::types::PgInterval};
use uuid::Uuid;

mod ancestry;
mod gone;
mod list;
mod newest;
mod noted;
mod overdue;
mod undecided;

pub(super) use ancestry::save_ancestry;
pub(super) use gone::{is_decided_at_site, list_following};
pub(super) use list::{Asked, By, list};
pub(super) use newest::{find_later_push, find_newest_push, find_told};
pub(super) use noted::{Noted, find_noted};
pub(super) use overdue::{Overdue, close_content, list_overdue};
pub(super) use undecided::{Undecided, find_before_newest, find_undecided};

use super::{About, Delivery, outcome::Outcome, push::Push};
use crate::{ctx::stored, site::Environment};

/// Notes a delivery to do; one that is known stays as it is.
pub(super) async fn insert_delivery(
    conn: &mut PgConnection,
    id: DeliveryId,
    event: &str,
    received_at: jiff::Timestamp,
) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "INSERT INTO delivery (id, event, received_at, retry_at) VALUES ($1, $2, $3, clock())
         ON CONFLICT DO NOTHING",
        id.uuid(),
        event,
        received_at.to_sqlx() as _
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Deliveries to do, the one that waits longest first.
pub(super) async fn list_due(
    conn: &mut PgConnection,
    limit: i64,
) -> Result<Vec<Delivery>, sqlx::Error> {
    let rows = sqlx::query!(
        r#"SELECT id, event, received_at AS "received_at: Timestamp", attempts FROM delivery
           WHERE done_at IS NULL AND retry_at <= (SELECT clock()) ORDER BY retry_at LIMIT $1"#,
        limit
    )
    .fetch_all(conn)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| Delivery {
            id: DeliveryId::from_uuid(row.id),
            event: row.event,
            received_at: row.received_at.to_jiff(),
            attempts: row.attempts,
            traceparent: String::new(),
        })
        .collect())
}

/// Tries a delivery again later.
pub(super) async fn put_off(
    conn: &mut PgConnection,
    id: DeliveryId,
    pause: Duration,
    note: &str,
) -> Result<(), sqlx::Error> {
    let pause = PgInterval::try_from(pause).map_err(sqlx::Error::Encode)?;
    sqlx::query!(
        "UPDATE delivery SET attempts = attempts + 1, retry_at = clock() + $2::interval, note = $3
         WHERE id = $1 AND done_at IS NULL",
        id.uuid(),
        pause,
        note
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// A delivery is done.
pub(super) async fn finish(
    conn: &mut PgConnection,
    id: DeliveryId,
    note: &str,
) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "UPDATE delivery SET done_at = clock(), note = $2 WHERE id = $1 AND done_at IS NULL",
        id.uuid(),
        note
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// A site of a repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SiteOf {
    pub(super) id: SiteId,
    pub(super) slug: String,
}

/// The sites of a repository, whatever the case of its name.
pub(super) async fn list_sites(
    conn: &mut PgConnection,
    repository: &str,
) -> Result<Vec<SiteOf>, sqlx::Error> {
    let rows = sqlx::query!(
        "SELECT id, slug FROM site WHERE lower(repository) = lower($1) AND repository <> ''
         ORDER BY slug",
        repository
    )
    .fetch_all(conn)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| SiteOf {
            id: SiteId::from_uuid(row.id),
            slug: row.slug,
        })
        .collect())
}

/// The environments of a site that take pushes to any branch, by slug.
pub(super) async fn list_taking_pushes(
    conn: &mut PgConnection,
    site: SiteId,
) -> Result<Vec<EnvironmentId>, sqlx::Error> {
    let ids = sqlx::query_scalar!(
        "SELECT id FROM environment WHERE site_id = $1 AND kind = 'standard' AND push_branch <> ''
         ORDER BY slug",
        site.uuid()
    )
    .fetch_all(conn)
    .await?;
    Ok(ids.into_iter().map(EnvironmentId::from_uuid).collect())
}

/// Where a trigger belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) site: Option<SiteId>,
    pub(super) environment: Option<EnvironmentId>,
}

/// Whether a delivery has its trigger there.
pub(super) async fn is_decided(
    conn: &mut PgConnection,
    delivery: DeliveryId,
    place: Place,
) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar!(
        r#"SELECT EXISTS (SELECT 1 FROM trigger WHERE delivery_id = $1
               AND site_id IS NOT DISTINCT FROM $2
               AND environment_id IS NOT DISTINCT FROM $3) AS "decided!""#,
        delivery.uuid(),
        place.site.map(SiteId::uuid),
        place.environment.map(EnvironmentId::uuid)
    )
    .fetch_one(conn)
    .await
}

/// A trigger to write.
#[derive(Debug)]
pub(super) struct New<'a> {
    pub(super) id: TriggerId,
    pub(super) delivery: &'a Delivery,
    pub(super) about: &'a About,
    pub(super) place: Place,
    pub(super) outcome: &'a Outcome,
    pub(super) message: &'a str,
    pub(super) content_until: Option<Moment>,
    pub(super) joined: bool,
    /// No delivery told of it.
    pub(super) swept: bool,
}

pub(super) async fn insert(
    conn: &mut PgConnection,
    now: Moment,
    new: &New<'_>,
) -> Result<(), sqlx::Error> {
    let about = new.about;
    // A second replica that decided the same at the same moment wrote the same.
    sqlx::query!(
        "INSERT INTO trigger (id, delivery_id, repository, branch, commit, before_commit, pushed_at,
             sender, site_id, environment_id, outcome, reason, message, deployment_id, received_at,
             created_at, content_until, joined_at, swept, event, pull_request)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18,
             $19, $20, $21)
         ON CONFLICT ON CONSTRAINT trigger_once DO NOTHING",
        new.id.uuid(),
        new.delivery.id.uuid(),
        about.repository,
        about.branch,
        about.commit,
        about.before,
        about.pushed_at,
        about.sender,
        new.place.site.map(SiteId::uuid),
        new.place.environment.map(EnvironmentId::uuid),
        new.outcome.word(),
        new.outcome.reason(),
        new.message,
        new.outcome.deployment().map(DeploymentId::uuid),
        new.delivery.received_at.to_sqlx() as _,
        stored(now) as _,
        new.content_until.map(stored) as _,
        new.joined.then(|| stored(now)) as _,
        new.swept,
        new.delivery.event,
        about.pull_request
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// A push that is decided already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Same {
    /// The one that it made, if any.
    pub(super) deployment: Option<DeploymentId>,
    /// The sweep found it; else another delivery told of it.
    pub(super) swept: bool,
}

/// What decided this very push here first: another delivery that told of it, or the sweep, which found
/// what it brought.
pub(super) async fn find_same_push(
    conn: &mut PgConnection,
    environment: EnvironmentId,
    push: &Push,
) -> Result<Option<Same>, sqlx::Error> {
    let Some(pushed_at) = push.pushed_at else {
        return Ok(None);
    };
    let row = sqlx::query!(
        "SELECT deployment_id, swept FROM trigger
         WHERE environment_id = $1 AND commit = $2 AND branch = $5
             AND (before_commit = $3 AND pushed_at = $4 OR swept AND pushed_at >= $4)
         ORDER BY id LIMIT 1",
        environment.uuid(),
        push.after,
        push.before,
        pushed_at,
        push.branch()
    )
    .fetch_optional(conn)
    .await?;
    Ok(row.map(|row| Same {
        deployment: row.deployment_id.map(DeploymentId::from_uuid),
        swept: row.swept,
    }))
}

/// The deployment of a commit that a push of it is: one that is open or live, or one that an upload
/// made a little before and that ended since.
pub(super) async fn find_joinable(
    conn: &mut PgConnection,
    environment: &Environment,
    commit: &str,
) -> Result<Option<DeploymentId>, sqlx::Error> {
    let lately = environment.policy.content_deadline;
    let lately = PgInterval::try_from(lately).map_err(sqlx::Error::Encode)?;
    let id = sqlx::query_scalar!(
        "SELECT d.id FROM release r JOIN deployment d ON d.release_id = r.id
         WHERE r.site_id = $1 AND r.commit = $2 AND r.commit <> '' AND NOT r.dirty
           AND d.environment_id = $3 AND d.kind = 'standard'
           AND (d.state IN ('pending', 'running', 'waiting') OR d.id = $4
                OR (d.finished_at IS NOT NULL AND d.created_at > clock() - $5::interval
                    AND NOT EXISTS (SELECT 1 FROM trigger t
                                    WHERE t.deployment_id = d.id AND t.outcome = 'created')))
         ORDER BY d.id DESC LIMIT 1",
        environment.site_id.uuid(),
        commit,
        environment.id.uuid(),
        environment
            .live
            .as_ref()
            .and_then(|live| live.deployment_id)
            .map(DeploymentId::uuid),
        lately
    )
    .fetch_optional(conn)
    .await?;
    Ok(id.map(DeploymentId::from_uuid))
}

/// A deployment that a push made, for a call that asks for the same.
#[derive(Debug)]
pub(super) struct Joinable {
    pub(super) trigger: TriggerId,
    pub(super) deployment: DeploymentId,
    /// It has this release.
    pub(super) same: bool,
    /// It is pending, and its own release may be replaced: nothing of it is there.
    pub(super) open: bool,
}

/// The newest deployment that a push of a release's commit made here, and that no call joined: one
/// that is open or live, that gave way to a newer one, or that a person cancelled lately. One that
/// ended otherwise is over: who asks for the release now wants another. Needs the lane's lock.
pub(super) async fn find_unjoined(
    conn: &mut PgConnection,
    environment: &Environment,
    release: ReleaseId,
) -> Result<Option<Joinable>, sqlx::Error> {
    let lately = environment.policy.content_deadline;
    let lately = PgInterval::try_from(lately).map_err(sqlx::Error::Encode)?;
    let live = environment
        .live
        .as_ref()
        .and_then(|live| live.deployment_id);
    let row = sqlx::query!(
        r#"SELECT t.id, d.id AS deployment_id, d.release_id = w.id AS "same!",
                  d.state = 'pending' AND r.state <> 'sealed' AS "open!"
           FROM release w
           JOIN trigger t ON t.environment_id = $1 AND t.commit = w.commit
           JOIN deployment d ON d.id = t.deployment_id
           JOIN release r ON r.id = d.release_id
           WHERE w.id = $2 AND w.commit <> '' AND NOT w.dirty
             AND t.outcome = 'created' AND t.joined_at IS NULL
             AND (d.finished_at IS NULL OR d.state = 'superseded' OR d.id = $3
                  OR (d.state = 'cancelled' AND d.finished_at > clock() - $4::interval))
           ORDER BY t.id DESC LIMIT 1"#,
        environment.id.uuid(),
        release.uuid(),
        live.map(DeploymentId::uuid),
        lately
    )
    .fetch_optional(conn)
    .await?;
    Ok(row.map(|row| Joinable {
        trigger: TriggerId::from_uuid(row.id),
        deployment: DeploymentId::from_uuid(row.deployment_id),
        same: row.same,
        open: row.open,
    }))
}

/// Environments, of those asked for with a release each, in which a push of the release's commit made
/// a deployment that no call joined: [`find_unjoined`] may have one to join.
pub(crate) async fn list_with_unjoined(
    conn: &mut PgConnection,
    asked: &[(EnvironmentId, ReleaseId)],
) -> Result<HashSet<EnvironmentId>, sqlx::Error> {
    let environments: Vec<Uuid> = asked.iter().map(|(id, _)| id.uuid()).collect();
    let releases: Vec<Uuid> = asked.iter().map(|(_, id)| id.uuid()).collect();
    let ids = sqlx::query_scalar!(
        r#"SELECT n.environment AS "environment!"
           FROM unnest($1::uuid[], $2::uuid[]) AS n (environment, release)
           JOIN release w ON w.id = n.release AND w.commit <> ''
           WHERE EXISTS (SELECT 1 FROM trigger t
                         WHERE t.environment_id = n.environment AND t.commit = w.commit
                           AND t.outcome = 'created' AND t.joined_at IS NULL)"#,
        &environments,
        &releases
    )
    .fetch_all(conn)
    .await?;
    Ok(ids.into_iter().map(EnvironmentId::from_uuid).collect())
}

/// A call has joined the deployment of a trigger; it brings this release. Needs the lane's lock.
pub(super) async fn save_joined(
    conn: &mut PgConnection,
    now: Moment,
    joinable: &Joinable,
    release: ReleaseId,
) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "UPDATE trigger SET joined_at = $2 WHERE id = $1",
        joinable.trigger.uuid(),
        stored(now) as _
    )
    .execute(&mut *conn)
    .await?;
    if !joinable.same {
        sqlx::query!(
            "UPDATE deployment SET release_id = $2, version = version + 1
             WHERE id = $1 AND state = 'pending'",
            joinable.deployment.uuid(),
            release.uuid()
        )
        .execute(conn)
        .await?;
    }
    Ok(())
}

/// Forgets deliveries that were done long ago; answers how many. Their triggers stay.
pub(super) async fn forget_done(
    conn: &mut PgConnection,
    age: Duration,
    limit: i64,
) -> Result<u64, sqlx::Error> {
    let age = PgInterval::try_from(age).map_err(sqlx::Error::Encode)?;
    let done = sqlx::query!(
        "DELETE FROM delivery WHERE id IN (
             SELECT id FROM delivery WHERE done_at < (SELECT clock()) - $1::interval
             ORDER BY done_at LIMIT $2 FOR UPDATE SKIP LOCKED)",
        age,
        limit
    )
    .execute(conn)
    .await?;
    Ok(done.rows_affected())
}
