//! `cargo xtask bench`: load runs of the hot paths against the release build, everything and the
//! load generator on the same machine, `fsync` on. Prints one row per path, beside its target.
//!
//! Figures are of one run on one machine: quote the ratios. Nothing here passes or fails by time.
#![expect(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a load run shows what it measured, and ends where it cannot go on"
)]

mod accept;
mod carry;
mod command_line;
mod hot_read;
mod memory;
mod nginx;
mod roll_back;
mod webhook;
mod wrk;

use std::time::Duration;

use candlefish_devstack::Stack;
use e2e::{Sandbox, api::Api};

/// One line of the result.
#[derive(Debug)]
struct Row {
    path: &'static str,
    target: &'static str,
    measured: String,
}

/// The value below which this share of the samples lies.
fn percentile(samples: &mut [Duration], share: f64) -> Duration {
    samples.sort_unstable();
    #[expect(
        clippy::as_conversions,
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "an index among thousands"
    )]
    let place = ((samples.len() as f64 * share).ceil() as usize).saturating_sub(1);
    samples
        .get(place.min(samples.len().saturating_sub(1)))
        .copied()
        .unwrap_or_default()
}

/// `12.3 ms`.
fn millis(duration: Duration) -> String {
    format!("{:.1} ms", duration.as_secs_f64() * 1000.0)
}

#[tokio::main]
async fn main() {
    // `cargo bench` hands over flags of its own harness; names of paths choose among ours.
    let only: Vec<String> = std::env::args()
        .skip(1)
        .filter(|arg| !arg.starts_with('-'))
        .collect();
    let wanted = |name: &str| only.is_empty() || only.iter().any(|one| name.contains(one.as_str()));
    // Where cargo puts what it builds, whatever was said of that: ours is in the folder `deps` there.
    let own = std::env::current_exe().unwrap();
    let binaries = own.ancestors().nth(2).unwrap().to_owned();
    let stack = Stack::builder()
        .replicas(1, 1, 2)
        .binaries(binaries.clone())
        .start()
        .await
        .unwrap();
    let api = Api::connect(&stack.gateway_url(), stack.admin_token()).unwrap();
    api.create_site("docs", &["staging", "production"])
        .await
        .unwrap();
    let sandbox = Sandbox::of(stack, api);
    sandbox.edges_live().await.unwrap();

    let mut rows: Vec<Row> = Vec::new();
    if wanted("memory") {
        rows.extend(memory::at_rest(&sandbox));
    }
    if wanted("hot read") {
        rows.extend(hot_read::run(&sandbox).await);
    }
    if wanted("accept") {
        rows.extend(accept::run(&sandbox).await);
    }
    if wanted("first step") {
        rows.push(carry::first_step(&sandbox).await);
    }
    if wanted("carry") {
        rows.push(carry::throughput(&sandbox, carry::DEEP).await);
        rows.push(carry::throughput(&sandbox, carry::BROAD).await);
    }
    if wanted("roll back") {
        rows.push(roll_back::run(&sandbox).await);
    }
    if wanted("webhook") {
        rows.extend(webhook::run(&sandbox).await);
    }
    if wanted("command line") {
        rows.push(command_line::run(&sandbox, &binaries).await);
    }
    if wanted("edge") {
        rows.extend(nginx::run(&sandbox).await);
    }
    println!("\n| path | target | measured |\n|---|---|---|");
    for row in rows {
        println!("| {} | {} | {} |", row.path, row.target, row.measured);
    }
    sandbox.stop().await.unwrap();
}
