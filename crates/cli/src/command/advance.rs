//! `advance`: passes the wait that a deployment is in.

use candlefish_ids::DeploymentId;
use candlefish_proto::deploy::{AdvanceDeploymentRequest, GetDeploymentRequest, Step};

use super::{dry::Dry, subject};
use crate::{
    api::Api,
    app::App,
    error::{Error, Exit},
    render::{self, steps, would},
};

/// Options of `advance`.
#[derive(Debug, clap::Args)]
#[command(
    before_help = "Examples:\n  candlefish advance dep_01k8qx…            leaves the step it is in\n  candlefish advance dep_01k8qx… 5          leaves step 5, and no other"
)]
pub(crate) struct Args {
    /// The deployment's id
    deployment: DeploymentId,
    /// The place of the step to leave, from 1; else the one it is in
    step: Option<i32>,
    /// Why
    #[arg(long, default_value = "", hide_default_value = true)]
    reason: String,
    #[command(flatten)]
    dry: Dry,
}

/// Names the step that is left, so that a stale call is refused.
pub(crate) async fn run(app: &App, args: Args) -> Result<Exit, Error> {
    let api = app.api()?;
    let id = args.deployment.to_string();
    let step_ord = if let Some(step) = args.step {
        step
    } else {
        let step = active(&api, &id).await?;
        let name = steps::name(&step);
        if !args.dry.dry_run {
            app.output
                .note(&format!("  Leaving step {}, {name}.", step.ord));
        }
        step.ord
    };
    let deployment = args
        .dry
        .of(&api)
        .act(AdvanceDeploymentRequest {
            id,
            step_ord,
            reason: args.reason,
        })
        .await?;
    if args.dry.dry_run {
        app.show(&deployment, |left| would::advance(left, step_ord));
        return Ok(Exit::Done);
    }
    let look = app.output.look_out();
    let kept = subject::kept(app, &api, &deployment, &look).await;
    app.show(&deployment, |deployment| {
        render::deployment::full(deployment, &kept, &look)
    });
    Ok(Exit::Done)
}

async fn active(api: &Api, id: &str) -> Result<Step, Error> {
    let deployment = api.read(GetDeploymentRequest { id: id.to_owned() }).await?;
    let active = deployment.steps.into_iter().find(steps::is_active);
    active.ok_or_else(|| {
        Error::wrong(
            "it is in no step that could be left",
            format!("Look at it: candlefish status {id}"),
        )
    })
}
