//! `history`: what went live in an environment and what was done to it, by whom and why.

use candlefish_proto::deploy::ListHistoryRequest;

use super::subject::{self, Place, explained};
use crate::{
    app::App,
    error::{Error, Exit},
    render,
};

/// Options of `history`.
#[derive(Debug, clap::Args)]
#[command(before_help = "\
Examples:
  candlefish history docs/production
  candlefish history docs/production --limit 200 --json")]
pub(crate) struct Args {
    /// SITE/ENV; else what the environment variables and candlefish.toml say
    place: Option<Place>,
    /// At most this many
    #[arg(long, default_value_t = 20)]
    limit: usize,
}

/// Lists, newest first.
pub(crate) async fn run(app: &App, args: Args) -> Result<Exit, Error> {
    let api = app.api()?;
    let Place { site, environment } = subject::place(app, args.place)?;
    let request = ListHistoryRequest {
        site: site.clone(),
        environment: environment.clone(),
        ..Default::default()
    };
    let answer = api.list(request, args.limit).await;
    let answer = explained(&api, answer, &site, Some(&environment)).await?;
    let look = app.output.look_out();
    app.show(&answer, |answer| {
        let list = render::history::list(answer, &look);
        render::limited(list, "entries", &answer.next_page_token, args.limit)
    });
    Ok(Exit::Done)
}
