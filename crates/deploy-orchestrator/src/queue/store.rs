//! Every SQL string about quarantined steps as people see them.

use candlefish_clock::Moment;
use candlefish_ids::{DeploymentId, StepId};
use jiff_sqlx::Timestamp;
use sqlx::PgConnection;
use uuid::Uuid;

use crate::ctx::{read, stored};

/// A step that waits for a person.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Quarantined {
    pub(super) id: StepId,
    pub(super) deployment_id: DeploymentId,
    pub(super) site: String,
    pub(super) environment: String,
    pub(super) kind: String,
    pub(super) error: String,
    pub(super) since: Option<Moment>,
}

/// Lists quarantined steps after one, oldest first; `only_sites` empty for all, and so is `error`, a text that
/// their own must have in it.
pub(super) async fn list(
    conn: &mut PgConnection,
    only_sites: &[String],
    error: &str,
    after: Option<Uuid>,
    limit: i64,
) -> Result<Vec<Quarantined>, sqlx::Error> {
    let rows = sqlx::query!(
        r#"SELECT s.id, s.deployment_id, s.kind, s.message, t.slug AS site, e.slug AS environment,
                  (SELECT b.since FROM blocker b WHERE b.deployment_id = s.deployment_id
                   AND b.kind = 'quarantine' AND b.cleared_at IS NULL) AS "since: Timestamp"
           FROM step s JOIN deployment d ON d.id = s.deployment_id
           JOIN site t ON t.id = d.site_id JOIN environment e ON e.id = d.environment_id
           WHERE s.state = 'quarantined' AND s.id > $1
             AND (cardinality($2::text[]) = 0 OR t.slug = ANY($2))
             AND position($4::text IN s.message) > 0
           ORDER BY s.id LIMIT $3"#,
        after.unwrap_or_else(Uuid::nil),
        only_sites,
        limit,
        error
    )
    .fetch_all(conn)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| Quarantined {
            id: StepId::from_uuid(row.id),
            deployment_id: DeploymentId::from_uuid(row.deployment_id),
            site: row.site,
            environment: row.environment,
            kind: row.kind,
            error: row.message,
            since: row.since.map(read),
        })
        .collect())
}

/// The deployment of a quarantined step.
pub(super) async fn find_deployment(
    conn: &mut PgConnection,
    step: StepId,
) -> Result<Option<DeploymentId>, sqlx::Error> {
    let id = sqlx::query_scalar!(
        "SELECT deployment_id FROM step WHERE id = $1 AND state = 'quarantined'",
        step.uuid()
    )
    .fetch_optional(conn)
    .await?;
    Ok(id.map(DeploymentId::from_uuid))
}

/// Puts a quarantined step back to work, its lost workers forgotten; false when it no longer is one.
pub(super) async fn replay(
    conn: &mut PgConnection,
    now: Moment,
    step: StepId,
) -> Result<bool, sqlx::Error> {
    let done = sqlx::query!(
        "UPDATE step SET state = 'ready', run_at = $2, lost_leases = 0
         WHERE id = $1 AND state = 'quarantined'",
        step.uuid(),
        stored(now) as _
    )
    .execute(conn)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Gives a quarantined step up; false when it no longer is one.
pub(super) async fn discard(
    conn: &mut PgConnection,
    now: Moment,
    step: StepId,
) -> Result<bool, sqlx::Error> {
    let done = sqlx::query!(
        "UPDATE step SET state = 'failed', finished_at = $2
         WHERE id = $1 AND state = 'quarantined'",
        step.uuid(),
        stored(now) as _
    )
    .execute(conn)
    .await?;
    Ok(done.rows_affected() == 1)
}
