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

/// What is measured, by the names that `tests/benches/load` has for it.
const PATHS: [&str; 9] = [
    "memory",
    "hot read",
    "accept",
    "first step",
    "carry",
    "roll back",
    "webhook",
    "command line",
    "edge",
];

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Only the paths whose names contain one of these, such as `roll back` or `edge`.
    #[arg(value_parser = named)]
    only: Vec<String>,
}

/// A part of a path's name; else which there are.
fn named(text: &str) -> Result<String, String> {
    if PATHS.iter().any(|path| path.contains(text)) {
        return Ok(text.to_owned());
    }
    Err(format!("there are {}", PATHS.join(", ")))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_no_path_has_is_refused_with_those_there_are() {
        let load = include_str!("../../../tests/benches/load/main.rs");
        for path in PATHS {
            assert_eq!(named(path).unwrap(), path);
            assert!(load.contains(&format!("if wanted(\"{path}\")")), "{path}");
        }
        assert_eq!(load.matches("if wanted(\"").count(), PATHS.len());
        assert_eq!(named("roll").unwrap(), "roll");
        let refused = named("typo").unwrap_err();
        assert!(refused.contains("hot read, accept"), "{refused}");
    }
}
