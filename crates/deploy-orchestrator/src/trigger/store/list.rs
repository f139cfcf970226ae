//! Every SQL string that shows triggers.

use candlefish_ids::{DeliveryId, DeploymentId, TriggerId};
use jiff_sqlx::Timestamp;
use sqlx::PgConnection;
use uuid::Uuid;

use super::super::view::{OfDeployment, Shown};
use crate::ctx::read;

/// Which triggers to list.
#[derive(Debug)]
pub(in crate::trigger) struct Asked<'a> {
    /// Its first digits.
    pub(in crate::trigger) commit: &'a str,
    /// A slug; empty for all.
    pub(in crate::trigger) site: &'a str,
    /// The slugs that the caller may see; none for all.
    pub(in crate::trigger) sites: &'a [String],
    pub(in crate::trigger) before: Option<Uuid>,
    pub(in crate::trigger) limit: i64,
}

/// Newest first. What belongs to no site is for those who see all.
pub(in crate::trigger) async fn list(
    conn: &mut PgConnection,
    asked: &Asked<'_>,
) -> Result<Vec<Shown>, sqlx::Error> {
    // No hex digit comes after `f`: this is every commit that begins so.
    let rows = sqlx::query!(
        r#"SELECT t.id, t.delivery_id, t.repository, t.branch, t.commit, t.sender,
                  coalesce(s.slug, '') AS "site!", coalesce(e.slug, '') AS "environment!",
                  t.outcome, t.reason, t.message, t.received_at AS "received_at: Timestamp",
                  t.created_at AS "created_at: Timestamp", t.event, t.pull_request, t.deployment_id,
                  coalesce(d.state, '') AS "state!", coalesce(d.message, '') AS "said!",
                  d.superseded_by, coalesce(e.live_deployment_id = d.id, false) AS "live!",
                  coalesce(b.message, '') AS "waits!", coalesce(b.action, '') AS "action!"
           FROM trigger t
           LEFT JOIN site s ON s.id = t.site_id
           LEFT JOIN environment e ON e.id = t.environment_id
           LEFT JOIN deployment d ON d.id = t.deployment_id
           LEFT JOIN LATERAL (SELECT message, action FROM blocker
                              WHERE deployment_id = d.id AND cleared_at IS NULL
                                AND t.outcome = 'created'
                              ORDER BY id LIMIT 1) b ON true
           WHERE t.commit >= $1 AND t.commit < $1 || 'g' AND t.commit <> ''
             AND ($2 = '' OR s.slug = $2)
             AND (cardinality($3::text[]) = 0 OR s.slug = ANY($3))
             AND t.id < $4
           ORDER BY t.id DESC LIMIT $5"#,
        asked.commit,
        asked.site,
        asked.sites,
        asked.before.unwrap_or_else(Uuid::max),
        asked.limit
    )
    .fetch_all(conn)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| Shown {
            id: TriggerId::from_uuid(row.id),
            delivery_id: DeliveryId::from_uuid(row.delivery_id),
            repository: row.repository,
            branch: row.branch,
            commit: row.commit,
            sender: row.sender,
            site: row.site,
            environment: row.environment,
            outcome: row.outcome,
            reason: row.reason,
            message: row.message,
            received_at: read(row.received_at),
            created_at: read(row.created_at),
            event: row.event,
            pull_request: row.pull_request,
            deployment: row.deployment_id.map(|id| OfDeployment {
                id: Some(DeploymentId::from_uuid(id)),
                state: row.state,
                message: row.said,
                superseded_by: row.superseded_by.map(DeploymentId::from_uuid),
                live: row.live,
                waits: row.waits,
                action: row.action,
            }),
        })
        .collect())
}
