//! `login`: keeps the address of an API and a token for it.

use std::io;

use candlefish_proto::access::WhoAmIRequest;

use crate::{
    api::Api,
    app::App,
    config::Secret,
    contexts::{Chosen, Context, Contexts},
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
    let api = args
        .api
        .or_else(|| app.environment.api.clone())
        .or_else(|| known.clone())
        .or_else(|| ask_api(app));
    let api = api.filter(|api| !api.is_empty()).ok_or_else(|| {
        Error::wrong("which API?", "Give its address: candlefish login --api URL")
    })?;
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
    let chosen = Chosen {
        api: api.clone(),
        token: Some(Secret(token.clone())),
        context: Some(name.clone()),
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
    Ok(Exit::Done)
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
