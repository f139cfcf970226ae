//! `sites`: what is deployed.

use candlefish_proto::deploy::{
    CreateSiteRequest, GetSiteRequest, ListSitesRequest, PreviewRule, Site, UpdateSiteRequest,
    preview_rule, site,
};
use clap::{Subcommand, ValueEnum};
use jiff::SignedDuration;

use super::{
    dry::Dry,
    strategy::{days, length},
    subject::explained,
};
use crate::{
    api::Api,
    app::App,
    error::{Error, Exit},
    render::{self, would},
};

/// Options of `sites`.
#[derive(Debug, clap::Args)]
#[command(
    before_help = "Examples:\n  candlefish sites\n  candlefish sites create docs --name \"Documentation\" --repository example/docs\n  candlefish sites show docs\n  candlefish sites update docs --previews repository --previews-age 14d\n  candlefish sites create docs --repository example/docs --source repository --folder public"
)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List sites
    #[command(before_help = "\
Examples:
  candlefish sites list
  candlefish sites list --json")]
    List,
    /// Show one site
    #[command(before_help = "\
Examples:
  candlefish sites show docs")]
    Show {
        /// Its slug
        site: String,
    },
    /// Make a site
    #[command(before_help = "\
Examples:
  candlefish sites create docs --name \"Documentation\" --repository example/docs
  candlefish sites create docs --repository example/docs --source repository --folder public")]
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
        #[command(flatten)]
        previews: Previews,
        #[command(flatten)]
        dry: Dry,
    },
    /// Change a site; what is not named stays as it is
    #[command(before_help = "\
Examples:
  candlefish sites update docs --name \"Handbook\"
  candlefish sites update docs --previews repository --previews-age 14d")]
    Update {
        /// Its slug
        site: String,
        /// What people call it
        #[arg(long)]
        name: Option<String>,
        /// `owner/name` on GitHub; empty for none
        #[arg(long)]
        repository: Option<String>,
        #[command(flatten)]
        previews: Previews,
        #[command(flatten)]
        dry: Dry,
    },
}

/// Which pull requests get a preview.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum From {
    /// None
    Off,
    /// Those whose branch is in the repository itself
    Repository,
    /// Those of forks too
    Forks,
}

/// Which pull requests get a preview, and how long previews stay.
#[derive(Debug, Clone, Copy, Default, clap::Args)]
struct Previews {
    /// Which pull requests get a preview by themselves
    #[arg(long, value_enum)]
    previews: Option<From>,
    /// How long a preview stays after its last push
    #[arg(long, value_name = "DURATION", value_parser = days)]
    previews_age: Option<SignedDuration>,
}

impl Previews {
    const fn names_any(&self) -> bool {
        self.previews.is_some() || self.previews_age.is_some()
    }

    /// The rule with what was named; `None` when nothing was.
    fn apply(&self, before: PreviewRule) -> Option<PreviewRule> {
        let mut rule = before;
        if let Some(from) = self.previews {
            rule.set_from(match from {
                From::Off => preview_rule::From::Off,
                From::Repository => preview_rule::From::Repository,
                From::Forks => preview_rule::From::Forks,
            });
        }
        rule.max_age = self.previews_age.map(length).or(rule.max_age);
        self.names_any().then_some(rule)
    }
}

/// Where the content of a pushed commit comes from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
enum Source {
    #[default]
    Upload,
    Repository,
}

impl std::convert::From<Source> for site::Source {
    fn from(source: Source) -> Self {
        match source {
            Source::Upload => Self::Upload,
            Source::Repository => Self::Repository,
        }
    }
}

/// Lists, shows, makes or changes.
pub(crate) async fn run(app: &App, args: Args) -> Result<Exit, Error> {
    let api = app.api()?;
    let look = app.output.look_out();
    match args.command.unwrap_or(Command::List) {
        Command::List => {
            let answer = api.list(ListSitesRequest::default(), usize::MAX).await?;
            app.show(&answer, |answer| render::site::list(answer, &look));
        }
        Command::Show { site } => {
            let answer = api.read(GetSiteRequest { site: site.clone() }).await;
            let site = explained(&api, answer, &site, None).await?;
            app.show(&site, |site| render::site::full(site, &look));
        }
        Command::Create {
            slug,
            name,
            repository,
            source,
            folder,
            previews,
            dry,
        } => {
            let message = CreateSiteRequest {
                slug,
                name,
                repository,
                source: site::Source::from(source).into(),
                folder,
                previews: previews.apply(PreviewRule::default()),
            };
            create(app, &dry.of(&api), message, dry).await?;
        }
        Command::Update {
            site,
            name,
            repository,
            previews,
            dry,
        } => {
            let answer = change(&dry.of(&api), site.clone(), name, repository, previews).await;
            let site = explained(&api, answer, &site, None).await?;
            app.show(&site, |site| {
                dry.says(would::site_changed(site), || {
                    render::site::full(site, &look)
                })
            });
        }
    }
    Ok(Exit::Done)
}

/// Makes a site, and says what comes next.
async fn create(app: &App, api: &Api, message: CreateSiteRequest, dry: Dry) -> Result<(), Error> {
    let site = api.act(message).await?;
    if dry.dry_run {
        app.show(&site, would::site_made);
        return Ok(());
    }
    app.show(&site, |site| site.slug.clone());
    let flag = match site.source() {
        site::Source::Upload | site::Source::Unspecified => "",
        site::Source::Repository => " --branch main",
    };
    app.output.note(&format!(
        "Next: candlefish env create {}/production{flag}",
        site.slug
    ));
    Ok(())
}

/// Changes what was named.
async fn change(
    api: &Api,
    site: String,
    name: Option<String>,
    repository: Option<String>,
    previews: Previews,
) -> Result<Site, Error> {
    // A rule is replaced as a whole: what was not named of it is read first.
    let rule = if previews.names_any() {
        let before = api.read(GetSiteRequest { site: site.clone() }).await?;
        previews.apply(before.previews.unwrap_or_default())
    } else {
        None
    };
    api.act(UpdateSiteRequest {
        site,
        name,
        repository,
        previews: rule,
    })
    .await
}
