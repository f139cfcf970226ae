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
//! A turn that the collector refuses is tried again with half as many deployments, for its message may have
//! been too large; one deployment alone is bounded by what its spans leave out.
//!
//! Without a collector nothing runs and nothing is marked; one that is named later gets the last
//! day.

use std::time::Duration;

use candlefish_ids::DeploymentId;
use candlefish_messaging::Outage;
use candlefish_runtime::{
    metrics::{LEASE_LOSSES, TRACES_UNSENT},
    telemetry::{self, LOG_ONLY},
};
use opentelemetry_sdk::{error::OTelSdkError, trace::SpanExporter};
use sqlx::PgPool;
use tokio_util::sync::CancellationToken;
use tracing::Span;

mod span;
mod store;
#[cfg(test)]
mod tests;

/// Deployments of one turn, at the most.
const BATCH: i64 = 100;

/// The trace of a deployment: its id names it, so that a log line leads there.
pub(crate) fn id_of(deployment: DeploymentId) -> String {
    deployment.uuid().simple().to_string()
}

/// Around what is done about a deployment, whoever does it: each of its log lines names it and its trace. No
/// trace has this span: those of deployments come from their rows.
pub(crate) fn about(deployment: DeploymentId) -> Span {
    tracing::info_span!(
        target: LOG_ONLY,
        parent: None,
        "turn",
        deployment.id = %deployment,
        trace_id = %deployment.uuid().simple()
    )
}

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

/// What one exporter knows of its turns before.
#[derive(Debug)]
struct Past {
    /// Deployments of the next turn.
    batch: i64,
    /// It had the lease at the last one.
    held: bool,
}

impl Default for Past {
    fn default() -> Self {
        Self {
            batch: BATCH,
            held: false,
        }
    }
}

impl Past {
    /// Notes whether the lease is held now; one that another took meanwhile was lost.
    fn holds(&mut self, held: bool) {
        if self.held && !held {
            metrics::counter!(LEASE_LOSSES, "lease" => "traces").increment(1);
        }
        self.held = held;
    }

    /// Half as many after what was refused, twice as many after what was taken.
    fn sent(&mut self, taken: bool) {
        self.batch = if taken {
            self.batch.saturating_mul(2).min(BATCH)
        } else {
            (self.batch / 2).max(1)
        };
    }
}

/// Sends until `stopping`.
pub(crate) async fn run(
    pool: PgPool,
    exporter: telemetry::SpanExporter,
    config: TraceConfig,
    stopping: CancellationToken,
) {
    let mut past = Past::default();
    let mut outage = Outage::of("traces", "exporter", "sending");
    loop {
        let is_least = past.batch == 1;
        let more = match turn(&pool, &exporter, &config, &mut past).await {
            Ok(more) => {
                // Without the lease nothing was sent.
                if past.held {
                    outage.over();
                }
                more
            }
            // Its message may only have been too large: the next one is smaller.
            Err(Error::Export(error)) if !is_least => {
                tracing::debug!(%error, "traces were not sent");
                false
            }
            Err(error) => {
                outage.failed(&error);
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
    past: &mut Past,
) -> Result<bool, Error> {
    let mut conn = pool.acquire().await?;
    past.holds(store::hold(&mut conn, &config.owner, config.lease).await?);
    if !past.held {
        return Ok(false);
    }
    let mut deployments = store::list(&mut conn, BATCH).await?;
    let waiting = deployments.len();
    let unsent = u32::try_from(waiting).unwrap_or(u32::MAX);
    metrics::gauge!(TRACES_UNSENT).set(f64::from(unsent));
    if deployments.is_empty() {
        return Ok(false);
    }
    deployments.truncate(usize::try_from(past.batch).unwrap_or(usize::MAX));
    let ids: Vec<_> = deployments.iter().map(|deployment| deployment.id).collect();
    let steps = store::steps(&mut conn, &ids).await?;
    let attempts = store::attempts(&mut conn, &steps).await?;
    let lines = store::lines(&mut conn, &ids).await?;
    // Nothing is held while the collector is asked.
    drop(conn);
    let spans = span::all(&deployments, &steps, &attempts, &lines);
    let sent = exporter.export(spans).await;
    past.sent(sent.is_ok());
    sent?;
    let mut tx = pool.begin().await?;
    store::mark(&mut tx, &deployments, &steps).await?;
    tx.commit().await?;
    Ok(waiting > deployments.len() || i64::try_from(waiting) == Ok(BATCH))
}
