//! `abort`: ends a deployment that hurts.

use candlefish_ids::DeploymentId;
use candlefish_proto::deploy::{AbortDeploymentRequest, GetDeploymentRequest};

use super::{cancel::until_ended, sure::Sure};
use crate::{
    app::App,
    error::{Error, Exit},
    render::{self, would},
};

/// Options of `abort`.
#[derive(Debug, clap::Args)]
#[command(
    before_help = "Examples:\n  candlefish abort dep_01k8qx… --reason \"search is broken\"\n  candlefish abort dep_01k8qx… --yes"
)]
pub(crate) struct Args {
    /// The deployment's id
    deployment: DeploymentId,
    /// Why; without it, and without --yes, a terminal asks
    #[arg(long, default_value = "", hide_default_value = true)]
    reason: String,
    #[command(flatten)]
    sure: Sure,
}

/// Asks, aborts, and watches until traffic is back.
pub(crate) async fn run(app: &App, args: Args) -> Result<Exit, Error> {
    let api = app.api()?;
    let id = args.deployment.to_string();
    let deployment = api.read(GetDeploymentRequest { id: id.clone() }).await?;
    let place = render::words::place(&deployment.site, &deployment.environment, deployment.kind());
    // Nothing is known against a release that had no traffic.
    let what = if deployment.pivoted_at.is_some() {
        let release = &deployment.release_id;
        format!("Traffic goes back, and {release} is rejected there.")
    } else {
        "Nothing has moved yet, and nothing is rejected.".to_owned()
    };
    let question = format!("  Abort the deployment to {place}? {what}");
    // What was asked for is the command line, whatever was typed besides: a repeat after an answer
    // that did not arrive is the same request, and why was said the first time.
    let asked = AbortDeploymentRequest {
        id,
        reason: args.reason,
    };
    let sure = &args.sure;
    let decided = sure.decides(app, &api, &question, &asked, would::ended);
    if let Some(exit) = decided.await? {
        return Ok(exit);
    }
    let quiet = args.sure.yes || api.asked_before(&asked).is_some();
    let request = AbortDeploymentRequest {
        reason: app.output.reason(asked.reason.clone(), quiet),
        ..asked.clone()
    };
    let (deployment, repeat) = api.act_as(&asked, request).await?;
    until_ended(app, &api, deployment, &repeat).await
}
