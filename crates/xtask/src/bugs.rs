//! `cargo xtask bugs`: proves that the run under fire sees what it is there to see.
//!
//! Each `tests/bugs/NAME.patch` puts a bug into the services. A copy of the tree gets one of them,
//! is built, and a small run under fire must then find an invariant broken, with every seed. The
//! true code goes first and must pass: a checker that cries wolf would catch every bug.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use futures_util::{StreamExt, TryStreamExt, stream};
use serde::Deserialize;

use crate::workspace::Workspace;
use crate::{cargo, tools};

/// Where the bugs are, from the root.
pub(crate) const FOLDER: &str = "tests/bugs";
/// The name of the true code among the bugs.
const NONE: &str = "none";
/// As `tests/e2e/chaos.rs` says it.
const BROKEN: &str = "broken: ";
/// A run that has no verdict by then proves nothing.
const RUN_WITHIN: Duration = Duration::from_mins(6);

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Only these; `none` is the true code. All of them, and the true code first, by default.
    names: Vec<String>,
    /// Seeds for each bug.
    #[arg(long, default_value_t = 3)]
    seeds: u64,
    /// The first of them.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Deployments of a run.
    #[arg(long, default_value_t = 72)]
    deployments: u64,
    /// Lanes of a run.
    #[arg(long, default_value_t = 10)]
    lanes: u64,
    /// Faults of a run; the streams' deletion and Postgres's restart come on top.
    #[arg(long, default_value_t = 14)]
    faults: u64,
    /// How many of these are freezes. One in four, as in longer runs, is too few here: what comes late
    /// is only seen where others did it meanwhile.
    #[arg(long, default_value_t = 5)]
    freezes: u64,
    /// Runs at the same time.
    #[arg(long, default_value_t = 1)]
    at_once: usize,
}

/// What a run under fire came to.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Outcome {
    /// These claims do not hold.
    Caught(Vec<String>),
    Passed,
    /// It failed, and not because something was found broken.
    Unclear(String),
}

/// The copy of the tree that gets the bugs, and what is built of it.
#[derive(Debug)]
struct Scratch {
    tree: PathBuf,
    target: PathBuf,
    logs: PathBuf,
    /// Another run would build its bugs into our tree.
    _alone: File,
}

pub(crate) async fn run(workspace: &Workspace, options: &Options) -> Result<()> {
    let names = chosen(workspace, &options.names)?;
    let scratch = Scratch::make()?;
    let mut bad = Vec::new();
    for name in &names {
        eprintln!(
            "{name}: building, then a run under fire with each of {} seeds",
            options.seeds
        );
        let begun = Instant::now();
        let outcomes = one(workspace, &scratch, name, options).await;
        // One that does not fit or build must not keep the others.
        let outcomes =
            outcomes.unwrap_or_else(|error| vec![Outcome::Unclear(format!("{error:#}"))]);
        for (seed, outcome) in (options.seed..).zip(&outcomes) {
            println!("{name:<32} seed {seed:<3} {}", words(outcome));
        }
        eprintln!("{name}: {:.0} s", begun.elapsed().as_secs_f64());
        if !outcomes.iter().all(|outcome| is_wanted(name, outcome)) {
            bad.push(name.as_str());
        }
    }
    ensure!(
        bad.is_empty(),
        "not as it should be: {} (what the runs said: {})",
        bad.join(", "),
        scratch.logs.display()
    );
    Ok(())
}

/// Every patch, by name.
pub(crate) fn patches(workspace: &Workspace) -> Result<Vec<PathBuf>> {
    let all = workspace.files(FOLDER)?.into_iter();
    Ok(all
        .filter(|path| path.extension() == Some(OsStr::new("patch")))
        .collect())
}

/// `git apply` of a patch in `folder`, whatever repository is above it.
pub(crate) fn apply(folder: &Path, patch: &Path) -> Command {
    let mut command = Command::new("git");
    command.current_dir(folder).arg("apply");
    if let Some(above) = folder.parent() {
        command.env("GIT_CEILING_DIRECTORIES", above);
    }
    command.arg(patch);
    command
}

