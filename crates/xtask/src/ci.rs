//! `cargo xtask ci`: what `.ci/run` calls. Nothing of it is optional.

use std::time::Instant;

use anyhow::{Result, ensure};
use candlefish_devstack::disk_left;

use crate::workspace::Workspace;
use crate::{check, test};

/// Packages that speak to NATS themselves.
const ON_NATS: [&str; 1] = ["candlefish-messaging"];

pub(crate) async fn run(workspace: &Workspace) -> Result<()> {
    let begun = Instant::now();
    // All of them, also after a failure: one run shows everything that is wrong.
    headline("check", workspace);
    let checked = check::everything(workspace).await;
    headline("test", workspace);
    let tested = test::run(workspace, &test::Options::everything()).await;
    headline("test on the newer NATS server", workspace);
    let newer = test::run(workspace, &test::Options::newer_nats(&ON_NATS)).await;
    let minutes = begun.elapsed().as_secs_f64() / 60.0;
    let outcomes = [("check", checked), ("test", tested), ("newer NATS", newer)];
    let mut green = true;
    headline(&format!("after {minutes:.1} min"), workspace);
    for (name, outcome) in outcomes {
        match outcome {
            Ok(()) => println!("{name}: green"),
            Err(error) => {
                green = false;
                println!("{name}: {error:#}");
            }
        }
    }
    ensure!(green, "not green");
    Ok(())
}

/// With what the disk has left: when it is full, what fails says so in many other words.
fn headline(text: &str, workspace: &Workspace) {
    let left = disk_left(&workspace.root).map_or_else(
        |error| format!("{error:#}"),
        |bytes| format!("{} GiB of disk are left", bytes >> 30),
    );
    println!("\n=== {text} ({left}) ===");
}
