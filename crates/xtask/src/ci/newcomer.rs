//! `cargo xtask up` as a newcomer meets it: in the background, what it prints pasted into a shell, a
//! service killed, Ctrl-C, once more with the same data, and away.
//!
//! The data is this step's own: whoever ran `up` in this clone before keeps theirs, and may run it
//! meanwhile. The ports are those that are promised, unless somebody has them.

use std::fs::{self, File};
use std::future::ready;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail, ensure};
use candlefish_devstack::http::{self, Answer};
use candlefish_devstack::{Stack, wait_until};
use tempfile::TempDir;

use crate::cargo;
use crate::up::folder;
use crate::up::lock::Lock;
use crate::workspace::Workspace;

mod background;
mod processes;

use background::{Up, last_lines};
use processes::Family;

/// For one block of commands. The longest has two shares of ten seconds, or waits for a bake of thirty.
const PASTED_WITHIN: Duration = Duration::from_mins(3);
/// For a process that was killed.
const BACK_WITHIN: Duration = Duration::from_mins(1);
const ANSWERS_WITHIN: Duration = Duration::from_secs(10);

/// What is typed, and that it is typed here.
const UP: [&str; 2] = ["up", "--of-ci"];
const DOWN: [&str; 3] = ["down", "--wipe", "--of-ci"];

/// How `up` names a page that is missing, of the broken version of the example.
const MISSING: &str = "index.html";

/// Somebody who has nothing but the clone: no context of `candlefish`, no variable of ours.
struct Newcomer<'a> {
    workspace: &'a Workspace,
    home: TempDir,
}

/// What `up` printed.
struct Printed {
    site: String,
    api: String,
    /// A canary of version 2, a broken version 3, a rollback, and the end of its hold.
    blocks: [String; 4],
}

/// An error where this step runs already; an `up` of this clone is no reason.
pub(super) fn room(workspace: &Workspace) -> Result<()> {
    let holder = Lock::holder(&workspace.root.join(folder(true)))?;
    ensure!(
        holder.is_none(),
        "the step `up` of another `cargo xtask ci` runs in this clone, as process {}",
        holder.unwrap_or_default()
    );
    Ok(())
}

pub(super) async fn run(workspace: &Workspace) -> Result<()> {
    room(workspace)?;
    // What one that failed left to be looked at.
    Stack::wipe(&workspace.root.join(folder(true)))?;
    cargo::build_programs(workspace)?;
    let begun = Instant::now();
    let newcomer = Newcomer {
        workspace,
        home: tempfile::tempdir()?,
    };
    let mut up = newcomer.up("first")?;
    let first = newcomer.first_time(&mut up).await;
    let release = first.map_err(|error| blame(error, &up))?;
    let mut up = newcomer.up("second")?;
    let second = newcomer.second_time(&mut up, &release).await;
    second.map_err(|error| blame(error, &up))?;
    println!(
        "up: four blocks of commands pasted, a killed orchestrator back, {release} live the second \
         time too, and nothing left, after {:.0} s",
        begun.elapsed().as_secs_f64()
    );
    Ok(())
}

/// With what `up` said last.
fn blame(error: anyhow::Error, up: &Up) -> anyhow::Error {
    anyhow!(
        "{error:#}\n--- what `up` said last ---\n{}\n--- its data, if any, stays in {} until this step \
         runs again ---",
        up.tail(),
        folder(true)
    )
}

fn say(text: &str) {
    eprintln!("xtask: {text}");
}

