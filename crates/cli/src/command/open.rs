//! `open`: an environment or a deployment in the browser.

use std::process::{Command, Stdio};

use candlefish_proto::deploy::GetDeploymentRequest;

use super::subject::{self, Subject};
use crate::{
    app::App,
    error::{Error, Exit},
};

/// Options of `open`.
#[derive(Debug, clap::Args)]
#[command(
    before_help = "Examples:\n  candlefish open docs/production\n  candlefish open dep_01k8qx…              the release's own address, while it has one\n  curl $(candlefish open docs/production)   on a pipe it only writes the address"
)]
pub(crate) struct Args {
    /// A deployment's id, or SITE/ENV; else what the environment variables and candlefish.toml say
    subject: Option<Subject>,
}

/// Writes the address; with a person there, opens it too, unless it is for a program (`--json`).
pub(crate) async fn run(app: &App, args: Args) -> Result<Exit, Error> {
    let api = app.api()?;
    let url = match subject::named(app, args.subject)? {
        Subject::Deployment(id) => {
            let deployment = api
                .read(GetDeploymentRequest { id: id.to_string() })
                .await?;
            if deployment.preview_url.is_empty() {
                deployment.url
            } else {
                deployment.preview_url
            }
        }
        Subject::Environment(place) => subject::environment(&api, &place).await?.url,
    };
    if app.shared.json {
        app.output
            .result(&serde_json::json!({ "url": url }).to_string());
        return Ok(Exit::Done);
    }
    app.output.result(&url);
    if app.output.is_read_by_person() && !started(&url) {
        app.output.note("No browser could be started here.");
    }
    Ok(Exit::Done)
}

fn started(url: &str) -> bool {
    let opener = if cfg!(target_os = "macos") {
        "open"
    } else {
        "xdg-open"
    };
    let quiet = || Stdio::null();
    // It lives on by itself: a browser may run as long as it likes.
    Command::new(opener)
        .arg(url)
        .stdin(quiet())
        .stdout(quiet())
        .stderr(quiet())
        .spawn()
        .is_ok()
}
