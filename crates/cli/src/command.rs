//! The commands, one per file: its options, its examples, and what it does.

use crate::{
    app::App,
    args::Command,
    error::{Error, Exit},
};

pub(crate) mod abort;
pub(crate) mod advance;
pub(crate) mod cancel;
pub(crate) mod completions;
pub(crate) mod context;
pub(crate) mod deploy;
mod dry;
pub(crate) mod edges;
pub(crate) mod env;
pub(crate) mod events;
pub(crate) mod history;
pub(crate) mod hold;
pub(crate) mod login;
pub(crate) mod logs;
pub(crate) mod open;
pub(crate) mod pin;
pub(crate) mod principals;
pub(crate) mod push;
pub(crate) mod queues;
pub(crate) mod releases;
pub(crate) mod retry;
pub(crate) mod rollback;
pub(crate) mod sites;
pub(crate) mod status;
pub(crate) mod stop;
mod strategy;
mod subject;
mod sure;
pub(crate) mod tokens;
mod waiting;
pub(crate) mod watch;
pub(crate) mod whoami;
pub(crate) mod why;

/// Does what was asked.
pub(crate) async fn run(app: &App, command: Command) -> Result<Exit, Error> {
    match command {
        Command::Login(args) => login::run(app, args).await,
        Command::Whoami(args) => whoami::run(app, args).await,
        Command::Context(args) => context::run(app, args),
        Command::Deploy(args) => Box::pin(deploy::run(app, args)).await,
        Command::Status(args) => status::run(app, args).await,
        Command::Push(args) => push::run(app, args).await,
        Command::Why(args) => why::run(app, args).await,
        Command::Watch(args) => watch::run(app, args).await,
        Command::Logs(args) => logs::run(app, args).await,
        Command::Cancel(args) => cancel::run(app, args).await,
        Command::Abort(args) => abort::run(app, args).await,
        Command::Retry(args) => retry::run(app, args).await,
        Command::Advance(args) => advance::run(app, args).await,
        Command::Pin(args) => pin::run(app, args).await,
        Command::Rollback(args) => rollback::run(app, args).await,
        Command::Hold(args) => hold::run(app, args).await,
        Command::History(args) => history::run(app, args).await,
        Command::Stop(args) => stop::run(app, args).await,
        Command::Releases(args) => releases::run(app, args).await,
        Command::Sites(args) => sites::run(app, args).await,
        Command::Env(args) => env::run(app, args).await,
        Command::Edges(args) => edges::run(app, args).await,
        Command::Queues(args) => queues::run(app, args).await,
        Command::Tokens(args) => tokens::run(app, args).await,
        Command::Principals(args) => principals::run(app, args).await,
        Command::Events(args) => events::run(app, args).await,
        Command::Open(args) => open::run(app, args).await,
        Command::Completions(args) => completions::run(app, args),
    }
}
