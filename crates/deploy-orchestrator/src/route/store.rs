//! Every SQL string about routes.

use std::{collections::HashMap, time::Duration};

use candlefish_ids::{DeploymentId, EnvironmentId, ReleaseId};
use candlefish_messaging::epoch;
use sqlx::PgConnection;
use uuid::Uuid;

use super::{Assets, Spec, Weighted, Written};

mod each;

pub(crate) use each::{Current, Note, list_current, write_each};

/// What a host belongs to.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place<'a> {
    /// None on a release's own address.
    pub(crate) environment_id: Option<EnvironmentId>,
    /// On a release's own address: whose it is.
    pub(crate) deployment_id: Option<DeploymentId>,
    pub(crate) site: &'a str,
    pub(crate) environment: &'a str,
    pub(crate) noindex: bool,
}

/// Writes the routes of `hosts`, all alike, in the epoch that holds; their versions rise, and their
/// epochs never fall, also when one began meanwhile. The caller holds the lane. Whatever is asked for,
/// what belongs to a closed environment serves nothing.
pub(crate) async fn write(
    conn: &mut PgConnection,
    hosts: &[String],
    place: Place<'_>,
    spec: &Spec,
) -> Result<Vec<Written>, sqlx::Error> {
    if hosts.is_empty() {
        return Ok(Vec::new());
    }
    let mut written = write_unless_moved(conn, hosts, place, spec).await?;
    if written.is_empty() {
        epoch::current(conn).await?;
        written = write_unless_moved(conn, hosts, place, spec).await?;
    }
    if written.is_empty() {
        // It moved twice, and no session outlives that. What was not written must not pass for it.
        return Err(sqlx::Error::RowNotFound);
    }
    Ok(written)
}

/// Writes nothing when the database moved.
async fn write_unless_moved(
    conn: &mut PgConnection,
    hosts: &[String],
    place: Place<'_>,
    spec: &Spec,
) -> Result<Vec<Written>, sqlx::Error> {
    let releases = serde_json::to_value(&spec.releases).expect("weights have only text keys");
    let assets_of = serde_json::to_value(&spec.assets_of).expect("assets have only text keys");
    let rows = candlefish_messaging::query_with_epoch!(
        "INSERT INTO route (host, environment_id, site, environment, epoch, version, releases,
                            assets_of, rolling, rolled_edges, noindex, deployment_id,
                            waiting_edges)
         SELECT host, $2, $3, $4, asked.epoch, 1, CASE WHEN closed THEN '[]' ELSE $5::jsonb END,
                CASE WHEN closed THEN '[]' ELSE $6::jsonb END, $7, $8, $9, $11, $12
         FROM ",
        ", unnest($1::text[]) AS n(host), (SELECT EXISTS (
             SELECT 1 FROM environment e WHERE e.closed_at IS NOT NULL AND e.id = COALESCE(
                 $2, (SELECT d.environment_id FROM deployment d WHERE d.id = $11))) AS closed) AS c
         WHERE NOT asked.moved
         ON CONFLICT (host) DO UPDATE SET
             environment_id = excluded.environment_id, site = excluded.site,
             environment = excluded.environment, epoch = greatest(route.epoch, excluded.epoch),
             version = route.version + 1, releases = excluded.releases,
             assets_of = excluded.assets_of, rolling = excluded.rolling,
             rolled_edges = excluded.rolled_edges, waiting_edges = excluded.waiting_edges,
             noindex = excluded.noindex,
             generation = route.generation + $10, changed_in = pg_current_xact_id()
         RETURNING host, epoch, version",
        hosts,
        place.environment_id.map(EnvironmentId::uuid),
        place.site,
        place.environment,
        releases,
        assets_of,
        spec.rolling,
        &spec.rolled_edges,
        place.noindex,
        i32::from(spec.forgets),
        place.deployment_id.map(DeploymentId::uuid),
        &spec.waiting_edges
    )
    .fetch_all(conn)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| Written {
            host: row.host,
            epoch: row.epoch,
            version: row.version,
        })
        .collect())
}

