//! `why`: why a deployment is not moving, since when, who can clear it and how.

use super::subject::{self, Place, Subject};
use crate::{
    app::App,
    error::{Error, Exit},
    render,
};

/// Options of `why`.
#[derive(Debug, clap::Args)]
#[command(
    before_help = "Examples:\n  candlefish why docs/production\n  candlefish why dep_01k8qx…"
)]
pub(crate) struct Args {
    /// A deployment's id, or SITE/ENV for the one that acts or waits there
    subject: Subject,
}

/// Says why.
pub(crate) async fn run(app: &App, args: Args) -> Result<Exit, Error> {
    let api = app.api()?;
    let look = app.output.look_out();
    let Some((deployment, lane)) = subject::current(&api, &args.subject).await? else {
        if let Subject::Environment(place) = &args.subject {
            let environment = subject::environment(&api, place).await?;
            app.show(&environment, |environment| {
                render::blockers::idle(environment, &look)
            });
        }
        return Ok(Exit::Done);
    };
    let lane = if lane.is_none() && !render::words::is_terminal(deployment.state()) {
        let (site, environment) = (deployment.site.clone(), deployment.environment.clone());
        // A preview's lane is nobody else's: without one there is nothing before it.
        subject::lane(&api, &Place { site, environment }).await.ok()
    } else {
        lane
    };
    app.show(&deployment, |deployment| {
        render::blockers::why(deployment, lane.as_ref(), &look)
    });
    Ok(Exit::Done)
}
