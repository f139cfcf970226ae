//! Compares what the routes say with what should be live, and what live edges serve with the routes;
//! corrects both, and records it.
//!
//! On our own edge the routes are the desired state, so drift is a route that a lost host, a new host
//! name, an undo that was never finished or a hand in the database left wrong; and an edge that missed
//! something. Input-free and idempotent: on timer and on nudge it looks, makes a plan with a reason for
//! each item, and acts under the lane's lock after looking again. What the routes say where a deployment
//! acts is that one's business; whether edges serve it is looked at there too, and at its own address, with
//! the patience that a deployment has with an edge that must fetch first.

mod late;
mod plan;
mod store;

use std::{collections::BTreeMap, pin::pin, time::Duration};

use candlefish_ids::EnvironmentId;
use candlefish_runtime::{metrics::ROUTE_DRIFT, refusal::Refusal};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use self::{
    late::{LATE_AFTER, Lag, Lags},
    plan::{Drift, Found, Why, plan},
};
use crate::{
    ctx::{Ctx, Tx},
    deployment::Error,
    edge, lane, release,
    route::{
        Spec,
        store::{self as route_store, Place},
    },
    site,
    step::worker::chain,
};

/// Environments, or addresses, read at once.
const AT_ONCE: i64 = 500;
/// A nudge is followed by a round after this, so that a busy minute makes few.
const REST: Duration = Duration::from_secs(2);
/// Or after so many times what the last round took: nudged rounds are a twentieth of the time at most.
const REST_FOR_EACH: u32 = 20;

/// Reconciles until `stopping`.
pub(crate) async fn run(ctx: Ctx, stopping: CancellationToken) {
    let mut lags = Lags::default();
    let mut rest = REST;
    let mut nudged = pin!(ctx.nudges.routes.notified());
    loop {
        tokio::select! {
            () = stopping.cancelled() => return,
            () = tokio::time::sleep(ctx.config.reconcile) => {}
            () = async {
                nudged.as_mut().await;
                tokio::time::sleep(rest).await;
            } => {}
        }
        // Registered before the round, so that a nudge during it is not lost.
        nudged.set(ctx.nudges.routes.notified());
        let begun = Instant::now();
        if let Err(error) = round(&ctx, &mut lags).await {
            tracing::debug!(error = %chain(&error), "routes were not compared; the next turn does");
        }
        rest = REST.max(begun.elapsed() * REST_FOR_EACH);
    }
}

async fn round(ctx: &Ctx, lags: &mut Lags) -> Result<(), Error> {
    let mut behind = Vec::new();
    // An edge may have to fetch what it is to serve.
    let patient = ctx.config.edge_patience.max(LATE_AFTER);
    let mut after = None;
    loop {
        let mut conn = ctx.pool.acquire().await?;
        let page = store::list(&mut conn, after, AT_ONCE).await?;
        drop(conn);
        let Some(last) = page.last() else {
            break;
        };
        after = Some(last.environment_id);
        for one in &page {
            let patience = if one.acts { patient } else { LATE_AFTER };
            behind.extend(Lag::all(one).map(|lag| (lag, patience)));
            if !one.acts && !plan(one, &ctx.config.domain).is_empty() {
                correct_alone(ctx, one.environment_id).await;
            }
        }
    }
    let mut after = None;
    loop {
        let mut conn = ctx.pool.acquire().await?;
        let page = store::list_own(&mut conn, after, AT_ONCE).await?;
        drop(conn);
        let Some(last) = page.last() else {
            break;
        };
        after = Some(last.deployment_id);
        for one in &page {
            let lags = Lag::of(&one.host, (one.epoch, one.version), &one.behind);
            behind.extend(lags.map(|lag| (lag, patient)));
        }
    }
    send_again(ctx, &lags.late(Instant::now(), behind)).await
}

/// One environment that cannot be corrected must not keep the others.
async fn correct_alone(ctx: &Ctx, environment: EnvironmentId) {
    if let Err(error) = correct(ctx, environment).await {
        tracing::warn!(
            environment.id = %environment, error = %chain(&error),
            "drift was not corrected; the next turn tries again"
        );
    }
}

/// Looks again with the lane locked, and writes the routes that are wrong.
async fn correct(ctx: &Ctx, environment: EnvironmentId) -> Result<(), Error> {
    let mut tx = ctx.begin().await.map_err(Error::Begin)?;
    lane::store::lock(&mut tx, environment).await?;
    let found = store::find(&mut tx, environment).await?;
    let Some(mut one) = found.filter(|one| !one.acts) else {
        return Ok(());
    };
    // Named from here on, so kept from being collected; or it was already.
    if let Some(left) = &one.left
        && !release::store::share(&mut tx, left.release).await?
    {
        one.left = None;
    }
    let drift = plan(&one, &ctx.config.domain);
    if drift.is_empty() {
        return Ok(());
    }
    write(&mut tx, &one, &drift).await?;
    store::raise_version(&mut tx, environment).await?;
    let after = site::store::load_environment(&mut tx, environment).await;
    let after = after.map_err(site::Error::from).map_err(Refusal::from)?;
    let words: Vec<String> = drift.iter().map(Drift::to_string).collect();
    let words = words.join("; ");
    tx.tell(site::event::drifted(&ctx.config, &after, &words));
    ctx.commit(tx).await?;
    let count = u64::try_from(drift.len()).unwrap_or(u64::MAX);
    metrics::counter!(ROUTE_DRIFT, "at" => "table").increment(count);
    tracing::warn!(
        environment.id = %environment, "{} drifted: {words}; corrected", after.place()
    );
    Ok(())
}

/// What should serve serves what is live, what should not serves nothing.
async fn write(tx: &mut Tx, one: &Found, drift: &[Drift]) -> Result<(), sqlx::Error> {
    let place = Place {
        environment_id: Some(one.environment_id),
        deployment_id: None,
        site: &one.site,
        environment: &one.environment,
        noindex: one.noindex(),
    };
    tx.moves_traffic();
    for (is_stray, spec) in [(false, one.spec()), (true, Spec::default())] {
        let hosts: Vec<String> = drift
            .iter()
            .filter(|item| (item.why == Why::Stray) == is_stray)
            .map(|item| item.host.clone())
            .collect();
        if !hosts.is_empty() {
            route_store::write(tx, &hosts, place, &spec).await?;
        }
    }
    Ok(())
}

/// Has edges that are late sent again what they lack.
async fn send_again(ctx: &Ctx, late: &BTreeMap<String, u64>) -> Result<(), Error> {
    if late.is_empty() {
        return Ok(());
    }
    let edges: Vec<String> = late.keys().cloned().collect();
    let mut conn = ctx.pool.acquire().await?;
    for edge in edge::store::resend(&mut conn, &edges).await? {
        let routes = late.get(&edge).copied().unwrap_or(0);
        metrics::counter!(ROUTE_DRIFT, "at" => "edge").increment(routes);
        tracing::warn!(edge.id = %edge, routes, "a live edge is behind: it is sent again what it lacks");
    }
    Ok(())
}
