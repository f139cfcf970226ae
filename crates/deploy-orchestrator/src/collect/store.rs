//! Every SQL string of collecting, but those about blobs.

use std::time::Duration;

use candlefish_clock::Moment;
use candlefish_ids::{Digest, EnvironmentId, ReleaseId};
use sqlx::PgConnection;
use uuid::Uuid;

use crate::{ctx::stored, site::policy::Policy};

/// Releases that an environment can keep at most; counting goes no further.
const MOST_KEPT: i64 = 100;
/// Idle drafts unnamed in one round.
const DRAFTS: i64 = 1_000;

/// Takes the turn when it is due.
pub(super) async fn take(conn: &mut PgConnection, lasts: Duration) -> Result<bool, sqlx::Error> {
    let done = sqlx::query!(
        "UPDATE collector SET due_at = clock() + $1::bigint * interval '1 millisecond'
         WHERE due_at <= clock()",
        millis(lasts)
    )
    .execute(conn)
    .await?;
    Ok(done.rows_affected() == 1)
}

pub(super) async fn keep_turn(conn: &mut PgConnection, lasts: Duration) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "UPDATE collector SET due_at = clock() + $1::bigint * interval '1 millisecond'",
        millis(lasts)
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// The round is over; answers when, in seconds since 1970.
pub(super) async fn finish(
    conn: &mut PgConnection,
    again_in: Duration,
) -> Result<f64, sqlx::Error> {
    sqlx::query_scalar!(
        r#"UPDATE collector SET finished_at = clock(),
               due_at = clock() + $1::bigint * interval '1 millisecond'
           RETURNING extract(epoch FROM finished_at)::float8 AS "at!""#,
        millis(again_in)
    )
    .fetch_one(conn)
    .await
}

/// Sealed releases that no row of `blob` counts.
pub(super) async fn list_uncounted(
    conn: &mut PgConnection,
    after: Option<ReleaseId>,
    limit: i64,
) -> Result<Vec<(ReleaseId, Digest)>, sqlx::Error> {
    let rows = sqlx::query!(
        "SELECT id, manifest_digest FROM release
         WHERE state = 'sealed' AND collected_at IS NULL AND named_at IS NULL AND id > $1
         ORDER BY id LIMIT $2",
        after.map_or(Uuid::nil(), ReleaseId::uuid),
        limit
    )
    .fetch_all(conn)
    .await?;
    let rows = rows.into_iter();
    Ok(rows
        .filter_map(|row| named(row.id, row.manifest_digest))
        .collect())
}

/// Sealed releases to look at.
pub(super) async fn list_due(
    conn: &mut PgConnection,
    limit: i64,
) -> Result<Vec<(ReleaseId, Digest)>, sqlx::Error> {
    let rows = sqlx::query!(
        "SELECT id, manifest_digest FROM release
         WHERE state = 'sealed' AND collected_at IS NULL AND collect_due_at <= (SELECT clock())
         ORDER BY collect_due_at LIMIT $1",
        limit
    )
    .fetch_all(conn)
    .await?;
    let rows = rows.into_iter();
    Ok(rows
        .filter_map(|row| named(row.id, row.manifest_digest))
        .collect())
}

/// A release that is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Found {
    /// Its blobs are counted.
    pub(super) counted: bool,
    /// It is young, live, acted on or named by a route.
    pub(super) kept: bool,
}

/// Locks a release against being deployed and says whether something keeps it. What it says is true
/// until the transaction ends: whoever makes it untrue shares the lock.
pub(super) async fn lock_due(
    conn: &mut PgConnection,
    id: ReleaseId,
    after: Duration,
) -> Result<Option<Found>, sqlx::Error> {
    let locked = sqlx::query_scalar!(
        "SELECT id FROM release
         WHERE id = $1 AND state = 'sealed' AND collected_at IS NULL FOR UPDATE",
        id.uuid()
    )
    .fetch_optional(&mut *conn)
    .await?;
    if locked.is_none() {
        return Ok(None);
    }
    // A statement of its own: it sees what was committed while the lock was waited for.
    let found = sqlx::query_as!(
        Found,
        r#"SELECT r.named_at IS NOT NULL AS "counted!",
               (r.sealed_at > clock() - $2::bigint * interval '1 millisecond'
                OR EXISTS (SELECT 1 FROM deployment d WHERE d.release_id = r.id
                           AND d.finished_at IS NULL)
                OR EXISTS (SELECT 1 FROM deployment d WHERE d.site_id = r.site_id
                           AND d.finished_at IS NULL AND d.previous_release_id = r.id)
                OR EXISTS (SELECT 1 FROM environment e WHERE e.site_id = r.site_id
                           AND e.live_release_id = r.id)
                OR EXISTS (SELECT 1 FROM deployment d JOIN route o ON o.deployment_id = d.id
                           WHERE d.release_id = r.id AND o.releases <> '[]')
                OR EXISTS (SELECT 1 FROM deployment d
                           JOIN route o ON o.environment_id = d.environment_id
                           WHERE d.release_id = r.id
                             AND (o.releases @> n.manifest OR o.assets_of @> n.manifest))) AS "kept!"
           FROM release r, LATERAL (SELECT jsonb_build_array(jsonb_build_object(
                'manifest', encode(r.manifest_digest, 'hex'))) AS manifest) n
           WHERE r.id = $1"#,
        id.uuid(),
        millis(after)
    )
    .fetch_one(conn)
    .await?;
    Ok(Some(found))
}

