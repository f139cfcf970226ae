//! The process that outlives us by a moment and tidies up.
//!
//! Neither `Drop` nor a signal handler runs in a process that gets `kill -9`. So a small shell
//! holds the reading end of a pipe whose writing end is ours alone: when we end, in whatever way,
//! it reads the end of the file, kills what it was told to watch, and removes the folder it was
//! told to remove. All children are in its process group, which catches what was spawned in the
//! instant before it could be told.

use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::Mutex;

use anyhow::{Context, Result, ensure};

const SCRIPT: &str = r#"
trap '' INT TERM HUP QUIT
watched=
folder=
while read -r verb argument; do
  case $verb in
    watch) watched="$watched $argument" ;;
    forget) kept=; for w in $watched; do [ "${w#*:}" = "$argument" ] || kept="$kept $w"; done; watched=$kept ;;
    folder) folder=$argument ;;
  esac
done
runs() { readlink "/proc/$1/exe" >/dev/null 2>&1; }
for w in $watched; do kill -s CONT "${w#*:}" 2>/dev/null; kill -s "${w%%:*}" "${w#*:}" 2>/dev/null; done
tries=0
for w in $watched; do
  while runs "${w#*:}" && [ "$tries" -lt 100 ]; do sleep 0.05; tries=$((tries + 1)); done
  kill -s KILL "${w#*:}" 2>/dev/null
done
if [ -n "$folder" ]; then rm -rf -- "$folder"; fi
kill -s KILL 0
"#;

/// Kills and removes what we leave behind. Tidies up when dropped, too.
#[derive(Debug)]
pub struct Warden {
    group: i32,
    child: Mutex<Child>,
    orders: Mutex<Option<ChildStdin>>,
}

impl Warden {
    pub fn start() -> Result<Self> {
        Self::run(&["-c", SCRIPT])
    }

    /// One that only writes down what it is told.
    #[cfg(test)]
    pub(crate) fn that_writes(orders: &Path) -> Result<Self> {
        let path = orders.to_str().context("the file's name is not UTF-8")?;
        Self::run(&["-c", "exec cat >\"$0\"", path])
    }

    fn run(args: &[&str]) -> Result<Self> {
        let mut child = Command::new("/bin/sh")
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .current_dir("/")
            .process_group(0)
            .spawn()
            .context("starting /bin/sh as the warden of the stack's processes")?;
        let orders = child.stdin.take().context("the warden has no input")?;
        Ok(Self {
            group: i32::try_from(child.id())?,
            child: Mutex::new(child),
            orders: Mutex::new(Some(orders)),
        })
    }

    /// The process group that children join.
    pub(crate) const fn group(&self) -> i32 {
        self.group
    }

    /// Ends `pid` with `signal` (a name such as `KILL`) when we are gone.
    pub fn watch(&self, pid: u32, signal: &str) -> Result<()> {
        self.order(&format!("watch {signal}:{pid}"))
    }

    /// `pid` has ended, and its number may be somebody else's from now on.
    pub fn forget(&self, pid: u32) -> Result<()> {
        self.order(&format!("forget {pid}"))
    }

    /// Removes `folder` when we are gone.
    pub fn remove(&self, folder: &Path) -> Result<()> {
        let text = folder.to_str().context("the folder's name is not UTF-8")?;
        ensure!(
            folder.is_absolute() && folder.components().count() > 2 && !text.contains(['\n', '\\']),
            "{text} is no folder to remove"
        );
        self.order(&format!("folder {text}"))
    }

    fn order(&self, line: &str) -> Result<()> {
        let mut orders = self.orders.lock().expect("no panic while ordering");
        let pipe = orders.as_mut().context("the warden has been dismissed")?;
        writeln!(pipe, "{line}").context("the warden of the stack's processes is gone")
    }
}

impl Drop for Warden {
    fn drop(&mut self) {
        drop(self.orders.lock().expect("no panic while ordering").take());
        let mut child = self.child.lock().expect("no panic while waiting");
        // It ends itself by the signal that ends its group; there is nobody to tell otherwise.
        drop(child.wait());
    }
}
