//! `cargo xtask bench`: load runs of the hot paths against release builds, with `wrk` and nginx beside.

use std::path::Path;

use anyhow::Result;
use candlefish_devstack::install;
use clap::Args;

use crate::cargo;
use crate::workspace::Workspace;

/// The load generator, and the peer of the edge.
const PEERS: [&str; 2] = ["/usr/bin/wrk", "/usr/sbin/nginx"];
/// The services and the command line, as they are shipped.
const SHIPPED: [&str; 4] = ["gateway", "deploy-orchestrator", "edge", "candlefish-cli"];

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Only the paths whose names contain one of these, such as `roll back` or `edge`.
    only: Vec<String>,
}

pub(crate) fn run(workspace: &Workspace, options: &Options) -> Result<()> {
    if !PEERS.iter().all(|path| Path::new(path).is_file()) {
        install::packages(&["wrk", "nginx-light"], &|words| eprintln!("{words}"))?;
    }
    let mut build = cargo::command(workspace);
    build.args(["build", "--release", "--locked"]);
    for package in SHIPPED {
        build.args(["--package", package]);
    }
    cargo::run(build)?;
    let mut load = cargo::command(workspace);
    load.args([
        "bench",
        "--package",
        "e2e",
        "--bench",
        "load",
        "--locked",
        "--",
    ]);
    load.args(&options.only);
    cargo::run(load)
}
