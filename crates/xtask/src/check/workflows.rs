//! The workflow that people copy, without GitHub: what is written in it means something there, and
//! gives its secret to nobody.

use std::path::PathBuf;
use std::process::Command;

use anyhow::ensure;

use crate::check::Outcome;
use crate::workspace::Workspace;
use crate::{cargo, tools};

const WORKFLOWS: &str = "examples/github-actions";

/// What zizmor asks, and of whom it asks less.
const POLICY: &str = "crates/xtask/zizmor.yml";

pub(super) fn check(workspace: &Workspace) -> Outcome {
    let mut workflows = workspace.files(WORKFLOWS)?;
    workflows.retain(|path| {
        path.extension()
            .is_some_and(|end| end == "yml" || end == "yaml")
    });
    ensure!(!workflows.is_empty(), "{WORKFLOWS} has no workflow");
    understood(workspace, &workflows)?;
    safe(workspace, &workflows)
}

/// Keys, events, jobs, expressions, and the inputs of well-known actions.
fn understood(workspace: &Workspace, workflows: &[PathBuf]) -> Outcome {
    let mut command = Command::new(tools::program("actionlint")?);
    command.current_dir(&workspace.root);
    // Either would be whichever happens to be on `PATH`.
    command.args(["-shellcheck=", "-pyflakes="]);
    command.args(workflows);
    cargo::run(command)
}

/// Permissions, credentials that stay, text of strangers in a shell, actions that can change.
fn safe(workspace: &Workspace, workflows: &[PathBuf]) -> Outcome {
    let mut command = Command::new(tools::program("zizmor")?);
    command.current_dir(&workspace.root);
    command.args(["--offline", "--strict-collection", "--persona=pedantic"]);
    command.args(["--quiet", "--no-progress", "--config", POLICY]);
    command.args(workflows);
    cargo::run(command)
}
