//! `completions`: what a shell needs to complete our command lines.

use clap::CommandFactory as _;
use clap_complete::{Shell, generate};

use crate::{
    app::App,
    args::Cli,
    error::{Error, Exit},
};

/// Options of `completions`.
#[derive(Debug, clap::Args)]
#[command(before_help = "\
Examples:
  candlefish completions bash > ~/.local/share/bash-completion/completions/candlefish
  candlefish completions zsh > ~/.zfunc/_candlefish
  candlefish completions fish > ~/.config/fish/completions/candlefish.fish")]
pub(crate) struct Args {
    /// The shell
    shell: Shell,
}

/// Writes the script.
#[expect(clippy::unnecessary_wraps, reason = "every command has the same face")]
pub(crate) fn run(app: &App, args: Args) -> Result<Exit, Error> {
    let mut script = Vec::new();
    generate(args.shell, &mut Cli::command(), "candlefish", &mut script);
    app.output.result(&String::from_utf8_lossy(&script));
    Ok(Exit::Done)
}
