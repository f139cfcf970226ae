//! Routes of several lanes, written at once by the turns that share a transaction.

use std::collections::HashMap;

use candlefish_ids::{DeploymentId, EnvironmentId};
use serde::Serialize;
use sqlx::{PgConnection, types::Json};
use uuid::Uuid;

use super::Place;
use crate::route::{Assets, Spec, Weighted, Written};

/// What routes stand at.
#[derive(Debug)]
pub(crate) struct Current {
    /// That holds.
    pub(crate) epoch: i32,
    /// By host, of those that have a route: its epoch and its version.
    pub(crate) held: HashMap<String, (i32, i64)>,
}

/// What the routes of these hosts stand at. An error where the database moved: then the epoch says
/// nothing, and [`super::write`] begins another.
pub(crate) async fn list_current(
    conn: &mut PgConnection,
    hosts: &[String],
) -> Result<Current, sqlx::Error> {
    // The inner SELECT hides the array from the planner, as in `manifests`.
    let rows = candlefish_messaging::query_with_epoch!(
        r#"SELECT asked.epoch AS "holds!", asked.moved AS "moved!", r.host AS "host?",
                  r.epoch AS "epoch?", r.version AS "version?"
           FROM "#,
        "LEFT JOIN route r ON r.host = ANY((SELECT $1::text[])::text[])",
        hosts
    )
    .fetch_all(conn)
    .await?;
    // Without a route there is a row all the same.
    let first = rows.first().filter(|row| !row.moved);
    let epoch = first.ok_or(sqlx::Error::RowNotFound)?.holds;
    let held = rows
        .into_iter()
        .filter_map(|row| Some((row.host?, (row.epoch?, row.version?))));
    Ok(Current {
        epoch,
        held: held.collect(),
    })
}

/// One route as it is to be written.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Note {
    host: String,
    environment_id: Option<Uuid>,
    deployment_id: Option<Uuid>,
    site: String,
    environment: String,
    noindex: bool,
    epoch: i32,
    version: i64,
    releases: Vec<Weighted>,
    assets_of: Vec<Assets>,
    rolling: bool,
    rolled_edges: Vec<String>,
    waiting_edges: Vec<String>,
    forgets: i32,
}

impl Note {
    /// The route of a host, to stand at the version after the one that was read.
    pub(crate) fn new(written: &Written, place: Place<'_>, spec: &Spec) -> Self {
        Self {
            host: written.host.clone(),
            environment_id: place.environment_id.map(EnvironmentId::uuid),
            deployment_id: place.deployment_id.map(DeploymentId::uuid),
            site: place.site.to_owned(),
            environment: place.environment.to_owned(),
            noindex: place.noindex,
            epoch: written.epoch,
            version: written.version,
            releases: spec.releases.clone(),
            assets_of: spec.assets_of.clone(),
            rolling: spec.rolling,
            rolled_edges: spec.rolled_edges.clone(),
            waiting_edges: spec.waiting_edges.clone(),
            forgets: i32::from(spec.forgets),
        }
    }

    pub(crate) fn is_of(&self, host: &str) -> bool {
        self.host == host
    }
}

/// Writes routes as [`super::write`] does, each at the version that its note says and one for each host.
/// An error where one stands at another than was read: the caller's transaction must not commit.
pub(crate) async fn write_each(conn: &mut PgConnection, notes: &[Note]) -> Result<(), sqlx::Error> {
    if notes.is_empty() {
        return Ok(());
    }
    let written = sqlx::query_scalar!(
        "INSERT INTO route (host, environment_id, site, environment, epoch, version, releases,
                            assets_of, rolling, rolled_edges, noindex, deployment_id,
                            waiting_edges, generation)
         SELECT n.host, n.environment_id, n.site, n.environment, n.epoch, n.version,
                CASE WHEN c.closed THEN '[]' ELSE n.releases END,
                CASE WHEN c.closed THEN '[]' ELSE n.assets_of END, n.rolling, n.rolled_edges,
                n.noindex, n.deployment_id, n.waiting_edges,
                COALESCE((SELECT b.generation FROM route b WHERE b.host = n.host) + n.forgets, 0)
         FROM jsonb_to_recordset($1::jsonb) AS n(
             host text, environment_id uuid, deployment_id uuid, site text, environment text,
             noindex bool, epoch int, version bigint, releases jsonb, assets_of jsonb, rolling bool,
             rolled_edges text[], waiting_edges text[], forgets int)
         CROSS JOIN LATERAL (SELECT EXISTS (
             SELECT 1 FROM environment e WHERE e.closed_at IS NOT NULL AND e.id = COALESCE(
                 n.environment_id,
                 (SELECT d.environment_id FROM deployment d WHERE d.id = n.deployment_id)))
                 AS closed) AS c
         ORDER BY n.host
         ON CONFLICT (host) DO UPDATE SET
             environment_id = excluded.environment_id, site = excluded.site,
             environment = excluded.environment, epoch = excluded.epoch,
             version = excluded.version, releases = excluded.releases,
             assets_of = excluded.assets_of, rolling = excluded.rolling,
             rolled_edges = excluded.rolled_edges, waiting_edges = excluded.waiting_edges,
             noindex = excluded.noindex, generation = excluded.generation, changed_in = pg_current_xact_id()
         -- It is as it was read: whoever lifts routes into a new epoch holds no lane.
         WHERE route.version = excluded.version - 1 AND route.epoch <= excluded.epoch
         RETURNING host",
        Json(notes) as _
    )
    .fetch_all(conn)
    .await?;
    if written.len() == notes.len() {
        Ok(())
    } else {
        Err(sqlx::Error::RowNotFound)
    }
}
