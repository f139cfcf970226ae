//! `cargo xtask ci`: what `.ci/run` calls. Nothing of it is optional.

use std::time::Instant;

use anyhow::{Result, bail, ensure};
use candlefish_devstack::disk_left;
use clap::Args;

use crate::workspace::Workspace;
use crate::{check, test};

mod newcomer;

const STEPS: [&str; 4] = ["check", "test", "newer NATS", "up"];

/// Tests that speak to NATS themselves: a package, and the module of its tests in `tests/it`; the whole
/// package where none is named.
const ON_NATS: [(&str, Option<&str>); 4] = [
    ("candlefish-messaging", None),
    ("deploy-orchestrator", Some("traffic")),
    ("edge", Some("telling")),
    ("gateway", Some("events")),
];

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Only the steps whose names begin so, such as `up`; all of them in CI.
    #[arg(value_parser = named)]
    only: Vec<String>,
}

/// The beginning of a step's name; else which there are.
fn named(text: &str) -> Result<String, String> {
    check::begins_one_of(text, &STEPS)
}

pub(crate) async fn run(workspace: &Workspace, options: &Options) -> Result<()> {
    let begun = Instant::now();
    let only = &options.only;
    let wanted =
        |name: &&str| only.is_empty() || only.iter().any(|begin| name.starts_with(begin.as_str()));
    let chosen: Vec<&str> = STEPS.into_iter().filter(wanted).collect();
    if chosen.contains(&"up") {
        // Not after all the tests.
        newcomer::room(workspace)?;
    }
    let mut outcomes = Vec::new();
    // All of them, also after a failure: one run shows everything that is wrong.
    for name in chosen {
        headline(name, workspace);
        outcomes.push((name, one(workspace, name).await));
    }
    let minutes = begun.elapsed().as_secs_f64() / 60.0;
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

async fn one(workspace: &Workspace, name: &str) -> Result<()> {
    match name {
        "check" => check::everything(workspace).await,
        "test" => test::run(workspace, &test::Options::everything()).await,
        "newer NATS" => test::run(workspace, &test::Options::newer_nats(on_nats())).await,
        "up" => newcomer::run(workspace).await,
        other => bail!("no step is called {other}"),
    }
}

/// The expression of nextest for the tests that speak to NATS.
fn on_nats() -> String {
    let tests = ON_NATS.map(|(package, module)| match module {
        None => format!("package({package})"),
        Some(module) => format!("(package({package}) & kind(test) & test(/^{module}::/))"),
    });
    tests.join(" | ")
}

/// With what the disk has left: when it is full, what fails says so in many other words.
fn headline(text: &str, workspace: &Workspace) {
    let left = disk_left(&workspace.root).map_or_else(
        |error| format!("{error:#}"),
        |bytes| format!("{} GiB of disk are left", bytes >> 30),
    );
    println!("\n=== {text} ({left}) ===");
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// `crates/edge/tests/it/telling.rs` is `edge::telling`.
    fn module_of(path: &std::path::Path) -> Option<String> {
        let path = path.to_str()?.strip_prefix("crates/")?;
        let (package, module) = path.strip_suffix(".rs")?.split_once("/tests/it/")?;
        Some(format!("{package}::{module}"))
    }

    #[test]
    fn whoever_speaks_to_nats_does_so_on_the_newer_server_too() {
        let workspace = Workspace::find().unwrap();
        let files = workspace.files("crates").unwrap();
        let speak = files.iter().filter_map(|path| {
            let module = module_of(path)?;
            let text = workspace.read(path).unwrap();
            text.contains("nats_url()").then_some(module)
        });
        let speak: BTreeSet<String> = speak.collect();
        let named = ON_NATS
            .iter()
            .filter_map(|(package, module)| Some(format!("{package}::{}", (*module)?)));
        assert_eq!(speak, named.collect::<BTreeSet<String>>());
        let expression = on_nats();
        assert!(expression.starts_with("package(candlefish-messaging) | ("));
        assert!(expression.ends_with("(package(gateway) & kind(test) & test(/^events::/))"));
    }

    #[test]
    fn a_name_that_no_step_has_is_refused() {
        assert_eq!(named("newer").unwrap(), "newer");
        assert!(named("typo").unwrap_err().contains("newer NATS, up"));
    }
}
