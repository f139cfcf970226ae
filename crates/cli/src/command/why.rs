//! `why`: why a deployment is not moving, since when, who can clear it and how.

use candlefish_proto::deploy::GetEnvironmentRequest;

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
    match subject::current(&api, &args.subject).await? {
        Some((deployment, lane)) => {
            let lane = match lane {
                Some(lane) => Some(lane),
                None if render::words::is_terminal(deployment.state()) => None,
                None => {
                    let place = Place {
                        site: deployment.site.clone(),
                        environment: deployment.environment.clone(),
                    };
                    // A preview's lane is nobody else's: without one there is nothing before it.
                    subject::lane(&api, &place).await.ok()
                }
            };
            app.show(&deployment, |deployment| {
                render::blockers::why(deployment, lane.as_ref(), &look)
            });
        }
        None => {
            let Subject::Environment(place) = args.subject else {
                return Ok(Exit::Done);
            };
            let request = GetEnvironmentRequest {
                site: place.site,
                environment: place.environment,
            };
            let environment = api.read(request).await?;
            app.show(&environment, |environment| {
                render::blockers::idle(environment, &look)
            });
        }
    }
    Ok(Exit::Done)
}
