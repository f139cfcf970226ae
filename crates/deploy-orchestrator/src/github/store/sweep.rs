//! Repositories to sweep, and what is remembered of them.

use std::time::Duration;

use candlefish_ids::EnvironmentId;
use sqlx::{PgConnection, postgres::types::PgInterval};

use crate::github::sweep::{Due, Finished, Followed, Gap};

/// Notes the repositories of environments that take pushes, and of sites that give previews.
pub(in crate::github) async fn note_repositories(
    conn: &mut PgConnection,
) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "INSERT INTO github_repository (repository, due_at)
         SELECT DISTINCT lower(s.repository), clock() FROM environment e
         JOIN site s ON s.id = e.site_id AND s.repository <> ''
         WHERE e.kind = 'standard' AND e.push_branch <> ''
           AND NOT EXISTS (SELECT FROM github_repository g WHERE g.repository = lower(s.repository))
         UNION
         SELECT lower(s.repository), clock() FROM site s
         WHERE s.repository <> '' AND s.preview_from <> 'off'
           AND NOT EXISTS (SELECT FROM github_repository g WHERE g.repository = lower(s.repository))
         ON CONFLICT DO NOTHING"
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Notes the App's own webhook, which has no repository's name.
pub(in crate::github) async fn note_app(conn: &mut PgConnection) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "INSERT INTO github_repository (repository, due_at) VALUES ('', clock())
         ON CONFLICT DO NOTHING"
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Takes the repository that waits longest; it is not due again before the lease ends. The App's own webhook
/// comes first: what it is asked for is of any of the others. What a sweep left waits while the App's is due, is
/// swept, fails or asks on: `at_most` from when it is due, which is put off while something is brought, and `in_all`
/// from when its next sweep would have come, which is not.
pub(in crate::github) async fn claim_repository(
    conn: &mut PgConnection,
    lease: Duration,
    at_most: Duration,
    in_all: Duration,
) -> Result<Option<Due>, sqlx::Error> {
    let interval = |time: Duration| PgInterval::try_from(time).map_err(sqlx::Error::Encode);
    sqlx::query_as!(
        Due,
        r#"UPDATE github_repository SET due_at = clock() + $1::interval, attempts = attempts + 1
         WHERE repository = (
             SELECT g.repository FROM github_repository g WHERE g.due_at <= (SELECT clock())
               AND (g.repository = '' OR g.then_due_at IS NULL
                    OR g.due_at <= (SELECT clock()) - $2::interval
                    OR g.then_due_at <= (SELECT clock()) - $3::interval
                    OR NOT EXISTS (
                        SELECT FROM github_repository a
                        WHERE a.repository = ''
                          AND (a.due_at <= (SELECT clock()) OR a.attempts > 0 OR a.rounds > 0)))
             ORDER BY g.repository <> '', g.due_at LIMIT 1 FOR UPDATE OF g SKIP LOCKED)
         RETURNING repository, attempts, extract(epoch FROM clock() - swept_at)::bigint AS swept_ago,
             pulls_since, pulls_at, rounds, then_due_at IS NOT NULL AS "is_second!""#,
        interval(lease)?,
        interval(at_most)?,
        interval(in_all)?
    )
    .fetch_optional(conn)
    .await
}

