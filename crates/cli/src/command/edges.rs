//! `edges`: who serves, and what.

use candlefish_proto::deploy::ListEdgesRequest;

use crate::{
    app::App,
    error::{Error, Exit},
    render,
};

/// Options of `edges`.
#[derive(Debug, clap::Args)]
#[command(before_help = "Examples:\n  candlefish edges\n  candlefish edges --json")]
pub(crate) struct Args;

/// Lists edges.
pub(crate) async fn run(app: &App, _args: Args) -> Result<Exit, Error> {
    let api = app.api()?;
    let answer = api.list(ListEdgesRequest::default(), usize::MAX).await?;
    app.show(&answer, |answer| {
        render::environment::edges(answer, &app.output.look_out())
    });
    Ok(Exit::Done)
}
