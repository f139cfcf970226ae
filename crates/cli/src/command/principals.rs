//! `principals`: persons and machines.

use candlefish_proto::access::{CreatePrincipalRequest, ListPrincipalsRequest, principal};
use clap::Subcommand;

use super::dry::Dry;
use crate::{
    app::App,
    error::{Error, Exit},
    render::{self, would},
};

/// Options of `principals`.
#[derive(Debug, clap::Args)]
#[command(before_help = "\
Examples:
  candlefish principals list
  candlefish principals create ada --email ada@example.org
  candlefish principals create ci-docs --machine")]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List principals, by name
    #[command(before_help = "\
Examples:
  candlefish principals list")]
    List,
    /// Make a principal
    #[command(before_help = "\
Examples:
  candlefish principals create ada --email ada@example.org
  candlefish principals create ci-docs --machine")]
    Create {
        /// Its name
        name: String,
        /// It is a machine, not a person
        #[arg(long, conflicts_with = "emails")]
        machine: bool,
        /// A person's address, matched to commit authors; may be given again
        #[arg(long = "email", value_name = "ADDRESS")]
        emails: Vec<String>,
        #[command(flatten)]
        dry: Dry,
    },
}

/// Lists or makes.
pub(crate) async fn run(app: &App, args: Args) -> Result<Exit, Error> {
    let api = app.api()?;
    match args.command {
        Command::List => {
            let answer = api
                .list(ListPrincipalsRequest::default(), usize::MAX)
                .await?;
            app.show(&answer, |answer| {
                render::access::principals(answer, &app.output.look_out())
            });
        }
        Command::Create {
            name,
            machine,
            emails,
            dry,
        } => {
            let kind = if machine {
                principal::Kind::Machine
            } else {
                principal::Kind::Person
            };
            let message = CreatePrincipalRequest {
                name,
                kind: kind.into(),
                emails,
            };
            let principal = dry.of(&api).act(message).await?;
            app.show(&principal, |principal| {
                dry.says(would::principal(principal), || principal.name.clone())
            });
        }
    }
    Ok(Exit::Done)
}
