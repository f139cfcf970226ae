//! `abort`: ends a deployment that hurts.

use candlefish_ids::DeploymentId;
use candlefish_proto::deploy::{AbortDeploymentRequest, GetDeploymentRequest};

use super::cancel::until_ended;
use crate::{
    app::App,
    error::{Error, Exit},
    render,
};

/// Options of `abort`.
#[derive(Debug, clap::Args)]
#[command(
    before_help = "Examples:\n  candlefish abort dep_01k8qx… --reason \"search is broken\"\n  candlefish abort dep_01k8qx… --yes"
)]
pub(crate) struct Args {
    /// The deployment's id
    deployment: DeploymentId,
    /// Why
    #[arg(long, default_value = "", hide_default_value = true)]
    reason: String,
    /// Do not ask
    #[arg(long)]
    yes: bool,
}

/// Asks, aborts, and watches until traffic is back.
pub(crate) async fn run(app: &App, args: Args) -> Result<Exit, Error> {
    let api = app.api()?;
    let id = args.deployment.to_string();
    let deployment = api.read(GetDeploymentRequest { id: id.clone() }).await?;
    let place = render::words::place(&deployment.site, &deployment.environment, deployment.kind());
    let question = format!(
        "  Abort the deployment to {place}? Traffic goes back, and {} is rejected there.",
        deployment.release_id
    );
    if !app.output.confirm(&question, args.yes)? {
        return Ok(Exit::Failed);
    }
    let request = AbortDeploymentRequest {
        id,
        reason: args.reason,
    };
    let (deployment, repeat) = api.act_as(&request.clone(), request).await?;
    until_ended(app, &api, deployment, &repeat).await
}
