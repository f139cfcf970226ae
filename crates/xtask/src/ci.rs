//! `cargo xtask ci`: what `.ci/run` calls. Nothing of it is optional.

use std::time::Instant;

use anyhow::Result;

use crate::workspace::Workspace;
use crate::{check, test};

/// Packages that speak to NATS themselves.
const ON_NATS: [&str; 1] = ["candlefish-messaging"];

pub(crate) async fn run(workspace: &Workspace) -> Result<()> {
    let begun = Instant::now();
    headline("check");
    check::everything(workspace).await?;
    headline("test");
    test::run(workspace, &test::Options::everything()).await?;
    headline("test on the newer NATS server");
    test::run(workspace, &test::Options::newer_nats(&ON_NATS)).await?;
    let minutes = begun.elapsed().as_secs_f64() / 60.0;
    headline(&format!("all green after {minutes:.1} min"));
    Ok(())
}

fn headline(text: &str) {
    println!("\n=== {text} ===");
}
