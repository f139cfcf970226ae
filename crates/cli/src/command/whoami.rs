//! `whoami`: who the token speaks for.

use candlefish_proto::access::WhoAmIRequest;

use crate::{
    app::App,
    error::{Error, Exit},
    render,
};

/// Options of `whoami`.
#[derive(Debug, clap::Args)]
#[command(
    before_help = "Examples:\n  candlefish whoami\n  candlefish whoami --context live --json"
)]
pub(crate) struct Args;

/// Shows the principal and the token.
pub(crate) async fn run(app: &App, _args: Args) -> Result<Exit, Error> {
    let chosen = app.chosen()?;
    let api = app.api()?;
    let answer = api.read(WhoAmIRequest {}).await?;
    app.show(&answer, |answer| {
        render::access::whoami(
            answer,
            api.address(),
            chosen.context.as_deref(),
            &app.output.look_out(),
        )
    });
    Ok(Exit::Done)
}
