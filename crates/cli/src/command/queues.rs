//! `queues`: what was taken out of work and waits for a person.

use candlefish_proto::deploy::{
    DiscardQueueItemRequest, ListQueueItemsRequest, QueueItem, ReplayQueueItemRequest,
};
use clap::Subcommand;

use super::{dry::Dry, sure::Sure};
use crate::{
    api::Api,
    app::App,
    error::{Error, Exit},
    render::{self, would},
};

/// Options of `queues`.
#[derive(Debug, clap::Args)]
#[command(before_help = "\
Examples:
  candlefish queues list
  candlefish queues list --error \"no such environment\"
  candlefish queues show step_01k8qx…
  candlefish queues replay step_01k8qx… --reason \"the disk is larger now\"
  candlefish queues discard dl_01k8qx… --reason \"from a version that is gone\"")]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List what waits, oldest first
    #[command(before_help = "\
Examples:
  candlefish queues list
  candlefish queues list --json")]
    List(Wanted),
    /// Show one item whole
    #[command(before_help = "\
Examples:
  candlefish queues show step_01k8qx…")]
    Show {
        /// step_… or dl_…
        id: String,
    },
    /// Put an item back to work
    #[command(before_help = "\
Examples:
  candlefish queues replay step_01k8qx… --reason \"the disk is larger now\"
  candlefish queues replay step_01k8qx… --reason \"the disk is larger now\" --dry-run")]
    Replay {
        /// step_… or dl_…
        id: String,
        /// Why
        #[arg(long)]
        reason: String,
        #[command(flatten)]
        dry: Dry,
    },
    /// Give an item up: a step fails its deployment, a dead letter is forgotten
    #[command(before_help = "\
Examples:
  candlefish queues discard dl_01k8qx… --reason \"from a version that is gone\"
  candlefish queues discard dl_01k8qx… --reason \"from a version that is gone\" --dry-run")]
    Discard {
        /// step_… or dl_…
        id: String,
        /// Why
        #[arg(long)]
        reason: String,
        #[command(flatten)]
        sure: Sure,
    },
}

/// Which of what waits.
#[derive(Debug, Default, clap::Args)]
struct Wanted {
    /// Only dead letters of this consumer, by its whole name
    #[arg(long, default_value = "", hide_default_value = true)]
    consumer: String,
    /// Only those whose error has this text in it
    #[arg(
        long,
        value_name = "TEXT",
        default_value = "",
        hide_default_value = true
    )]
    error: String,
}

/// Lists, shows or decides.
pub(crate) async fn run(app: &App, args: Args) -> Result<Exit, Error> {
    let api = app.api()?;
    let look = app.output.look_out();
    let everything = || Command::List(Wanted::default());
    match args.command.unwrap_or_else(everything) {
        Command::List(wanted) => {
            let all = wanted.consumer.is_empty() && wanted.error.is_empty();
            let request = ListQueueItemsRequest {
                consumer: wanted.consumer,
                error: wanted.error,
                ..Default::default()
            };
            let answer = api.list(request, usize::MAX).await?;
            app.show(&answer, |answer| render::events::queue(answer, all, &look));
        }
        Command::Show { id } => {
            let item = find(&api, &id).await?;
            app.show(&item, |item| render::events::queue_item(item, &look));
        }
        Command::Replay { id, reason, dry } => {
            let message = ReplayQueueItemRequest { id, reason };
            let item = dry.of(&api).act(message).await?;
            app.show(&item, |item| {
                dry.says(would::replayed(item), || {
                    format!("{} is back at work.", item.id)
                })
            });
        }
        Command::Discard { id, reason, sure } => {
            let item = find(&api, &id).await?;
            app.output
                .note(&render::events::queue_item(&item, &app.output.look_err()));
            let message = DiscardQueueItemRequest { id, reason };
            let decided = sure.decides(app, &api, "  Give it up?", &message, would::discarded);
            if let Some(exit) = decided.await? {
                return Ok(exit);
            }
            let item = api.act(message).await?;
            app.show(&item, |item| format!("{} is given up.", item.id));
        }
    }
    Ok(Exit::Done)
}

/// What waits is few: there is no call for one of them.
async fn find(api: &Api, id: &str) -> Result<QueueItem, Error> {
    let items = api
        .list(ListQueueItemsRequest::default(), usize::MAX)
        .await?
        .items;
    let found = items.into_iter().find(|item| item.id == id);
    found.ok_or_else(|| {
        Error::wrong(
            format!("{id:?} does not wait"),
            "All that waits: candlefish queues list",
        )
    })
}
