//! Forgets what only time bounds: answers kept for repeated calls, and counters of traffic long past.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::{ctx::Ctx, idempotency, step::worker::chain, traffic};

const EVERY: Duration = Duration::from_mins(1);
/// Rows at once, so that no statement runs long.
const AT_ONCE: i64 = 5_000;

/// Forgets until `stopping`.
pub(crate) async fn run(ctx: Ctx, stopping: CancellationToken) {
    while stopping
        .run_until_cancelled(tokio::time::sleep(EVERY))
        .await
        .is_some()
    {
        if let Err(error) = traffic::store::forget_old(&ctx.pool).await {
            tracing::debug!(error = %chain(&error), "old traffic was not forgotten");
        }
        if let Err(error) = answers(&ctx).await {
            tracing::debug!(error = %chain(&error), "old answers were not forgotten");
        }
    }
}

async fn answers(ctx: &Ctx) -> Result<(), idempotency::Error> {
    let mut conn = ctx
        .pool
        .acquire()
        .await
        .map_err(idempotency::Error::Database)?;
    while idempotency::forget(&mut conn, AT_ONCE).await? > 0 {}
    Ok(())
}
