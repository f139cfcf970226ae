//! The deploy-orchestrator process.

use std::process::ExitCode;

use anyhow::Context;
use candlefish_runtime::process::Process;
use deploy_orchestrator::{Config, migrate, run};

#[tokio::main]
async fn main() -> anyhow::Result<ExitCode> {
    let config = Config::from_process()?;
    match std::env::args().nth(1).as_deref() {
        Some("--check-config") => {
            print(&config.describe());
            return Ok(ExitCode::SUCCESS);
        }
        Some("migrate") => {
            migrate(&config).await?;
            return Ok(ExitCode::SUCCESS);
        }
        Some(other) => anyhow::bail!("unknown argument {other}: use migrate or --check-config"),
        None => {}
    }
    let process = Process::start("deploy-orchestrator", &config.telemetry)?;
    run(config, &process.tasks()).await.context("start")?;
    Ok(process.wait().await)
}

#[expect(
    clippy::print_stdout,
    reason = "what a person asked for on the command line"
)]
fn print(text: &str) {
    println!("{text}");
}
