//! Carrying deployments: how soon the first step runs, and how many go through in a second.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use candlefish_proto::deploy::{self as pb, policy::Order, strategy::Kind};
use e2e::{
    Content, Sandbox,
    api::{Commit, quick_policy},
};
use futures_util::{StreamExt as _, stream};
use sqlx::{Connection, PgConnection};

use crate::{Row, millis, percentile};

/// 2,048 deployments at the same time.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shape {
    path: &'static str,
    /// What its site and lanes are called after.
    name: &'static str,
    lanes: usize,
    /// Of one lane.
    each: usize,
    /// How many ask at once, each for the deployments of one lane after the other.
    callers: usize,
}

/// Few teams that push a lot: most wait for their lane.
pub(super) const DEEP: Shape = Shape {
    path: "deployments carried through six steps, 64 lanes of 32",
    name: "carry",
    lanes: 64,
    each: 32,
    callers: 16,
};
/// Many that push at once: half of them act.
pub(super) const BROAD: Shape = Shape {
    path: "the same, 1,024 lanes of 2",
    name: "broad",
    lanes: 1024,
    each: 2,
    callers: 128,
};

/// 20 deployments a second to lanes of their own, from the call on: the first step is begun where the
/// lane is granted, so it runs once the call is answered. One that began later counts from the database's
/// own times.
pub(super) async fn first_step(sandbox: &Sandbox) -> Row {
    let api = &sandbox.api;
    let names: Vec<String> = (0..200).map(|lane| format!("first-{lane}")).collect();
    let slugs: Vec<&str> = names.iter().map(String::as_str).collect();
    api.create_site("first", &slugs).await.unwrap();
    let release = api
        .release("first", &Content::site("f"), &Commit::default())
        .await
        .unwrap();
    let mut beat = tokio::time::interval(Duration::from_millis(50));
    let mut answered = HashMap::new();
    for slug in &slugs {
        beat.tick().await;
        let asked = Instant::now();
        let made = api.deploy("first", slug, &release, Kind::Recreate(pb::Recreate {}));
        let made = made.await.unwrap();
        answered.insert(made.environment, asked.elapsed());
    }
    let mut database = PgConnection::connect(&sandbox.stack.superuser_database_url())
        .await
        .unwrap();
    let later: Vec<(String, f64)> = sqlx::query_as(
        "SELECT e.slug, extract(epoch FROM min(s.started_at) - d.created_at)::float8
         FROM deploy.deployment d JOIN deploy.step s ON s.deployment_id = d.id
         JOIN deploy.environment e ON e.id = d.environment_id
         JOIN deploy.site t ON t.id = d.site_id
         WHERE t.slug = 'first' AND s.started_at IS NOT NULL GROUP BY d.id, e.slug",
    )
    .fetch_all(&mut database)
    .await
    .unwrap();
    let mut took: Vec<Duration> = later
        .into_iter()
        .filter_map(|(slug, later)| {
            let answered = answered.get(&slug)?;
            Some(Duration::from_secs_f64(later).max(*answered))
        })
        .collect();
    Row {
        path: "asked → first step running, 20/s",
        target: "p99 < 15 ms",
        measured: format!(
            "p50 {}, p99 {} ({} deployments)",
            millis(percentile(&mut took, 0.5)),
            millis(percentile(&mut took, 0.99)),
            took.len()
        ),
    }
}

/// Six-step deployments (recreate, two verifications) through queueing lanes.
pub(super) async fn throughput(sandbox: &Sandbox, shape: Shape) -> Row {
    let api = &sandbox.api;
    let Shape { name, lanes, .. } = shape;
    let names: Vec<String> = (0..lanes).map(|lane| format!("{name}-{lane}")).collect();
    let slugs: Vec<&str> = names.iter().map(String::as_str).collect();
    api.create_site(name, &slugs).await.unwrap();
    let policy = pb::Policy {
        order: Order::Queue.into(),
        // Six steps, and no second look at one of them.
        settle: Some(prost_types::Duration::default()),
        ..quick_policy()
    };
    for slug in &slugs {
        api.set_policy(name, slug, policy.clone()).await.unwrap();
    }
    let content = Content::site(name);
    let release = api
        .release(name, &content, &Commit::default())
        .await
        .unwrap();
    let begun = Instant::now();
    let release = &release;
    let asked = slugs.iter().map(|slug| async move {
        let mut last = String::new();
        for _turn in 0..shape.each {
            let kind = Kind::Recreate(pb::Recreate {});
            last = api.deploy(name, slug, release, kind).await.unwrap().id;
        }
        last
    });
    let asked = stream::iter(asked).buffer_unordered(shape.callers);
    let last: Vec<String> = asked.collect().await;
    // A rate near that of accepting says little of carrying.
    let accepted = begun.elapsed().as_secs_f64();
    for id in &last {
        api.succeeds(id).await.unwrap();
    }
    let seconds = begun.elapsed().as_secs_f64();
    #[expect(
        clippy::as_conversions,
        clippy::cast_precision_loss,
        reason = "a count of hundreds"
    )]
    let rate = (lanes * shape.each) as f64 / seconds;
    Row {
        path: shape.path,
        target: "> 500/s, 2,000 in flight (five steps)",
        measured: format!(
            "{rate:.0}/s ({} in {seconds:.1} s, accepted within {accepted:.1} s)",
            lanes * shape.each
        ),
    }
}
