//! What the reconciler looks at.

use candlefish_ids::{DeploymentId, EnvironmentId, ReleaseId};
use serde::Deserialize;
use serde_json::Value;
use sqlx::{PgConnection, types::Json};
use uuid::Uuid;

use super::plan::{Found, Route};
use crate::{
    edge::store::LIVE_FOR_MS,
    route::{Assets, Weighted},
};

/// Environments after one, by id, where something is live or served.
pub(super) async fn list(
    conn: &mut PgConnection,
    after: Option<EnvironmentId>,
    limit: i64,
) -> Result<Vec<Found>, sqlx::Error> {
    let after = after.map_or(Uuid::nil(), EnvironmentId::uuid);
    read(conn, (after, Uuid::max()), limit).await
}

/// The environment, when something is live or served there.
pub(super) async fn find(
    conn: &mut PgConnection,
    id: EnvironmentId,
) -> Result<Option<Found>, sqlx::Error> {
    let before = Uuid::from_u128(id.uuid().as_u128().saturating_sub(1));
    Ok(read(conn, (before, id.uuid()), 1).await?.pop())
}

/// A route as the query tells it. What a hand left unreadable in it counts as nothing.
#[derive(Debug, Deserialize)]
struct RouteRow {
    host: String,
    epoch: i32,
    version: i64,
    releases: Value,
    assets_of: Value,
    rolls: bool,
    noindex: bool,
    behind: Vec<String>,
}

impl From<RouteRow> for Route {
    fn from(row: RouteRow) -> Self {
        Self {
            host: row.host,
            epoch: row.epoch,
            version: row.version,
            releases: serde_json::from_value(row.releases).unwrap_or_default(),
            assets_of: serde_json::from_value(row.assets_of).unwrap_or_default(),
            rolls: row.rolls,
            noindex: row.noindex,
            behind: row.behind,
        }
    }
}

/// An environment as the query tells it.
struct FoundRow {
    id: Uuid,
    environment: String,
    site: String,
    acts: bool,
    live: Option<Uuid>,
    live_digest: Option<Vec<u8>>,
    left: Option<Uuid>,
    left_digest: Option<Vec<u8>>,
    own_hosts: Vec<String>,
    routes: Json<Vec<RouteRow>>,
}

impl From<FoundRow> for Found {
    fn from(row: FoundRow) -> Self {
        Self {
            environment_id: EnvironmentId::from_uuid(row.id),
            site: row.site,
            environment: row.environment,
            acts: row.acts,
            live: row.live.zip(row.live_digest).map(|(id, digest)| Weighted {
                release: ReleaseId::from_uuid(id),
                manifest: hex::encode(&digest),
                weight: 100,
            }),
            left: row.left.zip(row.left_digest).map(|(id, digest)| Assets {
                release: ReleaseId::from_uuid(id),
                manifest: hex::encode(&digest),
            }),
            own_hosts: row.own_hosts,
            routes: row.routes.0.into_iter().map(Route::from).collect(),
        }
    }
}

