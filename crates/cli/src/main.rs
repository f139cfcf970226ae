//! `candlefish`: the command line. A gRPC client of the gateway; it knows no rule of the platform,
//! only how to ask and how to show the answer.

use std::process::ExitCode;

mod api;
mod app;
mod args;
mod clock;
mod command;
mod config;
mod contexts;
mod error;
mod git;
mod json;
mod outage;
mod output;
mod project;
mod render;
mod repeats;
mod suggest;
mod upload;
mod watch;

#[tokio::main]
async fn main() -> ExitCode {
    let environment = config::Environment::from_process();
    let args = args::parse(&output::Output::new(environment.plain));
    let app = app::App::new(environment, args.shared);
    let done = command::run(&app, args.command).await;
    match done.and_then(|exit| app.output.written(exit)) {
        Ok(exit) => exit.into(),
        Err(error) => {
            app.output
                .note(&render::failure::text(&error, &app.output.look_err()));
            error.exit().into()
        }
    }
}
