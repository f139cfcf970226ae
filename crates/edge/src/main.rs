//! The edge's process.

use std::process::ExitCode;

use anyhow::Context as _;
use candlefish_runtime::{config::Env, ops::Readiness, process::Process};
use edge::Config;

#[tokio::main]
async fn main() -> anyhow::Result<ExitCode> {
    let config = Config::read(Env::from_process())?;
    if std::env::args().nth(1).as_deref() == Some("--check-config") {
        use std::io::Write as _;
        std::io::stdout().write_all(config.show().as_bytes())?;
        return Ok(ExitCode::SUCCESS);
    }
    let process = Process::start("edge", &config.telemetry)?;
    edge::run(config, &process.tasks(), Readiness::new())
        .await
        .context("the edge does not start")?;
    Ok(process.wait().await)
}
