//! Forgets what only time bounds: answers kept for repeated calls, counters of traffic long past, and
//! the own addresses of deployments that ended long ago, with which edges may forget their content.
//! A preview's is not among them: it serves until the preview is closed.

use tokio_util::sync::CancellationToken;

use crate::{ctx::Ctx, deployment, idempotency, route, step::worker::chain, traffic, trigger};

/// Rows at once, so that no statement runs long.
const AT_ONCE: i64 = 5_000;

/// Forgets until `stopping`.
pub(crate) async fn run(ctx: Ctx, stopping: CancellationToken) {
    while stopping
        .run_until_cancelled(tokio::time::sleep(ctx.config.forget))
        .await
        .is_some()
    {
        if let Err(error) = traffic::store::forget_old(&ctx.pool).await {
            tracing::debug!(error = %chain(&error), "old traffic was not forgotten");
        }
        if let Err(error) = addresses(&ctx, AT_ONCE).await {
            tracing::debug!(error = %chain(&error), "old addresses were not taken away");
        }
        if let Err(error) = trigger::content::forget(&ctx).await {
            tracing::debug!(error = %chain(&error), "old deliveries were not forgotten");
        }
        if let Err(error) = answers(&ctx).await {
            tracing::debug!(error = %chain(&error), "old answers were not forgotten");
        }
    }
}

/// Takes all of them away, so many in a transaction: a busy day ends more than that.
async fn addresses(ctx: &Ctx, at_once: i64) -> Result<(), deployment::Error> {
    let keep = ctx.config.keep_addresses;
    loop {
        let mut tx = ctx.begin().await?;
        let epoch = candlefish_messaging::epoch::current(&mut tx).await?;
        let taken = route::store::take_old_addresses_away(&mut tx, epoch, keep, at_once).await?;
        if taken > 0 {
            tx.moves_traffic();
            tracing::info!(
                addresses = taken,
                "addresses of old deployments are taken away"
            );
        }
        ctx.commit(tx).await?;
        if taken < at_once.unsigned_abs() {
            return Ok(());
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

#[cfg(test)]
mod tests;
