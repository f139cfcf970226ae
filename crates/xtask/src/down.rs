//! `cargo xtask down`: stops what `up` runs, and forgets its data on demand.

use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use candlefish_devstack::{Stack, wait_until};

use crate::cargo;
use crate::up::lock::Lock;
use crate::up::{self, CONTEXT};
use crate::workspace::Workspace;

/// Longer than an orderly stop takes.
const STOPS_WITHIN: Duration = Duration::from_secs(90);

pub(crate) async fn run(workspace: &Workspace, wipe: bool, of_ci: bool) -> Result<()> {
    let folder = workspace.root.join(up::folder(of_ci));
    if !folder.exists() {
        println!("Nothing runs, and there is no data.");
        return Ok(());
    }
    if let Some(pid) = Lock::holder(&folder)? {
        println!(
            "Asking `up` (process {pid}) to stop, and waiting for its services, for {} s at most.",
            STOPS_WITHIN.as_secs()
        );
        // The shell's own: a bare system has no program of that name.
        let mut shell = Command::new("sh");
        shell.args(["-c", "kill -TERM \"$0\"", &pid.to_string()]);
        cargo::run(shell).context("asking `up` to stop")?;
        wait_until(STOPS_WITHIN, "`up` stops", async || {
            match Lock::holder(&folder) {
                Ok(None) => Ok(()),
                Ok(Some(_)) => Err(format!("process {pid} still stops its services")),
                Err(error) => Err(format!("{error:#}")),
            }
        })
        .await?;
        println!("Stopped.");
    } else {
        println!("Nothing runs.");
    }
    if wipe {
        let _lock = Lock::take(&folder)?;
        Stack::wipe(&folder)?;
        println!(
            "Its data is gone; the next `cargo xtask up` begins anew. The context `{CONTEXT}` of \
             `candlefish` stays, and leads nowhere until then."
        );
    }
    Ok(())
}
