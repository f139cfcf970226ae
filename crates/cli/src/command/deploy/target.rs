//! Which folder goes where, and who said so.

use std::path::PathBuf;

use candlefish_manifest::Limits;
use candlefish_proto::deploy::{GetSiteRequest, ListSitesRequest, ReleaseLimits};
use jiff::SignedDuration;

use super::{Args, awaited};
use crate::{
    api::Api,
    app::App,
    command::subject::{Place, explained},
    error::Error,
    project::{Found, Project},
    render,
};

/// Where a folder goes.
#[derive(Debug)]
pub(super) struct Target {
    /// The folder.
    pub(super) dir: PathBuf,
    /// The slug of the site.
    pub(super) site: String,
    /// The slug of the environment; `None` for a preview.
    pub(super) environment: Option<String>,
    /// The release that is live there; empty for none.
    pub(super) live_release_id: String,
    /// How long the environment was waited for.
    pub(super) waited: SignedDuration,
    /// How large the server takes a release, as far as it says.
    pub(super) limits: Limits,
}

/// Finds the target and asks whether it exists, before anything is hashed.
pub(super) async fn find(app: &App, api: &Api, args: &Args) -> Result<Target, Error> {
    let project = Project::find(args.dir.as_deref(), &app.environment)?;
    let dir = args
        .dir
        .clone()
        .or_else(|| project.dir())
        .unwrap_or_else(|| PathBuf::from("."));
    let site = match project.site(args.site.as_deref(), &app.environment) {
        Some(site) => site,
        None => ask_site(app, api, args.yes).await?,
    };
    let environment = if args.preview {
        None
    } else {
        project.environment(args.environment.as_deref(), &app.environment)
    };
    say(app, &site, environment.as_ref());
    let (site, environment) = (site.value, environment.map(|found| found.value));
    let found = api.read(GetSiteRequest { site: site.clone() }).await;
    let found = explained(api, found, &site, None).await?;
    let (live_release_id, waited) = if let Some(environment) = &environment {
        let place = Place {
            site: site.clone(),
            environment: environment.clone(),
        };
        let (found, waited) = awaited::environment(app, api, &place, args).await?;
        (found.live_release_id, waited)
    } else {
        if !args.lift_hold.is_empty() {
            return Err(Error::wrong(
                "a preview has no hold to lift",
                "Name the environment: --env ENV",
            ));
        }
        (String::new(), SignedDuration::ZERO)
    };
    Ok(Target {
        dir,
        site,
        environment,
        live_release_id,
        waited,
        limits: limits(found.release_limits.unwrap_or_default()),
    })
}

/// The server's limits; none in place of those that it does not tell, for it judges by itself.
fn limits(told: ReleaseLimits) -> Limits {
    let none = Limits::of_sealed();
    let count = |told: Option<i64>| usize::try_from(told?).ok();
    let bytes = |told: Option<i64>| u64::try_from(told?).ok();
    Limits {
        files: count(told.files).unwrap_or(none.files),
        total_bytes: bytes(told.total_bytes).unwrap_or(none.total_bytes),
        file_bytes: bytes(told.file_bytes).unwrap_or(none.file_bytes),
        path_bytes: count(told.path_bytes).unwrap_or(none.path_bytes),
        depth: count(told.depth).unwrap_or(none.depth),
        ..none
    }
}

/// What was not said on the command line itself is shown with who said it.
fn say(app: &App, site: &Found, environment: Option<&Found>) {
    let told = [Some(site), environment]
        .into_iter()
        .flatten()
        .filter(|found| !found.from.starts_with("--"));
    let told: Vec<_> = told
        .map(|found| format!("{} ({})", found.value, found.from))
        .collect();
    if !told.is_empty() {
        app.output.note(&render::deployment::labelled(
            "Target",
            &told.join(" / "),
            "",
            &app.output.look_err(),
        ));
    }
}

async fn ask_site(app: &App, api: &Api, yes: bool) -> Result<Found, Error> {
    let missing = || {
        Error::wrong(
            "which site?",
            "Name it: --site SITE, CANDLEFISH_SITE or `site` in candlefish.toml. All sites: candlefish sites",
        )
    };
    if yes || !app.output.can_ask() {
        return Err(missing());
    }
    let sites = api.list(ListSitesRequest::default(), 20).await?.sites;
    let slugs: Vec<_> = sites.iter().map(|site| site.slug.as_str()).collect();
    let answer = app.output.ask(&format!("Site ({})?", slugs.join(", ")));
    let value = answer
        .filter(|answer| !answer.is_empty())
        .ok_or_else(missing)?;
    Ok(Found {
        value,
        from: "your answer",
    })
}
