//! `cancel`: ends a deployment.

use candlefish_ids::DeploymentId;
use candlefish_proto::deploy::{CancelDeploymentRequest, Deployment, GetDeploymentRequest};

use super::{subject, sure::Sure, waiting};
use crate::{
    api::Api,
    app::App,
    error::{Error, Exit},
    json::{self, Layout},
    render::{self, ending::Now, would},
    repeats::Repeat,
    watch::{self, Outcome, Patience, Until, View},
};

/// Options of `cancel`.
#[derive(Debug, clap::Args)]
#[command(
    before_help = "Examples:\n  candlefish cancel dep_01k8qx…\n  candlefish cancel dep_01k8qx… --reason \"wrong branch\" --yes"
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

/// Asks, cancels, and watches until it has ended.
pub(crate) async fn run(app: &App, args: Args) -> Result<Exit, Error> {
    let api = app.api()?;
    let id = args.deployment.to_string();
    let deployment = api.read(GetDeploymentRequest { id: id.clone() }).await?;
    let place = render::words::place(&deployment.site, &deployment.environment, deployment.kind());
    let what = if deployment.pivoted_at.is_some() {
        "Traffic goes back."
    } else {
        "Nothing has moved yet."
    };
    let question = format!("  End the deployment to {place}? {what}");
    // What was asked for is the command line, whatever was typed besides: a repeat after an answer
    // that did not arrive is the same request, and why was said the first time.
    let asked = CancelDeploymentRequest {
        id,
        reason: args.reason,
    };
    let sure = &args.sure;
    let decided = sure.decides(app, &api, &question, &asked, would::ended);
    if let Some(exit) = decided.await? {
        return Ok(exit);
    }
    let quiet = args.sure.yes || api.asked_before(&asked).is_some();
    let request = CancelDeploymentRequest {
        reason: app.output.reason(asked.reason.clone(), quiet),
        ..asked.clone()
    };
    let (deployment, repeat) = api.act_as(&asked, request).await?;
    until_ended(app, &api, deployment, &repeat).await
}

/// Watches a deployment that was told to end. That it ends so is what was asked for.
pub(super) async fn until_ended(
    app: &App,
    api: &Api,
    deployment: Deployment,
    repeat: &Repeat,
) -> Result<Exit, Error> {
    let patience = Patience::new(Until::Done, None, app);
    let mut view = View::new(app);
    let watched = watch::follow(app, api, deployment, patience, &mut view, None);
    let watched = Box::pin(watched).await;
    let (deployment, outcome) = watched.map_err(|error| error.kept_by(Some(repeat)))?;
    if app.shared.json {
        app.output
            .result(&json::text(&deployment, Layout::Indented));
        waiting::aside(app, &deployment, outcome, &Now::Free);
    } else {
        let now = Box::pin(subject::now(api, &deployment)).await;
        app.output.note(&render::ending::text(
            &deployment,
            outcome,
            &now,
            &app.output.look_err(),
        ));
    }
    Ok(match outcome {
        // It was done before the call came.
        Outcome::Live => Exit::Failed,
        Outcome::Failed | Outcome::Cancelled | Outcome::Superseded => Exit::Done,
        Outcome::Waiting(_) | Outcome::Interrupted => outcome.exit(false),
    })
}