/// Each part by an index of its own: of all environments few serve, and closed previews stay as rows.
async fn read(
    conn: &mut PgConnection,
    (after, upto): (Uuid, Uuid),
    limit: i64,
) -> Result<Vec<Found>, sqlx::Error> {
    let rows = sqlx::query_as!(
        FoundRow,
        r#"WITH live_edge AS MATERIALIZED (
               SELECT id FROM edge WHERE joined_at IS NOT NULL AND failing_since IS NULL
                 AND heard_at > clock() - $4::bigint * interval '1 millisecond'),
           page AS (
               (SELECT id FROM environment
                WHERE id > $1 AND id <= $2 AND live_release_id IS NOT NULL
                ORDER BY id LIMIT $3)
               UNION
               (SELECT DISTINCT environment_id FROM route
                WHERE environment_id > $1 AND environment_id <= $2 AND releases <> '[]'
                ORDER BY environment_id LIMIT $3)
               ORDER BY id LIMIT $3)
           SELECT e.id AS "id!", e.slug AS "environment!", s.slug AS "site!",
                  EXISTS (SELECT 1 FROM deployment d WHERE d.environment_id = e.id
                          AND d.state IN ('running', 'waiting', 'cancelling')) AS "acts!",
                  r.id AS "live?", r.manifest_digest AS "live_digest?",
                  p.id AS "left?", p.manifest_digest AS "left_digest?",
                  ARRAY(SELECT h.host FROM environment_host h WHERE h.environment_id = e.id
                        ORDER BY h.host) AS "own_hosts!",
                  (SELECT COALESCE(jsonb_agg(jsonb_build_object(
                       'host', w.host, 'epoch', w.epoch, 'version', w.version,
                       'releases', w.releases, 'assets_of', w.assets_of, 'noindex', w.noindex,
                       'rolls', w.rolling OR w.rolled_edges <> '{}' OR w.waiting_edges <> '{}',
                       'behind', ARRAY(
                           SELECT l.id FROM live_edge l WHERE NOT EXISTS (
                               SELECT 1 FROM edge_route a
                               WHERE a.edge_id = l.id AND a.host = w.host
                               AND (a.epoch, a.version) >= (w.epoch, w.version)))
                   ) ORDER BY w.host), '[]')
                   FROM route w WHERE w.environment_id = e.id) AS "routes!: Json<Vec<RouteRow>>"
           FROM page
           -- One by one: for a page neither table is read whole.
           CROSS JOIN LATERAL (SELECT id, slug, site_id, live_release_id, live_deployment_id
                               FROM environment WHERE id = page.id LIMIT 1) e
           JOIN site s ON s.id = e.site_id
           LEFT JOIN LATERAL (SELECT id, manifest_digest FROM release
                              WHERE id = e.live_release_id LIMIT 1) r ON true
           -- As a switch chooses it: what a rollback left, or what was live before.
           LEFT JOIN LATERAL (
               SELECT o.id, o.manifest_digest FROM deployment d
               JOIN release o ON o.id = COALESCE(NULLIF(d.leaves_release_id, d.release_id),
                                                 NULLIF(d.previous_release_id, d.release_id))
               WHERE d.id = e.live_deployment_id
                 AND o.state = 'sealed' AND o.collected_at IS NULL LIMIT 1) p ON true
           ORDER BY page.id"#,
        after,
        upto,
        limit,
        LIVE_FOR_MS
    )
    .fetch_all(conn)
    .await?;
    Ok(rows.into_iter().map(Found::from).collect())
}

/// The own address of a deployment that acts, as long as it serves.
#[derive(Debug)]
pub(super) struct OwnAddress {
    pub(super) deployment_id: DeploymentId,
    pub(super) host: String,
    pub(super) epoch: i32,
    pub(super) version: i64,
    /// Live edges that have not applied it, but for those that cannot stage its release.
    pub(super) behind: Vec<String>,
}

/// Own addresses that serve, of deployments that act, after one, by id.
///
/// Those of deployments that ended are kept for days, and are as many as were deployed in that time: they
/// are not looked at. No edge needs them to join, so that a new one lacks them for as long as it fetches.
pub(super) async fn list_own(
    conn: &mut PgConnection,
    after: Option<DeploymentId>,
    limit: i64,
) -> Result<Vec<OwnAddress>, sqlx::Error> {
    let rows = sqlx::query!(
        r#"WITH live_edge AS MATERIALIZED (
               SELECT id FROM edge WHERE joined_at IS NOT NULL AND failing_since IS NULL
                 AND heard_at > clock() - $3::bigint * interval '1 millisecond'),
           acting AS MATERIALIZED (
               SELECT id, release_id FROM deployment
               WHERE state IN ('running', 'waiting', 'cancelling') AND id > $1)
           SELECT d.id AS "deployment_id!", w.host AS "host!", w.epoch AS "epoch!",
                  w.version AS "version!",
                  ARRAY(SELECT l.id FROM live_edge l
                        WHERE NOT EXISTS (
                            SELECT 1 FROM edge_route a
                            WHERE a.edge_id = l.id AND a.host = w.host
                              AND (a.epoch, a.version) >= (w.epoch, w.version))
                          AND NOT EXISTS (
                            SELECT 1 FROM edge_release x
                            WHERE x.edge_id = l.id AND x.release_id = d.release_id
                              AND x.error <> ''))
                      AS "behind!"
           FROM acting d
           -- One by one: those of all that ended are many more.
           CROSS JOIN LATERAL (SELECT host, epoch, version FROM route
                               WHERE deployment_id = d.id AND releases <> '[]' LIMIT 1) w
           ORDER BY d.id LIMIT $2"#,
        after.map_or(Uuid::nil(), DeploymentId::uuid),
        limit,
        LIVE_FOR_MS
    )
    .fetch_all(conn)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| OwnAddress {
            deployment_id: DeploymentId::from_uuid(row.deployment_id),
            host: row.host,
            epoch: row.epoch,
            version: row.version,
            behind: row.behind,
        })
        .collect())
}

/// The environment has a version of its own for what is told of it next. Needs the lane's lock.
pub(super) async fn raise_version(
    conn: &mut PgConnection,
    id: EnvironmentId,
) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "UPDATE environment SET version = version + 1 WHERE id = $1",
        id.uuid()
    )
    .execute(conn)
    .await?;
    Ok(())
}

#[cfg(test)]
mod tests;
