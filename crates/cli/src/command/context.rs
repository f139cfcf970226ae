//! `context`: which APIs this machine knows.

use crate::{
    app::App,
    contexts::{Context, Contexts},
    error::{Error, Exit},
    render::table::Table,
};

/// Options of `context`.
#[derive(Debug, clap::Args)]
#[command(
    before_help = "Examples:\n  candlefish context             all contexts\n  candlefish context live        makes another one the current one"
)]
pub(crate) struct Args {
    /// Make this one the current one
    name: Option<String>,
}

/// Lists contexts without their tokens, or changes the current one.
pub(crate) fn run(app: &App, args: Args) -> Result<Exit, Error> {
    let mut contexts = Contexts::load(&app.environment)?;
    if let Some(name) = args.name {
        let chosen = contexts.get(&name)?.clone();
        contexts.current = Some(name.clone());
        contexts.save(&app.environment)?;
        if app.shared.json {
            app.output
                .result(&object(&name, &chosen, &contexts).to_string());
        }
        let api = chosen.api;
        app.output.note(&format!("Now {name}: {api}"));
        say_instead(app);
        return Ok(Exit::Done);
    }
    if app.shared.json {
        let all = contexts.contexts.iter();
        let listed: Vec<_> = all
            .map(|(name, context)| object(name, context, &contexts))
            .collect();
        app.output
            .result(&serde_json::json!({ "contexts": listed }).to_string());
        return Ok(Exit::Done);
    }
    let mut table = Table::new(["CONTEXT", "API", "CURRENT"]);
    for (name, context) in &contexts.contexts {
        let current = if contexts.current.as_ref() == Some(name) {
            "current"
        } else {
            ""
        };
        table.row([name.clone(), context.api.clone(), current.to_owned()]);
    }
    app.output
        .result(&table.text("There is no context. Make one: candlefish login --api URL"));
    say_instead(app);
    Ok(Exit::Done)
}

/// A context for programs, without its token.
fn object(name: &str, context: &Context, all: &Contexts) -> serde_json::Value {
    let is_current = all.current.as_deref() == Some(name);
    serde_json::json!({ "name": name, "api": context.api, "current": is_current })
}

/// Says what this shell has in place of the current context.
fn say_instead(app: &App) {
    let set = match (&app.environment.api, &app.environment.context) {
        (Some(_), _) => "CANDLEFISH_API is set and".to_owned(),
        (None, Some(name)) => format!("CANDLEFISH_CONTEXT says {name}, which"),
        (None, None) => return,
    };
    app.output.note(&format!(
        "{set} is used instead, unless --context names one."
    ));
}
