//! `releases`: the content of a site, and what was banned or rejected.

use candlefish_ids::ReleaseId;
use candlefish_proto::deploy::{
    BanReleaseRequest, ClearReleaseRequest, GetReleaseRequest, ListReleasesRequest,
};
use clap::Subcommand;

use super::{dry::Dry, subject::explained, sure::Sure};
use crate::{
    api::Api,
    app::App,
    error::{Error, Exit},
    render::{self, would},
};

/// Options of `releases`.
#[derive(Debug, clap::Args)]
#[command(
    args_conflicts_with_subcommands = true,
    before_help = "\
Examples:
  candlefish releases docs
  candlefish releases docs --commit 4ac21e0…
  candlefish releases ban rel_01k8qv… --reason \"it shows a draft\"
  candlefish releases unban rel_01k8qv… --reason \"the draft was published\"
  candlefish releases clear rel_01k8qv… --env production --reason \"it was the network\""
)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Option<Command>,
    /// The site
    #[arg(required = true)]
    site: Option<String>,
    /// Only those of this commit
    #[arg(long, default_value = "", hide_default_value = true)]
    commit: String,
    /// At most this many
    #[arg(long, default_value_t = 20)]
    limit: usize,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Let a rejected release be deployed again
    #[command(before_help = "\
Examples:
  candlefish releases clear rel_01k8qv… --env production --reason \"it was the network\"")]
    Clear {
        /// The release's id
        release: ReleaseId,
        /// The environment that rejected it
        #[arg(long = "env", alias = "environment", value_name = "ENV")]
        environment: String,
        /// Why
        #[arg(long)]
        reason: String,
        #[command(flatten)]
        dry: Dry,
    },
    /// Let a release go nowhere
    #[command(before_help = "\
Examples:
  candlefish releases ban rel_01k8qv… --reason \"it shows a draft\"
  candlefish releases ban rel_01k8qv… --reason \"it shows a draft\" --dry-run")]
    Ban {
        #[command(flatten)]
        banned: Banned,
        #[command(flatten)]
        sure: Sure,
    },
    /// Lift a ban
    #[command(before_help = "\
Examples:
  candlefish releases unban rel_01k8qv… --reason \"the draft was published\"")]
    Unban {
        #[command(flatten)]
        banned: Banned,
        #[command(flatten)]
        dry: Dry,
    },
}

#[derive(Debug, clap::Args)]
struct Banned {
    /// The release's id
    release: ReleaseId,
    /// Why
    #[arg(long)]
    reason: String,
}

/// Lists, bans, lifts a ban, or clears a rejection.
pub(crate) async fn run(app: &App, args: Args) -> Result<Exit, Error> {
    let api = app.api()?;
    let look = app.output.look_out();
    if let Some(command) = args.command {
        return change(app, &api, command).await;
    }
    let site = args.site.unwrap_or_default();
    let all = args.commit.is_empty();
    let request = ListReleasesRequest {
        site: site.clone(),
        commit: args.commit,
        ..Default::default()
    };
    let answer = explained(&api, api.list(request, args.limit).await, &site, None).await?;
    app.show(&answer, |answer| {
        let list = render::release::list(answer, all, &look);
        render::limited(list, "releases", &answer.next_page_token, args.limit)
    });
    Ok(Exit::Done)
}

async fn change(app: &App, api: &Api, command: Command) -> Result<Exit, Error> {
    match command {
        Command::Clear {
            release,
            environment,
            reason,
            dry,
        } => {
            let message = ClearReleaseRequest {
                id: release.to_string(),
                environment: environment.clone(),
                reason,
            };
            let release = dry.of(api).act(message).await?;
            app.show(&release, |release| {
                dry.says(would::cleared(release, &environment), || {
                    render::release::cleared(release, &environment)
                })
            });
        }
        Command::Ban {
            banned: Banned { release, reason },
            sure,
        } => {
            let id = release.to_string();
            let release = api.read(GetReleaseRequest { id: id.clone() }).await?;
            let question = render::release::bans(&release);
            let message = BanReleaseRequest { id, reason };
            let decided = sure.decides(app, api, &question, &message, would::banned);
            if let Some(exit) = decided.await? {
                return Ok(exit);
            }
            let release = api.act(message).await?;
            app.show(&release, render::release::banned);
        }
        Command::Unban {
            banned: Banned { release, reason },
            dry,
        } => {
            let request = ClearReleaseRequest {
                id: release.to_string(),
                environment: String::new(),
                reason,
            };
            let release = dry.of(api).act(request).await?;
            app.show(&release, |release| {
                dry.says(would::unbanned(release), || {
                    render::release::unbanned(release)
                })
            });
        }
    }
    Ok(Exit::Done)
}
