//! Traces of deployments, made from their rows.
//!
//! ```text
//! deployment ─┬─ step ─┬─ attempt        (spans, by the ids that the rows carry)
//!             │        └─ attempt
//!             └─ step
//! ```
//!
//! A deployment outlives the processes that carry it, so its spans are not held in any memory: one
//! process at a time, by a lease, reads what ended since it last looked, sends it with the stored
//! ids and the database's times, and marks it when the collector took it. A kill between sending
//! and marking repeats spans under the same ids; none is lost. Steps are sent as they end, the
//! deployment's own span with the last of them. The request that asked for a deployment is linked
//! from it: a trace of ours never begins in somebody else's.
//!
//! Without a collector nothing runs and nothing is marked; one that is named later gets the last
//! day.

use std::time::Duration;

use candlefish_runtime::{metrics::TRACES_UNSENT, telemetry};
use opentelemetry_sdk::{error::OTelSdkError, trace::SpanExporter};
use sqlx::PgPool;
use tokio_util::sync::CancellationToken;

use crate::step::worker::chain;

mod span;
mod store;
#[cfg(test)]
mod tests;

/// Deployments of one turn.
const BATCH: i64 = 100;

/// What an exporter is told.
#[derive(Debug, Clone)]
pub(crate) struct TraceConfig {
    /// Names this process in the lease.
    pub(crate) owner: String,
    /// How often it looks for what ended.
    pub(crate) every: Duration,
    /// How long a silent holder keeps the right to send.
    pub(crate) lease: Duration,
}

impl TraceConfig {
    /// The usual periods: a look every second, a lease of 10 s.
    pub(crate) fn of(owner: &str) -> Self {
        Self {
            owner: owner.to_owned(),
            every: Duration::from_secs(1),
            lease: Duration::from_secs(10),
        }
    }
}

/// Why a turn sent nothing. It is tried again.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error("read what ended")]
    Database(#[from] sqlx::Error),
    #[error("send spans to the collector")]
    Export(#[from] OTelSdkError),
}

/// Sends until `stopping`.
pub(crate) async fn run(
    pool: PgPool,
    exporter: telemetry::SpanExporter,
    config: TraceConfig,
    stopping: CancellationToken,
) {
    loop {
        let more = match turn(&pool, &exporter, &config).await {
            Ok(more) => more,
            Err(error) => {
                tracing::debug!(error = %chain(&error), "traces were not sent");
                false
            }
        };
        let pause = if more { Duration::ZERO } else { config.every };
        if stopping
            .run_until_cancelled(tokio::time::sleep(pause))
            .await
            .is_none()
        {
            return;
        }
    }
}

/// Sends and marks one batch; answers whether more may wait.
async fn turn(
    pool: &PgPool,
    exporter: &telemetry::SpanExporter,
    config: &TraceConfig,
) -> Result<bool, Error> {
    let mut conn = pool.acquire().await?;
    if !store::hold(&mut conn, &config.owner, config.lease).await? {
        return Ok(false);
    }
    let deployments = store::list(&mut conn, BATCH).await?;
    let unsent = u32::try_from(deployments.len()).unwrap_or(u32::MAX);
    metrics::gauge!(TRACES_UNSENT).set(f64::from(unsent));
    if deployments.is_empty() {
        return Ok(false);
    }
    let ids: Vec<_> = deployments.iter().map(|deployment| deployment.id).collect();
    let steps = store::steps(&mut conn, &ids).await?;
    let attempts = store::attempts(&mut conn, &steps).await?;
    let lines = store::lines(&mut conn, &ids).await?;
    // Nothing is held while the collector is asked.
    drop(conn);
    exporter
        .export(span::all(&deployments, &steps, &attempts, &lines))
        .await?;
    let mut tx = pool.begin().await?;
    store::mark(&mut tx, &deployments, &steps).await?;
    tx.commit().await?;
    Ok(i64::try_from(deployments.len()) == Ok(BATCH))
}
