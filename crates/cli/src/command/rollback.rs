//! `rollback`: goes back to a release that was live before.

use std::str::FromStr;

use candlefish_ids::ReleaseId;
use candlefish_proto::deploy::{CreateRollbackRequest, Environment, Rollback};

use super::{
    subject::{self, Place},
    waiting::{self, Waiting},
};
use crate::{
    api::Api,
    app::App,
    error::{Error, Exit},
    render,
};

/// Options of `rollback`.
#[derive(Debug, clap::Args)]
#[command(before_help = "\
Examples:
  candlefish rollback docs/production                           to the one before
  candlefish rollback docs/production --to 9b1d0aa --reason \"search is broken\"
  candlefish rollback docs/production --dry-run                 only says what would happen
  candlefish rollback docs/production --leaves rel_01k8… --yes  away from this one, once, whoever asks besides")]
pub(crate) struct Args {
    /// SITE/ENV
    place: Place,
    /// The release (rel_…) or commit to go back to, which was live there; else the newest that succeeded there before
    #[arg(long, value_name = "RELEASE|COMMIT")]
    to: Option<Back>,
    /// The release to leave (rel_…), as you saw it live: when a rollback has left it already, no other is made
    #[arg(long, value_name = "RELEASE")]
    leaves: Option<ReleaseId>,
    /// Why; without it, and without --yes, a terminal asks
    #[arg(long, default_value = "", hide_default_value = true)]
    reason: String,
    /// Do not ask
    #[arg(long)]
    yes: bool,
    /// Only say what would happen
    #[arg(long, conflicts_with = "yes")]
    dry_run: bool,
    /// Do not watch it
    #[arg(long)]
    detach: bool,
    #[command(flatten)]
    waiting: Waiting,
}

/// What is gone back to.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Back {
    Release(ReleaseId),
    Commit(String),
}

impl FromStr for Back {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.starts_with("rel_") {
            return text
                .parse()
                .map(Self::Release)
                .map_err(|error| format!("is not a release's id: {error}"));
        }
        subject::commit(text).map(Self::Commit).map_err(|_fault| {
            "must be a release's id (rel_…) or a commit of 7 to 64 hex digits".to_owned()
        })
    }
}

/// Says what will not come back, asks, does it and watches.
pub(crate) async fn run(app: &App, args: Args) -> Result<Exit, Error> {
    let api = app.api()?;
    let asked = args.asked();
    if args.dry_run {
        let (forecast, environment) = forecast(&api, &asked).await?;
        app.show(&forecast, |forecast| {
            render::rollback::forecast(forecast, &environment, &app.output.look_out())
        });
        return Ok(Exit::Done);
    }
    // The answer of an earlier try did not arrive. By now the rollback may be over: to forecast
    // again would be to go back one release more.
    let request = if let Some(request) = api.asked_before(&asked) {
        app.output
            .note("  Repeats the rollback whose answer did not arrive; no second one is made.");
        request
    } else if let Some(request) = confirm(app, &api, &asked, args.yes).await? {
        request
    } else {
        app.output.note("  Nothing was done.");
        return Ok(Exit::Failed);
    };
    let (rollback, repeat) = api.act_as(&asked, request).await?;
    let deployment = rollback.deployment.unwrap_or_default();
    app.output.note(&render::deployment::head(
        &deployment,
        &app.output.look_err(),
    ));
    if args.detach {
        waiting::detached(app, &deployment);
        return Ok(Exit::Done);
    }
    args.waiting
        .follow(app, &api, deployment, Some(&repeat), None)
        .await
}

impl Args {
    /// What was asked for, whatever is live.
    fn asked(&self) -> CreateRollbackRequest {
        let (to_release_id, to_commit) = match &self.to {
            None => (String::new(), String::new()),
            Some(Back::Release(id)) => (id.to_string(), String::new()),
            Some(Back::Commit(commit)) => (String::new(), commit.clone()),
        };
        CreateRollbackRequest {
            site: self.place.site.clone(),
            environment: self.place.environment.clone(),
            to_release_id,
            to_commit,
            reason: self.reason.clone(),
            validate_only: false,
            leaves_release_id: self
                .leaves
                .map(|leaves| leaves.to_string())
                .unwrap_or_default(),
        }
    }
}

async fn forecast(
    api: &Api,
    asked: &CreateRollbackRequest,
) -> Result<(Rollback, Environment), Error> {
    let place = Place {
        site: asked.site.clone(),
        environment: asked.environment.clone(),
    };
    let environment = subject::environment(api, &place).await?;
    let request = CreateRollbackRequest {
        validate_only: true,
        ..asked.clone()
    };
    Ok((api.read(request).await?, environment))
}

/// Says what would happen and asks, then why. The request then names the release that the person saw
/// live: of two people who ask at once, the second is shown the first one's rollback.
async fn confirm(
    app: &App,
    api: &Api,
    asked: &CreateRollbackRequest,
    yes: bool,
) -> Result<Option<CreateRollbackRequest>, Error> {
    let (forecast, environment) = forecast(api, asked).await?;
    app.output.note(&render::rollback::forecast(
        &forecast,
        &environment,
        &app.output.look_err(),
    ));
    if yes {
        check_seen(&forecast, asked)?;
    }
    if !forecast.already && !app.output.confirm("  Roll back?", yes)? {
        return Ok(None);
    }
    // One that is under way already has its reason.
    let reason = app
        .output
        .reason(asked.reason.clone(), yes || forecast.already);
    let leaves_release_id = forecast.from.map(|from| from.id).unwrap_or_default();
    Ok(Some(CreateRollbackRequest {
        leaves_release_id,
        reason,
        ..asked.clone()
    }))
}

/// Of two people who go back a moment apart, unasked, the second means what the first has left: refuses
/// to leave what a rollback brought just now, unless this or the target is named.
fn check_seen(forecast: &Rollback, asked: &CreateRollbackRequest) -> Result<(), Error> {
    let is_named = !asked.leaves_release_id.is_empty()
        || !asked.to_release_id.is_empty()
        || !asked.to_commit.is_empty();
    if is_named || forecast.already {
        return Ok(());
    }
    let Some(recent) = render::rollback::recent(forecast) else {
        return Ok(());
    };
    let live = forecast.from.as_ref().map_or("", |from| from.id.as_str());
    Err(Error::wrong(
        recent,
        format!("To go further back: --leaves {live} (or --to RELEASE)"),
    ))
}
