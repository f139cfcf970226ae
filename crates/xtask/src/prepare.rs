//! `cargo xtask prepare`: what is stored for the compiler is what the code says today.

use std::process::Command;

use anyhow::Result;

use crate::check::{BASELINE, queries};
use crate::workspace::Workspace;
use crate::{cargo, tools};

pub(crate) async fn run(workspace: &Workspace, baseline: bool) -> Result<()> {
    if !baseline {
        return queries::renew(workspace).await;
    }
    let mut buf = Command::new(tools::program("buf")?);
    buf.current_dir(&workspace.root);
    buf.args(["build", "--exclude-source-info", "--output", BASELINE]);
    cargo::run(buf)
}
