//! An `up` in the background, and what it says.

use std::fs::{self, File};
use std::future::ready;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use candlefish_devstack::{Warden, wait_until};

/// Postgres made anew, migrations and two deployments; everything is built.
const UP_WITHIN: Duration = Duration::from_mins(5);
/// As `down` has it.
const STOPS_WITHIN: Duration = Duration::from_secs(90);
/// Lines that are shown of what failed.
const SHOWN: usize = 30;

/// Killed when dropped, and when we are killed: its warden then ends what it started.
pub(super) struct Up {
    child: Child,
    /// Its standard output: the closing text.
    out: PathBuf,
    /// Its standard error: its own lines, and those of the services.
    log: PathBuf,
    warden: Warden,
}

impl Up {
    /// Starts it; what it says is kept beside `place`.
    pub(super) fn start(mut command: Command, place: &Path) -> Result<Self> {
        let (out, log) = (place.with_extension("out"), place.with_extension("log"));
        command
            .stdout(File::create(&out)?)
            .stderr(File::create(&log)?);
        let warden = Warden::start()?;
        let child = command.spawn().context("starting `cargo xtask up`")?;
        let up = Self {
            child,
            out,
            log,
            warden,
        };
        up.warden.watch(up.pid(), "KILL")?;
        Ok(up)
    }

    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The closing text, once all of it is out.
    pub(super) async fn closing(&mut self) -> Result<String> {
        let last = crate::up::last_words();
        wait_until(UP_WITHIN, "the closing text of `up`", || {
            ready(self.has_said(last.trim()))
        })
        .await?
    }

    /// All that was said on standard output when these words were; an error inside when it has ended.
    fn has_said(&mut self, words: &str) -> Result<Result<String>, String> {
        // In this order: what has ended says no more.
        let ended = self.child.try_wait();
        let text = fs::read_to_string(&self.out).unwrap_or_default();
        if text.contains(words) {
            return Ok(Ok(text));
        }
        match ended {
            Ok(None) => Err("it is coming up".to_owned()),
            Ok(Some(status)) => Ok(Err(anyhow!("it ended before, with {status}"))),
            Err(error) => Ok(Err(error.into())),
        }
    }

    /// Waits for its end, which must be an orderly one.
    pub(super) async fn ends(&mut self) -> Result<()> {
        let status = wait_until(STOPS_WITHIN, "the end of `up`", || {
            ready(match self.child.try_wait() {
                Ok(None) => Err("it stops its services".to_owned()),
                Ok(Some(status)) => Ok(Ok(status)),
                Err(error) => Ok(Err(error)),
            })
        })
        .await??;
        // Its number may be somebody else's from now on.
        drop(self.warden.forget(self.pid()));
        ensure!(status.success(), "`up` ended with {status}");
        Ok(())
    }

    /// Its own lines, and those of the services.
    pub(super) fn log(&self) -> String {
        let log = fs::read(&self.log).unwrap_or_default();
        String::from_utf8_lossy(&log).into_owned()
    }

    pub(super) fn tail(&self) -> String {
        let out = fs::read_to_string(&self.out).unwrap_or_default();
        last_lines(&format!("{out}{}", self.log()))
    }
}

impl Drop for Up {
    fn drop(&mut self) {
        // It may have ended.
        drop(self.child.kill());
        drop(self.child.wait());
        drop(self.warden.forget(self.pid()));
    }
}

pub(super) fn last_lines(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    let from = lines.len().saturating_sub(SHOWN);
    lines.get(from..).unwrap_or_default().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> (Up, tempfile::TempDir) {
        let folder = tempfile::tempdir().unwrap();
        let mut command = Command::new("/bin/sh");
        command.args(["-c", script]);
        let up = Up::start(command, &folder.path().join("first")).unwrap();
        (up, folder)
    }

    #[tokio::test]
    async fn what_ends_before_it_has_said_all_is_not_waited_for() {
        let (mut up, _folder) = shell("echo postgres is broken >&2; exit 3");
        let error = up.closing().await.unwrap_err().to_string();
        assert!(error.contains("exit status: 3"), "{error}");
        assert_eq!(up.tail(), "postgres is broken");
        assert!(up.ends().await.is_err());
    }

    #[test]
    fn it_does_not_outlive_whoever_started_it() {
        let (mut up, _folder) = shell("exec sleep 600");
        // As when we are killed: the pipe to the warden is closed.
        drop(std::mem::replace(&mut up.warden, Warden::start().unwrap()));
        assert!(!up.child.wait().unwrap().success());
    }

    #[tokio::test]
    async fn the_closing_text_is_there_when_its_last_words_are() {
        let last = crate::up::last_words();
        let (mut up, _folder) = shell(&format!("cat <<'END'\nIt is up\n{last}\nEND"));
        let text = up.closing().await.unwrap();
        assert!(text.starts_with("It is up"), "{text}");
        up.ends().await.unwrap();
    }
}
