//! Deployments that GitHub is told of.

use std::time::Duration;

use candlefish_ids::{DeploymentId, EnvironmentId};
use sqlx::{PgConnection, postgres::types::PgInterval};

use crate::github::{
    turns::Ending,
    write::{DeploymentTurn, Mark},
};

/// Notes what GitHub is to be told of: what triggers made, and what else is of a commit that came
/// to its environment by one, such as a retry. What ended long before anybody asked GitHub is not.
pub(in crate::github) async fn note_deployments(
    conn: &mut PgConnection,
) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "INSERT INTO github_deployment (deployment_id, repository, commit, retry_at)
         SELECT d.id, t.repository, t.commit, clock()
         FROM (SELECT id, environment_id, release_id, kind FROM deployment
               WHERE state = 'pending'
               UNION ALL
               SELECT id, environment_id, release_id, kind FROM deployment
               WHERE state IN ('running', 'waiting', 'cancelling')
               UNION ALL
               SELECT id, environment_id, release_id, kind FROM deployment
               WHERE finished_at > (SELECT clock()) - interval '1 hour') d
         -- Each way by its index and to one row at most, so that no table is joined as a whole.
         CROSS JOIN LATERAL (
             SELECT o.repository, o.commit FROM (
                 (SELECT 1 AS way, m.repository, m.commit FROM trigger m
                  WHERE m.deployment_id = d.id AND m.outcome = 'created'
                  ORDER BY m.id LIMIT 1)
                 UNION ALL
                 (SELECT 2 AS way, m.repository, m.commit FROM release r
                  JOIN trigger m ON m.environment_id = d.environment_id AND m.commit = r.commit
                  WHERE r.id = d.release_id AND d.kind = 'standard' AND NOT r.dirty
                    AND m.commit <> '' AND m.outcome = 'created'
                  ORDER BY m.id DESC LIMIT 1)) o
             ORDER BY o.way LIMIT 1) t
         -- No NOT EXISTS, which may become a join: an hour is taken for a third of all there was, and
         -- for so many all that was ever noted would be read.
         WHERE (SELECT g.deployment_id FROM github_deployment g
                WHERE g.deployment_id = d.id) IS NULL
         ON CONFLICT DO NOTHING"
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Takes the next of which GitHub does not know what it is now; it is not due again before the lease
/// ends.
pub(in crate::github) async fn claim_deployment(
    conn: &mut PgConnection,
    lease: Duration,
) -> Result<Option<DeploymentTurn>, sqlx::Error> {
    let row = sqlx::query!(
        r#"SELECT g.deployment_id, g.claim, g.attempts, g.refusals, g.repository, g.commit,
                  s.slug AS site, e.slug AS environment, e.kind = 'preview' AS "is_preview!",
                  g.github_id, g.creating, g.telling, n.state AS "state!"
           FROM github_deployment g
           JOIN deployment d ON d.id = g.deployment_id
           JOIN environment e ON e.id = d.environment_id
           JOIN site s ON s.id = e.site_id
           CROSS JOIN LATERAL (SELECT CASE
               WHEN d.state = 'pending' THEN 'queued'
               WHEN d.state IN ('running', 'waiting', 'cancelling') THEN 'in_progress'
               -- Also when a rollback brought it back.
               WHEN d.state = 'succeeded' AND e.live_release_id = d.release_id
                    AND d.id = (SELECT l.id FROM deployment l
                                WHERE l.environment_id = e.id AND l.release_id = d.release_id
                                  AND l.kind = 'standard' AND l.state = 'succeeded'
                                ORDER BY l.id DESC LIMIT 1) THEN 'success'
               WHEN d.state IN ('failed', 'rolled_back') THEN 'failure'
               ELSE 'inactive' END AS state) n
           WHERE g.done_at IS NULL AND g.retry_at <= (SELECT clock()) AND g.told <> n.state
           ORDER BY g.retry_at LIMIT 1 FOR UPDATE OF g SKIP LOCKED"#
    )
    .fetch_optional(&mut *conn)
    .await?;
    let Some(row) = row else { return Ok(None) };
    let lease = PgInterval::try_from(lease).map_err(sqlx::Error::Encode)?;
    sqlx::query!(
        "UPDATE github_deployment SET claim = claim + 1, attempts = attempts + 1,
             retry_at = clock() + $2::interval
         WHERE deployment_id = $1",
        row.deployment_id,
        lease
    )
    .execute(conn)
    .await?;
    Ok(Some(DeploymentTurn {
        deployment: DeploymentId::from_uuid(row.deployment_id),
        claim: row.claim + 1,
        attempts: row.attempts + 1,
        refusals: row.refusals,
        repository: row.repository,
        commit: row.commit,
        site: row.site,
        environment: row.environment,
        is_preview: row.is_preview,
        github_id: row.github_id.and_then(|id| u64::try_from(id).ok()),
        creating: row.creating,
        telling: row.telling,
        state: row.state,
    }))
}