/// A repository is swept, or failed to be. One that left something to the next sweep does not count among those that
/// failed one after the other, whatever failed in it, nor does it end them. Of those that ask on only one that failed
/// counts.
pub(in crate::github) async fn finish_repository(
    conn: &mut PgConnection,
    repository: &str,
    finished: Finished<'_>,
) -> Result<(), sqlx::Error> {
    let interval = |time: Duration| PgInterval::try_from(time).map_err(sqlx::Error::Encode);
    let then = finished.then.map(interval).transpose()?;
    sqlx::query!(
        "UPDATE github_repository SET note = $3,
             -- The second one goes on where the first would have.
             due_at = CASE WHEN $3 = '' AND $6 = 0 AND then_due_at IS NOT NULL THEN then_due_at
                           ELSE clock() + $2::interval END,
             then_due_at = clock() + $5::interval,
             -- Where a sweep outlasts its lease another one may have set it to 0 meanwhile.
             attempts = CASE WHEN $5::interval IS NOT NULL THEN greatest(attempts - 1, 0)
                             WHEN $3 <> '' THEN attempts
                             WHEN $6 > 0 THEN greatest(attempts - 1, 0) ELSE 0 END,
             rounds = $6,
             swept_at = CASE WHEN $4 THEN clock() ELSE swept_at END
         WHERE repository = $1",
        repository,
        interval(finished.pause)?,
        finished.note,
        finished.looked,
        then,
        finished.rounds
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// The App's own webhook is swept now. One that a process is sweeping, or that failed, is so once more after that: what
/// is missing since it looked is not in its list. One that asks on comes when it comes.
pub(in crate::github) async fn wake_app(conn: &mut PgConnection) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "UPDATE github_repository
         SET due_at = CASE WHEN attempts = 0 AND rounds = 0 THEN least(due_at, clock())
                           ELSE due_at END,
             then_due_at = CASE WHEN attempts > 0 AND rounds = 0 THEN clock() ELSE then_due_at END
         WHERE repository = ''"
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// What sweeps left, and would be due within `soon`, is not decided for the time of `pause`, unless it waits for as
/// long as `in_all` (as in [`claim_repository`]). A row that another process holds is being taken, or gets a head
/// start of its own.
pub(in crate::github) async fn put_repositories_off(
    conn: &mut PgConnection,
    pause: Duration,
    soon: Duration,
    in_all: Duration,
) -> Result<(), sqlx::Error> {
    let interval = |time: Duration| PgInterval::try_from(time).map_err(sqlx::Error::Encode);
    sqlx::query!(
        "UPDATE github_repository SET due_at = clock() + $1::interval
         WHERE repository IN (
             SELECT repository FROM github_repository
             WHERE repository <> '' AND due_at < (SELECT clock()) + $2::interval
               -- Unset where nothing was left.
               AND then_due_at > (SELECT clock()) - $3::interval
             ORDER BY repository FOR UPDATE SKIP LOCKED)",
        interval(pause)?,
        interval(soon)?,
        interval(in_all)?
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// The pull requests of a repository were looked at, in this second of GitHub's clock. Where not all of
/// them were decided, the next look goes back as far as this one.
pub(in crate::github) async fn save_pulls_at(
    conn: &mut PgConnection,
    repository: &str,
    at: i64,
    whole: bool,
) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "UPDATE github_repository SET pulls_at = CASE WHEN $3 THEN $2 ELSE pulls_at END,
             pulls_since = coalesce(pulls_since, $2)
         WHERE repository = $1",
        repository,
        at,
        whole
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// No site of the repository gives previews: when one does again, that begins anew. How far back the pull
/// requests that are known were looked at stays.
pub(in crate::github) async fn forget_pulls_since(
    conn: &mut PgConnection,
    repository: &str,
) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "UPDATE github_repository SET pulls_since = NULL WHERE repository = $1",
        repository
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// No environment follows it any more.
pub(in crate::github) async fn forget_repository(
    conn: &mut PgConnection,
    repository: &str,
) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "DELETE FROM github_repository WHERE repository = $1",
        repository
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Whether a site of the repository gives previews.
pub(in crate::github) async fn has_previews(
    conn: &mut PgConnection,
    repository: &str,
) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar!(
        r#"SELECT EXISTS (SELECT FROM site s WHERE lower(s.repository) = $1 AND s.repository <> ''
                          AND s.preview_from <> 'off') AS "has!""#,
        repository
    )
    .fetch_one(conn)
    .await
}

/// The branches of a repository that environments follow.
pub(in crate::github) async fn list_followed(
    conn: &mut PgConnection,
    repository: &str,
) -> Result<Vec<Followed>, sqlx::Error> {
    let rows = sqlx::query!(
        r#"SELECT e.id, s.repository, e.push_branch AS branch, b.commit AS "seen?",
                  p.commit AS "pushed?", coalesce(lower(p.repository) <> $1, false) AS "is_moved!"
           FROM site s
           JOIN environment e ON e.site_id = s.id AND e.kind = 'standard' AND e.push_branch <> ''
           LEFT JOIN github_branch b ON b.environment_id = e.id AND b.branch = e.push_branch
           LEFT JOIN LATERAL (
               SELECT t.commit, t.repository FROM trigger t
               WHERE t.environment_id = e.id AND t.branch = e.push_branch
                 -- That it was deleted says nothing of where it is.
                 AND t.commit <> ''
               ORDER BY t.pushed_at DESC NULLS LAST, EXISTS (
                   SELECT FROM trigger n
                   WHERE n.environment_id = t.environment_id AND n.branch = t.branch
                     AND n.pushed_at = t.pushed_at AND n.before_commit = t.commit
                     AND n.commit <> t.commit AND n.commit <> ''),
                   t.id DESC LIMIT 1) AS p ON true
           WHERE lower(s.repository) = $1 AND s.repository <> '' ORDER BY e.id"#,
        repository
    )
    .fetch_all(conn)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| Followed {
            environment: EnvironmentId::from_uuid(row.id),
            repository: row.repository,
            branch: row.branch,
            pushed: row.pushed,
            seen: row.seen,
            is_moved: row.is_moved,
        })
        .collect())
}

