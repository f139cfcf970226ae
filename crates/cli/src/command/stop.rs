//! `stop`: stop-the-line, for a site or for everything.

use candlefish_ids::StopId;
use candlefish_proto::deploy::{LiftStopRequest, ListStopsRequest, SetStopRequest, Stop};
use clap::Subcommand;
use jiff::Span;

use super::{dry::Dry, subject::explained, sure::Sure};
use crate::{
    api::Api,
    app::App,
    clock,
    error::{Error, Exit},
    render::{self, would},
};

/// Options of `stop`.
#[derive(Debug, clap::Args)]
#[command(
    args_conflicts_with_subcommands = true,
    before_help = "\
Examples:
  candlefish stop docs --reason \"the registry is down\" --for 2h
  candlefish stop --reason \"an attack\" --for 30m --pause        everything, and what acts is paused
  candlefish stop lift docs --reason \"it is back\"
  candlefish stop list"
)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    set: Set,
}

#[derive(Debug, clap::Args)]
struct Set {
    /// The site; without it, everything
    site: Option<String>,
    /// Why
    #[arg(long, required = true)]
    reason: Option<String>,
    /// How long, such as 2h; at most 7d
    #[arg(long = "for", value_name = "DURATION", required = true)]
    lasts: Option<Span>,
    /// Pause what acts before its next step, instead of letting it through
    #[arg(long)]
    pause: bool,
    #[command(flatten)]
    sure: Sure,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Lift a stop; what it kept goes on
    #[command(before_help = "\
Examples:
  candlefish stop lift docs --reason \"it is back\"
  candlefish stop lift --reason \"the attack is over\"        the stop of everything")]
    Lift {
        /// The site, or the stop's id; without it, the stop of everything
        stopped: Option<String>,
        /// Why
        #[arg(long)]
        reason: String,
        #[command(flatten)]
        dry: Dry,
    },
    /// List stops, newest first
    #[command(before_help = "\
Examples:
  candlefish stop list
  candlefish stop list docs --all")]
    List {
        /// Only what stops this site
        site: Option<String>,
        /// Those that ended too
        #[arg(long)]
        all: bool,
        /// At most this many
        #[arg(long, default_value_t = 20)]
        limit: usize,
    },
}

/// Sets, lifts or lists.
pub(crate) async fn run(app: &App, args: Args) -> Result<Exit, Error> {
    let api = app.api()?;
    let look = app.output.look_out();
    match args.command {
        Some(Command::Lift {
            stopped,
            reason,
            dry,
        }) => {
            let id = find(&api, stopped.unwrap_or_default()).await?;
            let stop = dry.of(&api).act(LiftStopRequest { id, reason }).await?;
            if dry.dry_run {
                app.show(&stop, would::stop_lifted);
                return Ok(Exit::Done);
            }
            let request = ListStopsRequest {
                site: stop.site.clone(),
                ..Default::default()
            };
            // The lift is done, whether or not this can be read.
            let others = api.list(request, usize::MAX).await;
            let others = others.map_err(|error| error.to_string());
            app.show(&stop, |stop| render::stop::lifted(stop, &others, &look));
        }
        Some(Command::List { site, all, limit }) => {
            let site = site.unwrap_or_default();
            let request = ListStopsRequest {
                site: site.clone(),
                include_ended: all,
                ..Default::default()
            };
            let answer = api.list(request, limit).await;
            let answer = explained(&api, answer, &site, None).await?;
            app.show(&answer, |answer| {
                let list = render::stop::list(answer, &look);
                render::limited(list, "stops", &answer.next_page_token, limit)
            });
        }
        None => {
            let stop = match set(app, &api, args.set).await? {
                Ok(stop) => stop,
                Err(exit) => return Ok(exit),
            };
            app.show(&stop, |stop| render::stop::set(stop, &look));
        }
    }
    Ok(Exit::Done)
}

/// Asks where everything is meant, and sets; or how the command ends without.
async fn set(app: &App, api: &Api, set: Set) -> Result<Result<Stop, Exit>, Error> {
    let site = set.site.unwrap_or_default();
    // What was asked has no moment in it, but the length: the same asked again is the same.
    let [until, lasts] = clock::end(set.lasts.unwrap_or_default(), "--for", "2h")?;
    let message = SetStopRequest {
        site: site.clone(),
        pauses: set.pause,
        reason: set.reason.unwrap_or_default(),
        until: Some(until),
    };
    let asked = SetStopRequest {
        until: Some(lasts),
        ..message.clone()
    };
    if site.is_empty() || set.sure.dry_run {
        let question = render::stop::stops(&message, &app.output.look_err());
        let decided = set
            .sure
            .decides(app, api, &question, &message, would::stopped)
            .await;
        let decided = if site.is_empty() {
            decided?
        } else {
            explained(api, decided, &site, None).await?
        };
        if let Some(exit) = decided {
            return Ok(Err(exit));
        }
    }
    let answer = api.act_as(&asked, message).await.map(|(stop, _)| stop);
    if site.is_empty() {
        return answer.map(Ok);
    }
    explained(api, answer, &site, None).await.map(Ok)
}

/// The id of the stop that stands for this very site, or for everything.
async fn find(api: &Api, stopped: String) -> Result<String, Error> {
    if stopped.parse::<StopId>().is_ok() {
        return Ok(stopped);
    }
    let request = ListStopsRequest {
        site: stopped.clone(),
        ..Default::default()
    };
    let answer = api.list(request, usize::MAX).await;
    let standing = explained(api, answer, &stopped, None).await?.stops;
    let found = standing.into_iter().find(|stop| stop.site == stopped);
    found.map(|stop| stop.id).ok_or_else(|| {
        let what = if stopped.is_empty() {
            "everything is not stopped".to_owned()
        } else {
            format!("{stopped} is not stopped by a stop of its own")
        };
        Error::wrong(what, "What is stopped: candlefish stop list")
    })
}