impl Newcomer<'_> {
    /// A program as this newcomer starts it, in the clone.
    fn command(&self, program: PathBuf) -> Command {
        let mut command = Command::new(program);
        cargo::without_ours(&mut command);
        for (key, _) in std::env::vars_os() {
            if key
                .to_str()
                .is_some_and(|key| key.starts_with("CANDLEFISH_"))
            {
                command.env_remove(key);
            }
        }
        command.env("CANDLEFISH_CONFIG_DIR", self.home.path().join("config"));
        command
            .current_dir(&self.workspace.root)
            .stdin(Stdio::null());
        command
    }

    /// This program with these words. By its place: what is built meanwhile replaces the file.
    fn xtask(&self, words: &[&str]) -> Result<Command> {
        let mut command = self.command(cargo::programs()?.join("xtask"));
        command.args(words);
        Ok(command)
    }

    fn folder(&self) -> PathBuf {
        self.workspace.root.join(folder(true))
    }

    fn up(&self, name: &str) -> Result<Up> {
        say(&format!("`up`, the {name} time"));
        Up::start(self.xtask(&UP)?, &self.home.path().join(name))
    }

    /// From nothing to Ctrl-C; the release that is live at the end.
    async fn first_time(&self, up: &mut Up) -> Result<String> {
        let printed = printed(&up.closing().await?)?;
        let [canary, broken, back, lift] = &printed.blocks;
        let before = release(&printed.site).await?;
        for path in ["/", "/docs"] {
            ask(&printed.api, path).await?;
        }
        self.paste(canary, 0).await?;
        let visitors = fs::read_to_string(self.folder().join("visitors"));
        all_well(&visitors.context("what visitors got")?)?;
        let new = release(&printed.site).await?;
        ensure!(new != before, "after the canary {before} is live still");
        let refusal = self.paste(broken, 1).await?;
        ensure!(
            refusal.contains(MISSING),
            "the refusal does not name {MISSING}:\n{refusal}"
        );
        let live = release(&printed.site).await?;
        ensure!(live == new, "after the refusal {live} is live, not {new}");
        self.paste(back, 0).await?;
        let live = release(&printed.site).await?;
        ensure!(live == before, "rolled back to {live}, not {before}");
        self.paste(lift, 0).await?;
        kill_orchestrator(up).await?;
        ask(&printed.api, "/").await?;
        say("Ctrl-C");
        let family = Family::of(up.pid())?;
        processes::signal("INT", &up.pid().to_string())?;
        up.ends().await?;
        family.is_gone().await?;
        Ok(before)
    }

    /// What was live is live, and `down --wipe` takes all of it away while it runs.
    async fn second_time(&self, up: &mut Up, before: &str) -> Result<()> {
        let printed = printed(&up.closing().await?)?;
        let live = release(&printed.site).await?;
        ensure!(live == before, "{live} is live, and {before} was");
        let family = Family::of(up.pid())?;
        let folder = self.folder();
        // As root its data lies elsewhere.
        let postgres = folder.join("postgres");
        let postgres = fs::read_link(&postgres).unwrap_or(postgres);
        ensure!(postgres.exists(), "{} is not there", postgres.display());
        say("`down --wipe`");
        let said = cargo::output(self.xtask(&DOWN)?)?;
        for words in ["Stopped.", "Its data is gone"] {
            ensure!(
                said.contains(words),
                "`down` does not say {words:?}:\n{said}"
            );
        }
        up.ends().await?;
        family.is_gone().await?;
        for left in [folder, postgres] {
            ensure!(!left.exists(), "{} is left", left.display());
        }
        Ok(())
    }

    /// Pastes commands into a shell of their own, which has to end with this code; what they said. What
    /// still runs in the background of that shell ends with it.
    async fn paste(&self, commands: &str, code: i32) -> Result<String> {
        say(&format!("pasting\n{commands}"));
        let said = self.home.path().join("pasted");
        let file = File::create(&said)?;
        let mut shell = self.command("sh".into());
        shell.args(["-c", commands]).process_group(0);
        shell.stdout(file.try_clone()?).stderr(file);
        let mut shell = shell.spawn().context("running sh")?;
        let group = format!("-{}", shell.id());
        let ended = wait_until(PASTED_WITHIN, commands, || {
            ready(match shell.try_wait() {
                Ok(None) => Err("it still runs".to_owned()),
                Ok(Some(status)) => Ok(Ok(status)),
                Err(error) => Ok(Err(error)),
            })
        })
        .await;
        // Nothing may be left in it.
        drop(processes::signal("KILL", &group));
        let said = fs::read_to_string(&said)?;
        let status = ended.map_err(|error| anyhow!("{error:#}\n{}", last_lines(&said)))??;
        ensure!(
            status.code() == Some(code),
            "ended with {status}, not with {code}: {commands}\n{}",
            last_lines(&said)
        );
        Ok(said)
    }
}

/// `kill -9`, and the one line that says how it came back.
async fn kill_orchestrator(up: &Up) -> Result<()> {
    let pid = processes::child(up.pid(), "deploy-orchestrator")?;
    say(&format!("kill -9 of the orchestrator, process {pid}"));
    processes::signal("KILL", &pid.to_string())?;
    let line = wait_until(BACK_WITHIN, "the line of its restart", || {
        ready(restarts(&up.log(), pid).pop().ok_or_else(|| up.tail()))
    })
    .await?;
    let lines = restarts(&up.log(), pid);
    ensure!(lines.len() == 1, "told more than once: {lines:#?}");
    say(&line);
    Ok(())
}

/// The lines that say that a process runs again.
fn restarts(log: &str, pid: u32) -> Vec<String> {
    let ended = format!("(pid {pid}) ended by signal: 9");
    let lines = log
        .lines()
        .filter(|line| line.contains(&ended) && line.contains(" runs again as pid "));
    lines.map(str::to_owned).collect()
}

/// An error where visitors got anything but pages and redirects, or nothing at all.
fn all_well(visitors: &str) -> Result<()> {
    let mut lines = visitors
        .lines()
        .filter_map(|line| line.split_once(" requests   "));
    let (_, got) = lines.next_back().context("there were no visitors")?;
    let outcomes = got.split("   ").map(str::trim);
    let mut bad = outcomes.filter(|outcome| {
        !outcome.is_empty() && !outcome.starts_with(['2', '3']) && !outcome.starts_with("slowest")
    });
    if let Some(bad) = bad.next() {
        bail!("visitors got {bad}");
    }
    Ok(())
}