fn chosen(workspace: &Workspace, wanted: &[String]) -> Result<Vec<String>> {
    let known = patches(workspace)?;
    let known = known.iter().filter_map(|path| path.file_stem()?.to_str());
    let known: Vec<&str> = [NONE].into_iter().chain(known).collect();
    if let Some(other) = wanted.iter().find(|name| !known.contains(&name.as_str())) {
        bail!("no bug is called {other}; there are {}", known.join(", "));
    }
    let all = wanted.is_empty();
    let chosen = known
        .into_iter()
        .filter(|name| all || wanted.iter().any(|one| one == name));
    Ok(chosen.map(str::to_owned).collect())
}

fn is_wanted(name: &str, outcome: &Outcome) -> bool {
    match outcome {
        Outcome::Caught(_) => name != NONE,
        Outcome::Passed => name == NONE,
        Outcome::Unclear(_) => false,
    }
}

fn words(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Caught(claims) => format!("caught: {}", claims.join("; ")),
        Outcome::Passed => "passed".to_owned(),
        Outcome::Unclear(why) => format!("no verdict: {why}"),
    }
}

async fn one(
    workspace: &Workspace,
    scratch: &Scratch,
    name: &str,
    options: &Options,
) -> Result<Vec<Outcome>> {
    scratch.copy(workspace)?;
    if name != NONE {
        let patch = workspace.root.join(FOLDER).join(name);
        cargo::run(apply(&scratch.tree, &patch.with_extension("patch")))?;
    }
    let program = scratch.build()?;
    let seeds = (options.seed..).take(usize::try_from(options.seeds)?);
    let runs = seeds.map(|seed| {
        let mut command = Command::new(&program);
        command.args(["chaos::", "--nocapture"]);
        for (key, value) in [
            ("SEED", seed),
            ("DEPLOYMENTS", options.deployments),
            ("LANES", options.lanes),
            ("FAULTS", options.faults),
            ("FREEZES", options.freezes),
        ] {
            command.env(format!("CANDLEFISH_CHAOS_{key}"), value.to_string());
        }
        let log = scratch.logs.join(format!("{name}-{seed}.log"));
        fire(command, log)
    });
    stream::iter(runs)
        .buffered(options.at_once.max(1))
        .try_collect()
        .await
}

/// One run under fire. Its output is kept in `log`.
async fn fire(mut command: Command, log: PathBuf) -> Result<Outcome> {
    let out = File::create(&log)?;
    command.stdin(Stdio::null());
    command.stdout(out.try_clone()?).stderr(out);
    let mut child = tokio::process::Command::from(command)
        .kill_on_drop(true)
        .spawn()
        .context("running the journeys")?;
    let Ok(status) = tokio::time::timeout(RUN_WITHIN, child.wait()).await else {
        child.kill().await?;
        return Ok(Outcome::Unclear(format!("not within {RUN_WITHIN:?}")));
    };
    let said = fs::read_to_string(&log)?;
    Ok(verdict(status?.success(), &said))
}

fn verdict(passed: bool, said: &str) -> Outcome {
    let claims: Vec<String> = said
        .lines()
        .filter_map(|line| line.strip_prefix(BROKEN).map(str::to_owned))
        .collect();
    match (passed, claims.is_empty()) {
        (true, _) => Outcome::Passed,
        (false, false) => Outcome::Caught(claims),
        (false, true) => {
            let why = said.lines().rfind(|line| line.contains("panicked at"));
            Outcome::Unclear(why.unwrap_or("it says nothing").to_owned())
        }
    }
}

impl Scratch {
    fn make() -> Result<Self> {
        let folder = tools::cache()?.join("bugs");
        fs::create_dir_all(&folder)?;
        let alone = File::create(folder.join("lock"))?;
        alone.try_lock().context(
            "another `cargo xtask bugs` of this user runs, in this clone or in another: wait for its end",
        )?;
        let scratch = Self {
            _alone: alone,
            tree: folder.join("tree"),
            target: folder.join("target"),
            logs: folder.join("logs"),
        };
        fs::create_dir_all(&scratch.tree)?;
        fs::create_dir_all(&scratch.logs)?;
        Ok(scratch)
    }

