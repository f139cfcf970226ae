//! `cargo xtask test`: all tests, on private instances of their own.
//!
//! Three runs, each with its runner's own summary: nextest over everything but the journeys, the
//! examples in the docs, then nextest over the journeys of the package `e2e`.

use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use anyhow::{Result, ensure};
use candlefish_devstack::{Output, S3, Stack, Warden, disk_left};
use clap::Args;

use crate::workspace::Workspace;
use crate::{cargo, tools};

/// The bucket that tests of the S3 store use.
const BUCKET: &str = "candlefish-test";
/// How nextest ends when no test was chosen.
const NONE_CHOSEN: i32 = 4;
/// Bytes. A disk with less is the likeliest reason of whatever failed on it.
const LITTLE_LEFT: u64 = 512 << 20;
/// How many tests nextest runs at a time; whoever sets it has it so.
const AT_A_TIME: &str = "NEXTEST_TEST_THREADS";

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Only the tests of these packages.
    #[arg(short, long)]
    package: Vec<String>,
    /// Only the tests whose names contain one of these.
    filter: Vec<String>,
    /// An expression of nextest; then neither examples in docs nor journeys are run.
    #[arg(skip)]
    only: Option<String>,
    /// Show what the tests print.
    #[arg(long)]
    show_output: bool,
    /// Use the newer NATS server instead of the distribution's.
    #[arg(long)]
    newer_nats: bool,
}

impl Options {
    /// Only the components that this expression of nextest names, on the newer NATS server. What they
    /// are built of is that of the whole workspace: for themselves alone, their dependencies would be
    /// built again.
    pub(crate) fn newer_nats(only: String) -> Self {
        Self {
            only: Some(only),
            newer_nats: true,
            ..Self::everything()
        }
    }

    pub(crate) const fn everything() -> Self {
        Self {
            package: Vec::new(),
            filter: Vec::new(),
            only: None,
            show_output: false,
            newer_nats: false,
        }
    }
}

