//! What belongs to deployments, read in one statement: one snapshot, so that nobody sees one run
//! while its blockers say that it waits.

use std::collections::HashMap;

use candlefish_ids::DeploymentId;
use jiff::Timestamp;
use jiff_sqlx::Timestamp as Column;
use serde::Deserialize;
use sqlx::{PgConnection, types::Json};
use uuid::Uuid;

use crate::{
    lane::{kept::Kept, store::select_kept},
    release,
};

/// What the API shows with a deployment.
#[derive(Debug)]
pub(crate) struct Surroundings {
    /// Of the deployment at the moment of the snapshot.
    pub(crate) version: i32,
    pub(crate) release: release::store::Shown,
    /// Its own address serves its release.
    pub(crate) has_address: bool,
    pub(crate) kept: Kept,
    /// In the order of the plan, undo steps last; empty unless asked for.
    pub(crate) steps: Vec<Step>,
}

/// A step as its row tells it.
#[derive(Debug, Deserialize)]
pub(crate) struct Step {
    pub(crate) id: Uuid,
    pub(crate) ord: i32,
    pub(crate) kind: String,
    pub(crate) state: String,
    pub(crate) weight: i32,
    pub(crate) interval_ms: i64,
    pub(crate) undo: bool,
    pub(crate) attempt: i32,
    pub(crate) lost_leases: i32,
    pub(crate) message: String,
    pub(crate) started_at: Option<Timestamp>,
    pub(crate) finished_at: Option<Timestamp>,
    pub(crate) owner: Option<String>,
}

/// Whether to read the steps: a list of deployments does not show them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Steps {
    Read,
    Leave,
}

/// The one reading of surroundings, for each way to find them.
macro_rules! select_surroundings {
    ($conn:expr, $steps:expr, $rest:literal, $argument:expr) => {
        select_kept!(
            [query!]
            r#"SELECT d.id, d.version, r.id AS release_id, s.slug AS site, r.manifest_digest,
                      r.state = 'sealed' AS "sealed!", r.commit, r.message, r.author, r.author_email,
                      r.committed_at AS "committed_at: Column", r.dirty, r.file_count, r.byte_count,
                      r.created_at AS "created_at: Column", r.created_by,
                      r.sealed_at AS "sealed_at: Column",
                      r.collected_at AS "collected_at: Column",
                      ARRAY(SELECT b.branch FROM release_branch b WHERE b.release_id = r.id
                            ORDER BY b.added_at) AS "branches!",
                      (SELECT COALESCE(jsonb_agg(jsonb_build_object('environment', e.slug, 'at', j.at,
                              'reason', j.reason, 'deployment_id', j.deployment_id) ORDER BY j.at), '[]')
                       FROM rejection j JOIN environment e ON e.id = j.environment_id
                       WHERE j.release_id = r.id AND j.cleared_at IS NULL)
                          AS "rejections!: Json<Vec<release::store::Rejection>>",
                      (SELECT jsonb_build_object('at', x.at, 'by', x.by, 'reason', x.reason)
                       FROM ban x WHERE x.release_id = r.id AND x.cleared_at IS NULL)
                          AS "ban: Json<release::store::Ban>",
                      -- The limit keeps Postgres from reading all addresses for a list of deployments.
                      (SELECT true FROM route o WHERE o.deployment_id = d.id AND o.releases <> '[]'
                       LIMIT 1) IS NOT NULL AS "has_address!",
                      (SELECT COALESCE(jsonb_agg(jsonb_build_object('id', t.id, 'ord', t.ord,
                              'kind', t.kind, 'state', t.state, 'weight', t.weight,
                              'interval_ms', t.interval_ms, 'undo', t.undo_of IS NOT NULL,
                              'attempt', t.attempt, 'lost_leases', t.lost_leases,
                              'message', t.message, 'started_at', t.started_at,
                              'finished_at', t.finished_at, 'owner', t.owner) ORDER BY t.ord), '[]')
                       FROM step t WHERE t.deployment_id = d.id AND $2::bool)
                          AS "steps!: Json<Vec<Step>>", "#,
            [
                "FROM deployment d JOIN release r ON r.id = d.release_id
                 JOIN site s ON s.id = r.site_id ",
                $rest
            ],
            $argument,
            $steps == Steps::Read
        )
        .fetch_all($conn)
        .await?
        .into_iter()
        .map(|row| {
            let surroundings = Surroundings {
                version: row.version,
                // Nobody follows a deployment to its commit's parents: who asks for the release gets them.
                release: release::store::shown_release!(row, row.release_id, Vec::new()),
                has_address: row.has_address,
                kept: row.kept.0,
                steps: row.steps.0,
            };
            (DeploymentId::from_uuid(row.id), surroundings)
        })
    };
}

/// The surroundings of one deployment; none when there is none.
pub(crate) async fn of_one(
    conn: &mut PgConnection,
    deployment: DeploymentId,
    steps: Steps,
) -> Result<Option<Surroundings>, sqlx::Error> {
    // By one id, not by an array of one: for an array Postgres makes a new plan each time.
    let mut rows = select_surroundings!(conn, steps, "WHERE d.id = $1", deployment.uuid());
    Ok(rows.next().map(|(_, surroundings)| surroundings))
}

/// The surroundings of those deployments that exist.
pub(crate) async fn of_many(
    conn: &mut PgConnection,
    deployments: &[DeploymentId],
    steps: Steps,
) -> Result<HashMap<DeploymentId, Surroundings>, sqlx::Error> {
    let ids: Vec<Uuid> = deployments.iter().map(|id| id.uuid()).collect();
    Ok(select_surroundings!(conn, steps, "WHERE d.id = ANY($1)", &ids).collect())
}
