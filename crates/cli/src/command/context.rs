//! `context`: which APIs this machine knows.

use crate::{
    app::App,
    config::Environment,
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
        say_instead(app, None);
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
    say_instead(app, None);
    Ok(Exit::Done)
}

/// A context for programs, without its token.
fn object(name: &str, context: &Context, all: &Contexts) -> serde_json::Value {
    let is_current = all.current.as_deref() == Some(name);
    serde_json::json!({ "name": name, "api": context.api, "current": is_current })
}

/// Says what this shell has in place of the current context and of its token. The context `but` is no
/// news to whoever has just made it.
pub(super) fn say_instead(app: &App, but: Option<&str>) {
    for line in instead(&app.environment, but) {
        app.output.note(&line);
    }
}

fn instead(environment: &Environment, but: Option<&str>) -> Vec<String> {
    let used = "used instead, unless --context names one.";
    match (&environment.api, &environment.token) {
        (Some(_), Some(_)) => vec![format!(
            "CANDLEFISH_API and CANDLEFISH_TOKEN are set and are {used}"
        )],
        (Some(_), None) => vec![
            format!("CANDLEFISH_API is set and is {used}"),
            "CANDLEFISH_TOKEN is not set: no token goes there.".to_owned(),
        ],
        (None, token) => {
            let named = environment.context.as_deref();
            let named = named.filter(|name| Some(*name) != but);
            let context =
                named.map(|name| format!("CANDLEFISH_CONTEXT says {name}, which is {used}"));
            let token = token.as_ref().map(|_set| {
                "CANDLEFISH_TOKEN is used instead of a context's own token, unless --context names one."
                    .to_owned()
            });
            context.into_iter().chain(token).collect()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Secret;

    #[test]
    fn what_a_shell_has_in_place_of_a_context_or_of_its_token_is_said() {
        let text = |word: &str| Some(word.to_owned()).filter(|word| !word.is_empty());
        let api = "CANDLEFISH_API is set and is used instead, unless --context names one.";
        let both = "CANDLEFISH_API and CANDLEFISH_TOKEN are set and are used instead, unless --context names one.";
        let live =
            "CANDLEFISH_CONTEXT says live, which is used instead, unless --context names one.";
        let token = "CANDLEFISH_TOKEN is used instead of a context's own token, unless --context names one.";
        for (variables, but, expected) in [
            (["", "", ""], None, vec![]),
            (
                ["http://one:1", "", "live"],
                None,
                vec![api, "CANDLEFISH_TOKEN is not set: no token goes there."],
            ),
            (["http://one:1", "cft_one", ""], Some("dev"), vec![both]),
            (["", "", "live"], None, vec![live]),
            (["", "", "live"], Some("live"), vec![]),
            (["", "cft_one", "live"], Some("dev"), vec![live, token]),
            (["", "cft_one", ""], Some("dev"), vec![token]),
        ] {
            let [api, token, context] = variables.map(text);
            let environment = Environment {
                api,
                token: token.map(Secret),
                context,
                ..Environment::default()
            };
            assert_eq!(instead(&environment, but), expected, "{variables:?}");
        }
    }
}
