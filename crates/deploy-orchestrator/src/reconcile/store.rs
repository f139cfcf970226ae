//! What the reconciler looks at.

use candlefish_ids::{EnvironmentId, ReleaseId};
use sqlx::PgConnection;
use uuid::Uuid;

use super::AtRest;
use crate::route::Weighted;

/// Environments after one, by id, with a live release and nothing acting on their lanes.
pub(super) async fn list_at_rest(
    conn: &mut PgConnection,
    after: Option<EnvironmentId>,
    limit: i64,
) -> Result<Vec<AtRest>, sqlx::Error> {
    let after = after.map_or(Uuid::nil(), EnvironmentId::uuid);
    read(conn, after, Uuid::max(), limit).await
}

/// The environment, when it is at rest.
pub(super) async fn find_at_rest(
    conn: &mut PgConnection,
    id: EnvironmentId,
) -> Result<Option<AtRest>, sqlx::Error> {
    let before = Uuid::from_u128(id.uuid().as_u128().saturating_sub(1));
    Ok(read(conn, before, id.uuid(), 1).await?.pop())
}

async fn read(
    conn: &mut PgConnection,
    after: Uuid,
    upto: Uuid,
    limit: i64,
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
           WHERE e.id > $1 AND e.id <= $2 AND e.live_release_id IS NOT NULL
             AND NOT EXISTS (SELECT 1 FROM deployment d WHERE d.environment_id = e.id
                             AND d.state IN ('running', 'waiting', 'cancelling'))
           ORDER BY e.id LIMIT $3"#,
        after,
        upto,
        limit
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
