//! `watch`: follows a deployment until it is live.

use super::{
    subject::{self, Place, Subject},
    waiting::{self, Waiting},
};
use crate::{
    app::App,
    error::{Error, Exit},
    render,
    watch::{self, Outcome, Until, View},
};

/// Options of `watch`.
#[derive(Debug, clap::Args)]
#[command(
    before_help = "Examples:\n  candlefish watch dep_01k8qx…\n  candlefish watch docs/production --until done\n  candlefish watch dep_01k8qx… --json        one object per change, one per line"
)]
pub(crate) struct Args {
    /// A deployment's id, or SITE/ENV for the one that acts or waits there; else what the environment variables and candlefish.toml say
    subject: Option<Subject>,
    #[command(flatten)]
    waiting: Waiting,
}

/// Watches; with `--json` every change is an object of its own.
pub(crate) async fn run(app: &App, args: Args) -> Result<Exit, Error> {
    let api = app.api()?;
    let subject = subject::named(app, args.subject)?;
    let Some((deployment, _)) = subject::current(&api, &subject).await? else {
        let named = match &subject {
            Subject::Environment(Place { site, environment }) => format!("{site}/{environment}"),
            Subject::Deployment(id) => id.to_string(),
        };
        return Err(Error::wrong(
            format!("nothing acts or waits in {named}"),
            format!("See what is live: candlefish status {named}"),
        ));
    };
    if !app.shared.json {
        let look = app.output.look_err();
        app.output
            .note(&render::deployment::head(&deployment, &look));
        let read = subject::environment_of(&api, &deployment).await;
        for line in render::environment::kept(&deployment, &read, &look).lines {
            app.output.note(&line);
        }
        app.output.note("");
        return args
            .waiting
            .follow(app, &api, deployment, None, read.ok())
            .await;
    }
    let patience = args.waiting.patience(app);
    let had_ended = watch::outcome(&deployment, Until::Done) == Some(Outcome::Live);
    let (deployment, outcome) = Box::pin(watch::follow(
        app,
        &api,
        deployment,
        patience,
        &mut View::Json(String::new()),
        None,
    ))
    .await?;
    let now = waiting::by_now(&api, &deployment, outcome, had_ended);
    let (now, outcome) = Box::pin(now).await;
    waiting::aside(app, &deployment, outcome, &now);
    Ok(outcome.exit(args.waiting.superseded_ok))
}