/// What is missing before pushes that were passed over by their files, since the newest one that was not:
/// that has whatever came before it. Oldest first. Without an earlier push nothing is known to be missing.
pub(in crate::github) async fn list_gaps(
    conn: &mut PgConnection,
    repository: &str,
) -> Result<Vec<Gap>, sqlx::Error> {
    let rows = sqlx::query!(
        r#"SELECT e.id, s.repository, e.push_branch AS branch, gap.commit AS "commit!",
                  gap.at AS "at!", known.commit AS "known!",
                  lower(known.repository) <> $1 AS "is_moved!"
           FROM site s
           JOIN environment e ON e.site_id = s.id AND e.kind = 'standard' AND e.push_branch <> ''
           CROSS JOIN LATERAL (
               SELECT t.before_commit AS commit, min(t.pushed_at) AS at FROM trigger t
               WHERE t.environment_id = e.id AND t.branch = e.push_branch
                 AND t.reason = 'paths' AND NOT t.swept AND t.before_commit <> ''
                 AND t.pushed_at >= coalesce((
                     SELECT max(d.pushed_at) FROM trigger d
                     WHERE d.environment_id = e.id AND d.branch = e.push_branch
                       AND d.outcome <> 'ignored'), 0)
                 -- What the sweep decided of the same commit was compared with what was known then.
                 AND NOT EXISTS (
                     SELECT FROM trigger o
                     WHERE o.environment_id = e.id AND o.branch = e.push_branch
                       AND o.commit IN (t.before_commit, t.commit)
                       AND (o.commit = t.before_commit OR o.swept))
                 -- Nor what was asked for lately, and is of another repository.
                 AND NOT EXISTS (
                     SELECT FROM github_gap g
                     WHERE g.environment_id = e.id AND g.branch = e.push_branch
                       AND g.commit = t.before_commit AND g.repository = $1
                       AND g.asked_at > (SELECT clock()) - interval '1 day')
               GROUP BY t.before_commit) AS gap
           CROSS JOIN LATERAL (
               SELECT k.commit, k.repository FROM trigger k
               WHERE k.environment_id = e.id AND k.branch = e.push_branch
                 AND k.pushed_at < gap.at AND k.commit <> ''
               ORDER BY k.pushed_at DESC, EXISTS (
                   SELECT FROM trigger n
                   WHERE n.environment_id = k.environment_id AND n.branch = k.branch
                     AND n.pushed_at = k.pushed_at AND n.before_commit = k.commit
                     AND n.commit <> k.commit AND n.commit <> ''),
                   k.id DESC LIMIT 1) AS known
           WHERE lower(s.repository) = $1 AND s.repository <> '' ORDER BY gap.at, e.id"#,
        repository
    )
    .fetch_all(conn)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| Gap {
            followed: Followed {
                environment: EnvironmentId::from_uuid(row.id),
                repository: row.repository,
                branch: row.branch,
                pushed: Some(row.known),
                seen: None,
                is_moved: row.is_moved,
            },
            commit: row.commit,
            at: row.at,
        })
        .collect())
}

