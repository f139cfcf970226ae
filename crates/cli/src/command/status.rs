//! `status`: a deployment, an environment, or everything.

use candlefish_ids::DeploymentId;
use candlefish_proto::deploy::{
    GetDeploymentRequest, ListBlockersRequest, ListDeploymentsRequest, ListEnvironmentsRequest,
    ListEnvironmentsResponse, ListSitesRequest,
};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};

use super::subject::{self, Place, explained};
use crate::{
    api::Api,
    app::App,
    error::{Error, Exit},
    project::Project,
    render,
};

/// Waits that a timeline draws, the last ones: nobody looks through more.
const WAITS: usize = 1000;
/// Sites shown when none is named.
const SITES: usize = 50;
/// Calls at a time.
const AT_ONCE: usize = 8;

/// Options of `status`.
#[derive(Debug, clap::Args)]
#[command(before_help = "\
Examples:
  candlefish status                              the site of this tree, or all
  candlefish status docs/production
  candlefish status dep_01k8qx… --timeline       what kept it and each step, for how long")]
pub(crate) struct Args {
    /// A deployment's id, SITE/ENV, or SITE; else what the environment and candlefish.toml say
    subject: Option<String>,
    /// Show what a deployment waited for, and its steps, against time; below that the sums by cause
    #[arg(long)]
    timeline: bool,
    /// Of the newest deployments of an environment, at most this many
    #[arg(long, default_value_t = 5)]
    limit: usize,
}

/// Shows what was named.
pub(crate) async fn run(app: &App, args: Args) -> Result<Exit, Error> {
    let api = app.api()?;
    let subject = match args.subject {
        Some(subject) => Some(subject),
        None => named(app)?,
    };
    match subject {
        Some(id) if id.starts_with("dep_") => deployment(app, &api, &id, args.timeline).await?,
        _ if args.timeline => {
            return Err(Error::wrong(
                "--timeline is of one deployment",
                "Name it: candlefish status dep_… --timeline",
            ));
        }
        Some(place) if place.contains('/') => {
            let place = place.parse().map_err(|words: String| {
                Error::wrong(format!("{place:?} {words}"), "All sites: candlefish sites")
            })?;
            environment(app, &api, place, args.limit).await?;
        }
        Some(site) => environments(app, &api, vec![site]).await?,
        None => {
            let answer = api.list(ListSitesRequest::default(), SITES).await?;
            let slugs = answer.sites.into_iter().map(|site| site.slug);
            environments(app, &api, slugs.collect()).await?;
            if !answer.next_page_token.is_empty() {
                app.output
                    .note("There are more sites: candlefish sites, candlefish status SITE");
            }
        }
    }
    Ok(Exit::Done)
}

/// What the environment variables and the tree say.
fn named(app: &App) -> Result<Option<String>, Error> {
    let project = Project::find(None, &app.environment)?;
    let Some(site) = project.site(None, &app.environment) else {
        return Ok(None);
    };
    let environment = project.environment(None, &app.environment);
    let from = subject::said_by(&site, environment.as_ref());
    let subject = environment.map_or_else(
        || site.value.clone(),
        |environment| format!("{}/{}", site.value, environment.value),
    );
    app.output.note(&format!("  {subject}, as {from}"));
    Ok(Some(subject))
}

async fn deployment(app: &App, api: &Api, id: &str, timeline: bool) -> Result<(), Error> {
    let id: DeploymentId = id.parse().map_err(|error| {
        Error::wrong(
            format!("{id:?} is not a deployment's id: {error}"),
            "The newest deployments of an environment: candlefish status SITE/ENV --limit 20",
        )
    })?;
    let deployment = api
        .read(GetDeploymentRequest { id: id.to_string() })
        .await?;
    let look = app.output.look_out();
    let kept = subject::kept(app, api, &deployment, &look).await;
    // JSON is the deployment alone: its waits are those of GET /v1/deployments/{id}/blockers.
    if timeline && !app.shared.json {
        let request = ListBlockersRequest {
            id: id.to_string(),
            ..Default::default()
        };
        let ledger = api.list(request, WAITS).await?;
        app.show(&deployment, |deployment| {
            render::timeline::text(deployment, &ledger, &kept.lines, &look)
        });
    } else {
        app.show(&deployment, |deployment| {
            render::deployment::full(deployment, &kept, &look)
        });
    }
    Ok(())
}

async fn environment(app: &App, api: &Api, place: Place, limit: usize) -> Result<(), Error> {
    let shown = subject::environment(api, &place).await?;
    let Place { site, environment } = place;
    let request = ListDeploymentsRequest {
        site,
        environment,
        ..Default::default()
    };
    let latest = api.list(request, limit).await?;
    let look = app.output.look_out();
    app.show(&shown, |environment| {
        let list = render::deployment::list(&latest, &look);
        let list = render::limited(list, "deployments", &latest.next_page_token, limit);
        let environment = render::environment::full(environment, &look);
        format!("{environment}\n\n{list}")
    });
    Ok(())
}

async fn environments(app: &App, api: &Api, sites: Vec<String>) -> Result<(), Error> {
    let asked = sites.iter().map(|site| async move {
        let request = ListEnvironmentsRequest {
            site: site.clone(),
            ..Default::default()
        };
        explained(api, api.list(request, usize::MAX).await, site, None).await
    });
    let answers: Vec<_> = stream::iter(asked).buffered(AT_ONCE).try_collect().await?;
    let environments = answers
        .into_iter()
        .flat_map(|answer| answer.environments)
        .collect();
    let all = ListEnvironmentsResponse {
        environments,
        ..Default::default()
    };
    app.show(&all, |all| {
        render::environment::list(all, &app.output.look_out())
    });
    Ok(())
}
