//! Deployments whose content did not come.

use candlefish_ids::{DeploymentId, EnvironmentId, TriggerId};
use sqlx::PgConnection;

/// A deployment whose content should have come by now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::trigger) struct Overdue {
    /// Of the push that made it; none when a call did.
    pub(in crate::trigger) trigger: Option<TriggerId>,
    pub(in crate::trigger) environment: EnvironmentId,
    pub(in crate::trigger) deployment: DeploymentId,
}

pub(in crate::trigger) async fn list_overdue(
    conn: &mut PgConnection,
) -> Result<Vec<Overdue>, sqlx::Error> {
    let rows = sqlx::query!(
        r#"SELECT late.trigger AS "trigger?", late.environment_id AS "environment_id!",
                  late.deployment_id AS "deployment_id!"
           FROM (
               SELECT t.id AS trigger, t.environment_id, t.deployment_id, t.content_until
               FROM trigger t WHERE t.content_until < (SELECT clock())
               UNION ALL
               SELECT NULL, d.environment_id, d.id, d.content_until
               FROM deployment d JOIN release r ON r.id = d.release_id AND r.state <> 'sealed'
               WHERE d.state = 'pending' AND d.content_until < (SELECT clock())) AS late
           -- Not for an outage of GitHub's or of the store: such a one waits for its next try, however
           -- long. Nor for one of ours, during which nobody tried.
           WHERE NOT EXISTS (SELECT FROM deployment d JOIN github_archive g
                             ON g.release_id = d.release_id
                             AND (g.outage OR g.note = '' AND g.attempts < 3
                                  AND late.content_until > (SELECT clock()) - interval '3 days')
                             WHERE d.id = late.deployment_id AND d.state = 'pending')
           ORDER BY late.content_until LIMIT 100"#
    )
    .fetch_all(conn)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| Overdue {
            trigger: row.trigger.map(TriggerId::from_uuid),
            environment: EnvironmentId::from_uuid(row.environment_id),
            deployment: DeploymentId::from_uuid(row.deployment_id),
        })
        .collect())
}

/// A deployment that is still without its content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::trigger) struct Without {
    /// Empty for content without a commit.
    pub(in crate::trigger) commit: String,
    /// Why the last try to fetch it failed; none when it is to be uploaded.
    pub(in crate::trigger) note: Option<String>,
}

/// Nobody waits for the content any more. Answers what its deployment lacks.
pub(in crate::trigger) async fn close_content(
    conn: &mut PgConnection,
    overdue: Overdue,
) -> Result<Option<Without>, sqlx::Error> {
    if let Some(trigger) = overdue.trigger {
        sqlx::query!(
            "UPDATE trigger SET content_until = NULL WHERE id = $1",
            trigger.uuid()
        )
        .execute(&mut *conn)
        .await?;
    }
    sqlx::query_as!(
        Without,
        "SELECT r.commit,
                -- An upload that broke off is fetched by nobody, whatever the site's source.
                CASE WHEN s.source = 'repository' AND r.commit <> ''
                          AND (g.release_id IS NOT NULL OR $2) THEN coalesce(g.note, '') END AS note
         FROM deployment d JOIN release r ON r.id = d.release_id
         JOIN site s ON s.id = r.site_id
         LEFT JOIN github_archive g ON g.release_id = r.id
         WHERE d.id = $1 AND d.state = 'pending' AND r.state <> 'sealed'",
        overdue.deployment.uuid(),
        overdue.trigger.is_some()
    )
    .fetch_optional(conn)
    .await
}
