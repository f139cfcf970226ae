//! The stand-in for GitHub that the tour pushes to: testkit's, as a process.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result};
use candlefish_devstack::{Launch, Output, Port, Process, Stack, Warden};

use crate::cargo;
use crate::workspace::Workspace;

const ADDRESS: &str = "127.0.0.1:8099";
const PORT: u16 = 8099;
const PROGRAM: &str = "github-stand-in";

/// The stand-in as a process. It ends when this is dropped, and also when `up` is killed: a next one
/// would find its port taken, and pushes signed with a secret of before.
#[derive(Debug)]
pub(super) struct StandIn {
    process: Arc<Process>,
    port: Port,
    // Last: it ends what still runs.
    _warden: Arc<Warden>,
}

impl Drop for StandIn {
    fn drop(&mut self) {
        // What could not be killed here is the warden's.
        drop(self.process.kill());
    }
}

/// Of the whole workspace, so that no dependency is built for it a second time.
pub(super) fn build(workspace: &Workspace) -> Result<()> {
    let mut build = cargo::command(workspace);
    build.args(["build", "--workspace", "--example", PROGRAM, "--locked"]);
    cargo::run(build)
}

/// How an orchestrator asks it. What a person would wait minutes for is looked at every second.
pub(super) fn settings() -> [(&'static str, String); 5] {
    [
        ("CANDLEFISH_GITHUB_API", format!("http://{ADDRESS}")),
        ("CANDLEFISH_GITHUB_TOKEN", "stand-in".to_owned()),
        ("CANDLEFISH_GITHUB_SWEEP_MS", "1000".to_owned()),
        ("CANDLEFISH_GITHUB_WRITE_PAUSE_MS", "1".to_owned()),
        // Else who leaves it down for some minutes waits as long again.
        ("CANDLEFISH_GITHUB_REST_MS", "1000".to_owned()),
    ]
}

/// Starts it, as what delivers to the gateway of this stack, and is restarted with it.
pub(super) fn start(stack: &mut Stack) -> Result<StandIn> {
    let mut launch = Launch::new(cargo::programs()?.join("examples").join(PROGRAM));
    let hook = format!("{}/v1/webhooks/github", stack.gateway_url());
    launch.args = [ADDRESS, &hook].map(str::to_owned).to_vec();
    let secret = stack.github_webhook_secret().to_owned();
    launch.env = vec![("HOOK_SECRET".to_owned(), secret)];
    let stand_in = StandIn::start(launch, PORT, &stack.folder().join("logs"))
        .context("starting the stand-in for GitHub")?;
    stack.accompany(Arc::clone(&stand_in.process), stand_in.port.address());
    Ok(stand_in)
}

impl StandIn {
    /// Its lines go to a file in `logs`; an error when somebody has its port.
    fn start(launch: Launch, port: u16, logs: &Path) -> Result<Self> {
        let port = Port::fixed(port)?;
        let warden = Arc::new(Warden::start()?);
        let output = Output::Folder(logs.to_owned());
        let process = Process::new(PROGRAM, launch, output, Arc::clone(&warden));
        let process = Arc::new(process);
        process.start()?;
        Ok(Self {
            process,
            port,
            _warden: warden,
        })
    }
}

/// Where the stand-in is, or how to have one.
pub(super) fn closing(started: bool) -> String {
    if started {
        return format!(
            "  A stand-in for GitHub is at http://{ADDRESS}: docs/tour.md pushes to it.\n"
        );
    }
    "  The tour, docs/tour.md, needs a stand-in for GitHub: `cargo xtask up --github` starts it too.\n"
        .to_owned()
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::path::PathBuf;

    use super::*;

    fn sleeps() -> Launch {
        let mut launch = Launch::new("/bin/sleep".into());
        launch.args = vec!["600".to_owned()];
        launch
    }

    #[test]
    fn the_tour_begins_with_what_starts_it_and_looks_where_it_is() {
        let tour = include_str!("../../../../docs/tour.md");
        for told in [
            "\ncargo xtask up --github\n".to_owned(),
            format!(" GITHUB=http://{ADDRESS} "),
        ] {
            assert!(tour.contains(&told), "{told:?} is not in the tour");
        }
        assert!(ADDRESS.ends_with(&format!(":{PORT}")));
    }

    #[test]
    fn it_ends_with_its_owner_and_takes_no_port_that_somebody_has() {
        let logs = tempfile::tempdir().unwrap();
        let port = Port::free().unwrap().number();
        let stand_in = StandIn::start(sleeps(), port, logs.path()).unwrap();
        let pid = stand_in.process.pid().unwrap();
        let program = PathBuf::from(format!("/proc/{pid}/exe"));
        assert!(program.read_link().is_ok());
        drop(stand_in);
        assert!(program.read_link().is_err());

        let listener = TcpListener::bind(("127.0.0.1", port)).unwrap();
        let refused = StandIn::start(sleeps(), port, logs.path()).unwrap_err();
        assert!(format!("{refused:#}").contains("is in use"), "{refused:#}");
        drop(listener);
    }
}
