//! `push`: what became of a commit that was pushed, everywhere.

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
    before_help = "Examples:\n  candlefish push 4ac21e0\n  candlefish push $(git rev-parse HEAD) --site docs\n  candlefish push --site docs"
)]
pub(crate) struct Args {
    /// The commit, or its first digits, at least 7; none for the newest of a site
    #[arg(required_unless_present = "site", value_parser = subject::commit)]
    commit: Option<String>,
    /// Only in this site
    #[arg(long, default_value = "", hide_default_value = true)]
    site: String,
}

/// Says what became of it. A commit of which nobody told us is no success.
pub(crate) async fn run(app: &App, args: Args) -> Result<Exit, Error> {
    let api = app.api()?;
    let commit = args.commit.unwrap_or_default();
    let most = if commit.is_empty() {
        NEWEST
    } else {
        usize::MAX
    };
    let site = args.site;
    let request = ListTriggersRequest {
        commit: commit.clone(),
        site: site.clone(),
        ..ListTriggersRequest::default()
    };
    let answer = api.list(request, most).await?;
    let known = !answer.triggers.is_empty();
    if !known && !site.is_empty() {
        // The list of a site that does not exist is empty too.
        let request = GetSiteRequest { site: site.clone() };
        explained(&api, api.read(request).await, &site, None).await?;
    }
    app.show(&answer, |answer| {
        render::push::text(&commit, answer, &app.output.look_out())
    });
    Ok(if known { Exit::Done } else { Exit::Failed })
}