/// Writes down how far a turn is; false when another has begun.
pub(in crate::github) async fn mark_deployment(
    conn: &mut PgConnection,
    turn: &DeploymentTurn,
    mark: Mark,
) -> Result<bool, sqlx::Error> {
    let (id, claim) = (turn.deployment.uuid(), turn.claim);
    let query = match mark {
        Mark::Creating(begins) => sqlx::query!(
            "UPDATE github_deployment SET creating = $3 WHERE deployment_id = $1 AND claim = $2",
            id,
            claim,
            begins
        ),
        Mark::Created(github_id) => sqlx::query!(
            "UPDATE github_deployment SET github_id = $3, creating = false
             WHERE deployment_id = $1 AND claim = $2",
            id,
            claim,
            i64::try_from(github_id).unwrap_or(i64::MAX)
        ),
        Mark::Telling(begins) => sqlx::query!(
            "UPDATE github_deployment SET telling = $3 WHERE deployment_id = $1 AND claim = $2",
            id,
            claim,
            if begins { turn.state.as_str() } else { "" }
        ),
        // After these nothing more comes.
        Mark::Told => sqlx::query!(
            "UPDATE github_deployment SET told = $3, telling = '', attempts = 0, refusals = 0,
                 note = '', retry_at = clock(),
                 done_at = CASE WHEN $3 IN ('failure', 'inactive') THEN clock() END
             WHERE deployment_id = $1 AND claim = $2",
            id,
            claim,
            turn.state
        ),
    };
    Ok(query.execute(conn).await?.rows_affected() == 1)
}

/// The next turn comes later, or none: answers whether it is given up. While our credentials are refused,
/// that is what was not live at any time of the last day.
pub(in crate::github) async fn put_deployment_off(
    conn: &mut PgConnection,
    turn: &DeploymentTurn,
    ending: Ending<'_>,
) -> Result<bool, sqlx::Error> {
    let pause = PgInterval::try_from(ending.pause).map_err(sqlx::Error::Encode)?;
    let given_up = sqlx::query_scalar!(
        r#"UPDATE github_deployment g SET retry_at = clock() + $3::interval, note = $4,
               refusals = g.refusals + $5::bool::int,
               done_at = CASE WHEN $6::bool OR ($7::bool AND d.finished_at IS NOT NULL
                   AND e.live_release_id IS DISTINCT FROM d.release_id
                   -- Since when something else is live there, or the preview is closed.
                   AND greatest(d.finished_at, e.live_since, e.closed_at)
                       < clock() - interval '1 day') THEN clock() END
           FROM deployment d JOIN environment e ON e.id = d.environment_id
           WHERE g.deployment_id = $1 AND g.claim = $2 AND d.id = g.deployment_id
           RETURNING g.done_at IS NOT NULL AS "given_up!""#,
        turn.deployment.uuid(),
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

/// What is live in an environment is told again, though it was told to be inactive, or is just now:
/// traffic came back. A turn that is under way is overtaken.
pub(crate) async fn tell_live_again(
    conn: &mut PgConnection,
    environment: EnvironmentId,
) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "UPDATE github_deployment g SET done_at = NULL, told = '', telling = '', attempts = 0,
             refusals = 0, claim = g.claim + 1, retry_at = clock()
         FROM environment e
         WHERE e.id = $1 AND (g.told = 'inactive' OR g.telling = 'inactive')
           AND g.deployment_id = (
               SELECT l.id FROM deployment l
               WHERE l.environment_id = e.id AND l.release_id = e.live_release_id
                 AND l.kind = 'standard' AND l.state = 'succeeded'
               ORDER BY l.id DESC LIMIT 1)",
        environment.uuid()
    )
    .execute(conn)
    .await?;
    Ok(())
}
