//! Forgets what only time bounds: answers kept for repeated calls, counters of traffic long past, and
//! the own addresses of deployments that ended long ago, with which edges may forget their content.
//! A preview's is not among them: it serves until the preview is closed. And edges that do not come back.

use tokio_util::sync::CancellationToken;

use crate::{
    ctx::Ctx, deployment, edge, idempotency, route, step::worker::chain, traffic, trigger,
};

/// Rows at once, so that no statement runs long.
const AT_ONCE: i64 = 5_000;
/// Edges forgotten in a round.
const EDGES: i64 = 100;

/// Forgets until `stopping`.
pub(crate) async fn run(ctx: Ctx, stopping: CancellationToken) {
    let mut gone = Vec::new();
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
        match edges(&ctx, &gone, AT_ONCE).await {
            Ok(now) => gone = now,
            Err(error) => {
                tracing::debug!(error = %chain(&error), "old edges were not forgotten");
            }
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

/// Forgets edges that do not come back; answers those that are gone now. They must have been gone at the
/// round before, too: where the clock was set forward, or the machine slept, a live edge seems gone until
/// it is heard of again, and without its row it would not be live before it begins anew.
async fn edges(ctx: &Ctx, before: &[String], at_once: i64) -> Result<Vec<String>, sqlx::Error> {
    let mut conn = ctx.pool.acquire().await?;
    let gone = edge::store::list_gone(&mut conn, EDGES).await?;
    let still = gone.iter().filter(|edge| before.contains(edge));
    let still: Vec<String> = still.cloned().collect();
    if still.is_empty() {
        return Ok(gone);
    }
    while edge::store::forget_gone(&mut conn, &still, at_once).await? > 0 {}
    tracing::info!(edges = ?still, "edges that were not heard of for 30 days are forgotten");
    Ok(gone)
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