/// What tests find in their environment.
struct Instances {
    stack: Stack,
    s3: S3,
    variables: Vec<(&'static str, String)>,
    // Last: it removes the folder that S3 writes to.
    _warden: Arc<Warden>,
    _folder: tempfile::TempDir,
}

pub(crate) async fn run(workspace: &Workspace, options: &Options) -> Result<()> {
    let nextest = tools::program("cargo-nextest")?;
    let instances = start(options).await?;
    let outcome = all(workspace, options, &instances, nextest);
    // While what was written is still there.
    let outcome = outcome.map_err(|error| blame_the_disk(error, instances.stack.folder()));
    instances.s3.process().kill()?;
    instances.stack.stop().await?;
    outcome
}

/// Says that the disk is full where it is: Postgres and the runner have other words for it.
fn blame_the_disk(error: anyhow::Error, folder: &Path) -> anyhow::Error {
    match disk_left(folder) {
        Ok(left) if left < LITTLE_LEFT => error.context(format!(
            "the disk of {} is full ({} MiB are left): make room, then try again",
            folder.display(),
            left >> 20
        )),
        _ => error,
    }
}

async fn start(options: &Options) -> Result<Instances> {
    let mut builder = Stack::builder()
        .replicas(0, 0, 0)
        .progress(|text| eprintln!("xtask: {text}"));
    if options.newer_nats {
        builder = builder.nats_server(tools::program("nats-server")?);
    }
    let stack = builder.start().await?;
    let folder = tempfile::tempdir()?;
    let warden = Arc::new(Warden::start()?);
    warden.remove(folder.path())?;
    let output = Output::Folder(folder.path().to_owned());
    let ministack = tools::program("ministack")?;
    let s3 = S3::start(ministack, folder.path(), output, Arc::clone(&warden)).await?;
    s3.create_bucket(BUCKET).await?;
    let variables = vec![
        (
            "CANDLEFISH_TEST_DATABASE_URL",
            stack.postgres().superuser_url("postgres"),
        ),
        ("CANDLEFISH_TEST_NATS_URL", stack.nats().url()),
        ("CANDLEFISH_TEST_S3_ENDPOINT", s3.endpoint()),
        ("CANDLEFISH_TEST_S3_BUCKET", BUCKET.to_owned()),
    ];
    Ok(Instances {
        stack,
        s3,
        variables,
        _warden: warden,
        _folder: folder,
    })
}

fn all(
    workspace: &Workspace,
    options: &Options,
    instances: &Instances,
    nextest: PathBuf,
) -> Result<()> {
    let named = |name: &str| options.package.iter().any(|package| package == name);
    let whole = options.only.is_none();
    let journeys = whole && (options.package.is_empty() || named("e2e"));
    let components = options.package != ["e2e"];
    let mut outcomes = Vec::new();
    let mut validators = Vec::new();
    if journeys {
        validators.extend(tools::validators()?);
        // They run the services as programs, which no test target depends on.
        cargo::build_programs(workspace)?;
    }
    if components {
        let mut command = nextest_run(workspace, options, instances, &nextest);
        packages(&mut command, options);
        if let Some(only) = &options.only {
            command.args(["--filterset", only]);
        }
        // What is shown as it comes is of one test at a time.
        if !options.show_output && std::env::var_os(AT_A_TIME).is_none() {
            command.env(AT_A_TIME, at_a_time().to_string());
        }
        outcomes.push(tests(command, options));
    }
    if components && whole && options.filter.is_empty() {
        eprintln!("xtask: examples in the docs");
        let mut command = cargo::command(workspace);
        command.args(["test", "--doc", "--locked", "--quiet", "--no-fail-fast"]);
        packages(&mut command, options);
        with(&mut command, instances);
        outcomes.push(cargo::run(command).map(|()| true));
    }
    if journeys {
        let mut command = nextest_run(workspace, options, instances, &nextest);
        command.args(["--profile", "e2e", "--package", "e2e"]);
        command.envs(validators);
        outcomes.push(tests(command, options));
    }
    all_well(outcomes)
}

/// Runs nextest; whether there was a test to run. A name may be one of components alone, or of
/// journeys alone: that the others have none is no failure.
fn tests(command: Command, options: &Options) -> Result<bool> {
    if options.filter.is_empty() {
        return cargo::run(command).map(|()| true);
    }
    cargo::run_unless(command, NONE_CHOSEN).map(|none| !none)
}

/// Nothing failed, and something was run.
fn all_well(outcomes: Vec<Result<bool>>) -> Result<()> {
    let ran: Vec<bool> = outcomes.into_iter().collect::<Result<_>>()?;
    ensure!(ran.contains(&true), "no test has such a name");
    Ok(())
}

/// A test of components waits for a part of its time: one more than there are cores keeps them busy.
fn at_a_time() -> usize {
    std::thread::available_parallelism().map_or(1, NonZero::get) + 1
}

fn nextest_run(
    workspace: &Workspace,
    options: &Options,
    instances: &Instances,
    nextest: &Path,
) -> Command {
    let mut command = Command::new(nextest);
    cargo::without_ours(&mut command);
    command.current_dir(&workspace.root);
    command.args(["nextest", "run", "--locked", "--no-fail-fast"]);
    if options.show_output {
        command.arg("--no-capture");
    }
    command.args(&options.filter);
    with(&mut command, instances);
    command
}

fn packages(command: &mut Command, options: &Options) {
    if options.package.is_empty() {
        command.arg("--workspace");
    }
    for package in options.package.iter().filter(|name| *name != "e2e") {
        command.args(["--package", package]);
    }
}

fn with(command: &mut Command, instances: &Instances) {
    let variables = instances.variables.iter();
    command.envs(variables.map(|(key, value)| (*key, value)));
    // The services of a test are on this machine, where no proxy leads.
    for key in ["NO_PROXY", "no_proxy"] {
        let said = std::env::var_os(key).unwrap_or_default();
        command.env(key, unproxied(&said.to_string_lossy()));
    }
}

/// What is reached without a proxy, and this machine.
fn unproxied(said: &str) -> String {
    let said = said.split(',').map(str::trim);
    let said = said.filter(|host| !host.is_empty());
    let hosts: Vec<&str> = said
        .chain(["127.0.0.1", "localhost", ".localhost"])
        .collect();
    hosts.join(",")
}

#[cfg(test)]
mod tests {
    use anyhow::anyhow;

    use super::*;

    fn ends(code: i32) -> Command {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", &format!("exit {code}")]);
        command
    }

    #[test]
    fn names_that_one_of_two_runs_does_not_have_are_no_failure() {
        let named = Options {
            filter: vec!["a_name".to_owned()],
            ..Options::everything()
        };
        for (code, ran) in [(0, Some(true)), (NONE_CHOSEN, Some(false)), (100, None)] {
            assert_eq!(tests(ends(code), &named).ok(), ran, "{code}");
        }
        assert!(tests(ends(NONE_CHOSEN), &Options::everything()).is_err());

        assert!(all_well(vec![Ok(true), Ok(false)]).is_ok());
        assert!(all_well(vec![Ok(false), Ok(false)]).is_err());
        assert!(all_well(vec![Ok(true), Err(anyhow!("one failed"))]).is_err());
    }

    #[test]
    fn no_proxy_leads_to_this_machine_whatever_was_said() {
        let ours = "127.0.0.1,localhost,.localhost";
        assert_eq!(unproxied(""), ours);
        assert_eq!(
            unproxied("example.org, 10.0.0.1,"),
            format!("example.org,10.0.0.1,{ours}")
        );
    }
}
