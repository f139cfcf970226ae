//! `logs`: what a deployment decided and saw.

use std::time::Duration;

use candlefish_ids::DeploymentId;
use candlefish_proto::deploy::{GetDeploymentRequest, ListLogsRequest, LogLine};

use crate::{
    api::Api,
    app::App,
    error::{Error, Exit},
    json::{self, Layout},
    outage::{self, Outage},
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

/// Writes the log, and what comes to it. While it is followed, a server that is lost is waited for.
pub(crate) async fn run(app: &App, args: Args) -> Result<Exit, Error> {
    let api = app.api()?;
    let mut log = Log {
        app,
        api: &api,
        id: args.deployment.to_string(),
        page_token: String::new(),
    };
    if !args.follow {
        log.write().await?;
        return Ok(Exit::Done);
    }
    let mut outage = Outage::default();
    let mut seen = false;
    loop {
        match log.follow().await {
            Ok(true) => return Ok(Exit::Done),
            Ok(false) => {
                seen = true;
                outage.ends();
                tokio::time::sleep(POLL).await;
            }
            Err(error) if seen || !log.page_token.is_empty() => {
                if outage.goes_on(error)? {
                    app.output.note(&outage::words(api.address()));
                }
                outage.pause().await;
            }
            Err(error) => return Err(error),
        }
    }
}

/// The log of one deployment, as far as it was written.
struct Log<'a> {
    app: &'a App,
    api: &'a Api,
    id: String,
    page_token: String,
}

impl Log<'_> {
    /// Writes what came since; says whether nothing more will, or nobody reads it.
    async fn follow(&mut self) -> Result<bool, Error> {
        // Asked before the lines: a deployment that has ended writes none afterwards.
        let request = GetDeploymentRequest {
            id: self.id.clone(),
        };
        let deployment = self.api.read(request).await?;
        self.write().await?;
        let has_ended = render::words::is_terminal(deployment.state());
        Ok(has_ended || self.app.output.is_lost())
    }

    /// Writes what is there after what was written. A page that was written is not asked for again,
    /// whatever becomes of the next one.
    async fn write(&mut self) -> Result<(), Error> {
        loop {
            let request = ListLogsRequest {
                id: self.id.clone(),
                page_size: PAGE,
                page_token: self.page_token.clone(),
            };
            let page = self.api.read(request).await?;
            for line in &page.lines {
                write(self.app, line);
            }
            self.page_token = page.next_page_token;
            if !page.more || self.app.output.is_lost() {
                return Ok(());
            }
        }
    }
}

fn write(app: &App, line: &LogLine) {
    let text = if app.shared.json {
        json::text(line, Layout::Line)
    } else {
        render::events::log_line(line, &app.output.look_out())
    };
    app.output.result(&text);
}
