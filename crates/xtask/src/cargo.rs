//! Running cargo and other programs, with the error naming the command.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

use crate::workspace::Workspace;

/// The cargo that runs us, in the workspace's folder, without what its `run` set for us.
pub(crate) fn command(workspace: &Workspace) -> Command {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.current_dir(&workspace.root);
    without_ours(&mut command);
    command
}

/// Builds every program, with cargo's own progress. Of the whole workspace at once, always: what one package alone asks of its
/// dependencies is less, and cargo would build them a second time.
pub(crate) fn build_programs(workspace: &Workspace) -> Result<()> {
    let mut build = command(workspace);
    build.args(["build", "--workspace", "--bins", "--locked"]);
    run(build)
}

/// The folder that cargo puts programs in, which is ours.
pub(crate) fn programs() -> Result<PathBuf> {
    let own = std::env::current_exe()?;
    let folder = own.parent().context("a program is in a folder")?;
    Ok(folder.to_owned())
}

/// `cargo run` tells its program about the package it runs; another cargo takes it for its own
/// wish, and builds what has not changed again.
pub(crate) fn without_ours(command: &mut Command) {
    for (key, _) in std::env::vars_os() {
        let ours = key
            .to_str()
            .is_some_and(|key| key.starts_with("CARGO_PKG_"));
        if ours || key == "CARGO_MANIFEST_DIR" || key == "CARGO_MANIFEST_PATH" {
            command.env_remove(key);
        }
    }
}

/// Runs it with our own output; an error when it fails.
pub(crate) fn run(command: Command) -> Result<()> {
    run_unless(command, 0).map(|_success| ())
}

/// The same, where one more code is no failure; whether it ended with that.
pub(crate) fn run_unless(mut command: Command, code: i32) -> Result<bool> {
    let words = words(&command);
    let status = command
        .stdin(Stdio::null())
        .status()
        .with_context(|| format!("running {words}"))?;
    let is_it = status.code() == Some(code);
    ensure!(is_it || status.success(), "`{words}` failed: {status}");
    Ok(is_it)
}

/// Runs it and returns its standard output; an error, with its standard error, when it fails.
pub(crate) fn output(mut command: Command) -> Result<String> {
    let words = words(&command);
    let out = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("running {words}"))?;
    let errors = String::from_utf8_lossy(&out.stderr);
    ensure!(
        out.status.success(),
        "`{words}` failed: {}\n{errors}",
        out.status
    );
    String::from_utf8(out.stdout).with_context(|| format!("the output of {words}"))
}

fn words(command: &Command) -> String {
    let program = std::path::Path::new(command.get_program());
    let program = program.file_name().unwrap_or_else(|| command.get_program());
    let words = std::iter::once(program).chain(command.get_args());
    let words: Vec<_> = words.map(|word| word.to_string_lossy()).collect();
    words.join(" ")
}
