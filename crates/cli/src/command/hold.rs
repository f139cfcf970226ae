//! `hold`: nothing but a rollback deploys.

use candlefish_proto::deploy::{LiftHoldRequest, SetHoldRequest};
use clap::Subcommand;

use super::subject::{self, Place, explained};
use crate::{
    app::App,
    error::{Error, Exit},
    render,
};

/// Options of `hold`.
#[derive(Debug, clap::Args)]
#[command(before_help = "\
Examples:
  candlefish hold set docs/production --reason \"launch day\"
  candlefish hold lift docs/production --reason \"launched\"
  candlefish hold show docs/production")]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Hold an environment
    Set(Given),
    /// Lift a hold; what is pending goes on
    Lift(Given),
    /// Show whether an environment is held
    Show {
        /// SITE/ENV
        place: Place,
    },
}

#[derive(Debug, clap::Args)]
struct Given {
    /// SITE/ENV
    place: Place,
    /// Why
    #[arg(long)]
    reason: String,
}

/// Sets, lifts or shows.
pub(crate) async fn run(app: &App, args: Args) -> Result<Exit, Error> {
    let api = app.api()?;
    let environment = match args.command {
        Command::Set(Given {
            place: Place { site, environment },
            reason,
        }) => {
            let named = (site.clone(), environment.clone());
            let answer = api
                .act(SetHoldRequest {
                    site,
                    environment,
                    reason,
                })
                .await;
            explained(&api, answer, &named.0, Some(&named.1)).await?
        }
        Command::Lift(Given {
            place: Place { site, environment },
            reason,
        }) => {
            let named = (site.clone(), environment.clone());
            let answer = api
                .act(LiftHoldRequest {
                    site,
                    environment,
                    reason,
                })
                .await;
            explained(&api, answer, &named.0, Some(&named.1)).await?
        }
        Command::Show { place } => subject::environment(&api, &place).await?,
    };
    app.show(&environment, |environment| {
        render::environment::hold(environment, &app.output.look_out())
    });
    Ok(Exit::Done)
}
