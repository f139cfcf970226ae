//! What became of a run's deployments, as the database tells it: what was planned may have come too
//! late.

use anyhow::Result;
use candlefish_ids::DeploymentId;
use sqlx::{Connection, PgConnection};
use uuid::Uuid;

use super::{Done, lane::SITE};

const COUNTS: &str = "
    SELECT count(*) FILTER (WHERE d.id = ANY($2) AND d.pivoted_at IS NOT NULL) AS pivoted,
           count(*) FILTER (WHERE d.cause = 'cancelled') AS cancelled,
           count(*) FILTER (WHERE d.cause = 'aborted' AND d.pivoted_at IS NOT NULL) AS aborted,
           count(*) FILTER (WHERE d.kind = 'rollback' AND d.pivoted_at IS NOT NULL) AS rolled_back,
           count(*) FILTER (WHERE d.cause = 'verification') AS refuted
    FROM deploy.deployment d JOIN deploy.site s ON s.id = d.site_id WHERE s.slug = $1";

/// How many of those that callers asked for.
#[derive(Debug, Clone, Copy, sqlx::FromRow)]
pub struct Outcomes {
    /// Planned ones whose release had traffic.
    pub pivoted: i64,
    /// Those that a cancel ended, past their pivot too.
    pub cancelled: i64,
    /// Those that an abort ended after their release had traffic.
    pub aborted: i64,
    /// Rollbacks that moved traffic.
    pub rolled_back: i64,
    /// Those whose pages were not what they should be.
    pub refuted: i64,
}

impl Outcomes {
    /// Counts them when the run is over.
    pub async fn count(url: &str, done: &Done) -> Result<Self> {
        let planned: Result<Vec<Uuid>, _> = done
            .planned
            .iter()
            .map(|id| id.parse::<DeploymentId>().map(DeploymentId::uuid))
            .collect();
        let mut connection = PgConnection::connect(url).await?;
        let counts = sqlx::query_as(COUNTS).bind(SITE).bind(planned?);
        Ok(counts.fetch_one(&mut connection).await?)
    }
}
