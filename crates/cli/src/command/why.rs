//! `why`: why a deployment is not moving, since when, who can clear it and how.

use std::{collections::BTreeSet, str::FromStr};

use candlefish_proto::deploy::{
    Deployment, GetDeploymentRequest, Lane, ListDeploymentsRequest, ListDeploymentsResponse,
    ListSitesRequest, ListTriggersRequest, ListTriggersResponse, trigger::Outcome,
};

use super::subject::{self, Place, Subject};
use crate::{
    api::Api,
    app::App,
    error::{Error, Exit},
    render,
};

/// Digits of a commit.
const DIGITS: std::ops::RangeInclusive<usize> = 7..=40;
/// Sites that are looked through for a commit that no push told of.
const SITES: usize = 1000;

/// Options of `why`.
#[derive(Debug, clap::Args)]
#[command(
    before_help = "Examples:\n  candlefish why docs/production\n  candlefish why dep_01k8qx…\n  candlefish why 4ac21e0"
)]
pub(crate) struct Args {
    /// A deployment's id, SITE/ENV for the one that acts or waits there, or a commit for all of it
    subject: Asked,
}

/// What is asked about.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Asked {
    Of(Subject),
    Commit(String),
}

impl FromStr for Asked {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let digits = text.bytes().all(|byte| byte.is_ascii_hexdigit());
        if digits && DIGITS.contains(&text.len()) {
            return Ok(Self::Commit(text.to_ascii_lowercase()));
        }
        text.parse()
            .map(Self::Of)
            .map_err(|error: String| format!("{error}, or a commit of 7 to 40 digits"))
    }
}

/// Says why.
pub(crate) async fn run(app: &App, args: Args) -> Result<Exit, Error> {
    let subject = match args.subject {
        Asked::Of(subject) => subject,
        Asked::Commit(commit) => return of_commit(app, commit).await,
    };
    let api = app.api()?;
    let look = app.output.look_out();
    let Some((deployment, lane)) = subject::current(&api, &subject).await? else {
        if let Subject::Environment(place) = &subject {
            let environment = subject::environment(&api, place).await?;
            app.show(&environment, |environment| {
                render::blockers::idle(environment, &look)
            });
        }
        return Ok(Exit::Done);
    };
    let lane = match lane {
        None => lane_of(&api, &deployment).await,
        lane => lane,
    };
    app.show(&deployment, |deployment| {
        render::blockers::why(deployment, lane.as_ref(), &look)
    });
    Ok(Exit::Done)
}

/// What it waits in, while it may.
async fn lane_of(api: &Api, deployment: &Deployment) -> Option<Lane> {
    if render::words::is_terminal(deployment.state()) {
        return None;
    }
    let (site, environment) = (deployment.site.clone(), deployment.environment.clone());
    // A preview's lane is nobody else's: without one there is nothing before it.
    subject::lane(api, &Place { site, environment }).await.ok()
}

/// Why each deployment of a commit is not moving; when none is open, what became of its pushes.
async fn of_commit(app: &App, commit: String) -> Result<Exit, Error> {
    let api = app.api()?;
    let look = app.output.look_out();
    let request = ListTriggersRequest {
        commit: commit.clone(),
        ..ListTriggersRequest::default()
    };
    let pushes = api.list(request, usize::MAX).await?;
    let mut open = Vec::new();
    for id in open_of(&api, &commit, &pushes).await? {
        let deployment = api.read(GetDeploymentRequest { id }).await?;
        let lane = lane_of(&api, &deployment).await;
        open.push((deployment, lane));
    }
    if open.is_empty() {
        let known = !pushes.triggers.is_empty();
        app.show(&pushes, |pushes| render::push::text(&commit, pushes, &look));
        return Ok(if known { Exit::Done } else { Exit::Failed });
    }
    let all = ListDeploymentsResponse {
        deployments: open.iter().map(|(one, _)| one.clone()).collect(),
        ..ListDeploymentsResponse::default()
    };
    app.show(&all, |_all| {
        let told = open
            .iter()
            .map(|(one, lane)| render::blockers::why_there(one, lane.as_ref(), &look));
        told.collect::<Vec<_>>().join("\n\n")
    });
    Ok(Exit::Done)
}

/// The open deployments of a commit: those that pushes made, and those that calls asked for.
async fn open_of(
    api: &Api,
    commit: &str,
    pushes: &ListTriggersResponse,
) -> Result<BTreeSet<String>, Error> {
    let is_open = |state| !render::words::is_terminal(state);
    let mut open: BTreeSet<String> = pushes
        .triggers
        .iter()
        .filter(|one| one.outcome() == Outcome::Created && is_open(one.deployment_state()))
        .map(|one| one.deployment_id.clone())
        .collect();
    let told = pushes.triggers.iter().map(|one| one.commit.as_str());
    let whole: BTreeSet<&str> = told
        .chain([commit])
        .filter(|one| one.len() == *DIGITS.end())
        .collect();
    if whole.is_empty() {
        return Ok(open);
    }
    let sites = api.list(ListSitesRequest::default(), SITES).await?.sites;
    for (site, commit) in sites
        .iter()
        .flat_map(|site| whole.iter().map(move |commit| (site, *commit)))
    {
        let request = ListDeploymentsRequest {
            site: site.slug.clone(),
            commit: commit.to_owned(),
            ..ListDeploymentsRequest::default()
        };
        let listed = api.list(request, usize::MAX).await?.deployments;
        let listed = listed.into_iter().filter(|one| is_open(one.state()));
        open.extend(listed.map(|one| one.id));
    }
    Ok(open)
}
