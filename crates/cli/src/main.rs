//! `candlefish`: the command line. A gRPC client of the gateway; it knows no rule of the platform,
//! only how to ask and how to show the answer.

use std::process::ExitCode;

use clap::Parser as _;

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
mod output;
mod project;
mod render;
mod repeats;
mod suggest;
mod upload;
mod watch;

#[tokio::main]
async fn main() -> ExitCode {
    let args = args::Cli::parse();
    let app = app::App::new(config::Environment::from_process(), args.shared);
    match command::run(&app, args.command).await {
        Ok(exit) => exit.into(),
        Err(error) => {
            app.output
                .note(&render::failure::text(&error, &app.output.look_err()));
            error.exit().into()
        }
    }
}
