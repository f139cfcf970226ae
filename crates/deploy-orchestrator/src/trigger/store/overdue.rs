//! Deployments whose content did not come.

use candlefish_ids::{DeploymentId, EnvironmentId, TriggerId};
use sqlx::PgConnection;

/// A deployment whose content should have come by now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::trigger) struct Overdue {
    pub(in crate::trigger) trigger: TriggerId,
    pub(in crate::trigger) environment: EnvironmentId,
    pub(in crate::trigger) deployment: DeploymentId,
}

pub(in crate::trigger) async fn list_overdue(
    conn: &mut PgConnection,
) -> Result<Vec<Overdue>, sqlx::Error> {
    let rows = sqlx::query!(
        r#"SELECT id, environment_id AS "environment_id!", deployment_id AS "deployment_id!"
           FROM trigger t WHERE content_until < (SELECT clock())
             -- Not for an outage of GitHub's: such a one waits for its next try, however long.
             AND NOT EXISTS (SELECT FROM deployment d JOIN github_archive g
                             ON g.release_id = d.release_id AND g.outage
                             WHERE d.id = t.deployment_id AND d.state = 'pending')
           ORDER BY content_until LIMIT 100"#
    )
    .fetch_all(conn)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| Overdue {
            trigger: TriggerId::from_uuid(row.id),
            environment: EnvironmentId::from_uuid(row.environment_id),
            deployment: DeploymentId::from_uuid(row.deployment_id),
        })
        .collect())
}

/// A deployment that is still without its content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::trigger) struct Without {
    pub(in crate::trigger) commit: String,
    /// Why the last try to fetch it failed; none when it is to be uploaded.
    pub(in crate::trigger) note: Option<String>,
}

/// Nobody waits for the content any more. Answers what its deployment lacks.
pub(in crate::trigger) async fn close_content(
    conn: &mut PgConnection,
    trigger: TriggerId,
) -> Result<Option<Without>, sqlx::Error> {
    sqlx::query!(
        "UPDATE trigger SET content_until = NULL WHERE id = $1",
        trigger.uuid()
    )
    .execute(&mut *conn)
    .await?;
    sqlx::query_as!(
        Without,
        "SELECT t.commit, CASE s.source WHEN 'repository' THEN coalesce(g.note, '') END AS note
         FROM trigger t JOIN deployment d ON d.id = t.deployment_id
         JOIN release r ON r.id = d.release_id
         JOIN site s ON s.id = r.site_id
         LEFT JOIN github_archive g ON g.release_id = r.id
         WHERE t.id = $1 AND d.state = 'pending' AND r.state <> 'sealed'",
        trigger.uuid()
    )
    .fetch_optional(conn)
    .await
}
