//! Every SQL string about the record.

use candlefish_clock::Moment;
use candlefish_ids::{DeploymentId, EnvironmentId, ReleaseId, SiteId, StopId};
use jiff_sqlx::Timestamp;
use sqlx::{PgConnection, types::Json};

use super::{Act, Kind, Scope};
use crate::{
    ctx::{read, stored},
    lane::store::WentLive,
};

pub(super) async fn insert(
    conn: &mut PgConnection,
    now: Moment,
    act: &Act<'_>,
) -> Result<(), sqlx::Error> {
    let (site, environment) = match act.scope {
        Scope::Everything => (None, None),
        Scope::Site(site) => (Some(site), None),
        Scope::Environment(site, environment) => (Some(site), Some(environment)),
    };
    sqlx::query!(
        r"INSERT INTO record (at, kind, by, reason, site_id, environment_id, release_id,
                              deployment_id, stop_id)
          VALUES ($1, $2, $3,
                  CASE WHEN $10 THEN coalesce(
                      (SELECT substring(message FROM '\S[^\n\r]*') FROM release WHERE id = $7), '')
                  ELSE $4 END,
                  $5, $6, $7, $8, $9)",
        stored(now) as _,
        act.kind.word(),
        act.by,
        act.reason,
        site.map(SiteId::uuid),
        environment.map(EnvironmentId::uuid),
        act.release.map(ReleaseId::uuid),
        act.deployment.map(DeploymentId::uuid),
        act.stop.map(StopId::uuid),
        act.or_commit && act.reason.is_empty()
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Records of several deployments that they went live, each told by its release's commit where nobody
/// said why.
pub(super) async fn insert_live_each(
    conn: &mut PgConnection,
    now: Moment,
    live: &[WentLive],
) -> Result<(), sqlx::Error> {
    sqlx::query!(
        r"INSERT INTO record (at, kind, by, reason, site_id, environment_id, release_id,
                              deployment_id)
          SELECT $2::timestamptz, $3::text, n.by,
                 CASE WHEN n.reason = '' THEN coalesce(
                     (SELECT substring(r.message FROM '\S[^\n\r]*') FROM release r
                      WHERE r.id = n.release), '')
                 ELSE n.reason END,
                 n.site, n.environment, n.release, n.deployment
          FROM jsonb_to_recordset($1::jsonb) AS n(
              environment uuid, site uuid, release uuid, deployment uuid, by text, reason text)",
        Json(live) as _,
        stored(now) as _,
        Kind::Live.word()
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// A record as its row tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Told {
    pub(crate) id: i64,
    pub(crate) at: Moment,
    pub(super) kind: String,
    pub(super) by: String,
    pub(super) reason: String,
    pub(super) has_site: bool,
    pub(super) has_environment: bool,
    pub(super) release: Option<ReleaseId>,
    pub(super) deployment: Option<DeploymentId>,
    pub(super) stop: Option<StopId>,
}

/// What was done to an environment, to its site and to everything, newest first, before one.
pub(crate) async fn list(
    conn: &mut PgConnection,
    site: SiteId,
    environment: EnvironmentId,
    before: Option<i64>,
    limit: i64,
) -> Result<Vec<Told>, sqlx::Error> {
    // Three parts, each by an index of its own.
    let rows = sqlx::query!(
        r#"SELECT r.id, r.at AS "at: Timestamp", r.kind, r.by, r.reason, r.site_id,
                  r.environment_id, r.release_id, r.deployment_id, r.stop_id
           FROM record r WHERE r.id IN (
               (SELECT o.id FROM record o WHERE o.environment_id = $2 AND o.id < $3
                ORDER BY o.id DESC LIMIT $4)
               UNION ALL
               (SELECT o.id FROM record o WHERE o.site_id = $1 AND o.environment_id IS NULL
                AND o.id < $3 ORDER BY o.id DESC LIMIT $4)
               UNION ALL
               (SELECT o.id FROM record o WHERE o.site_id IS NULL AND o.id < $3
                ORDER BY o.id DESC LIMIT $4))
           ORDER BY r.id DESC LIMIT $4"#,
        site.uuid(),
        environment.uuid(),
        before.unwrap_or(i64::MAX),
        limit
    )
    .fetch_all(conn)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| Told {
            id: row.id,
            at: read(row.at),
            kind: row.kind,
            by: row.by,
            reason: row.reason,
            has_site: row.site_id.is_some(),
            has_environment: row.environment_id.is_some(),
            release: row.release_id.map(ReleaseId::from_uuid),
            deployment: row.deployment_id.map(DeploymentId::from_uuid),
            stop: row.stop_id.map(StopId::from_uuid),
        })
        .collect())
}