/// Whether visitors of an environment get a release: some share of them, or while a switch rolls those of
/// the edges that wait. The caller holds the lane.
pub(crate) async fn is_served(
    conn: &mut PgConnection,
    environment: EnvironmentId,
    release: ReleaseId,
) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar!(
        r#"SELECT EXISTS (
               SELECT 1 FROM route o, jsonb_array_elements(o.releases) AS w (one)
               WHERE o.environment_id = $1 AND w.one ->> 'release' = $2
                 AND (o.rolling OR (w.one ->> 'weight')::int > 0)) AS "is!""#,
        environment.uuid(),
        release.to_string()
    )
    .fetch_one(conn)
    .await
}

/// Whether a route of an environment names a release, for visitors or for its assets. Edges keep what a
/// route names; what none does they may have to fetch again.
pub(crate) async fn is_named(
    conn: &mut PgConnection,
    environment: EnvironmentId,
    release: ReleaseId,
) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar!(
        r#"SELECT EXISTS (
               SELECT 1 FROM route o, jsonb_array_elements(o.releases || o.assets_of) AS w (one)
               WHERE o.environment_id = $1 AND w.one ->> 'release' = $2) AS "is!""#,
        environment.uuid(),
        release.to_string()
    )
    .fetch_one(conn)
    .await
}

/// The releases whose assets the routes of environments serve besides, of each by the first host that names
/// any; those without are left out.
pub(crate) async fn list_assets(
    conn: &mut PgConnection,
    environments: &[EnvironmentId],
) -> Result<HashMap<EnvironmentId, Vec<Assets>>, sqlx::Error> {
    let ids: Vec<Uuid> = environments.iter().map(|id| id.uuid()).collect();
    // The inner SELECT hides the array from the planner, as in `manifests`.
    let rows = sqlx::query!(
        r#"SELECT DISTINCT ON (environment_id) environment_id AS "environment_id!", assets_of
           FROM route
           WHERE environment_id = ANY((SELECT $1::uuid[])::uuid[]) AND assets_of <> '[]'
           ORDER BY environment_id, host"#,
        &ids
    )
    .fetch_all(conn)
    .await?;
    let assets = rows.into_iter().map(|row| {
        // What a hand left unreadable in it counts as nothing.
        let of_one: Vec<Assets> = serde_json::from_value(row.assets_of).unwrap_or_default();
        (EnvironmentId::from_uuid(row.environment_id), of_one)
    });
    Ok(assets.collect())
}

/// The manifests of releases, as routes name them: in the order asked, unknown ones left out.
pub(crate) async fn manifests(
    conn: &mut PgConnection,
    releases: &[ReleaseId],
) -> Result<Vec<Assets>, sqlx::Error> {
    let ids: Vec<Uuid> = releases.iter().map(|id| id.uuid()).collect();
    // The inner SELECT hides the array from the planner: where it sees one so short, it takes a plan
    // made for it to be cheaper than any that is kept, and plans each time.
    let rows = sqlx::query!(
        "SELECT id, manifest_digest FROM release WHERE id = ANY((SELECT $1::uuid[])::uuid[])",
        &ids
    )
    .fetch_all(conn)
    .await?;
    Ok(releases
        .iter()
        .filter_map(|release| {
            let row = rows.iter().find(|row| row.id == release.uuid())?;
            Some(Assets {
                release: *release,
                manifest: hex::encode(&row.manifest_digest),
            })
        })
        .collect())
}

/// The host names of an environment's own, besides the one that the platform gives it.
pub(super) async fn own_hosts(
    conn: &mut PgConnection,
    environment: EnvironmentId,
) -> Result<Vec<String>, sqlx::Error> {
    sqlx::query_scalar!(
        "SELECT host FROM environment_host WHERE environment_id = $1 ORDER BY host",
        environment.uuid()
    )
    .fetch_all(conn)
    .await
}

/// The host names of several environments' own; those without any are left out.
pub(super) async fn list_own_hosts(
    conn: &mut PgConnection,
    environments: &[EnvironmentId],
) -> Result<HashMap<EnvironmentId, Vec<String>>, sqlx::Error> {
    let ids: Vec<Uuid> = environments.iter().map(|id| id.uuid()).collect();
    let rows = sqlx::query!(
        "SELECT environment_id, host FROM environment_host
         WHERE environment_id = ANY((SELECT $1::uuid[])::uuid[]) ORDER BY host",
        &ids
    )
    .fetch_all(conn)
    .await?;
    let mut all: HashMap<EnvironmentId, Vec<String>> = HashMap::new();
    for row in rows {
        let environment = EnvironmentId::from_uuid(row.environment_id);
        all.entry(environment).or_default().push(row.host);
    }
    Ok(all)
}

