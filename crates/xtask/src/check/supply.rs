//! What we take from others.

use std::process::Command;

use crate::check::{Outcome, faultless};
use crate::workspace::Workspace;
use crate::{cargo, tools};

/// There is one TLS stack: rustls with aws-lc-rs.
const BANNED: [&str; 3] = ["ring", "openssl-sys", "native-tls"];

pub(super) fn one_tls_stack(workspace: &Workspace) -> Outcome {
    let mut command = cargo::command(workspace);
    command.args(["tree", "--workspace", "--locked", "-e", "normal,build"]);
    command.args(["--prefix", "none", "--format", "{p}"]);
    let tree = cargo::output(command)?;
    faultless(banned_in(&tree))
}

fn banned_in(tree: &str) -> Vec<String> {
    let mut found: Vec<_> = tree
        .lines()
        .filter(|line| BANNED.contains(&line.split(' ').next().unwrap_or_default()))
        .map(|line| format!("{line} is in the build; `cargo tree -i` shows who brings it"))
        .collect();
    found.sort();
    found.dedup();
    found
}

/// Licences, sources and duplicates, as `deny.toml` allows them.
pub(super) fn licences(workspace: &Workspace) -> Outcome {
    let mut command = Command::new(tools::program("cargo-deny")?);
    cargo::without_ours(&mut command);
    command.current_dir(&workspace.root);
    command.args(["--log-level", "error", "--locked", "check", "--show-stats"]);
    command.args(["licenses", "bans", "sources"]);
    cargo::run(command)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_tls_stack_is_found_and_a_name_that_begins_alike_is_not() {
        let tree = "ring v0.17.14\nstring_cache v0.8\nring v0.17.14 (*)\nringbuf v1.0.0\n";
        assert_eq!(banned_in(tree).len(), 2);
        assert!(banned_in("ringbuf v1.0.0\nrustls v0.23.0").is_empty());
    }
}
