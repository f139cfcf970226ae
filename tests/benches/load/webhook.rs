//! GitHub's deliveries, signed and each of another commit: how soon they are stored and answered.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use candlefish_testkit::github::Push;
use e2e::Sandbox;
use tokio::task::JoinSet;

use crate::{Row, millis, percentile};

const RATE: u32 = 200;
const RUN: Duration = Duration::from_secs(5);
const CONNECTIONS: u64 = 32;

/// Delivers to one gateway; cheap to clone.
#[derive(Clone)]
struct Sender {
    http: reqwest::Client,
    url: String,
    secret: String,
    next: Arc<AtomicU64>,
}

impl Sender {
    /// Delivers a push of a commit that nobody has pushed before; answers how long that took, unless
    /// it was refused.
    async fn deliver(&self) -> Option<Duration> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let commit = format!("{number:040x}");
        let push = Push {
            repository: "bench/handbook",
            branch: "main",
            before: &"0".repeat(40),
            commits: &[&commit],
            changes: &["docs/a.md"],
            pushed_at: 1_790_000_000,
        };
        let name = format!("bench-{number}");
        let request = push
            .example()
            .request(&self.http, &self.url, &name, &self.secret);
        let sent = Instant::now();
        let status = request.send().await.unwrap().status();
        (status == 202).then(|| sent.elapsed())
    }
}

pub(super) async fn run(sandbox: &Sandbox) -> Vec<Row> {
    let sender = Sender {
        http: reqwest::Client::new(),
        url: format!("{}/v1/webhooks/github", sandbox.stack.gateway_url()),
        secret: sandbox.stack.github_webhook_secret().to_owned(),
        next: Arc::default(),
    };
    vec![gentle(&sender).await, saturated(&sender).await]
}

/// At a rate, whatever the answers take.
async fn gentle(sender: &Sender) -> Row {
    let mut beat = tokio::time::interval(Duration::from_secs(1) / RATE);
    let mut deliveries = JoinSet::new();
    let begun = Instant::now();
    while begun.elapsed() < RUN {
        beat.tick().await;
        let sender = sender.clone();
        deliveries.spawn(async move { sender.deliver().await });
    }
    let (mut took, refused) = counted(deliveries.join_all().await);
    Row {
        path: "webhook accepted (202), 200/s",
        target: "p99 < 10 ms",
        measured: format!(
            "p50 {}, p99 {} ({} deliveries, {refused} refused)",
            millis(percentile(&mut took, 0.5)),
            millis(percentile(&mut took, 0.99)),
            took.len()
        ),
    }
}

/// As many as go, the next when the one before is answered.
async fn saturated(sender: &Sender) -> Row {
    let mut connections = JoinSet::new();
    let begun = Instant::now();
    for _ in 0..CONNECTIONS {
        let sender = sender.clone();
        connections.spawn(async move {
            let mut took = Vec::new();
            while begun.elapsed() < RUN {
                took.push(sender.deliver().await);
            }
            took
        });
    }
    let all = connections.join_all().await;
    let seconds = begun.elapsed().as_secs_f64();
    let (mut took, refused) = counted(all.into_iter().flatten().collect());
    #[expect(
        clippy::as_conversions,
        clippy::cast_precision_loss,
        reason = "a rate of thousands"
    )]
    let rate = took.len() as f64 / seconds;
    Row {
        path: "webhook accepted (202), 32 connections",
        target: "",
        measured: format!(
            "{rate:.0}/s, p99 {}, {refused} refused",
            millis(percentile(&mut took, 0.99))
        ),
    }
}

fn counted(answers: Vec<Option<Duration>>) -> (Vec<Duration>, usize) {
    let all = answers.len();
    let took: Vec<Duration> = answers.into_iter().flatten().collect();
    let refused = all - took.len();
    (took, refused)
}