/// A route as the edges get it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Row {
    pub(crate) host: String,
    pub(crate) environment_id: Option<EnvironmentId>,
    pub(crate) site: String,
    pub(crate) environment: String,
    pub(crate) epoch: i32,
    pub(crate) version: i64,
    pub(crate) generation: i32,
    pub(crate) releases: Vec<Weighted>,
    pub(crate) assets_of: Vec<Assets>,
    pub(crate) rolling: bool,
    pub(crate) rolled_edges: Vec<String>,
    pub(crate) waiting_edges: Vec<String>,
    pub(crate) noindex: bool,
    /// It serves something, and that is of a preview. No environment becomes one, or ceases to be.
    pub(crate) preview: bool,
}

/// What a look at the routes found.
#[derive(Debug)]
pub(crate) struct Changed {
    pub(crate) rows: Vec<Row>,
    /// Of this look, for the next one.
    pub(crate) snapshot: String,
    /// The one that was written down; it says nothing when the database moved.
    pub(crate) epoch: i32,
    /// The database is another than the one it was, and no new epoch began yet.
    pub(crate) moved: bool,
}

/// Routes that changed since a snapshot (all of them without one), and the snapshot of this look.
///
/// By snapshot, not by a high-water mark: rows commit out of order, and a mark would skip the late.
pub(crate) async fn changed_since(
    conn: &mut PgConnection,
    snapshot: Option<&str>,
) -> Result<Changed, sqlx::Error> {
    let rows = candlefish_messaging::query_with_epoch!(
        r#"SELECT pg_current_snapshot()::text AS "snapshot!", asked.epoch AS "holds!",
                  asked.moved AS "moved!", r.host AS "host?", r.environment_id,
                  r.site AS "site?", r.environment AS "environment?", r.epoch AS "epoch?",
                  r.version AS "version?", r.generation AS "generation?",
                  r.releases AS "releases?", r.assets_of AS "assets_of?",
                  r.rolling AS "rolling?", r.rolled_edges AS "rolled_edges?",
                  r.waiting_edges AS "waiting_edges?", r.noindex AS "noindex?",
                  -- Asked only of what serves: hosts that serve nothing are most. Not EXISTS, for
                  -- which the planner may read all environments at every look.
                  CASE WHEN r.releases <> '[]' THEN (
                      SELECT e.kind = 'preview' FROM environment e WHERE e.id = COALESCE(
                          r.environment_id, (SELECT d.environment_id FROM deployment d
                                             WHERE d.id = r.deployment_id)))
                  END AS "preview?"
           FROM "#,
        "LEFT JOIN route r
             ON r.changed_in >= pg_snapshot_xmin($1::text::pg_snapshot)
            AND NOT pg_visible_in_snapshot(r.changed_in, $1::text::pg_snapshot)",
        snapshot.unwrap_or("1:1:")
    )
    .fetch_all(conn)
    .await?;
    // Without a route there is a row all the same.
    let first = rows.first().ok_or(sqlx::Error::RowNotFound)?;
    Ok(Changed {
        snapshot: first.snapshot.clone(),
        epoch: first.holds,
        moved: first.moved,
        rows: rows
            .into_iter()
            .filter_map(|row| {
                Some(Row {
                    host: row.host?,
                    environment_id: row.environment_id.map(EnvironmentId::from_uuid),
                    site: row.site?,
                    environment: row.environment?,
                    epoch: row.epoch?,
                    version: row.version?,
                    generation: row.generation?,
                    releases: serde_json::from_value(row.releases?).unwrap_or_default(),
                    assets_of: serde_json::from_value(row.assets_of?).unwrap_or_default(),
                    rolling: row.rolling?,
                    rolled_edges: row.rolled_edges?,
                    waiting_edges: row.waiting_edges?,
                    noindex: row.noindex?,
                    preview: row.preview.unwrap_or_default(),
                })
            })
            .collect(),
    })
}

