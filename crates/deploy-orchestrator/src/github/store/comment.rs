//! Comments that show the previews of pull requests.

use std::time::Duration;

use candlefish_ids::{DeploymentId, EnvironmentId};
use serde::Deserialize;
use sqlx::{PgConnection, postgres::types::PgInterval, types::Json};
use uuid::Uuid;

use crate::github::{
    comment::{CommentTurn, Mark, Shown},
    turns::Ending,
};

/// Notes the pull requests that have an open preview and no comment yet, and those whose comment was
/// done before another site gave them one.
pub(in crate::github) async fn note_comments(conn: &mut PgConnection) -> Result<(), sqlx::Error> {
    // What was closed before anybody asked GitHub is not told of, and what is given up stays so.
    sqlx::query!(
        "INSERT INTO github_pull_comment AS g (repository, number, retry_at)
         SELECT lower(p.repository), p.number, clock()
         FROM pull_request p JOIN environment e ON e.id = p.environment_id
         WHERE p.is_open AND e.closed_at IS NULL
           AND NOT EXISTS (SELECT FROM github_pull_comment k
                           WHERE k.repository = lower(p.repository) AND k.number = p.number
                             AND (k.done_at IS NULL OR k.given_up))
         GROUP BY lower(p.repository), p.number
         ON CONFLICT (repository, number) DO UPDATE SET done_at = NULL, retry_at = clock()
             WHERE g.done_at IS NOT NULL AND NOT g.given_up"
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// A closed preview was opened again: the comment says so, also if it was given up.
pub(in crate::github) async fn open_comment(
    conn: &mut PgConnection,
    environment: EnvironmentId,
) -> Result<(), sqlx::Error> {
    // One that is not done has its turn, or is in one, whose call must end before the next.
    sqlx::query!(
        "UPDATE github_pull_comment g SET done_at = NULL, given_up = false, attempts = 0,
             refusals = 0, retry_at = clock()
         FROM pull_request p
         WHERE p.environment_id = $1 AND g.repository = lower(p.repository)
           AND g.number = p.number AND g.done_at IS NOT NULL",
        environment.uuid()
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// A preview as a claim reads it.
#[derive(Debug, Deserialize)]
struct Preview {
    site: String,
    environment: String,
    deployment: Uuid,
    commit: String,
    state: String,
    keeps: String,
    message: String,
    close_reason: String,
}

/// Takes the next comment that does not say what is; it is not due again before the lease ends.
///
/// It tells of the deployment of the newest head, or of what made the head's commit live after it, such
/// as a retry.
pub(in crate::github) async fn claim_comment(
    conn: &mut PgConnection,
    lease: Duration,
) -> Result<Option<CommentTurn>, sqlx::Error> {
    let row = sqlx::query!(
        r#"SELECT g.repository, g.number, g.claim, g.attempts, g.refusals, g.github_id, g.creating,
                  n.told AS "told!", n.previews AS "previews!: Json<Vec<Preview>>"
           FROM github_pull_comment g
           CROSS JOIN LATERAL (
               SELECT string_agg(concat_ws(' ', o.site, o.deployment, o.state, nullif(o.keeps, '')),
                                 ', ' ORDER BY o.site) AS told,
                      jsonb_agg(o ORDER BY o.site) AS previews
               FROM (SELECT s.slug AS site, e.slug AS environment, t.commit, d.message,
                            coalesce(y.id, d.id) AS deployment, e.close_reason,
                            CASE WHEN e.closed_at IS NOT NULL THEN 'closed'
                                 WHEN d.state = 'pending' THEN 'waiting'
                                 WHEN d.finished_at IS NULL THEN 'deploying'
                                 WHEN y.id IS NOT NULL THEN 'live'
                                 WHEN d.state IN ('failed', 'rolled_back') AND NOT EXISTS (
                                     SELECT FROM deployment k JOIN release l ON l.id = k.release_id
                                     WHERE k.environment_id = e.id AND k.state = 'succeeded'
                                       AND k.admission > d.admission AND l.commit = t.commit
                                       AND NOT l.dirty) THEN 'failed'
                                 WHEN e.live_release_id IS NOT NULL THEN 'replaced'
                                 ELSE 'ended' END AS state,
                            CASE WHEN e.closed_at IS NULL AND d.state = 'pending' THEN concat_ws(' ',
                                CASE WHEN r.state <> 'sealed' THEN 'content' END,
                                CASE WHEN e.hold_since IS NOT NULL THEN 'hold' END,
                                CASE WHEN EXISTS (SELECT FROM stop k
                                    WHERE k.ended_at IS NULL AND k.until > (SELECT clock())
                                      AND (k.site_id = e.site_id OR k.site_id IS NULL))
                                    THEN 'stop' END) ELSE '' END AS keeps
                     FROM pull_request p
                     JOIN site s ON s.id = p.site_id
                     JOIN environment e ON e.id = p.environment_id
                     CROSS JOIN LATERAL (SELECT commit, deployment_id FROM trigger
                                         WHERE environment_id = e.id AND outcome = 'created'
                                         ORDER BY id DESC LIMIT 1) t
                     JOIN deployment d ON d.id = t.deployment_id
                     JOIN release r ON r.id = d.release_id
                     LEFT JOIN LATERAL (SELECT coalesce(e.live_deployment_id, d.id) AS id FROM release l
                         WHERE l.id = e.live_release_id AND d.finished_at IS NOT NULL AND (
                             l.id = d.release_id OR (l.commit = t.commit AND NOT l.dirty))) y ON true
                     WHERE lower(p.repository) = g.repository AND p.number = g.number) o) n
           WHERE g.done_at IS NULL AND g.retry_at <= (SELECT clock()) AND g.told <> n.told
           ORDER BY g.retry_at LIMIT 1 FOR UPDATE OF g SKIP LOCKED"#
    )
    .fetch_optional(&mut *conn)
    .await?;
    let Some(row) = row else { return Ok(None) };
    begin_turn(conn, &row.repository, row.number, lease).await?;
    Ok(Some(CommentTurn {
        repository: row.repository,
        number: row.number,
        claim: row.claim + 1,
        attempts: row.attempts + 1,
        refusals: row.refusals,
        github_id: row.github_id.and_then(|id| u64::try_from(id).ok()),
        creating: row.creating,
        told: row.told,
        shown: row.previews.0.into_iter().map(shown).collect(),
    }))
}

fn shown(preview: Preview) -> Shown {
    Shown {
        site: preview.site,
        environment: preview.environment,
        deployment: DeploymentId::from_uuid(preview.deployment),
        commit: preview.commit,
        state: preview.state,
        keeps: preview.keeps,
        message: preview.message,
        close_reason: preview.close_reason,
    }
}

async fn begin_turn(
    conn: &mut PgConnection,
    repository: &str,
    number: i32,
    lease: Duration,
) -> Result<(), sqlx::Error> {
    let lease = PgInterval::try_from(lease).map_err(sqlx::Error::Encode)?;
    sqlx::query!(
        "UPDATE github_pull_comment SET claim = claim + 1, attempts = attempts + 1,
             retry_at = clock() + $3::interval
         WHERE repository = $1 AND number = $2",
        repository,
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
    let (repository, number, claim) = (turn.repository.as_str(), turn.number, turn.claim);
    let query = match mark {
        Mark::Creating(begins) => sqlx::query!(
            "UPDATE github_pull_comment SET creating = $4
             WHERE repository = $1 AND number = $2 AND claim = $3",
            repository,
            number,
            claim,
            begins
        ),
        Mark::Created(github_id) => sqlx::query!(
            "UPDATE github_pull_comment SET github_id = $4, creating = false
             WHERE repository = $1 AND number = $2 AND claim = $3",
            repository,
            number,
            claim,
            i64::try_from(github_id).unwrap_or(i64::MAX)
        ),
        Mark::Told => sqlx::query!(
            "UPDATE github_pull_comment SET told = $4, attempts = 0, refusals = 0, note = '',
                 retry_at = clock(),
                 -- One may have been opened since the turn began.
                 done_at = CASE WHEN $5 AND NOT EXISTS (
                     SELECT FROM pull_request p JOIN environment e ON e.id = p.environment_id
                     WHERE lower(p.repository) = $1 AND p.number = $2 AND e.closed_at IS NULL)
                     THEN clock() END
             WHERE repository = $1 AND number = $2 AND claim = $3",
            repository,
            number,
            claim,
            turn.told,
            turn.is_closed()
        ),
    };
    Ok(query.execute(conn).await?.rows_affected() == 1)
}

/// The next turn comes later, or none: answers whether it is given up. While our credentials are refused,
/// that is one whose previews are all closed for a day.
pub(in crate::github) async fn put_comment_off(
    conn: &mut PgConnection,
    turn: &CommentTurn,
    ending: Ending<'_>,
) -> Result<bool, sqlx::Error> {
    let pause = PgInterval::try_from(ending.pause).map_err(sqlx::Error::Encode)?;
    let given_up = sqlx::query_scalar!(
        r#"UPDATE github_pull_comment g SET retry_at = clock() + $4::interval, note = $5,
               refusals = g.refusals + $6::bool::int, given_up = n.given_up,
               done_at = CASE WHEN n.given_up THEN clock() END
           FROM (SELECT $7::bool OR ($8::bool AND NOT EXISTS (
                     SELECT FROM pull_request p JOIN environment e ON e.id = p.environment_id
                     WHERE lower(p.repository) = $1 AND p.number = $2
                       AND (e.closed_at IS NULL OR e.closed_at > clock() - interval '1 day')))
                     AS given_up) n
           WHERE g.repository = $1 AND g.number = $2 AND g.claim = $3
           RETURNING g.given_up AS "given_up!""#,
        turn.repository,
        turn.number,
        turn.claim,
        pause,
        ending.note,
        ending.refused,
        ending.given_up,
        ending.unwelcome
    )
    .fetch_optional(conn)
    .await?;
    Ok(given_up.unwrap_or(false))
}
