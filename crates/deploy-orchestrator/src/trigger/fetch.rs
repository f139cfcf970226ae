//! Fetching what deliveries say, and having it decided. Outside of any transaction, and again until
//! it is done.

use std::sync::Arc;

use candlefish_runtime::{telemetry::LOG_ONLY, trace};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tracing::{Instrument as _, Span};

use super::{
    Delivery, Error, decide, form,
    gateway::Gateway,
    other::Other,
    pull_request::{self, PullRequest},
    push::Push,
    store,
};
use crate::{backoff, ctx::Ctx, github::GitHub, step::worker::chain};

/// Deliveries of one look.
const AT_ONCE: i64 = 32;

/// Fetches and decides until `stopping`.
pub(crate) async fn run(
    ctx: Ctx,
    gateway: Gateway,
    github: Option<GitHub>,
    wake: Arc<Notify>,
    stopping: CancellationToken,
) {
    while !stopping.is_cancelled() {
        let done = look(&ctx, (&gateway, github.as_ref()), &stopping).await;
        match done {
            // There may be more.
            Ok(AT_ONCE) => continue,
            Ok(_) => {}
            Err(error) => {
                tracing::debug!(error = %chain(&error), "deliveries were not looked at");
            }
        }
        tokio::select! {
            () = stopping.cancelled() => return,
            () = wake.notified() => {}
            () = tokio::time::sleep(ctx.config.poll) => {}
        }
    }
}

/// Answers how many were due.
async fn look(
    ctx: &Ctx,
    sources: (&Gateway, Option<&GitHub>),
    stopping: &CancellationToken,
) -> Result<i64, Error> {
    let mut conn = ctx.pool.acquire().await?;
    let due = store::list_due(&mut conn, AT_ONCE).await?;
    drop(conn);
    let mut count = 0;
    for delivery in due {
        count += 1;
        if stopping.is_cancelled() {
            return Ok(0);
        }
        let about = about(&delivery);
        attend(ctx, sources, &delivery).instrument(about).await?;
    }
    Ok(count)
}

/// Around what is done about a delivery: each log line names it and, once it is fetched, the trace of the
/// call that brought it. No trace has this span.
fn about(delivery: &Delivery) -> Span {
    tracing::info_span!(
        target: LOG_ONLY,
        parent: None,
        "delivery",
        delivery.id = %delivery.id,
        trace_id = tracing::field::Empty
    )
}

/// One that cannot be decided is put off: it must not keep the others.
async fn attend(
    ctx: &Ctx,
    sources: (&Gateway, Option<&GitHub>),
    delivery: &Delivery,
) -> Result<(), Error> {
    let Err(error) = carry(ctx, sources, delivery).await else {
        return Ok(());
    };
    let words = chain(&error);
    tracing::warn!(
        delivery.id = %delivery.id, attempts = delivery.attempts + 1, error = %words,
        "a delivery is not decided yet"
    );
    let pause = backoff::after(delivery.attempts);
    let mut conn = ctx.pool.acquire().await?;
    store::put_off(&mut conn, delivery.id, pause, &words).await?;
    Ok(())
}

async fn carry(
    ctx: &Ctx,
    (gateway, github): (&Gateway, Option<&GitHub>),
    delivery: &Delivery,
) -> Result<(), Error> {
    let (body, traceparent) = match gateway.fetch(delivery.id).await {
        Ok(fetched) => fetched,
        Err(status) if status.code() == tonic::Code::NotFound => {
            return finish(ctx, delivery, "the gateway has forgotten it").await;
        }
        Err(status) => return Err(Error::Gateway(status)),
    };
    if let Some(trace) = trace::trace_id_of(&traceparent) {
        Span::current().record("trace_id", trace);
    }
    let delivery = &Delivery {
        traceparent,
        ..delivery.clone()
    };
    let note = decided(ctx, github, delivery, &body).await?;
    finish(ctx, delivery, &note).await
}

/// Decides a delivery by what it says; answers what there is to note of it as a whole.
pub(crate) async fn decided(
    ctx: &Ctx,
    github: Option<&GitHub>,
    delivery: &Delivery,
    body: &[u8],
) -> Result<String, Error> {
    let event = delivery.event.as_str();
    let json = form::json_of(body);
    let body = &*json;
    let words = match event {
        "push" => match Push::read(body) {
            Ok(push) => {
                decide::decide(ctx, delivery, &push).await?;
                return Ok(String::new());
            }
            Err(error) => error.to_string(),
        },
        "pull_request" => match PullRequest::read(body) {
            Ok(told) => {
                pull_request::decide(ctx, github, delivery, &told).await?;
                return Ok(String::new());
            }
            Err(error) => error.to_string(),
        },
        _ => match Other::read(event, body) {
            Ok(Some(other)) => return other.decide(ctx, delivery).await,
            Ok(None) => return Ok(format!("{event} names no repository")),
            Err(error) => format!("it is not JSON: {error}"),
        },
    };
    let other = Other::unreadable(event, body, &words);
    tracing::warn!(
        delivery.id = %delivery.id, event, "a delivery cannot be read: {}", other.words()
    );
    other.decide(ctx, delivery).await
}

async fn finish(ctx: &Ctx, delivery: &Delivery, note: &str) -> Result<(), Error> {
    let mut conn = ctx.pool.acquire().await?;
    store::finish(&mut conn, delivery.id, note).await?;
    Ok(())
}
