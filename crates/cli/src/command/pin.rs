//! `pin`: keeps newer commits from taking a deployment's place.

use candlefish_ids::DeploymentId;
use candlefish_proto::deploy::PinDeploymentRequest;

use super::{dry::Dry, subject};
use crate::{
    app::App,
    error::{Error, Exit},
    render::{self, would},
};

/// Options of `pin`.
#[derive(Debug, clap::Args)]
#[command(
    before_help = "Examples:\n  candlefish pin dep_01k8qx… --reason \"it fixes the login\"\n  candlefish pin dep_01k8qx… --unpin --reason \"the newer one has it too\""
)]
pub(crate) struct Args {
    /// The deployment's id
    deployment: DeploymentId,
    /// Why
    #[arg(long)]
    reason: String,
    /// Take the pin off
    #[arg(long)]
    unpin: bool,
    #[command(flatten)]
    dry: Dry,
}

/// Pins or takes the pin off.
pub(crate) async fn run(app: &App, args: Args) -> Result<Exit, Error> {
    let request = PinDeploymentRequest {
        id: args.deployment.to_string(),
        reason: args.reason,
        unpin: args.unpin,
    };
    let api = app.api()?;
    let deployment = args.dry.of(&api).act(request).await?;
    if args.dry.dry_run {
        app.show(&deployment, would::pin);
        return Ok(Exit::Done);
    }
    let look = app.output.look_out();
    let kept = subject::kept(app, &api, &deployment, &look).await;
    app.show(&deployment, |deployment| {
        render::deployment::full(deployment, &kept, &look)
    });
    Ok(Exit::Done)
}
