//! `cargo xtask up`: the whole platform on this machine, with an example site that is live.

use std::ffi::OsString;
use std::path::Path;
use std::pin::pin;
use std::time::Instant;

use anyhow::Result;
use candlefish_devstack::{Builder, Service, Stack, supervise};
use clap::{Args, value_parser};
use futures_util::future::{Either, select};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use crate::cargo;
use crate::workspace::Workspace;

pub(crate) mod closing;
mod github;
pub(crate) mod lock;
mod restarts;
mod seed;

use lock::Lock;

/// What `up` keeps its data in, from the clone's folder.
const FOLDER: &str = ".dev";
/// The same of the `up` that `ci` runs: git, the image and our checks leave this folder out as it is.
const FOLDER_OF_CI: &str = "target/ci-up";

/// The context of `candlefish` that is made for it.
pub(crate) const CONTEXT: &str = "dev";

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// How many gateways.
    #[arg(long, default_value_t = 1, value_parser = value_parser!(u16).range(1..=8))]
    gateways: u16,
    /// How many orchestrators.
    #[arg(long, default_value_t = 1, value_parser = value_parser!(u16).range(1..=8))]
    orchestrators: u16,
    /// How many edges.
    #[arg(long, default_value_t = 2, value_parser = value_parser!(u16).range(1..=8))]
    edges: u16,
    /// Start a stand-in for GitHub too, as `docs/tour.md` has it.
    #[arg(long)]
    github: bool,
    /// Stop when everything is up and the site is live.
    #[arg(long)]
    once: bool,
    /// As `ci` runs it: with data of its own, and on other ports where somebody has those of development.
    #[arg(long, hide = true)]
    of_ci: bool,
}

/// Where an `up` keeps its data, from the clone's folder.
pub(crate) const fn folder(of_ci: bool) -> &'static str {
    if of_ci { FOLDER_OF_CI } else { FOLDER }
}

pub(crate) async fn run(workspace: &Workspace, options: &Options) -> Result<()> {
    let begun = Instant::now();
    let name = folder(options.of_ci);
    let folder = workspace.root.join(name);
    let _lock = Lock::take(&folder)?;
    candlefish_devstack::install::Programs::install(&say)?;
    build(workspace)?;
    if options.github {
        github::build(workspace)?;
    }
    let up = pin!(bring_up(workspace, options, &folder));
    let stopping = pin!(asked_to_stop());
    let (stack, _github) = match select(up, stopping).await {
        Either::Left((brought, _)) => brought?,
        Either::Right(((), _)) => {
            // Dropped half way: the warden ends what has begun.
            say("stopped before everything was up");
            return Ok(());
        }
    };
    closing::show(&stack, workspace, name, begun.elapsed());
    println!("{}", github::closing(options.github));
    if !options.once {
        watch_over(&stack).await?;
    }
    say("stopping; everything continues with the next `cargo xtask up`");
    stop(stack).await
}

/// Restarts what is killed, and says what was on its way, until somebody asks to stop.
async fn watch_over(stack: &Stack) -> Result<()> {
    // Far more than end while it is asked what was on its way: none is left untold.
    let (seen, events) = mpsc::channel(1_024);
    let supervised = supervise(stack, asked_to_stop(), move |event| {
        drop(seen.try_send(event));
    });
    let acting = async || seed::acting(stack).await;
    let told = restarts::tell(events, restarts::PATIENCE, acting, say);
    match select(pin!(supervised), pin!(told)).await {
        Either::Left((ended, _)) => ended,
        Either::Right(((), supervised)) => supervised.await,
    }
}

/// Builds everything that runs as a process, with cargo's own progress.
fn build(workspace: &Workspace) -> Result<()> {
    say("building (the first time takes some minutes)");
    cargo::build_programs(workspace)
}

type Brought = (Stack, Option<github::StandIn>);

async fn bring_up(workspace: &Workspace, options: &Options, folder: &Path) -> Result<Brought> {
    let otlp = std::env::var_os("OTEL_EXPORTER_OTLP_ENDPOINT");
    let mut stack = described(options, folder, otlp).start().await?;
    let github = options.github.then(|| github::start(&mut stack));
    let github = github.transpose()?;
    seed::ensure(&stack, workspace).await?;
    Ok((stack, github))
}

/// What is started, and what it is told; `otlp` is where our own environment says that traces go.
fn described(options: &Options, folder: &Path, otlp: Option<OsString>) -> Builder {
    let otlp = otlp.and_then(|url| url.into_string().ok());
    let mut builder = Stack::builder()
        .keep_in(folder)
        .fixed_ports()
        .or_free_ports(options.of_ci)
        .console()
        .replicas(options.gateways, options.orchestrators, options.edges)
        .otlp_endpoint(otlp.filter(|url| !url.is_empty()))
        // On this machine alone, so the front page may show what runs.
        .env(Service::Gateway, "CANDLEFISH_OPEN_STATUS", "true")
        .progress(say);
    if options.github {
        for (key, value) in github::settings() {
            builder = builder.env(Service::Orchestrator, key, &value);
        }
    }
    builder
}

/// What it says at the very end of coming up, without `--github`.
pub(crate) fn last_words() -> String {
    github::closing(false)
}

/// A second Ctrl-C, or a second SIGTERM, does not wait for an orderly end.
async fn stop(stack: Stack) -> Result<()> {
    let stopping = pin!(stack.stop());
    let impatient = pin!(asked_to_stop());
    match select(stopping, impatient).await {
        Either::Left((stopped, _)) => stopped,
        Either::Right(((), _)) => {
            say("killed");
            Ok(())
        }
    }
}

async fn asked_to_stop() {
    let kinds = [
        SignalKind::interrupt(),
        SignalKind::terminate(),
        SignalKind::hangup(),
    ];
    let mut signals: Vec<_> = kinds
        .into_iter()
        .filter_map(|kind| signal(kind).ok())
        .collect();
    let any = signals.iter_mut().map(|signal| Box::pin(signal.recv()));
    drop(futures_util::future::select_all(any).await);
}

/// One line of our own, among those of the services.
pub(crate) fn say(text: &str) {
    eprintln!("xtask           | {text}");
}

fn binary(workspace: &Workspace, name: &str) -> Result<std::path::PathBuf> {
    let folder = cargo::programs()?;
    let program = folder.join(name);
    anyhow::ensure!(
        program.is_file(),
        "{name} is not in {}, although it was built in {}",
        folder.display(),
        workspace.root.display()
    );
    Ok(program)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn traces_go_where_the_environment_says_if_it_says() {
        let options = Options {
            gateways: 1,
            orchestrators: 1,
            edges: 2,
            github: false,
            once: false,
            of_ci: false,
        };
        for (said, told) in [
            (
                Some("http://127.0.0.1:4317"),
                r#"Some("http://127.0.0.1:4317")"#,
            ),
            (Some(""), "None"),
            (None, "None"),
        ] {
            let builder = described(&options, Path::new("/dev/null"), said.map(OsString::from));
            let shown = format!("{builder:?}");
            let told = format!("otlp_endpoint: {told}");
            assert!(shown.contains(&told), "{said:?}: {shown}");
        }
    }
}