/// An environment in which the release succeeded, and to which it may come back: a lasting one, or the
/// preview of a pull request while that is open. A single preview has nothing before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) environment: EnvironmentId,
    pub(super) live: Option<ReleaseId>,
    /// What would be left if that which acts were undone, or a rollback that acts leaves.
    pub(super) acts: Option<ReleaseId>,
    /// Where a rollback goes that acts and has moved no traffic: its undo passes it over should it fail.
    pub(super) goes: Option<ReleaseId>,
    /// Other releases that succeeded there since.
    pub(super) newer: i64,
    /// As many as its policy keeps.
    pub(super) keep: i64,
}

pub(super) async fn list_places(
    conn: &mut PgConnection,
    id: ReleaseId,
) -> Result<Vec<Place>, sqlx::Error> {
    let rows = sqlx::query!(
        r#"SELECT e.id, e.policy, e.live_release_id,
                  (SELECT CASE WHEN a.pivoted_at IS NULL THEN a.leaves_release_id
                               ELSE a.release_id END
                   FROM deployment a WHERE a.environment_id = e.id
                     AND a.state IN ('running', 'waiting', 'cancelling')) AS acts,
                  (SELECT a.release_id FROM deployment a WHERE a.environment_id = e.id
                     AND a.state IN ('running', 'waiting', 'cancelling')
                     AND a.kind = 'rollback' AND a.pivoted_at IS NULL) AS goes,
                  (SELECT count(*) FROM (
                       SELECT DISTINCT n.release_id FROM deployment n
                       WHERE n.environment_id = e.id AND n.state = 'succeeded'
                         AND n.finished_at IS NOT NULL AND n.admission > m.last AND n.release_id <> $1
                       LIMIT $2) AS other) AS "newer!"
           FROM (SELECT d.environment_id, max(d.admission) AS last FROM deployment d
                 WHERE d.release_id = $1 AND d.state = 'succeeded' GROUP BY 1) m
           JOIN environment e ON e.id = m.environment_id
           WHERE e.kind = 'standard' OR (e.pull_request IS NOT NULL AND e.closed_at IS NULL)"#,
        id.uuid(),
        MOST_KEPT
    )
    .fetch_all(conn)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| {
            let policy: Policy = serde_json::from_value(row.policy).unwrap_or_default();
            Place {
                environment: EnvironmentId::from_uuid(row.id),
                live: row.live_release_id.map(ReleaseId::from_uuid),
                acts: row.acts.map(ReleaseId::from_uuid),
                goes: row.goes.map(ReleaseId::from_uuid),
                newer: row.newer,
                keep: i64::from(policy.keep_releases),
            }
        })
        .collect())
}

pub(super) async fn look_later(
    conn: &mut PgConnection,
    id: ReleaseId,
    again_in: Duration,
) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "UPDATE release SET collect_due_at = clock() + $2::bigint * interval '1 millisecond'
         WHERE id = $1",
        id.uuid(),
        millis(again_in)
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// The release is locked.
pub(super) async fn collect(
    conn: &mut PgConnection,
    now: Moment,
    id: ReleaseId,
) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "UPDATE release SET collected_at = $2, named_at = NULL WHERE id = $1",
        id.uuid(),
        stored(now) as _
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Drafts that name blobs and on which nobody worked for so long, oldest first.
pub(super) async fn list_idle_drafts(
    conn: &mut PgConnection,
    after: Duration,
) -> Result<Vec<(ReleaseId, Digest)>, sqlx::Error> {
    let rows = sqlx::query!(
        "SELECT id, manifest_digest FROM release
         WHERE state = 'draft' AND named_at < (SELECT clock()) - $1::bigint * interval '1 millisecond'
         ORDER BY named_at LIMIT $2",
        millis(after),
        DRAFTS
    )
    .fetch_all(conn)
    .await?;
    let rows = rows.into_iter();
    Ok(rows
        .filter_map(|row| named(row.id, row.manifest_digest))
        .collect())
}

/// It counts as worked on just now, if it is idle still: it goes on naming its blobs, and comes after all others.
pub(super) async fn look_at_draft_later(
    conn: &mut PgConnection,
    id: ReleaseId,
    after: Duration,
) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "UPDATE release SET named_at = clock()
         WHERE id = $1 AND state = 'draft'
           AND named_at < clock() - $2::bigint * interval '1 millisecond'",
        id.uuid(),
        millis(after)
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// True when it was still idle: the caller unnames its blobs.
pub(super) async fn unname_draft(
    conn: &mut PgConnection,
    id: ReleaseId,
    after: Duration,
) -> Result<bool, sqlx::Error> {
    let done = sqlx::query!(
        "UPDATE release SET named_at = NULL
         WHERE id = $1 AND state = 'draft'
           AND named_at < clock() - $2::bigint * interval '1 millisecond'",
        id.uuid(),
        millis(after)
    )
    .execute(conn)
    .await?;
    Ok(done.rows_affected() == 1)
}

fn named(id: Uuid, manifest: Vec<u8>) -> Option<(ReleaseId, Digest)> {
    let manifest = Digest::from_bytes(manifest.try_into().ok()?);
    Some((ReleaseId::from_uuid(id), manifest))
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}
