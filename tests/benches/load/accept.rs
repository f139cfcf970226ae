//! Accepting deployments, over REST, from 32 connections, to lanes that are held: what is measured is
//! the durable acceptance, the newest on each lane taking the place of the one before.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use e2e::{Content, Sandbox, api::Commit};

use crate::{Row, millis, percentile};

const LANES: u64 = 96;
const CONNECTIONS: u64 = 32;
const RUN: Duration = Duration::from_secs(8);

pub(super) async fn run(sandbox: &Sandbox) -> Vec<Row> {
    let api = &sandbox.api;
    let names: Vec<String> = (0..LANES).map(|lane| format!("lane-{lane}")).collect();
    let slugs: Vec<&str> = names.iter().map(String::as_str).collect();
    api.create_site("accept", &slugs).await.unwrap();
    for name in &names {
        let request = candlefish_proto::deploy::SetHoldRequest {
            site: "accept".to_owned(),
            environment: name.clone(),
            reason: "only acceptance is measured".to_owned(),
        };
        api.sites().set_hold(request).await.unwrap();
    }
    let release = api
        .release("accept", &Content::site("a"), &Commit::default())
        .await
        .unwrap();
    let next = Arc::new(AtomicU64::new(0));
    let begun = Instant::now();
    let url = format!("{}/v1/deployments", sandbox.stack.gateway_url());
    let clients: Vec<_> = (0..CONNECTIONS)
        .map(|_| {
            client(
                url.clone(),
                sandbox.stack.admin_token(),
                &release,
                &next,
                begun,
            )
        })
        .collect();
    let mut samples = Vec::new();
    let mut refused = 0;
    for client in clients {
        let (took, bad) = client.await.unwrap();
        samples.extend(took);
        refused += bad;
    }
    let seconds = begun.elapsed().as_secs_f64();
    let accepted = samples.len();
    #[expect(
        clippy::as_conversions,
        clippy::cast_precision_loss,
        reason = "a rate of thousands"
    )]
    let rate = accepted as f64 / seconds;
    vec![Row {
        path: "`POST /v1/deployments`, 32 connections",
        target: "> 2,500/s, p99 < 30 ms",
        measured: format!(
            "{rate:.0}/s, p50 {}, p99 {}, {refused} refused",
            millis(percentile(&mut samples, 0.5)),
            millis(percentile(&mut samples, 0.99))
        ),
    }]
}

fn client(
    url: String,
    token: &str,
    release: &str,
    next: &Arc<AtomicU64>,
    begun: Instant,
) -> tokio::task::JoinHandle<(Vec<Duration>, u64)> {
    let (token, release, next) = (token.to_owned(), release.to_owned(), Arc::clone(next));
    #[expect(
        clippy::disallowed_methods,
        reason = "a load generator has no process to stop"
    )]
    tokio::spawn(async move {
        let http = reqwest::Client::builder()
            .pool_max_idle_per_host(1)
            .build()
            .unwrap();
        let (mut took, mut refused) = (Vec::new(), 0);
        while begun.elapsed() < RUN {
            let number = next.fetch_add(1, Ordering::Relaxed);
            let body = serde_json::json!({
                "site": "accept",
                "environment": format!("lane-{}", number % LANES),
                "release_id": release,
            });
            let sent = Instant::now();
            let answer = http
                .post(&url)
                .bearer_auth(&token)
                .header("idempotency-key", format!("bench-{number}"))
                .json(&body)
                .send()
                .await
                .unwrap();
            let status = answer.status();
            let text = answer.text().await.unwrap();
            if status == 201 {
                took.push(sent.elapsed());
            } else {
                refused += 1;
                if refused == 1 {
                    println!("refused: {status} {text}");
                }
            }
        }
        (took, refused)
    })
}
