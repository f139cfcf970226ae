//! `cargo xtask`: the development commands, and the checks that CI runs.
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a command of the terminal; it has no telemetry"
)]

mod bench;
mod bugs;
mod cargo;
mod chaos;
mod check;
mod ci;
mod down;
mod prepare;
mod test;
mod tools;
mod traffic;
mod up;
mod workspace;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

use crate::workspace::Workspace;

/// Development commands of Candlefish.
#[derive(Debug, Parser)]
#[command(bin_name = "cargo xtask", disable_help_subcommand = true)]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Bring the whole platform up on this machine, with an example site that is live.
    Up(up::Options),
    /// Stop what `up` runs.
    Down {
        /// Remove its data too.
        #[arg(long)]
        wipe: bool,
        /// Of the `up` that `ci` runs.
        #[arg(long, hide = true)]
        of_ci: bool,
    },
    /// Make visitors of a site, until Ctrl-C.
    Traffic(traffic::Options),
    /// Check the rules that a machine can check, but for `compose` and `chart`: their tools take minutes
    /// to build, so they run in `ci`, and when they are named.
    Check {
        /// Only the checks whose names begin so.
        #[arg(value_parser = check::named)]
        only: Vec<String>,
    },
    /// Run all tests on private instances of Postgres, NATS and S3.
    Test(test::Options),
    /// Deployments under fire: kills, deleted streams, a Postgres that restarts.
    Chaos(chaos::Options),
    /// Prove that the run under fire catches deliberate bugs (`tests/bugs`).
    Bugs(bugs::Options),
    /// Load runs of the hot paths against release builds.
    Bench(bench::Options),
    /// What CI runs: every check, every test, those of NATS on the newer server, and `up` as a newcomer
    /// meets it.
    Ci(ci::Options),
    /// Renew the stored data of checked queries (`.sqlx`).
    Prepare {
        /// Renew `proto/baseline.binpb` instead: what the next change of the API may not break.
        /// Belongs to every change that adds to the API; refused where something would break.
        #[arg(long)]
        baseline: bool,
    },
    /// Install the pinned helpers into the user's cache.
    Tools,
}

fn main() -> ExitCode {
    match run(Args::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

#[tokio::main(flavor = "current_thread")]
async fn run(command: Command) -> Result<()> {
    let workspace = Workspace::find()?;
    match command {
        Command::Up(options) => up::run(&workspace, &options).await,
        Command::Down { wipe, of_ci } => down::run(&workspace, wipe, of_ci).await,
        Command::Traffic(options) => traffic::run(&options).await,
        Command::Check { only } => check::run(&workspace, &only).await,
        Command::Test(options) => test::run(&workspace, &options).await,
        Command::Chaos(options) => chaos::run(&workspace, &options),
        Command::Bugs(options) => bugs::run(&workspace, &options).await,
        Command::Bench(options) => bench::run(&workspace, &options),
        Command::Ci(options) => ci::run(&workspace, &options).await,
        Command::Prepare { baseline } => prepare::run(&workspace, baseline).await,
        Command::Tools => tools::install_all(&workspace),
    }
}
