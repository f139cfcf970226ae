//! `sites`: what is deployed.

use candlefish_proto::deploy::{CreateSiteRequest, ListSitesRequest, site};
use clap::{Subcommand, ValueEnum};

use crate::{
    app::App,
    error::{Error, Exit},
    render,
};

/// Options of `sites`.
#[derive(Debug, clap::Args)]
#[command(
    before_help = "Examples:\n  candlefish sites\n  candlefish sites create docs --name \"Documentation\" --repository example/docs\n  candlefish sites create docs --repository example/docs --source repository --folder public"
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
        /// Where the content of a pushed commit comes from: whoever builds it uploads it, or it is a
        /// folder of static files in the repository
        #[arg(long, value_enum, default_value_t)]
        source: Source,
        /// With `--source repository`, the folder that is the site; all of the repository without
        #[arg(long, default_value = "", hide_default_value = true)]
        folder: String,
    },
}

/// Where the content of a pushed commit comes from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
enum Source {
    #[default]
    Upload,
    Repository,
}

impl From<Source> for site::Source {
    fn from(source: Source) -> Self {
        match source {
            Source::Upload => Self::Upload,
            Source::Repository => Self::Repository,
        }
    }
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
            source,
            folder,
        } => {
            let site = api
                .act(CreateSiteRequest {
                    slug,
                    name,
                    repository,
                    source: site::Source::from(source).into(),
                    folder,
                })
                .await?;
            app.show(&site, |site| site.slug.clone());
            let flag = match source {
                Source::Upload => "",
                Source::Repository => " --branch main",
            };
            app.output.note(&format!(
                "Next: candlefish env create {}/production{flag}",
                site.slug
            ));
        }
    }
    Ok(Exit::Done)
}
