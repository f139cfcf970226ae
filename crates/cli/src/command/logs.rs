//! `logs`: what a deployment decided and saw.

use std::time::Duration;

use candlefish_ids::DeploymentId;
use candlefish_proto::deploy::{GetDeploymentRequest, ListLogsRequest, LogLine};

use crate::{
    api::Api,
    app::App,
    error::{Error, Exit},
    json::{self, Layout},
    render,
};

/// How often `--follow` asks for more.
const POLL: Duration = Duration::from_secs(1);
const PAGE: i32 = 1000;

/// Options of `logs`.
#[derive(Debug, clap::Args)]
#[command(
    before_help = "Examples:\n  candlefish logs dep_01k8qx…\n  candlefish logs dep_01k8qx… --follow\n  candlefish logs dep_01k8qx… --json        one object per line"
)]
pub(crate) struct Args {
    /// The deployment's id
    deployment: DeploymentId,
    /// Go on until the deployment has ended
    #[arg(long, short)]
    follow: bool,
}

/// Writes the log, and what comes to it.
pub(crate) async fn run(app: &App, args: Args) -> Result<Exit, Error> {
    let api = app.api()?;
    let id = args.deployment.to_string();
    let mut page_token = String::new();
    loop {
        // Asked before the lines: a deployment that has ended writes none afterwards.
        let ended = !args.follow || has_ended(&api, &id).await?;
        loop {
            let request = ListLogsRequest {
                id: id.clone(),
                page_size: PAGE,
                page_token,
            };
            let page = api.read(request).await?;
            for line in &page.lines {
                write(app, line);
            }
            page_token = page.next_page_token;
            if !page.more || app.output.is_lost() {
                break;
            }
        }
        if ended || app.output.is_lost() {
            return Ok(Exit::Done);
        }
        tokio::time::sleep(POLL).await;
    }
}

async fn has_ended(api: &Api, id: &str) -> Result<bool, Error> {
    let deployment = api.read(GetDeploymentRequest { id: id.to_owned() }).await?;
    Ok(render::words::is_terminal(deployment.state()))
}

fn write(app: &App, line: &LogLine) {
    let text = if app.shared.json {
        json::text(line, Layout::Line)
    } else {
        render::events::log_line(line, &app.output.look_out())
    };
    app.output.result(&text);
}
