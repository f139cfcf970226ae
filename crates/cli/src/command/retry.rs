//! `retry`: deploys the release of a deployment that has ended once more.

use candlefish_ids::DeploymentId;
use candlefish_proto::deploy::RetryDeploymentRequest;

use super::{
    dry::Dry,
    waiting::{self, Waiting},
};
use crate::{
    app::App,
    error::{Error, Exit},
    render::{self, would},
};

/// Options of `retry`.
#[derive(Debug, clap::Args)]
#[command(
    before_help = "Examples:\n  candlefish retry dep_01k8qx…\n  candlefish retry dep_01k8qx… --reason \"the edge is back\""
)]
pub(crate) struct Args {
    /// The deployment's id
    deployment: DeploymentId,
    /// Why
    #[arg(long, default_value = "", hide_default_value = true)]
    reason: String,
    /// Do not watch it
    #[arg(long)]
    detach: bool,
    #[command(flatten)]
    dry: Dry,
    #[command(flatten)]
    waiting: Waiting,
}

/// Makes a new deployment and watches it.
pub(crate) async fn run(app: &App, args: Args) -> Result<Exit, Error> {
    let api = app.api()?;
    let request = RetryDeploymentRequest {
        id: args.deployment.to_string(),
        reason: args.reason,
    };
    if args.dry.dry_run {
        app.show(&args.dry.of(&api).act(request).await?, would::retry);
        return Ok(Exit::Done);
    }
    let (deployment, repeat) = api.act_as(&request.clone(), request).await?;
    app.output.note(&render::deployment::head(
        &deployment,
        &app.output.look_err(),
    ));
    if args.detach {
        waiting::detached(app, &deployment);
        return Ok(Exit::Done);
    }
    args.waiting
        .follow(app, &api, deployment, Some(&repeat), None)
        .await
}
