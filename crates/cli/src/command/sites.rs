//! `sites`: what is deployed.

use candlefish_proto::deploy::{CreateSiteRequest, ListSitesRequest};
use clap::Subcommand;

use crate::{
    app::App,
    error::{Error, Exit},
    render,
};

/// Options of `sites`.
#[derive(Debug, clap::Args)]
#[command(
    before_help = "Examples:\n  candlefish sites\n  candlefish sites create docs --name \"Documentation\" --repository example/docs"
)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List sites
    List,
    /// Make a site
    Create {
        /// Its slug: 1 to 35 of a-z, 0-9 and `-`
        slug: String,
        /// What people call it
        #[arg(long, default_value = "", hide_default_value = true)]
        name: String,
        /// `owner/name` on GitHub
        #[arg(long, default_value = "", hide_default_value = true)]
        repository: String,
    },
}

/// Lists or makes.
pub(crate) async fn run(app: &App, args: Args) -> Result<Exit, Error> {
    let api = app.api()?;
    match args.command.unwrap_or(Command::List) {
        Command::List => {
            let answer = api.list(ListSitesRequest::default(), usize::MAX).await?;
            app.show(&answer, |answer| {
                render::environment::sites(answer, &app.output.look_out())
            });
        }
        Command::Create {
            slug,
            name,
            repository,
        } => {
            let site = api
                .act(CreateSiteRequest {
                    slug,
                    name,
                    repository,
                    ..CreateSiteRequest::default()
                })
                .await?;
            app.show(&site, |site| site.slug.clone());
            app.output.note(&format!(
                "Next: candlefish env create {}/production",
                site.slug
            ));
        }
    }
    Ok(Exit::Done)
}
