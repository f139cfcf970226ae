//! Releases whose content is fetched from GitHub.

use std::time::Duration;

use candlefish_ids::ReleaseId;
use jiff_sqlx::Timestamp;
use sqlx::{PgConnection, postgres::types::PgInterval};

use crate::{github::archive::Wanted, release::expected::UNKNOWN};

/// Notes what pushes expect, and waits, of sites that are folders of their repositories.
pub(in crate::github) async fn note_archives(conn: &mut PgConnection) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "INSERT INTO github_archive (release_id, retry_at)
         SELECT DISTINCT r.id, clock()
         FROM deployment d
         JOIN release r ON r.id = d.release_id AND r.state = 'draft' AND r.commit <> ''
              AND NOT r.dirty
         JOIN site s ON s.id = r.site_id AND s.source = 'repository' AND s.repository <> ''
         WHERE d.state = 'pending'
           AND (r.manifest_digest = $1
                -- Once it was named: what a push made, and what is tried again of it.
                OR EXISTS (SELECT FROM deployment o JOIN trigger t ON t.deployment_id = o.id
                           WHERE o.release_id = r.id AND t.outcome = 'created'))
           AND NOT EXISTS (SELECT FROM github_archive g WHERE g.release_id = r.id)
         ON CONFLICT DO NOTHING",
        UNKNOWN.as_slice()
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Takes the one that waits longest; it is not due again before the lease ends.
pub(in crate::github) async fn claim_archive(
    conn: &mut PgConnection,
    lease: Duration,
) -> Result<Option<Wanted>, sqlx::Error> {
    let lease = PgInterval::try_from(lease).map_err(sqlx::Error::Encode)?;
    let row = sqlx::query!(
        r#"UPDATE github_archive g SET claim = g.claim + 1, attempts = g.attempts + 1,
               retry_at = clock() + $1::interval
           FROM release r JOIN site s ON s.id = r.site_id
           WHERE r.id = g.release_id AND g.release_id = (
               SELECT release_id FROM github_archive WHERE retry_at <= (SELECT clock())
               ORDER BY retry_at LIMIT 1 FOR UPDATE SKIP LOCKED)
           RETURNING g.release_id, g.claim, g.attempts, g.refusals, s.slug, s.repository, s.folder, r.commit,
               r.message, r.author, r.author_email, r.committed_at AS "committed_at: Timestamp",
               (SELECT b.branch FROM release_branch b WHERE b.release_id = r.id
                ORDER BY b.added_at, b.branch LIMIT 1) AS branch,
               r.state = 'draft' AND EXISTS (SELECT FROM deployment d
                   WHERE d.release_id = r.id AND d.state = 'pending') AS "is_needed!""#,
        lease
    )
    .fetch_optional(conn)
    .await?;
    Ok(row.map(|row| Wanted {
        release: ReleaseId::from_uuid(row.release_id),
        claim: row.claim,
        attempts: row.attempts,
        refusals: row.refusals,
        site: row.slug,
        repository: row.repository,
        folder: row.folder,
        commit: row.commit,
        branch: row.branch.unwrap_or_default(),
        message: row.message,
        author: row.author,
        author_email: row.author_email,
        committed_at: row.committed_at.map(Timestamp::to_jiff),
        is_needed: row.is_needed,
    }))
}

/// Renews the lease; false when another turn has begun.
pub(in crate::github) async fn keep_archive(
    conn: &mut PgConnection,
    wanted: &Wanted,
    lease: Duration,
) -> Result<bool, sqlx::Error> {
    let lease = PgInterval::try_from(lease).map_err(sqlx::Error::Encode)?;
    let kept = sqlx::query!(
        "UPDATE github_archive SET retry_at = clock() + $3::interval
         WHERE release_id = $1 AND claim = $2",
        wanted.release.uuid(),
        wanted.claim,
        lease
    )
    .execute(conn)
    .await?;
    Ok(kept.rows_affected() == 1)
}

/// The next turn comes later.
pub(in crate::github) async fn put_archive_off(
    conn: &mut PgConnection,
    wanted: &Wanted,
    pause: Duration,
    note: &str,
    (weight, outage): (i32, bool),
) -> Result<(), sqlx::Error> {
    let pause = PgInterval::try_from(pause).map_err(sqlx::Error::Encode)?;
    sqlx::query!(
        "UPDATE github_archive SET retry_at = clock() + $3::interval, note = $4,
             refusals = refusals + $5, outage = $6
         WHERE release_id = $1 AND claim = $2",
        wanted.release.uuid(),
        wanted.claim,
        pause,
        note,
        weight,
        outage
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// What waits for the content does so for this long at least: the deadline is not for outages.
pub(in crate::github) async fn prolong_content(
    conn: &mut PgConnection,
    wanted: &Wanted,
    at_least: Duration,
) -> Result<(), sqlx::Error> {
    let at_least = PgInterval::try_from(at_least).map_err(sqlx::Error::Encode)?;
    sqlx::query!(
        "UPDATE trigger t SET content_until = clock() + $2::interval
         FROM deployment d
         WHERE d.release_id = $1 AND d.state = 'pending' AND t.deployment_id = d.id
           AND t.outcome = 'created' AND t.content_until < clock() + $2::interval",
        wanted.release.uuid(),
        at_least
    )
    .execute(&mut *conn)
    .await?;
    // What no push made.
    sqlx::query!(
        "UPDATE deployment SET content_until = clock() + $2::interval
         WHERE release_id = $1 AND state = 'pending' AND content_until < clock() + $2::interval",
        wanted.release.uuid(),
        at_least
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Nothing is to be fetched any more.
pub(in crate::github) async fn forget_archive(
    conn: &mut PgConnection,
    wanted: &Wanted,
) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "DELETE FROM github_archive WHERE release_id = $1 AND claim = $2",
        wanted.release.uuid(),
        wanted.claim
    )
    .execute(conn)
    .await?;
    Ok(())
}
