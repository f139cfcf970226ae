//! `push`: what became of a commit that was pushed, everywhere; or of one delivery.

use candlefish_ids::DeliveryId;
use candlefish_proto::deploy::{GetSiteRequest, ListTriggersRequest, ListTriggersResponse};
use futures_util::{StreamExt as _, stream};

use super::subject::{self, explained};
use crate::{
    api::Api,
    app::App,
    error::{Error, Exit},
    render::{self, push::There},
};

/// Environments of which it is asked whether they are held. More holds than that are no answer to one push.
const ENVIRONMENTS: usize = 24;
/// Calls at a time.
const AT_ONCE: usize = 8;

/// Options of `push`.
#[derive(Debug, clap::Args)]
#[command(
    before_help = "Examples:\n  candlefish push 4ac21e0\n  candlefish push $(git rev-parse HEAD) --site docs\n  candlefish push --site docs\n  candlefish push --delivery dlv_01k8qx…"
)]
pub(crate) struct Args {
    /// The commit, or its first digits, at least 7; none for the newest of a site
    #[arg(required_unless_present_any = ["site", "delivery"], value_parser = subject::commit)]
    commit: Option<String>,
    /// Only in this site
    #[arg(long, default_value = "", hide_default_value = true)]
    site: String,
    /// Of the newest of a site, at most this many
    #[arg(long, default_value_t = 20)]
    limit: usize,
    /// Instead: one delivery, by the id that GitHub was answered (dlv_…)
    #[arg(long, value_name = "ID", conflicts_with_all = ["commit", "site"])]
    delivery: Option<DeliveryId>,
}

/// Says what became of it. A commit or a delivery of which nobody told us is no success.
pub(crate) async fn run(app: &App, args: Args) -> Result<Exit, Error> {
    let api = app.api()?;
    let commit = args.commit.unwrap_or_default();
    let delivery = args.delivery.map(|id| id.to_string()).unwrap_or_default();
    let most = if commit.is_empty() && delivery.is_empty() {
        args.limit
    } else {
        usize::MAX
    };
    let site = args.site;
    let request = ListTriggersRequest {
        commit: commit.clone(),
        site: site.clone(),
        delivery_id: delivery.clone(),
        ..ListTriggersRequest::default()
    };
    let answer = api.list(request, most).await?;
    let known = !answer.triggers.is_empty() || answer.delivery.is_some();
    if !known && !site.is_empty() {
        // The list of a site that does not exist is empty too.
        let request = GetSiteRequest { site: site.clone() };
        explained(&api, api.read(request).await, &site, None).await?;
    }
    let there = there(app, &api, &answer).await;
    app.show(&answer, |answer| {
        let look = app.output.look_out();
        let text = if delivery.is_empty() {
            render::push::text(&commit, answer, &there, &look)
        } else {
            render::push::delivery(&delivery, answer, &there, &look)
        };
        render::limited(text, "pushes", &answer.next_page_token, most)
    });
    Ok(if known { Exit::Done } else { Exit::Failed })
}

/// The environments that pushes concern, where these do not tell whether they are held or stopped. That one
/// could not be read is told as that: the answer about the pushes stands. JSON is the answer alone, and
/// nothing is asked for it.
pub(super) async fn there(app: &App, api: &Api, answer: &ListTriggersResponse) -> Vec<There> {
    if app.shared.json {
        return Vec::new();
    }
    let mut asked = render::push::concerned(answer);
    if asked.len() > ENVIRONMENTS {
        asked.truncate(ENVIRONMENTS);
        app.output.note(&format!(
            "Whether they are held was asked of the first {ENVIRONMENTS} environments alone; of all of a \
             site: candlefish status SITE"
        ));
    }
    let reads = asked.into_iter().map(|request| async move {
        let place = format!("{}/{}", request.site, request.environment);
        let read = api.read(request).await;
        There {
            place,
            read: read.map_err(|error| error.to_string()),
        }
    });
    stream::iter(reads).buffered(AT_ONCE).collect().await
}
