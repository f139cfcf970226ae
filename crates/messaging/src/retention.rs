//! Drops old facts in small batches.

use std::time::Duration;

use sqlx::PgPool;
use tokio_util::sync::CancellationToken;

/// What a loop of retention is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetentionConfig {
    /// Published facts older than this go; a consumer that was away for longer rebuilds.
    pub keep: Duration,
    /// The pause between two rounds.
    pub every: Duration,
    /// Rows of one statement.
    pub batch: i64,
}

impl Default for RetentionConfig {
    fn default() -> Self {
        Self {
            keep: Duration::from_hours(7 * 24),
            every: Duration::from_mins(10),
            batch: 1000,
        }
    }
}

/// Drops old facts until the process stops.
pub async fn run(pool: PgPool, config: RetentionConfig, stopping: CancellationToken) {
    while stopping
        .run_until_cancelled(tokio::time::sleep(config.every))
        .await
        .is_some()
    {
        match drop_old(&pool, config).await {
            Ok(0) => {}
            Ok(rows) => tracing::info!(rows, "dropped old facts"),
            Err(error) => tracing::warn!("old facts were not dropped: {error}"),
        }
    }
}

/// Drops what is too old, batch by batch; answers how many rows.
pub async fn drop_old(pool: &PgPool, config: RetentionConfig) -> Result<u64, sqlx::Error> {
    let mut dropped = 0;
    loop {
        // A fact that the bus never had stays, however old: it is still owed.
        let rows = sqlx::query!(
            "DELETE FROM outbox WHERE id = ANY (ARRAY(
                 SELECT o.id FROM outbox o, relay r
                 WHERE o.created_at < (SELECT clock()) - make_interval(secs => $1)
                   AND (o.epoch < r.epoch OR (o.epoch = r.epoch AND o.seq <= r.published_upto))
                 ORDER BY o.created_at LIMIT $2))",
            config.keep.as_secs_f64(),
            config.batch
        )
        .execute(pool)
        .await?
        .rows_affected();
        dropped += rows;
        if rows < u64::try_from(config.batch).unwrap_or(u64::MAX) {
            return Ok(dropped);
        }
    }
}
