//! `push`: what became of a commit that was pushed, everywhere; or of one delivery.

use candlefish_ids::DeliveryId;
use candlefish_proto::deploy::{GetSiteRequest, ListTriggersRequest};

use super::subject::{self, explained};
use crate::{
    app::App,
    error::{Error, Exit},
    render,
};

/// As many of a site as fit on a screen.
const NEWEST: usize = 20;

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
        NEWEST
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
    app.show(&answer, |answer| {
        let look = app.output.look_out();
        if delivery.is_empty() {
            render::push::text(&commit, answer, &look)
        } else {
            render::push::delivery(&delivery, answer, &look)
        }
    });
    Ok(if known { Exit::Done } else { Exit::Failed })
}