/// Finds addresses and commands in what `up` printed.
fn printed(text: &str) -> Result<Printed> {
    let after = |label: &str| {
        let (_, rest) = text.split_once(label)?;
        rest.split_whitespace().next().map(str::to_owned)
    };
    let four: Result<[String; 4], Vec<String>> = blocks(text).try_into();
    let four =
        four.map_err(|found| anyhow!("`up` does not print four blocks of commands: {found:#?}"));
    Ok(Printed {
        site: after("  The site ").context("`up` does not say where the site is")?,
        api: after("  The API ").context("`up` does not say where the API is")?,
        blocks: four?,
    })
}

/// Commands, those that are pasted at once together.
fn blocks(text: &str) -> Vec<String> {
    let mut blocks: Vec<String> = Vec::new();
    let mut is_open = false;
    for line in text.lines() {
        let Some(command) = line.strip_prefix("      ") else {
            is_open = false;
            continue;
        };
        match blocks.last_mut() {
            Some(block) if is_open => {
                block.push('\n');
                block.push_str(command);
            }
            _ => blocks.push(command.to_owned()),
        }
        is_open = true;
    }
    blocks
}

/// The release that a visitor gets there.
async fn release(site: &str) -> Result<String> {
    let answer = ask(site, "/").await?;
    let release = answer.headers.get("candlefish-release");
    let release = release.and_then(|value| value.to_str().ok());
    let release = release.with_context(|| format!("{site} does not say its release"))?;
    Ok(release.to_owned())
}

/// A page of this machine, whatever its name; an error unless it is there.
async fn ask(origin: &str, path: &str) -> Result<Answer> {
    let host = origin.strip_prefix("http://");
    let port = host.and_then(|host| host.rsplit_once(':')?.1.parse::<u16>().ok());
    let (host, port) = host
        .zip(port)
        .with_context(|| format!("{origin} is not http://HOST:PORT"))?;
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let answer = http::get(address, host, path, &[], ANSWERS_WITHIN).await?;
    ensure!(
        answer.status.is_success(),
        "{origin}{path}: {} {}",
        answer.status,
        answer.text()
    );
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use clap::Parser;

    use super::*;
    use crate::up::closing;

    #[test]
    fn addresses_and_commands_are_found_in_what_up_says() {
        let edges = [8080, 8082].map(|port| SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
        let program = Path::new("target/debug/candlefish");
        let api = "http://127.0.0.1:8090";
        let text = closing::text(&edges, api, program, folder(true), Duration::from_secs(9));
        let printed = printed(&text).unwrap();
        assert_eq!(printed.site, "http://docs.localhost:8080");
        assert_eq!(printed.api, api);
        let [canary, broken, back, lift] = printed.blocks;
        assert!(canary.starts_with("cargo xtask traffic docs/production"));
        assert!(canary.contains(
            " >target/ci-up/visitors 2>&1 &\ntarget/debug/candlefish deploy examples/docs-site/v2 "
        ));
        assert!(broken.starts_with("target/debug/candlefish deploy examples/docs-site/v3 "));
        assert!(back.starts_with("target/debug/candlefish rollback docs/production"));
        assert!(lift.starts_with("target/debug/candlefish hold lift docs/production"));
        assert!(super::printed("").is_err());
    }

    #[test]
    fn what_is_typed_is_understood_and_leaves_the_data_of_others_alone() {
        for words in [&UP[..], &DOWN] {
            crate::Args::try_parse_from([&["xtask"][..], words].concat()).unwrap();
            assert!(words.contains(&"--of-ci"), "{words:?}");
        }
        assert_ne!(folder(true), folder(false));
    }

    #[test]
    fn visitors_may_get_pages_and_redirects_only() {
        let well = "200 requests a second to http://docs.localhost\n   2 s     400 requests   200: 399   301: 1   slowest 9ms\n";
        all_well(well).unwrap();
        let line =
            "   3 s     600 requests   200: 598   404: 1   no answer (refused): 1   slowest 9ms";
        let error = all_well(&format!("{well}{line}")).unwrap_err();
        assert_eq!(error.to_string(), "visitors got 404: 1");
        let none = all_well("200 requests a second to http://docs.localhost\n").unwrap_err();
        assert_eq!(none.to_string(), "there were no visitors");
    }

    #[test]
    fn a_restart_is_the_line_of_that_process_alone() {
        let back = "orchestrator-1 (pid 41) ended by signal: 9 (SIGKILL), and runs again as pid 57";
        let log = format!(
            "orchestrator-1  | it runs again as pid 41\n\
             xtask           | orchestrator-1 (pid 41) ended by signal: 9 (SIGKILL), and is not back\n\
             xtask           | {back} after 1.4s; no deployment was on its way\n"
        );
        assert_eq!(restarts(&log, 41).len(), 1);
        assert!(restarts(&log, 41).iter().all(|line| line.contains(back)));
        assert!(restarts(&log, 57).is_empty());
    }
}
