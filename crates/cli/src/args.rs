//! The command line. Every command's help begins with examples.

use std::{env, ffi::OsString};

use clap::{
    Parser, Subcommand,
    error::{ContextKind, ContextValue, ErrorKind},
};

use crate::{app::Shared, command, output::Output};

const EXAMPLES: &str = "\
Examples:
  candlefish login --api http://127.0.0.1:8090
  candlefish deploy ./public --site docs                        a preview with an address of its own
  candlefish deploy ./public --site docs --env production --strategy canary
  candlefish why docs/production
  candlefish rollback docs/production";

const AFTER: &str = "\
Exit codes: 0 live or done, 1 failed or rolled back, 2 wrong use, 3 still waiting after --wait,
4 cancelled or superseded, 5 not allowed, 6 cannot reach the server (safe to repeat), 130 Ctrl-C.
Variables: CANDLEFISH_API, CANDLEFISH_TOKEN, CANDLEFISH_CONTEXT, CANDLEFISH_SITE,
CANDLEFISH_ENVIRONMENT, CANDLEFISH_CONFIG_DIR, NO_COLOR.";

/// Make a commit of a web site live: safely, quickly, visibly and reversibly.
#[derive(Debug, Parser)]
#[command(name = "candlefish", version, before_help = EXAMPLES, after_help = AFTER, propagate_version = true, disable_help_subcommand = true)]
pub(crate) struct Cli {
    /// Options of every command.
    #[command(flatten)]
    pub(crate) shared: Shared,
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Keep the address of an API and a token for it
    Login(command::login::Args),
    /// Say who the token speaks for
    Whoami(command::whoami::Args),
    /// List contexts, or make another one the current one
    Context(command::context::Args),
    /// Deploy a folder and watch it go live
    Deploy(command::deploy::Args),
    /// Show a deployment, an environment, or everything
    Status(command::status::Args),
    /// Say what became of a commit that was pushed
    Push(command::push::Args),
    /// Say why a deployment is not moving, and who can clear it
    Why(command::why::Args),
    /// Watch a deployment until it is live
    Watch(command::watch::Args),
    /// Show what a deployment decided and saw
    Logs(command::logs::Args),
    /// End a deployment
    Cancel(command::cancel::Args),
    /// End a deployment that hurts: traffic goes back, the release is rejected
    Abort(command::abort::Args),
    /// Deploy the release of a deployment that has ended once more
    Retry(command::retry::Args),
    /// Pass the wait that a deployment is in
    Advance(command::advance::Args),
    /// Keep newer commits from taking a deployment's place, or let them again
    Pin(command::pin::Args),
    /// Go back to a release that was live before
    Rollback(command::rollback::Args),
    /// Set, lift or show a hold
    Hold(command::hold::Args),
    /// Show what went live in an environment and what was done to it, by whom and why
    History(command::history::Args),
    /// Stop the line, for a site or for everything; lift or list stops
    Stop(command::stop::Args),
    /// List releases, ban one, lift a ban, or clear a rejected one
    Releases(command::releases::Args),
    /// List or make sites
    Sites(command::sites::Args),
    /// List, show or make environments, or change their policy
    Env(command::env::Args),
    /// List edges and what they hold
    Edges(command::edges::Args),
    /// Decide on what was taken out of work
    Queues(command::queues::Args),
    /// List, make or revoke API tokens
    Tokens(command::tokens::Args),
    /// List or make principals
    Principals(command::principals::Args),
    /// Stream events as they happen
    Events(command::events::Args),
    /// Open an environment or a deployment in the browser
    Open(command::open::Args),
    /// Write completions for a shell
    Completions(command::completions::Args),
}

/// Reads the command line of this process. Options that it lacks are asked for where somebody is there
/// to answer; all other wrong use ends the process with 2, in clap's words.
pub(crate) fn parse(output: &Output) -> Cli {
    let mut words: Vec<OsString> = env::args_os().collect();
    let error = match Cli::try_parse_from(&words) {
        Ok(cli) => return cli,
        Err(error) => error,
    };
    let lacking = lacking(&error, &words);
    if lacking.is_empty() || !output.can_ask() {
        error.exit();
    }
    for option in lacking {
        let name = option.split(' ').next().unwrap_or_default();
        let question = match name {
            "--reason" => "  Why (--reason)?".to_owned(),
            _ => format!("  {option}?"),
        };
        match output.ask(&question) {
            Some(answer) if !answer.is_empty() => words.push(format!("{name}={answer}").into()),
            _ => error.exit(),
        }
    }
    Cli::parse_from(words)
}

/// The options that a command line lacks, as `--reason <REASON>`, where they are all that it lacks and
/// it does not want to be asked nothing.
fn lacking(error: &clap::Error, words: &[OsString]) -> Vec<String> {
    let Some(ContextValue::Strings(lacking)) = error.get(ContextKind::InvalidArg) else {
        return Vec::new();
    };
    // Behind `--` an answer would be no option.
    let is_quiet = words
        .iter()
        .any(|word| word == "--yes" || word == "--json" || word == "--");
    let are_options = lacking.iter().all(|one| {
        let parts = one.split_once(' ');
        parts.is_some_and(|(name, value)| name.starts_with("--") && !value.contains([' ', '|']))
    });
    if error.kind() == ErrorKind::MissingRequiredArgument && are_options && !is_quiet {
        lacking.clone()
    } else {
        Vec::new()
    }
}

#[cfg(test)]
mod documented;
#[cfg(test)]
mod tests;
