//! One child process that can be killed, frozen and started again.

use std::io;
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
    /// The number that the warden ends when we are gone; none once it is known to have ended.
    watched: Option<u32>,
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
        if state.child.is_some() {
            let ended = self.ended(&mut state)?.is_some();
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
        state.watched = Some(pid);
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
        state.child.is_some() && matches!(self.ended(&mut state), Ok(None))
    }

    /// How it ended, when it ended by itself or by a stranger's hand.
    pub fn lost(&self) -> Option<ExitStatus> {
        let mut state = self.state();
        let ended = self.ended(&mut state).ok().flatten();
        ended.filter(|_| state.wanted)
    }

    /// `kill -9`, and waits until it is gone. A supervisor does not restart it.
    pub fn kill(&self) -> Result<()> {
        let mut state = self.state();
        state.wanted = false;
        if let Some(child) = state.child.as_mut() {
            child.kill()?;
            child.wait()?;
            self.forget(&mut state);
        }
        Ok(())
    }

    /// Waits, without a limit, until it has ended by itself.
    pub(crate) fn wait(&self) -> Result<()> {
        let mut state = self.state();
        state.wanted = false;
        if let Some(child) = state.child.as_mut() {
            child.wait()?;
            self.forget(&mut state);
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
        let Some(pid) = state.child.as_ref().map(Child::id) else {
            bail!("{} was never started", self.name);
        };
        // Not yet waited for, so its number cannot be somebody else's.
        let ended = self.ended(&mut state)?.is_some();
        ensure!(!ended, "{} does not run", self.name);
        let pid = Pid::from_raw(i32::try_from(pid)?).context("pid 0")?;
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
            let ended = self.ended(&mut self.state());
            let ended = ended.map_err(|error| error.to_string())?;
            ended.ok_or_else(|| "still runs".to_owned())
        })
        .await;
        self.kill()?;
        stopped.map(Some)
    }

    /// The last lines it wrote; nothing where they are on the console.
    pub fn tail(&self, count: usize) -> String {
        self.output.tail(&self.name, count)
    }

    /// The last lines it wrote and the file that has all of them, for an error.
    pub(crate) fn last_words(&self, count: usize) -> String {
        let tail = self.tail(count);
        match self.output.log(&self.name, self.launch.quiet) {
            Some(log) => format!("{tail} (its log: {})", log.display()),
            None => tail,
        }
    }

    /// How it ended; nothing while it runs, or when it was never started. Whoever is told of the end
    /// first has waited for it, and from then on its number may be a stranger's.
    fn ended(&self, state: &mut State) -> io::Result<Option<ExitStatus>> {
        let Some(child) = state.child.as_mut() else {
            return Ok(None);
        };
        let ended = child.try_wait()?;
        if ended.is_some() {
            self.forget(state);
        }
        Ok(ended)
    }

    /// Once for each start: later its number may be that of another process of the stack.
    fn forget(&self, state: &mut State) {
        if let Some(pid) = state.watched.take() {
            // A warden that is gone ends nobody.
            drop(self.warden.forget(pid));
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no panic while holding a process")
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;
    use crate::output::Console;

    const SOON: Duration = Duration::from_secs(10);

    fn runs(program: &str, args: &[&str]) -> Launch {
        let mut launch = Launch::new(PathBuf::from(program));
        launch.args = args.iter().map(|&arg| arg.to_owned()).collect();
        launch
    }

    async fn gone(process: &Process) {
        wait_until(SOON, "its end", async || {
            let ended = process.lost().map(|_| ());
            ended.ok_or_else(|| "it runs".to_owned())
        })
        .await
        .unwrap();
    }

    #[tokio::test]
    async fn the_warden_forgets_each_pid_once_and_before_the_next_start() {
        let folder = tempfile::tempdir().unwrap();
        let orders = folder.path().join("orders");
        let warden = Arc::new(Warden::that_writes(&orders).unwrap());
        let output = Output::Folder(folder.path().to_owned());
        let launch = runs("/bin/sleep", &["600"]);
        let process = Process::new("sleeps", launch, output, warden);
        let first = process.start().unwrap();
        process.signal(Signal::KILL).unwrap();
        gone(&process).await;
        let second = process.start().unwrap();
        process.kill().unwrap();
        process.kill().unwrap();
        // The last to hold the warden, which has written all of it when it is gone.
        drop(process);
        assert_eq!(
            fs::read_to_string(orders).unwrap(),
            format!("watch KILL:{first}\nforget {first}\nwatch KILL:{second}\nforget {second}\n")
        );
    }

    #[tokio::test]
    async fn a_quiet_process_has_last_words_on_a_console_too_and_those_of_its_last_start_alone() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("stores.log");
        let script = folder.path().join("script");
        let mut launch = runs("/bin/sh", &[script.to_str().unwrap()]);
        launch.quiet = true;
        let output = Output::Console(Console::new(8, &log).unwrap());
        let warden = Arc::new(Warden::start().unwrap());
        let process = Process::new("store", launch, output, warden);
        let says = async |text: &str, seen: &str| {
            fs::write(&script, text).unwrap();
            process.start().unwrap();
            gone(&process).await;
            // They are copied by a thread of their own.
            let words = format!("{seen} (its log: {})", log.display());
            wait_until(SOON, "its last words", async || {
                let found = process.last_words(2);
                (found == words).then_some(()).ok_or(found)
            })
            .await
            .unwrap();
        };
        says("echo one; echo two; echo three", "two\nthree").await;
        says("echo four", "four").await;
        assert!(kept(&log).contains("store: one\n"), "{}", kept(&log));
    }

    fn kept(log: &Path) -> String {
        fs::read_to_string(log).unwrap()
    }
}