    /// Makes the tree a copy of ours. What is equal already is left alone, so that cargo builds only
    /// what the last bug and this one touch.
    fn copy(&self, workspace: &Workspace) -> Result<()> {
        let ours = workspace.files("")?;
        let copy = Workspace {
            root: self.tree.clone(),
        };
        for path in copy.files("")? {
            if ours.binary_search(&path).is_err() {
                fs::remove_file(self.tree.join(&path))?;
            }
        }
        for path in ours {
            let (from, to) = (workspace.root.join(&path), self.tree.join(&path));
            let bytes = fs::read(&from).with_context(|| format!("reading {}", from.display()))?;
            if fs::read(&to).is_ok_and(|there| there == bytes) {
                continue;
            }
            fs::create_dir_all(to.parent().context("a file is in a folder")?)?;
            fs::write(&to, bytes)?;
        }
        Ok(())
    }

    /// Builds the services and the journeys; answers the journeys' program.
    fn build(&self) -> Result<PathBuf> {
        let tree = Workspace {
            root: self.tree.clone(),
        };
        let mut build = cargo::command(&tree);
        build.args(["build", "--workspace", "--bins", "--test", "e2e"]);
        build.args(["--locked", "--quiet", "--message-format"]);
        build.arg("json-render-diagnostics");
        build.env("CARGO_TARGET_DIR", &self.target);
        // Nobody steps through it, and it is linked for every bug.
        build.env("CARGO_PROFILE_DEV_DEBUG", "none");
        build.stderr(Stdio::inherit());
        journeys(&cargo::output(build)?)
    }
}

/// The part of cargo's messages that names the programs it built.
#[derive(Debug, Deserialize)]
struct Message {
    target: Option<Target>,
    executable: Option<PathBuf>,
}

#[derive(Debug, Deserialize)]
struct Target {
    name: String,
    kind: Vec<String>,
}

fn journeys(messages: &str) -> Result<PathBuf> {
    let is_test = |target: &Target| target.name == "e2e" && target.kind == ["test"];
    messages
        .lines()
        .filter_map(|line| serde_json::from_str::<Message>(line).ok())
        .filter(|message| message.target.as_ref().is_some_and(is_test))
        .find_map(|message| message.executable)
        .context("cargo built no journeys")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_broken_claim_catches_a_bug() {
        let broken =
            "seed 1\nbroken: a lane is fair\nthread 'x' panicked at tests/e2e/chaos.rs:1:2:";
        let caught = Outcome::Caught(vec!["a lane is fair".to_owned()]);
        assert_eq!(verdict(false, broken), caught);
        assert!(is_wanted("a-bug", &caught) && !is_wanted(NONE, &caught));
        let setup = "thread 'x' panicked at crates/devstack/src/postgres.rs:1:2:\nno port";
        let unclear = verdict(false, setup);
        assert!(matches!(&unclear, Outcome::Unclear(why) if why.contains("postgres.rs")));
        assert!(!is_wanted("a-bug", &unclear) && !is_wanted(NONE, &unclear));
        assert_eq!(verdict(true, "ok"), Outcome::Passed);
        assert!(!is_wanted("a-bug", &Outcome::Passed) && is_wanted(NONE, &Outcome::Passed));
    }

    #[test]
    fn the_journeys_are_found_among_what_cargo_built() {
        let messages = concat!(
            r#"{"reason":"compiler-artifact","target":{"name":"e2e","kind":["lib"]},"executable":null}"#,
            "\n",
            r#"{"reason":"compiler-artifact","target":{"name":"edge","kind":["bin"]},"executable":"/t/edge"}"#,
            "\n",
            r#"{"reason":"compiler-artifact","target":{"name":"e2e","kind":["test"]},"executable":"/t/e2e-1"}"#,
        );
        assert_eq!(journeys(messages).unwrap(), Path::new("/t/e2e-1"));
        assert!(journeys("").is_err());
    }
}
