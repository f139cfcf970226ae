//! `events`: what happens, as it happens.

use candlefish_proto::event::WatchEventsRequest;
use tonic::Status;
use tonic_types::StatusExt as _;

use super::subject::explained;
use crate::{
    api::Api,
    app::App,
    error::{Error, Exit},
    json::{self, Layout},
    outage::{self, Outage},
    render,
};

/// Why a stream is refused to whoever does not keep up with it.
const LAGGED: &str = "watcher-lagged";

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

/// Streams until Ctrl-C, or until nobody reads any more. A lost stream goes on after the last cursor, as
/// long as the server is not away for too long.
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
    let mut outage = Outage::default();
    let mut seen = false;
    loop {
        let ended = stream(app, &api, &mut request, &mut outage, &mut seen).await;
        if app.output.is_lost() {
            return Ok(Exit::Done);
        }
        match ended {
            Err(error @ Error::Unreachable(_)) if seen => {
                if outage.goes_on(error)? {
                    app.output.note(&outage::words(api.address()));
                }
            }
            // Nothing is lost: all that was missed comes after the last cursor.
            Err(Error::Refused(status)) if lags(&status) => {}
            Err(error) => {
                let environment =
                    Some(request.environment.as_str()).filter(|slug| !slug.is_empty());
                let site = request.site.clone();
                return explained(&api, Err(error), &site, environment).await;
            }
            Ok(()) => {}
        }
        outage.pause().await;
    }
}

fn lags(status: &Status) -> bool {
    let details = status.get_error_details();
    details
        .error_info()
        .is_some_and(|info| info.reason == LAGGED)
}

async fn stream(
    app: &App,
    api: &Api,
    request: &mut WatchEventsRequest,
    outage: &mut Outage,
    seen: &mut bool,
) -> Result<(), Error> {
    let events = api.events(request.clone()).await?;
    *seen = true;
    outage.connects();
    // Until the first event comes, a stream that is lost goes on where this one begins.
    if request.cursor.is_empty() {
        request.cursor = events.begins_after.unwrap_or_default();
    }
    let mut stream = events.messages;
    while let Some(message) = stream.message().await.map_err(|status| api.fault(status))? {
        outage.ends();
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
