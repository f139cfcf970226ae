//! What this process saw happen and what waits, for `/metrics` and the log.
//!
//! What a transaction did counts, and is said, once it is committed: the transaction carries its observations
//! ([`crate::ctx::Tx::observe`]). What stands is read from the database, so that every replica says
//! the same.

mod said;
mod store;

use std::time::Duration;

use candlefish_runtime::metrics::{
    DEPLOYMENT_DURATION, DEPLOYMENTS, DEPLOYMENTS_ACTIVE, LEASE_LOSSES, QUEUE_DEPTH, STEP_DURATION,
};
use tokio_util::sync::CancellationToken;

use crate::{ctx::Ctx, step::worker::chain};

/// As fresh as a scrape may want it.
const EVERY: Duration = Duration::from_secs(1);

/// Something that a transaction did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Observed {
    DeploymentEnded {
        site: String,
        /// `preview` for all previews: their names would be without bound.
        environment: String,
        status: &'static str,
        /// Since it was accepted.
        took: Duration,
    },
    StepEnded {
        kind: &'static str,
        /// Since its first turn.
        took: Duration,
    },
    /// A claimed step's worker was lost.
    LeaseLost,
    /// A line of the log.
    Said(said::Said),
}

impl Observed {
    /// Counts it, or says it; after the commit.
    pub(crate) fn count(self) {
        match self {
            Self::DeploymentEnded {
                site,
                environment,
                status,
                took,
            } => {
                metrics::counter!(
                    DEPLOYMENTS,
                    "site" => site.clone(), "environment" => environment.clone(), "status" => status
                )
                .increment(1);
                metrics::histogram!(
                    DEPLOYMENT_DURATION, "site" => site, "environment" => environment
                )
                .record(took.as_secs_f64());
            }
            Self::StepEnded { kind, took } => {
                metrics::histogram!(STEP_DURATION, "kind" => kind).record(took.as_secs_f64());
            }
            Self::LeaseLost => metrics::counter!(LEASE_LOSSES, "lease" => "step").increment(1),
            Self::Said(said) => said.say(),
        }
    }
}

/// Looks at what stands until `stopping`.
pub(crate) async fn run(ctx: Ctx, stopping: CancellationToken) {
    loop {
        match look(&ctx).await {
            Ok(standing) => say(standing),
            Err(error) => tracing::debug!(error = %chain(&error), "queues were not counted"),
        }
        tokio::select! {
            () = stopping.cancelled() => return,
            () = tokio::time::sleep(EVERY) => {}
        }
    }
}

async fn look(ctx: &Ctx) -> Result<store::Standing, sqlx::Error> {
    let mut conn = ctx.pool.acquire().await?;
    store::count(&mut conn).await
}

fn say(standing: store::Standing) {
    let shown = |count: i64| f64::from(i32::try_from(count).unwrap_or(i32::MAX));
    metrics::gauge!(DEPLOYMENTS_ACTIVE).set(shown(standing.active));
    for (queue, count) in [
        ("pending", standing.pending),
        ("quarantined", standing.quarantined),
        ("dead_letters", standing.dead_letters),
        ("deliveries", standing.deliveries),
    ] {
        metrics::gauge!(QUEUE_DEPTH, "queue" => queue).set(shown(count));
    }
}
