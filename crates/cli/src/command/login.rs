//! `login`: keeps the address of an API and a token for it.

use std::io;

use candlefish_proto::access::WhoAmIRequest;

use super::context::say_instead;
use crate::{
    api::Api,
    app::App,
    config::Secret,
    contexts::{Chosen, Context, Contexts, TokenOf},
    error::{Error, Exit},
    render,
    repeats::Repeats,
};

/// Options of `login`.
#[derive(Debug, clap::Args)]
#[command(before_help = "\
Examples:
  candlefish login --api http://127.0.0.1:8090                  asks for the token
  candlefish login --api https://candlefish.example.org --context live < token.txt
  CANDLEFISH_TOKEN=cft_… candlefish login --api http://127.0.0.1:8090")]
pub(crate) struct Args {
    /// The address of the API
    #[arg(long, value_name = "URL")]
    api: Option<String>,
    /// Do not ask before the context `default` goes from one API to another
    #[arg(long)]
    yes: bool,
}

/// Asks who the token speaks for, and keeps it if the API knows.
pub(crate) async fn run(app: &App, args: Args) -> Result<Exit, Error> {
    let mut contexts = Contexts::load(&app.environment)?;
    let named = app.shared.context.as_ref();
    let named = named.or(app.environment.context.as_ref()).cloned();
    let is_named = named.is_some();
    let name = named.unwrap_or_else(|| "default".to_owned());
    let known = contexts
        .contexts
        .get(&name)
        .map(|context| context.api.clone());
    let api = address(app, args.api, known.clone())?;
    let another = known.filter(|known| !is_named && !is_same(known, &api));
    if let Some(known) = another
        && !replaces(app, &name, &known, &api, args.yes)?
    {
        app.output.note("  Nothing was done.");
        return Ok(Exit::Failed);
    }
    let token = token(app).ok_or_else(|| {
        Error::wrong("no token was given", "Write it to stdin, or set CANDLEFISH_TOKEN. A token is never an argument: others on this machine could read it.")
    })?;
    let token_of = match app.environment.token {
        Some(_) => TokenOf::Variable,
        None => TokenOf::Given,
    };
    let chosen = Chosen {
        api,
        token: Some(Secret(token.clone())),
        context: Some(name.clone()),
        token_of,
    };
    let connection = Api::new(&chosen, Repeats::new(None), app.output.clone())?;
    let answer = connection.read(WhoAmIRequest {}).await?;
    contexts.contexts.insert(
        name.clone(),
        Context {
            api: connection.address().to_owned(),
            token,
        },
    );
    contexts.current = Some(name.clone());
    let path = contexts.save(&app.environment)?;
    app.show(&answer, |answer| {
        render::access::whoami(
            answer,
            connection.address(),
            Some(&name),
            &app.output.look_out(),
        )
    });
    app.output.note(&format!("Kept in {}.", path.display()));
    say_instead(app, Some(&name));
    Ok(Exit::Done)
}

/// The API that was given; else that of the shell, else that of the context. A context that the command
/// line names goes before the shell, as it does for every other command.
fn address(app: &App, given: Option<String>, known: Option<String>) -> Result<String, Error> {
    let shell = app.environment.api.clone();
    let said = match app.shared.context {
        Some(_) => known.or(shell),
        None => shell.or(known),
    };
    let api = given.or(said).or_else(|| ask_api(app));
    api.filter(|api| !api.is_empty())
        .ok_or_else(|| Error::wrong("which API?", "Give its address: candlefish login --api URL"))
}

fn is_same(one: &str, other: &str) -> bool {
    one.trim_end_matches('/') == other.trim_end_matches('/')
}

/// Asks whether a context that nobody named is to be of another API from now on: the token that it has is
/// lost with that.
fn replaces(app: &App, name: &str, known: &str, api: &str, yes: bool) -> Result<bool, Error> {
    if !yes && !app.output.can_ask() {
        return Err(Error::wrong(
            format!("the context {name:?} is of another API, {known}"),
            "Name another context: --context NAME. Or give this one up: --yes",
        ));
    }
    let question =
        format!("  The context {name:?} is of {known}, and its token is lost. Make it {api}?");
    app.output.confirm(&question, yes)
}

fn ask_api(app: &App) -> Option<String> {
    if app.output.can_ask() {
        app.output.ask("Address of the API:")
    } else {
        None
    }
}

/// From the environment, from the person, or from the pipe.
fn token(app: &App) -> Option<String> {
    let told = app
        .environment
        .token
        .as_ref()
        .map(|secret| secret.0.clone());
    let token = told.or_else(|| {
        if app.output.can_ask() {
            app.output.ask_secret("Token (not shown):")
        } else {
            io::read_to_string(io::stdin()).ok()
        }
    })?;
    Some(token.trim().to_owned()).filter(|token| !token.is_empty())
}
