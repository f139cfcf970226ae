//! The gateway process.

use std::process::ExitCode;

use anyhow::Context;
use candlefish_runtime::process::Process;
use gateway::{Config, migrate, run};

#[tokio::main]
async fn main() -> anyhow::Result<ExitCode> {
    let config = Config::from_process()?;
    match std::env::args().nth(1).as_deref() {
        Some("--check-config") => {
            use std::io::Write as _;
            std::io::stdout().write_all(config.describe().as_bytes())?;
            return Ok(ExitCode::SUCCESS);
        }
        Some("migrate") => {
            migrate(&config).await?;
            return Ok(ExitCode::SUCCESS);
        }
        Some(other) => anyhow::bail!("unknown argument {other}: use migrate or --check-config"),
        None => {}
    }
    let process = Process::start("gateway", &config.telemetry)?;
    run(config, &process.tasks())
        .await
        .context("the gateway does not start")?;
    Ok(process.wait().await)
}
