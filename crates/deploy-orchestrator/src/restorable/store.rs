//! Every SQL string of the proof that releases are restorable.

use std::time::Duration;

use candlefish_ids::{Digest, EnvironmentId, ReleaseId};
use sqlx::PgConnection;

use crate::site::policy::Policy;

/// Deployments looked at for the releases of one environment; retries make more than releases.
const LOOKED_AT: i64 = 1000;

/// An environment whose proof is due.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Due {
    pub(super) id: EnvironmentId,
    /// `docs/production`.
    pub(super) place: String,
    pub(super) found_before: String,
    /// The last blob that was read.
    pub(super) after: Option<Digest>,
    keep: usize,
}

/// A release that must stay restorable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Kept {
    pub(super) release: ReleaseId,
    pub(super) manifest: Digest,
    /// Its content is gone, or goes.
    pub(super) is_collected: bool,
}

/// Takes the environment that waits longest for its proof, so that no other replica does.
pub(super) async fn take(
    conn: &mut PgConnection,
    taken_for: Duration,
) -> Result<Option<Due>, sqlx::Error> {
    let row = sqlx::query!(
        "UPDATE environment e
         SET restorable_due_at = clock() + $1::bigint * interval '1 millisecond'
         FROM site s
         WHERE s.id = e.site_id AND e.id = (
             SELECT id FROM environment
             WHERE live_release_id IS NOT NULL
               AND (restorable_due_at IS NULL OR restorable_due_at <= (SELECT clock()))
             ORDER BY restorable_due_at NULLS FIRST LIMIT 1 FOR UPDATE SKIP LOCKED)
         RETURNING e.id, s.slug AS site, e.slug, e.policy, e.not_restorable,
             e.restorable_after",
        millis(taken_for)
    )
    .fetch_optional(conn)
    .await?;
    Ok(row.map(|row| {
        let policy: Policy = serde_json::from_value(row.policy).unwrap_or_default();
        Due {
            id: EnvironmentId::from_uuid(row.id),
            place: format!("{}/{}", row.site, row.slug),
            found_before: row.not_restorable,
            after: row.restorable_after.and_then(digest),
            keep: usize::try_from(policy.keep_releases).unwrap_or(1),
        }
    }))
}

/// The last releases that succeeded in the environment, as many as its policy keeps, newest first.
pub(super) async fn list_kept(
    conn: &mut PgConnection,
    due: &Due,
) -> Result<Vec<Kept>, sqlx::Error> {
    let rows = sqlx::query!(
        r#"SELECT d.release_id, r.manifest_digest, r.collected_at IS NOT NULL AS "is_collected!"
           FROM deployment d JOIN release r ON r.id = d.release_id
           WHERE d.environment_id = $1 AND d.state = 'succeeded'
           ORDER BY d.admission DESC LIMIT $2"#,
        due.id.uuid(),
        LOOKED_AT
    )
    .fetch_all(conn)
    .await?;
    let mut kept: Vec<Kept> = Vec::new();
    for row in rows {
        let release = ReleaseId::from_uuid(row.release_id);
        if kept.iter().any(|one| one.release == release) {
            continue;
        }
        let Some(manifest) = digest(row.manifest_digest) else {
            continue;
        };
        kept.push(Kept {
            release,
            manifest,
            is_collected: row.is_collected,
        });
        if kept.len() == due.keep {
            break;
        }
    }
    Ok(kept)
}

/// Tells what was found, and when the next proof is due.
pub(super) async fn save(
    conn: &mut PgConnection,
    environment: EnvironmentId,
    found: &str,
    after: Option<Digest>,
    again_in: Duration,
) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "UPDATE environment SET not_restorable = $2, restorable_checked_at = clock(),
             restorable_after = $4,
             restorable_due_at = clock() + $3::bigint * interval '1 millisecond'
         WHERE id = $1",
        environment.uuid(),
        found,
        millis(again_in),
        after.as_ref().map(|digest| digest.as_bytes().as_slice())
    )
    .execute(conn)
    .await?;
    Ok(())
}

fn digest(bytes: Vec<u8>) -> Option<Digest> {
    Some(Digest::from_bytes(bytes.try_into().ok()?))
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}
