//! `hold`: nothing but a rollback deploys.

use candlefish_proto::deploy::{Environment, LiftHoldRequest, SetHoldRequest};
use clap::Subcommand;

use super::{
    dry::Dry,
    subject::{self, Place, explained},
};
use crate::{
    app::App,
    error::{Error, Exit},
    render::{self, would},
};

/// Options of `hold`.
#[derive(Debug, clap::Args)]
#[command(before_help = "\
Examples:
  candlefish hold set docs/production --reason \"launch day\"
  candlefish hold set docs/production --reason \"launch day\" --dry-run    only says what would happen
  candlefish hold lift docs/production --reason \"launched\"
  candlefish hold show docs/production")]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Hold an environment
    #[command(before_help = "\
Examples:
  candlefish hold set docs/production --reason \"launch day\"
  candlefish hold set docs/production --reason \"launch day\" --dry-run    only says what would happen")]
    Set(Given),
    /// Lift a hold; what is pending goes on
    #[command(before_help = "\
Examples:
  candlefish hold lift docs/production --reason \"launched\"")]
    Lift(Given),
    /// Show whether an environment is held
    #[command(before_help = "\
Examples:
  candlefish hold show docs/production
  candlefish hold show                    that of this tree")]
    Show {
        /// SITE/ENV; else what the environment variables and candlefish.toml say
        place: Option<Place>,
    },
}

#[derive(Debug, clap::Args)]
struct Given {
    /// SITE/ENV; else what the environment variables and candlefish.toml say
    place: Option<Place>,
    /// Why
    #[arg(long)]
    reason: String,
    #[command(flatten)]
    dry: Dry,
}

/// Sets, lifts or shows.
pub(crate) async fn run(app: &App, args: Args) -> Result<Exit, Error> {
    let api = app.api()?;
    let shown =
        |environment: &Environment| render::environment::hold(environment, &app.output.look_out());
    match args.command {
        Command::Set(given) => {
            let Place { site, environment } = subject::place(app, given.place)?;
            let message = SetHoldRequest {
                site: site.clone(),
                environment: environment.clone(),
                reason: given.reason,
            };
            let answer = given.dry.of(&api).act(message).await;
            let held = explained(&api, answer, &site, Some(&environment)).await?;
            app.show(&held, |held| {
                given.dry.says(would::hold(held), || shown(held))
            });
        }
        Command::Lift(given) => {
            let Place { site, environment } = subject::place(app, given.place)?;
            let message = LiftHoldRequest {
                site: site.clone(),
                environment: environment.clone(),
                reason: given.reason,
            };
            let answer = given.dry.of(&api).act(message).await;
            let free = explained(&api, answer, &site, Some(&environment)).await?;
            app.show(&free, |free| {
                given.dry.says(would::lift(free), || {
                    render::environment::lifted(free, &app.output.look_out())
                })
            });
        }
        Command::Show { place } => {
            let place = subject::place(app, place)?;
            app.show(&subject::environment(&api, &place).await?, shown);
        }
    }
    Ok(Exit::Done)
}