/// Takes away the own addresses of deployments that ended longer ago, unless their release is live
/// somewhere; answers how many. A preview's stays until that is closed. No lane is needed: nothing
/// acts on a terminal deployment's address.
pub(crate) async fn take_old_addresses_away(
    conn: &mut PgConnection,
    epoch: i32,
    after: Duration,
    limit: i64,
) -> Result<u64, sqlx::Error> {
    let done = sqlx::query!(
        "UPDATE route SET releases = '[]', assets_of = '[]', version = version + 1,
                epoch = greatest(epoch, $1), changed_in = pg_current_xact_id()
         WHERE host IN (
             SELECT r.host FROM route r JOIN deployment d ON d.id = r.deployment_id
             WHERE r.releases <> '[]' AND d.kind <> 'preview'
               AND d.finished_at < clock() - make_interval(secs => $2)
               AND NOT EXISTS (SELECT 1 FROM environment e WHERE e.live_release_id = d.release_id)
             LIMIT $3)",
        epoch,
        after.as_secs_f64(),
        limit
    )
    .execute(conn)
    .await?;
    Ok(done.rows_affected())
}

/// Takes away everything that an environment and its deployments are reached by. The caller holds the
/// lane.
pub(crate) async fn take_away(
    conn: &mut PgConnection,
    epoch: i32,
    environment: EnvironmentId,
) -> Result<(), sqlx::Error> {
    // Two parts, each by an index of its own.
    sqlx::query!(
        "UPDATE route SET releases = '[]', assets_of = '[]', rolling = false, rolled_edges = '{}',
                waiting_edges = '{}', version = version + 1, epoch = greatest(epoch, $1),
                changed_in = pg_current_xact_id()
         WHERE environment_id = $2 AND (releases <> '[]' OR assets_of <> '[]')",
        epoch,
        environment.uuid()
    )
    .execute(&mut *conn)
    .await?;
    sqlx::query!(
        "UPDATE route SET releases = '[]', assets_of = '[]', version = version + 1,
                epoch = greatest(epoch, $1), changed_in = pg_current_xact_id()
         WHERE releases <> '[]' AND deployment_id IN (
             SELECT id FROM deployment WHERE environment_id = $2)",
        epoch,
        environment.uuid()
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Those of `told` that this database never gave: newer than the route, or of a host without one.
pub(crate) async fn list_ahead(
    conn: &mut PgConnection,
    told: &[Written],
) -> Result<Vec<Written>, sqlx::Error> {
    sqlx::query_as!(
        Written,
        r#"SELECT t.host AS "host!", t.epoch AS "epoch!", t.version AS "version!"
           FROM jsonb_to_recordset($1::jsonb) AS t(host text, epoch int, version bigint)
           WHERE NOT EXISTS (
               SELECT 1 FROM route r WHERE r.host = t.host
               AND (r.epoch, r.version) >= (t.epoch, t.version))"#,
        // Not arrays: for those Postgres makes a new plan each time.
        sqlx::types::Json(told) as _
    )
    .fetch_all(conn)
    .await
}

/// Lifts every route of an earlier epoch into this one, with what it serves; answers how many. No lane
/// is needed: no traffic moves.
pub(super) async fn renew(conn: &mut PgConnection, epoch: i32) -> Result<u64, sqlx::Error> {
    let done = sqlx::query!(
        "UPDATE route SET epoch = $1, version = version + 1, changed_in = pg_current_xact_id()
         WHERE epoch < $1",
        epoch
    )
    .execute(conn)
    .await?;
    Ok(done.rows_affected())
}

/// Gives those of `hosts` that have no route one that serves nothing; answers how many.
pub(super) async fn insert_empty(
    conn: &mut PgConnection,
    epoch: i32,
    hosts: &[String],
) -> Result<u64, sqlx::Error> {
    let done = sqlx::query!(
        "INSERT INTO route (host, site, environment, epoch, version, releases, noindex)
         SELECT host, '', '', $1, 1, '[]', true FROM unnest($2::text[]) AS n(host)
         ON CONFLICT (host) DO NOTHING",
        epoch,
        hosts
    )
    .execute(conn)
    .await?;
    Ok(done.rows_affected())
}

#[cfg(test)]
mod tests;
