//! Processes of this machine, as `/proc` has them.

use std::collections::BTreeMap;
use std::fs;
use std::future::ready;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use candlefish_devstack::wait_until;

use crate::cargo;

/// The warden's time, and more.
const GONE_WITHIN: Duration = Duration::from_secs(15);

/// A process that runs: neither ended nor waiting to be noticed as such.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Process {
    pid: u32,
    parent: u32,
    /// In ticks since the machine started: no other process has both of them.
    started: u64,
    /// Its program, as it was called.
    program: String,
}

/// A process and all that it started, and these.
#[derive(Debug)]
pub(super) struct Family(BTreeMap<u32, Process>);

impl Family {
    pub(super) fn of(pid: u32) -> Result<Self> {
        Ok(Self(descendants(pid, all()?)))
    }

    /// Waits until none of them runs.
    pub(super) async fn is_gone(&self) -> Result<()> {
        wait_until(GONE_WITHIN, "the end of what `up` started", || {
            ready(self.left())
        })
        .await
    }

    fn left(&self) -> Result<(), String> {
        let all = all().map_err(|error| format!("{error:#}"))?;
        let left = all.into_iter().filter(|one| {
            let known = self.0.get(&one.pid);
            known.is_some_and(|known| known.started == one.started)
        });
        let left: Vec<String> = left
            .map(|one| format!("{} (pid {})", one.program, one.pid))
            .collect();
        if left.is_empty() {
            Ok(())
        } else {
            Err(left.join(", "))
        }
    }
}

/// The child of a process that runs the program of this file name.
pub(super) fn child(parent: u32, name: &str) -> Result<u32> {
    let mut children = all()?.into_iter().filter(|one| one.parent == parent);
    let child = children.find(|one| Path::new(&one.program).ends_with(name));
    let child = child.with_context(|| format!("process {parent} has started no {name}"))?;
    Ok(child.pid)
}

/// Sends a signal, named as `kill` does, to a process, or to a group when a minus is before its number.
pub(super) fn signal(name: &str, number: &str) -> Result<()> {
    // The shell's own: a bare system has no program of that name.
    let mut shell = Command::new("sh");
    shell.args(["-c", &format!("kill -{name} \"$0\" 2>/dev/null"), number]);
    cargo::run(shell)
}

fn descendants(root: u32, all: Vec<Process>) -> BTreeMap<u32, Process> {
    let (first, mut rest): (Vec<_>, Vec<_>) = all.into_iter().partition(|one| one.pid == root);
    let mut found: BTreeMap<u32, Process> = first.into_iter().map(|one| (one.pid, one)).collect();
    loop {
        let (more, others): (Vec<_>, Vec<_>) = rest
            .into_iter()
            .partition(|one| found.contains_key(&one.parent));
        if more.is_empty() {
            return found;
        }
        found.extend(more.into_iter().map(|one| (one.pid, one)));
        rest = others;
    }
}

fn all() -> Result<Vec<Process>> {
    let entries = fs::read_dir("/proc").context("looking at the processes")?;
    let processes = entries.flatten().filter_map(|entry| {
        let pid = entry.file_name().to_str()?.parse().ok()?;
        // Gone by now is not there.
        let stat = fs::read_to_string(entry.path().join("stat")).ok()?;
        let (parent, started) = read(&stat)?;
        let words = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let program = words.split(|byte| *byte == 0).next().unwrap_or_default();
        Some(Process {
            pid,
            parent,
            started,
            program: String::from_utf8_lossy(program).into_owned(),
        })
    });
    Ok(processes.collect())
}

/// Parent and start of one that runs, from its line in `/proc/PID/stat`. Its name, in brackets, may hold
/// anything.
fn read(stat: &str) -> Option<(u32, u64)> {
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_whitespace();
    let state = fields.next()?;
    if state == "Z" || state == "X" {
        return None;
    }
    let parent = fields.next()?.parse().ok()?;
    // The parent is field 4, the start field 22.
    let started = fields.nth(17)?.parse().ok()?;
    Some((parent, started))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_read_whatever_the_program_is_called() {
        let rest = "4 5 5 0 -1 4194560 111 0 0 0 1 0 0 0 20 0 1 0 98765 2596864 250";
        assert_eq!(read(&format!("7 (a) b) S {rest}")), Some((4, 98_765)));
        assert_eq!(read(&format!("7 (sh) Z {rest}")), None);
        assert_eq!(read(""), None);
    }

    #[test]
    fn a_family_is_all_generations_and_nobody_else() {
        let process = |pid, parent| Process {
            pid,
            parent,
            started: 1,
            program: String::new(),
        };
        let all = vec![
            process(4, 3),
            process(1, 0),
            process(3, 2),
            process(2, 1),
            process(5, 1),
        ];
        let family = descendants(2, all);
        assert_eq!(family.keys().copied().collect::<Vec<_>>(), [2, 3, 4]);
    }

    #[tokio::test]
    async fn what_runs_is_found_and_what_was_killed_is_gone() {
        let mut sleeper = Command::new("sleep").arg("600").spawn().unwrap();
        let own = std::process::id();
        let family = Family::of(sleeper.id()).unwrap();
        assert!(family.left().unwrap_err().contains("sleep"));
        assert!(family.0.contains_key(&sleeper.id()));
        assert!(child(own, "no-such-program").is_err());
        signal("KILL", &sleeper.id().to_string()).unwrap();
        // Also while nobody has noticed.
        family.is_gone().await.unwrap();
        sleeper.wait().unwrap();
        assert!(signal("KILL", &sleeper.id().to_string()).is_err());
    }
}
