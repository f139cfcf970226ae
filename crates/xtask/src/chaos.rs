//! `cargo xtask chaos`: a longer run of the journey under fire.

use anyhow::Result;
use clap::Args;

use crate::cargo;
use crate::workspace::Workspace;

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Deployments over 20 lanes.
    #[arg(long, default_value_t = 1000)]
    deployments: u64,
    /// Pushes that webhooks tell of, over 4 lanes on top.
    #[arg(long, default_value_t = 120)]
    pushes: u64,
    /// Processes to kill; the streams' deletion and Postgres's restart come on top.
    #[arg(long, default_value_t = 150)]
    faults: u64,
    /// How many of these are freezes of an orchestrator at work; one in four by default.
    #[arg(long)]
    freezes: Option<u64>,
    /// The same seed plans the same run.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

pub(crate) fn run(workspace: &Workspace, options: &Options) -> Result<()> {
    cargo::build_programs(workspace)?;
    let mut run = cargo::command(workspace);
    run.args([
        "test",
        "--package",
        "e2e",
        "--test",
        "e2e",
        "--locked",
        "--",
    ]);
    run.args(["chaos::", "--nocapture"]);
    run.env(
        "CANDLEFISH_CHAOS_DEPLOYMENTS",
        options.deployments.to_string(),
    );
    run.env("CANDLEFISH_CHAOS_PUSHES", options.pushes.to_string());
    run.env("CANDLEFISH_CHAOS_FAULTS", options.faults.to_string());
    if let Some(freezes) = options.freezes {
        run.env("CANDLEFISH_CHAOS_FREEZES", freezes.to_string());
    }
    run.env("CANDLEFISH_CHAOS_SEED", options.seed.to_string());
    run.env("CANDLEFISH_CHAOS_STRICT", "1");
    cargo::run(run)
}
