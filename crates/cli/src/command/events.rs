//! `events`: what happens, as it happens.

use std::time::Duration;

use candlefish_proto::event::WatchEventsRequest;

use super::subject::explained;
use crate::{
    api::Api,
    app::App,
    error::{Error, Exit},
    json::{self, Layout},
    render,
};

/// Pause before a lost stream is made again.
const PAUSE: Duration = Duration::from_secs(1);

/// Options of `events`.
#[derive(Debug, clap::Args)]
#[command(before_help = "\
Examples:
  candlefish events
  candlefish events --site docs --env production --type deploy.deployment.
  candlefish events --json                                      one object per line; one without
                                                                an event says how far the stream is
  candlefish events --json --cursor \"$LAST\"                     what came after a line's cursor")]
pub(crate) struct Args {
    /// Only of this site
    #[arg(long, default_value = "", hide_default_value = true)]
    site: String,
    /// Only of this environment
    #[arg(
        long = "env",
        alias = "environment",
        value_name = "ENV",
        default_value = "",
        hide_default_value = true,
        requires = "site"
    )]
    environment: String,
    /// Only of this type, or of types that begin so; may be given again
    #[arg(long = "type", value_name = "TYPE")]
    types: Vec<String>,
    /// Go on after this cursor, as the last line with --json had it
    #[arg(long, default_value = "", hide_default_value = true)]
    cursor: String,
}

/// Streams until Ctrl-C, or until nobody reads any more. A lost stream goes on after the last cursor.
pub(crate) async fn run(app: &App, args: Args) -> Result<Exit, Error> {
    let api = app.api()?;
    let Args {
        site,
        environment,
        types,
        cursor,
    } = args;
    let mut request = WatchEventsRequest {
        site,
        environment,
        types,
        cursor,
    };
    let mut seen = false;
    loop {
        let ended = stream(app, &api, &mut request, &mut seen).await;
        if app.output.is_lost() {
            return Ok(Exit::Done);
        }
        match ended {
            Err(Error::Unreachable(lost)) if seen => {
                app.output.note(&format!(
                    "Lost the connection to {}; trying again.",
                    lost.address
                ));
            }
            Err(error) => {
                let environment =
                    Some(request.environment.as_str()).filter(|slug| !slug.is_empty());
                let site = request.site.clone();
                return explained(&api, Err(error), &site, environment).await;
            }
            Ok(()) => {}
        }
        tokio::time::sleep(PAUSE).await;
    }
}

async fn stream(
    app: &App,
    api: &Api,
    request: &mut WatchEventsRequest,
    seen: &mut bool,
) -> Result<(), Error> {
    let mut stream = api.events(request.clone()).await?.messages;
    *seen = true;
    while let Some(message) = stream.message().await.map_err(|status| api.fault(status))? {
        // Without an event only the cursor has moved: a program goes on after it, people need not see it.
        if app.shared.json {
            app.output.result(&json::text(&message, Layout::Line));
        } else if let Some(event) = &message.event {
            let text = render::events::event(event, &app.output.look_out());
            app.output.result(&text);
        }
        if app.output.is_lost() {
            break;
        }
        request.cursor = message.cursor;
    }
    Ok(())
}
