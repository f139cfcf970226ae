//! Comments that show the previews of pull requests.

use std::time::Duration;

use candlefish_ids::{DeploymentId, EnvironmentId, SiteId};
use sqlx::{PgConnection, postgres::types::PgInterval};
use uuid::Uuid;

use crate::github::comment::{CommentTurn, Mark, Shown};

/// Notes the pull requests whose previews are open and have no comment yet.
pub(in crate::github) async fn note_comments(conn: &mut PgConnection) -> Result<(), sqlx::Error> {
    // What was closed before anybody asked GitHub is not told of.
    sqlx::query!(
        "INSERT INTO github_comment (site_id, number, repository, retry_at)
         SELECT p.site_id, p.number, p.repository, clock()
         FROM pull_request p
         WHERE p.is_open AND p.environment_id IS NOT NULL
           AND NOT EXISTS (SELECT FROM github_comment g
                           WHERE g.site_id = p.site_id AND g.number = p.number)
         ON CONFLICT DO NOTHING"
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// A closed preview was opened again: its comment says so.
pub(in crate::github) async fn open_comment(
    conn: &mut PgConnection,
    environment: EnvironmentId,
) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "UPDATE github_comment g SET done_at = NULL, attempts = 0, retry_at = clock()
         FROM pull_request p
         WHERE p.environment_id = $1 AND g.site_id = p.site_id AND g.number = p.number",
        environment.uuid()
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Takes the next comment that does not say what is; it is not due again before the lease ends.
pub(in crate::github) async fn claim_comment(
    conn: &mut PgConnection,
    lease: Duration,
) -> Result<Option<CommentTurn>, sqlx::Error> {
    let row = sqlx::query!(
        r#"SELECT g.site_id, g.number, g.claim, g.attempts, g.repository, g.github_id, g.creating,
                  s.slug AS site, e.slug AS environment, n.id AS deployment_id, n.commit, n.message,
                  n.state AS "state!", e.close_reason, n.told AS "told!"
           FROM github_comment g
           JOIN site s ON s.id = g.site_id
           JOIN pull_request p ON p.site_id = g.site_id AND p.number = g.number
           JOIN environment e ON e.id = p.environment_id
           CROSS JOIN LATERAL (
               -- The deployment of the newest head.
               SELECT d.id, t.commit, d.message, w.state, concat_ws(' ', d.id, w.state) AS told
               FROM (SELECT commit, deployment_id FROM trigger
                     WHERE environment_id = e.id AND outcome = 'created'
                     ORDER BY id DESC LIMIT 1) t
               JOIN deployment d ON d.id = t.deployment_id
               CROSS JOIN LATERAL (SELECT CASE
                   WHEN e.closed_at IS NOT NULL THEN 'closed'
                   WHEN d.state = 'pending' THEN 'waiting'
                   WHEN d.state IN ('running', 'waiting', 'cancelling') THEN 'deploying'
                   WHEN d.state = 'succeeded' THEN 'live'
                   WHEN d.state IN ('failed', 'rolled_back') THEN 'failed'
                   ELSE 'ended' END AS state) w) n
           WHERE g.done_at IS NULL AND g.retry_at <= (SELECT clock()) AND g.told <> n.told
           ORDER BY g.retry_at LIMIT 1 FOR UPDATE OF g SKIP LOCKED"#
    )
    .fetch_optional(&mut *conn)
    .await?;
    let Some(row) = row else { return Ok(None) };
    begin_turn(conn, row.site_id, row.number, lease).await?;
    Ok(Some(CommentTurn {
        site_id: SiteId::from_uuid(row.site_id),
        number: row.number,
        claim: row.claim + 1,
        attempts: row.attempts + 1,
        repository: row.repository,
        github_id: row.github_id.and_then(|id| u64::try_from(id).ok()),
        creating: row.creating,
        told: row.told,
        shown: Shown {
            site: row.site,
            environment: row.environment,
            number: row.number,
            deployment: DeploymentId::from_uuid(row.deployment_id),
            commit: row.commit,
            state: row.state,
            message: row.message,
            close_reason: row.close_reason,
        },
    }))
}

async fn begin_turn(
    conn: &mut PgConnection,
    site: Uuid,
    number: i32,
    lease: Duration,
) -> Result<(), sqlx::Error> {
    let lease = PgInterval::try_from(lease).map_err(sqlx::Error::Encode)?;
    sqlx::query!(
        "UPDATE github_comment SET claim = claim + 1, attempts = attempts + 1,
             retry_at = clock() + $3::interval
         WHERE site_id = $1 AND number = $2",
        site,
        number,
        lease
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Writes down how far a turn is; false when another has begun.
pub(in crate::github) async fn mark_comment(
    conn: &mut PgConnection,
    turn: &CommentTurn,
    mark: Mark,
) -> Result<bool, sqlx::Error> {
    let (site, number, claim) = (turn.site_id.uuid(), turn.number, turn.claim);
    let query = match mark {
        Mark::Creating(begins) => sqlx::query!(
            "UPDATE github_comment SET creating = $4
             WHERE site_id = $1 AND number = $2 AND claim = $3",
            site,
            number,
            claim,
            begins
        ),
        Mark::Created(github_id) => sqlx::query!(
            "UPDATE github_comment SET github_id = $4, creating = false
             WHERE site_id = $1 AND number = $2 AND claim = $3",
            site,
            number,
            claim,
            i64::try_from(github_id).unwrap_or(i64::MAX)
        ),
        Mark::Told => sqlx::query!(
            "UPDATE github_comment SET told = $4, attempts = 0, note = '', retry_at = clock(),
                 -- It may have been opened again since the turn began.
                 done_at = CASE WHEN $5 AND EXISTS (
                     SELECT FROM pull_request p JOIN environment e ON e.id = p.environment_id
                     WHERE p.site_id = $1 AND p.number = $2 AND e.closed_at IS NOT NULL)
                     THEN clock() END
             WHERE site_id = $1 AND number = $2 AND claim = $3",
            site,
            number,
            claim,
            turn.told,
            turn.shown.is_closed()
        ),
    };
    Ok(query.execute(conn).await?.rows_affected() == 1)
}

/// The next turn comes later, or none.
pub(in crate::github) async fn put_comment_off(
    conn: &mut PgConnection,
    turn: &CommentTurn,
    pause: Duration,
    note: &str,
    given_up: bool,
) -> Result<(), sqlx::Error> {
    let pause = PgInterval::try_from(pause).map_err(sqlx::Error::Encode)?;
    sqlx::query!(
        "UPDATE github_comment SET retry_at = clock() + $4::interval, note = $5,
             done_at = CASE WHEN $6 THEN clock() END
         WHERE site_id = $1 AND number = $2 AND claim = $3",
        turn.site_id.uuid(),
        turn.number,
        turn.claim,
        pause,
        note,
        given_up
    )
    .execute(conn)
    .await?;
    Ok(())
}
