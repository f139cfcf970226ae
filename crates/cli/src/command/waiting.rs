//! Options of the commands that watch a deployment, and what they say at the end.

use std::time::Duration;

use candlefish_proto::deploy::{Deployment, Environment, GetDeploymentRequest, deployment::Kind};
use clap::{Args, ValueEnum};
use jiff::SignedDuration;

use super::{strategy::duration, subject};
use crate::{
    api::Api,
    app::App,
    error::{Error, Exit},
    json::{self, Layout},
    render::{self, ending::Now},
    repeats::Repeat,
    watch::{self, Outcome, Patience, Until, View},
};

/// How long an answer may take that only adds to an outcome which is known.
const SOON: Duration = Duration::from_secs(10);

/// What is waited for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Goal {
    /// All traffic is on the release, and it was fetched there
    #[default]
    Live,
    /// Also baked
    Done,
}

/// Options of the commands that watch a deployment.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Waiting")]
pub(crate) struct Waiting {
    /// What to wait for
    #[arg(long, value_enum, default_value = "live")]
    pub(crate) until: Goal,
    /// How long to wait, for whatever reason; default 5m on a pipe, no limit at a terminal
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub(crate) wait: Option<SignedDuration>,
    /// End with 0 when a newer commit takes its place
    #[arg(long)]
    pub(crate) superseded_ok: bool,
    /// How much of the wait had passed before there was a deployment to watch.
    #[arg(skip)]
    spent: SignedDuration,
}

impl Waiting {
    /// What is waited for, and how long.
    pub(super) fn patience(&self, app: &App) -> Patience {
        let until = match self.until {
            Goal::Live => Until::Live,
            Goal::Done => Until::Done,
        };
        Patience {
            spent: self.spent,
            ..Patience::new(until, self.wait, app)
        }
    }

    /// The same wait, of which so much has passed already.
    pub(super) fn after(self, spent: SignedDuration) -> Self {
        Self { spent, ..self }
    }

    /// Watches, says how it ended, and gives the exit code. When the server is lost meanwhile, the
    /// key of the request that made the deployment is kept: the same command again must watch that
    /// one, not make a second one. Where it is given how the environment was shown (`told`), a hold that
    /// is set or lifted meanwhile is told.
    pub(super) async fn follow(
        &self,
        app: &App,
        api: &Api,
        deployment: Deployment,
        made_by: Option<&Repeat>,
        told: Option<Environment>,
    ) -> Result<Exit, Error> {
        let mut view = View::new(app);
        let had_ended = watch::outcome(&deployment, Until::Done) == Some(Outcome::Live);
        let watched = watch::follow(app, api, deployment, self.patience(app), &mut view, told);
        let watched = Box::pin(watched).await;
        let (deployment, outcome) = watched.map_err(|error| error.kept_by(made_by))?;
        let (now, outcome) = Box::pin(by_now(api, &deployment, outcome, had_ended)).await;
        report(app, &deployment, outcome, &now);
        Ok(outcome.exit(self.superseded_ok))
    }
}

/// What is so now where a deployment is live that was waited for, and what that makes of it: one that
/// had ended before anybody looked may be live no more. One that was seen to go live did, whatever the
/// next in its lane does before this is asked. Who stops watching is not kept waiting for an answer, and
/// nobody is for long.
pub(super) async fn by_now(
    api: &Api,
    deployment: &Deployment,
    outcome: Outcome,
    had_ended: bool,
) -> (Now, Outcome) {
    if outcome != Outcome::Live {
        return (Now::Free, outcome);
    }
    let now = soon(SOON, Box::pin(subject::now(api, deployment))).await;
    let now = now.unwrap_or(Now::Unread);
    let outcome = match &now {
        Now::Gone(by) if had_ended => after(api, deployment, by).await,
        Now::Gone(_) | Now::Free | Now::Held | Now::Unread => outcome,
    };
    (now, outcome)
}

/// How it ended for one that was live, by what is since: the same release is what was asked for, a
/// rollback took it back, and so did whatever left nothing; anything else took its place.
async fn after(api: &Api, deployment: &Deployment, by: &str) -> Outcome {
    if by.is_empty() {
        return Outcome::Failed;
    }
    let request = GetDeploymentRequest { id: by.to_owned() };
    match soon(SOON, Box::pin(api.read(request))).await {
        Some(Ok(live)) if live.release_id == deployment.release_id => Outcome::Live,
        Some(Ok(live)) if live.kind() == Kind::Rollback => Outcome::Failed,
        Some(Ok(_) | Err(_)) | None => Outcome::Superseded,
    }
}

/// What was asked for; nothing where it takes longer than the limit, or at Ctrl-C. Watching has taken
/// that from the system: without a look at it here it would end nothing.
async fn soon<T>(limit: Duration, asked: impl Future<Output = T>) -> Option<T> {
    tokio::select! {
        // First, so that it is listened for before anything is asked.
        biased;
        _ = tokio::signal::ctrl_c() => None,
        answer = tokio::time::timeout(limit, asked) => answer.ok(),
    }
}

/// Says to a person what the JSON of a deployment does not: that it is not watched any more, or not live.
pub(super) fn aside(app: &App, deployment: &Deployment, outcome: Outcome, now: &Now) {
    if outcome == Outcome::Interrupted || matches!(now, Now::Gone(_)) {
        let look = app.output.look_err();
        let text = render::ending::text(deployment, outcome, now, &look);
        app.output.note(&text);
    }
}

/// Says how it ended: to a person in words, to a pipe the address alone.
fn report(app: &App, deployment: &Deployment, outcome: Outcome, now: &Now) {
    if app.shared.json {
        app.output.result(&json::text(deployment, Layout::Indented));
        aside(app, deployment, outcome, now);
        return;
    }
    if app.output.animates() {
        app.output.note("");
    }
    if outcome == Outcome::Live && app.output.is_read_by_person() {
        app.output.result(&render::ending::text(
            deployment,
            outcome,
            now,
            &app.output.look_out(),
        ));
        return;
    }
    app.output.note(&render::ending::text(
        deployment,
        outcome,
        now,
        &app.output.look_err(),
    ));
    if outcome == Outcome::Live {
        app.output.result(render::words::address(deployment));
    }
}

/// Says that a deployment was accepted and nobody waits for it: its id is the result.
pub(super) fn detached(app: &App, deployment: &Deployment) {
    if app.shared.json {
        app.output.result(&json::text(deployment, Layout::Indented));
        return;
    }
    app.output.note(&format!(
        "  Not watching. Watch: candlefish watch {}",
        deployment.id
    ));
    app.output.result(&deployment.id);
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};

    use super::*;

    #[tokio::test]
    async fn an_answer_that_does_not_come_is_not_waited_for() {
        let limit = Duration::from_millis(1);
        assert_eq!(soon(limit, pending::<u8>()).await, None);
        assert_eq!(soon(limit, ready(7)).await, Some(7));
    }
}