/// Notes that what is missing was asked for, and that nothing is known before it in this repository: it is
/// asked for again in a day.
pub(in crate::github) async fn note_gap(
    conn: &mut PgConnection,
    followed: &Followed,
    commit: &str,
) -> Result<(), sqlx::Error> {
    sqlx::query!("DELETE FROM github_gap WHERE asked_at < (SELECT clock()) - interval '7 days'")
        .execute(&mut *conn)
        .await?;
    sqlx::query!(
        "INSERT INTO github_gap (environment_id, branch, commit, repository, asked_at)
         VALUES ($1, $2, $3, lower($4), clock())
         ON CONFLICT (environment_id, branch, commit)
         DO UPDATE SET repository = excluded.repository, asked_at = excluded.asked_at",
        followed.environment.uuid(),
        followed.branch,
        commit,
        followed.repository
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Remembers where a branch was.
pub(in crate::github) async fn save_seen(
    conn: &mut PgConnection,
    followed: &Followed,
    commit: &str,
) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "INSERT INTO github_branch (environment_id, branch, commit, seen_at)
         VALUES ($1, $2, $3, clock())
         ON CONFLICT (environment_id, branch)
         DO UPDATE SET commit = excluded.commit, seen_at = excluded.seen_at",
        followed.environment.uuid(),
        followed.branch,
        commit
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Notes that a delivery is asked for once more; false when it was lately, or when gateways refused it
/// three times: for a reason. What did not reach one is asked for as long as GitHub has it, at last
/// every twelfth time of `again`.
pub(in crate::github) async fn note_redelivery(
    conn: &mut PgConnection,
    repository: &str,
    guid: &str,
    refused: bool,
    again: Duration,
) -> Result<bool, sqlx::Error> {
    let again = PgInterval::try_from(again).map_err(sqlx::Error::Encode)?;
    // GitHub keeps a delivery for three days.
    sqlx::query!(
        "DELETE FROM github_redelivery WHERE asked_at < (SELECT clock()) - interval '7 days'"
    )
    .execute(&mut *conn)
    .await?;
    let noted = sqlx::query!(
        "INSERT INTO github_redelivery AS r (repository, guid, asked_at, times, refusals)
         VALUES ($1, $2, clock(), 1, $3::bool::int)
         ON CONFLICT (repository, guid) DO UPDATE
         SET asked_at = clock(), times = r.times + 1, refusals = r.refusals + excluded.refusals
         WHERE r.refusals < 3 AND r.asked_at < clock() - $4::interval * least(r.times, 12)",
        repository,
        guid,
        refused,
        again
    )
    .execute(conn)
    .await?;
    Ok(noted.rows_affected() == 1)
}

/// Whether any delivery was asked for once more within this time.
pub(in crate::github) async fn was_asked_lately(
    conn: &mut PgConnection,
    repository: &str,
    within: Duration,
) -> Result<bool, sqlx::Error> {
    let within = PgInterval::try_from(within).map_err(sqlx::Error::Encode)?;
    sqlx::query_scalar!(
        r#"SELECT EXISTS (SELECT FROM github_redelivery
                          WHERE repository = $1 AND asked_at > (SELECT clock()) - $2::interval)
           AS "was!""#,
        repository,
        within
    )
    .fetch_one(conn)
    .await
}

#[cfg(test)]
mod tests;
