//! The rules that a machine can check. Each of those asked for runs, also after a fault.

use std::time::Instant;

use anyhow::{Result, bail, ensure};

use crate::workspace::Workspace;
use crate::{cargo, tools};

mod arrows;
mod bugs;
mod chart;
mod compose;
mod documents;
mod files;
mod manifests;
mod migrations;
pub(crate) mod queries;
mod supply;
mod workflows;

type Outcome = Result<()>;

/// The API as it landed: what a change may not break. A test of `candlefish-proto` asserts that it has everything.
pub(crate) const BASELINE: &str = "proto/baseline.binpb";

/// Quick ones first: a fault of style need not wait for the compiler.
const QUICK: [&str; 14] = [
    "format",
    "arrows",
    "manifests",
    "files",
    "migrations",
    "documents",
    "bugs",
    "licences",
    "tls",
    "proto",
    "workflows",
    "clippy",
    "queries",
    "rustdoc",
];

/// These need a tool that takes minutes to build; CI has the time.
const SLOW: [&str; 2] = ["compose", "chart"];

/// Those whose names begin with one of `only`; all but the slow ones when none is named.
pub(crate) async fn run(workspace: &Workspace, only: &[String]) -> Result<()> {
    let wanted = |name: &&str| only.iter().any(|begin| name.starts_with(begin.as_str()));
    let chosen: Vec<&str> = if only.is_empty() {
        QUICK.to_vec()
    } else {
        QUICK.into_iter().chain(SLOW).filter(wanted).collect()
    };
    these(workspace, &chosen).await
}

/// The beginning of a check's name; else which there are.
pub(crate) fn named(text: &str) -> Result<String, String> {
    begins_one_of(text, &[&QUICK[..], &SLOW[..]].concat())
}

/// The text, when one of these names begins so; else the names.
pub(crate) fn begins_one_of(text: &str, names: &[&str]) -> Result<String, String> {
    if names.iter().any(|name| name.starts_with(text)) {
        return Ok(text.to_owned());
    }
    Err(format!("there are {}", names.join(", ")))
}

/// Every check there is.
pub(crate) async fn everything(workspace: &Workspace) -> Result<()> {
    these(workspace, &[&QUICK[..], &SLOW[..]].concat()).await
}

async fn these(workspace: &Workspace, chosen: &[&str]) -> Result<()> {
    let mut faults = Vec::new();
    for name in chosen {
        // Before: some take minutes.
        eprintln!("  … {name}");
        let begun = Instant::now();
        let outcome = one(workspace, name).await;
        let seconds = begun.elapsed().as_secs_f64();
        match outcome {
            Ok(()) => eprintln!("  ✓ {name:<12} {seconds:6.1} s"),
            Err(error) => {
                eprintln!("  ✗ {name:<12} {seconds:6.1} s");
                eprintln!("{error:#}\n");
                faults.push(*name);
            }
        }
    }
    println!(
        "{} passed, {} failed",
        chosen.len() - faults.len(),
        faults.len()
    );
    ensure!(
        faults.is_empty(),
        "these checks failed: {}",
        faults.join(", ")
    );
    Ok(())
}

async fn one(workspace: &Workspace, name: &str) -> Outcome {
    match name {
        "format" => format(workspace),
        "arrows" => arrows::check(workspace),
        "manifests" => manifests::check(workspace),
        "files" => files::check(workspace),
        "migrations" => migrations::check(workspace),
        "documents" => documents::check(workspace),
        "bugs" => bugs::check(workspace),
        "licences" => supply::licences(workspace),
        "tls" => supply::one_tls_stack(workspace),
        "proto" => proto(workspace),
        "workflows" => workflows::check(workspace),
        "clippy" => clippy(workspace),
        "compose" => compose::check(workspace),
        "chart" => chart::check(workspace),
        "queries" => queries::check(workspace).await,
        "rustdoc" => rustdoc(workspace),
        other => bail!("no check is called {other}"),
    }
}

fn format(workspace: &Workspace) -> Outcome {
    let mut command = cargo::command(workspace);
    command.args(["fmt", "--all", "--check"]);
    cargo::run(command)
}

fn clippy(workspace: &Workspace) -> Outcome {
    let mut command = cargo::command(workspace);
    command.args([
        "clippy",
        "--workspace",
        "--all-targets",
        "--locked",
        "--quiet",
    ]);
    command.args(["--", "-D", "warnings"]);
    cargo::run(command)
}

fn rustdoc(workspace: &Workspace) -> Outcome {
    let mut command = cargo::command(workspace);
    command.args([
        "doc",
        "--workspace",
        "--no-deps",
        "--document-private-items",
    ]);
    command.args(["--locked", "--quiet"]);
    command.env("RUSTDOCFLAGS", "-D warnings");
    cargo::run(command)
}

fn proto(workspace: &Workspace) -> Outcome {
    let buf = tools::program("buf")?;
    let call = |args: &[&str]| {
        let mut command = std::process::Command::new(&buf);
        command.args(args).current_dir(&workspace.root);
        cargo::run(command)
    };
    call(&["lint"])?;
    call(&["format", "--diff", "--exit-code"])?;
    call(&["breaking", "--against", BASELINE])
}

/// Fails with a list, one fault a line, when there is one.
fn faultless(faults: Vec<String>) -> Outcome {
    ensure!(faults.is_empty(), "{}", faults.join("\n"));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_no_check_has_is_refused_with_those_there_are() {
        assert_eq!(named("format").unwrap(), "format");
        assert_eq!(named("comp").unwrap(), "comp");
        let refused = named("typo").unwrap_err();
        assert!(refused.contains("format, arrows"), "{refused}");
        assert!(refused.contains("compose, chart"), "{refused}");
    }
}
