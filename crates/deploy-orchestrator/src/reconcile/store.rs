//! What the reconciler looks at.

use candlefish_ids::{EnvironmentId, ReleaseId};
use sqlx::PgConnection;

use super::AtRest;
use crate::route::Weighted;

/// Environments with a live release on whose lane nothing acts; one of them when named.
pub(super) async fn list_at_rest(
    conn: &mut PgConnection,
    only: Option<EnvironmentId>,
) -> Result<Vec<AtRest>, sqlx::Error> {
    let rows = sqlx::query!(
        r#"SELECT e.id, e.slug AS environment, s.slug AS site, r.id AS release_id,
                  r.manifest_digest,
                  ARRAY(SELECT h.host FROM environment_host h WHERE h.environment_id = e.id
                        ORDER BY h.host) AS "own_hosts!",
                  ARRAY(SELECT w.host FROM route w WHERE w.environment_id = e.id
                        ORDER BY w.host) AS "hosts!",
                  ARRAY(SELECT w.releases FROM route w WHERE w.environment_id = e.id
                        ORDER BY w.host) AS "releases!"
           FROM environment e
           JOIN site s ON s.id = e.site_id
           JOIN release r ON r.id = e.live_release_id
           WHERE ($1::uuid IS NULL OR e.id = $1) AND e.kind = 'standard'
             AND NOT EXISTS (SELECT 1 FROM deployment d WHERE d.environment_id = e.id
                             AND d.state IN ('running', 'waiting', 'cancelling'))"#,
        only.map(EnvironmentId::uuid)
    )
    .fetch_all(conn)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| AtRest {
            environment_id: EnvironmentId::from_uuid(row.id),
            site: row.site,
            environment: row.environment,
            live: Weighted {
                release: ReleaseId::from_uuid(row.release_id),
                manifest: hex::encode(&row.manifest_digest),
                weight: 100,
            },
            own_hosts: row.own_hosts,
            routes: row
                .hosts
                .into_iter()
                .zip(row.releases)
                .map(|(host, releases)| {
                    (host, serde_json::from_value(releases).unwrap_or_default())
                })
                .collect(),
        })
        .collect())
}
