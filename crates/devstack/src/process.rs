//! One child process that can be killed, frozen and started again.

use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
pub use rustix::process::Signal;
use rustix::process::{Pid, WaitId, WaitIdOptions, kill_process, waitid};

use crate::output::Output;
use crate::wait::wait_until;
use crate::warden::Warden;

/// What to run, and how it is stopped.
#[derive(Debug, Clone)]
pub struct Launch {
    pub program: PathBuf,
    pub args: Vec<String>,
    /// The whole environment, but for `PATH`.
    pub env: Vec<(String, String)>,
    /// Run as this user; needs root.
    pub user: Option<String>,
    /// Asks for an orderly end.
    pub stop: Signal,
    /// Named as `kill` does; used by the warden, when we are gone.
    pub abandon: &'static str,
    /// Its lines are kept away from the console.
    pub quiet: bool,
}

impl Launch {
    /// A service: stopped by SIGTERM, abandoned by SIGKILL.
    pub fn new(program: PathBuf) -> Self {
        Self {
            program,
            args: Vec::new(),
            env: Vec::new(),
            user: None,
            stop: Signal::TERM,
            abandon: "KILL",
            quiet: false,
        }
    }

    /// As a command that can be spawned, without output set.
    pub fn command(&self) -> Command {
        let mut command = match &self.user {
            None => Command::new(&self.program),
            Some(user) => {
                let mut command = Command::new("setpriv");
                command.arg(format!("--reuid={user}"));
                command.arg(format!("--regid={user}"));
                command.args(["--init-groups", "--"]);
                command.arg(&self.program);
                command
            }
        };
        command.args(&self.args).env_clear();
        command.env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command.envs(self.env.iter().map(|(key, value)| (key, value)));
        command.stdin(Stdio::null()).current_dir("/");
        command
    }
}

/// A named process of a stack. All methods take `&self`, so that a killer, a supervisor and a
/// test may share it.
#[derive(Debug)]
pub struct Process {
    name: String,
    launch: Launch,
    output: Output,
    warden: Arc<Warden>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    child: Option<Child>,
    /// Whether it should run: what a supervisor restarts.
    wanted: bool,
    starts: u32,
    since: Option<Instant>,
}

impl Process {
    pub fn new(name: &str, launch: Launch, output: Output, warden: Arc<Warden>) -> Self {
        Self {
            name: name.to_owned(),
            launch,
            output,
            warden,
            state: Mutex::default(),
        }
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    pub const fn launch(&self) -> &Launch {
        &self.launch
    }

    /// Starts it, for the first time or again. An error while it still runs.
    pub fn start(&self) -> Result<u32> {
        let mut state = self.state();
        if let Some(child) = state.child.as_mut() {
            let ended = child.try_wait()?.is_some();
            ensure!(ended, "{} runs already", self.name);
        }
        let mut command = self.launch.command();
        command.process_group(self.warden.group());
        self.output.attach(&self.name, &mut command)?;
        let mut child = command
            .spawn()
            .with_context(|| format!("starting {}", self.launch.program.display()))?;
        let pid = child.id();
        self.warden.watch(pid, self.launch.abandon)?;
        self.output
            .follow(&self.name, self.launch.quiet, &mut child);
        state.child = Some(child);
        state.wanted = true;
        state.starts += 1;
        state.since = Some(Instant::now());
        Ok(pid)
    }

    /// Its process id; of the last one when it has ended.
    pub fn pid(&self) -> Option<u32> {
        self.state().child.as_ref().map(Child::id)
    }

    /// How often it was started.
    pub fn starts(&self) -> u32 {
        self.state().starts
    }

    /// How long it has run, or had run.
    pub fn age(&self) -> Duration {
        self.state().since.map_or(Duration::ZERO, |at| at.elapsed())
    }

    pub fn is_running(&self) -> bool {
        let mut state = self.state();
        let child = state.child.as_mut();
        child.is_some_and(|child| matches!(child.try_wait(), Ok(None)))
    }

    /// How it ended, when it ended by itself or by a stranger's hand.
    pub fn lost(&self) -> Option<ExitStatus> {
        let mut state = self.state();
        let wanted = state.wanted;
        let ended = state.child.as_mut()?.try_wait().ok().flatten();
        ended.filter(|_| wanted)
    }

    /// `kill -9`, and waits until it is gone. A supervisor does not restart it.
    pub fn kill(&self) -> Result<()> {
        let mut state = self.state();
        state.wanted = false;
        if let Some(child) = state.child.as_mut() {
            child.kill()?;
            child.wait()?;
            self.warden.forget(child.id())?;
        }
        Ok(())
    }

    /// Waits, without a limit, until it has ended by itself.
    pub(crate) fn wait(&self) -> Result<()> {
        let mut state = self.state();
        state.wanted = false;
        if let Some(child) = state.child.as_mut() {
            child.wait()?;
        }
        Ok(())
    }

    /// Stops it where it stands (SIGSTOP): its sockets stay open, nothing answers. Returns when every
    /// thread of it stands: until then a busy one may still answer.
    pub fn freeze(&self) -> Result<()> {
        let pid = self.signal(Signal::STOP)?;
        // An end is told too, and left for whoever waits for it.
        let told = WaitIdOptions::STOPPED | WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
        waitid(WaitId::Pid(pid), told).with_context(|| format!("freezing {}", self.name))?;
        Ok(())
    }

    /// Lets it go on after [`Self::freeze`].
    pub fn thaw(&self) -> Result<()> {
        self.signal(Signal::CONT).map(|_| ())
    }

    /// Sends a signal to it; answers its number.
    pub fn signal(&self, signal: Signal) -> Result<Pid> {
        let mut state = self.state();
        let Some(child) = state.child.as_mut() else {
            bail!("{} was never started", self.name);
        };
        // Not yet waited for, so its number cannot be somebody else's.
        ensure!(child.try_wait()?.is_none(), "{} does not run", self.name);
        let pid = Pid::from_raw(i32::try_from(child.id())?).context("pid 0")?;
        kill_process(pid, signal).with_context(|| format!("signalling {}", self.name))?;
        Ok(pid)
    }

    /// Asks for an orderly end; after `grace` it is killed, and the error says so.
    pub async fn stop(&self, grace: Duration) -> Result<Option<ExitStatus>> {
        self.state().wanted = false;
        if !self.is_running() {
            return Ok(None);
        }
        self.signal(self.launch.stop)?;
        let stopped = wait_until(grace, &format!("stopping {}", self.name), || async {
            let ended = match self.state().child.as_mut() {
                Some(child) => child.try_wait().map_err(|error| error.to_string())?,
                None => None,
            };
            ended.ok_or_else(|| "still runs".to_owned())
        })
        .await;
        // Also when it has ended: the warden is told to forget it.
        self.kill()?;
        stopped.map(Some)
    }

    /// The last lines it wrote, where they go to a file.
    pub fn tail(&self, count: usize) -> String {
        self.output.tail(&self.name, count)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no panic while holding a process")
    }
}
