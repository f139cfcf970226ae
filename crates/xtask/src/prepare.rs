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
    let buf = tools::program("buf")?;
    let call = |args: &[&str]| {
        let mut command = Command::new(&buf);
        command.args(args).current_dir(&workspace.root);
        cargo::run(command)
    };
    // Else renewing it would hide what it is there to show.
    if workspace.root.join(BASELINE).exists() {
        call(&["breaking", "--against", BASELINE])?;
    }
    call(&["build", "--exclude-source-info", "--output", BASELINE])
}
