//! The stand-in for GitHub that the tour pushes to: testkit's, as a process.

use anyhow::{Context, Result};
use candlefish_devstack::Stack;

use crate::cargo;
use crate::workspace::Workspace;

const ADDRESS: &str = "127.0.0.1:8099";
const PROGRAM: &str = "github-stand-in";

/// Of the whole workspace, so that no dependency is built for it a second time.
pub(super) fn build(workspace: &Workspace) -> Result<()> {
    let mut build = cargo::command(workspace);
    build.args(["build", "--workspace", "--example", PROGRAM, "--locked"]);
    cargo::run(build)
}

/// How an orchestrator asks it. What a person would wait minutes for is looked at every second.
pub(super) fn settings() -> [(&'static str, String); 4] {
    [
        ("CANDLEFISH_GITHUB_API", format!("http://{ADDRESS}")),
        ("CANDLEFISH_GITHUB_TOKEN", "stand-in".to_owned()),
        ("CANDLEFISH_GITHUB_SWEEP_MS", "1000".to_owned()),
        ("CANDLEFISH_GITHUB_WRITE_PAUSE_MS", "1".to_owned()),
    ]
}

/// Starts it; it ends when the answer is dropped.
pub(super) fn start(stack: &Stack) -> Result<tokio::process::Child> {
    let program = cargo::programs()?.join("examples").join(PROGRAM);
    let hook = format!("{}/v1/webhooks/github", stack.gateway_url());
    let mut command = tokio::process::Command::new(program);
    command.args([ADDRESS, &hook, stack.github_webhook_secret()]);
    command.kill_on_drop(true);
    command.spawn().context("starting the stand-in for GitHub")
}

/// Where the stand-in is, or how to have one.
pub(super) fn closing(started: bool) -> String {
    if started {
        return format!(
            "  A stand-in for GitHub is at http://{ADDRESS}: docs/tour.md pushes to it.\n"
        );
    }
    "  The tour, docs/tour.md, needs a stand-in for GitHub: `cargo xtask up --github` starts it too.\n"
        .to_owned()
}
