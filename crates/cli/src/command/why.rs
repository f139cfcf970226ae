//! `why`: why a deployment is not moving, since when, who can clear it and how.

use std::{collections::BTreeSet, str::FromStr};

use candlefish_proto::deploy::{
    Deployment, GetDeploymentRequest, Lane, ListDeploymentsRequest, ListDeploymentsResponse,
    ListTriggersRequest, ListTriggersResponse, deployment::State, trigger::Outcome,
};

use super::{
    push,
    subject::{self, Place, Subject},
};
use crate::{
    api::Api,
    app::App,
    error::{Error, Exit},
    git::Commit,
    render::{self, lane::Around},
};

/// Deployments of each state that are looked through for the first digits of one.
const NEWEST: usize = 1000;
/// The newest of all, then those that are open: what was asked for long ago may wait still.
const STATES: [State; 5] = [
    State::Unspecified,
    State::Pending,
    State::Running,
    State::Waiting,
    State::Cancelling,
];

/// Options of `why`.
#[derive(Debug, clap::Args)]
#[command(
    before_help = "Examples:\n  candlefish why docs/production\n  candlefish why dep_01k8qx…\n  candlefish why 4ac21e0",
    after_help = "With --json: of a commit `deployments`, or `triggers` where there are none; else one \
                  deployment (id dep_…) or, where nothing acts or waits, the environment (id env_…)"
)]
pub(crate) struct Args {
    /// A deployment's id, SITE/ENV for the one that acts or waits there, or a commit for all of it; else
    /// the environment that the environment variables and candlefish.toml say
    subject: Option<Asked>,
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
        if let Ok(commit) = subject::commit(text) {
            return Ok(Self::Commit(commit));
        }
        text.parse()
            .map(Self::Of)
            .map_err(|error: String| format!("{error}, or a commit of 7 to 64 hex digits"))
    }
}

/// Says why.
pub(crate) async fn run(app: &App, args: Args) -> Result<Exit, Error> {
    let subject = match args.subject {
        Some(Asked::Commit(commit)) => return of_commit(app, commit).await,
        Some(Asked::Of(subject)) => subject,
        None => subject::named(app, None)?,
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
    let around = around(&api, &deployment, lane).await;
    app.show(&deployment, |deployment| {
        render::blockers::why(deployment, &around, &look)
    });
    Ok(Exit::Done)
}

/// The lane around it, read unless it is given. What cannot be read is told as that: the answer about
/// the deployment stands.
async fn around(api: &Api, deployment: &Deployment, lane: Option<Lane>) -> Around {
    if render::words::is_terminal(deployment.state()) {
        return Around::Ended(Box::pin(subject::now(api, deployment)).await);
    }
    let lane = if let Some(lane) = lane {
        lane
    } else {
        let (site, environment) = (deployment.site.clone(), deployment.environment.clone());
        match subject::lane(api, &Place { site, environment }).await {
            Ok(lane) => lane,
            Err(error) => return Around::Unread(error.to_string()),
        }
    };
    let first = lane.pending_deployment_ids.first();
    let first = match first.filter(|id| **id != deployment.id).cloned() {
        Some(id) => {
            let read = api.read(GetDeploymentRequest { id }).await;
            Some(read.map(Box::new).map_err(|error| error.to_string()))
        }
        None => None,
    };
    let lane = Box::new(lane);
    let order = Box::pin(subject::order(api, deployment)).await;
    Around::Shared { lane, first, order }
}

/// Why each deployment of a commit is not moving; when none is open, what became of its pushes, or
/// of what was asked for without one.
async fn of_commit(app: &App, commit: String) -> Result<Exit, Error> {
    let api = app.api()?;
    let look = app.output.look_out();
    let request = ListTriggersRequest {
        commit: commit.clone(),
        ..ListTriggersRequest::default()
    };
    let pushes = api.list(request, usize::MAX).await?;
    let (mut found, ended) = deployments_of(&api, &commit, &pushes).await?;
    if found.is_empty() && !pushes.triggers.is_empty() {
        let there = Box::pin(push::there(app, &api, &pushes)).await;
        app.show(&pushes, |pushes| {
            render::push::text(&commit, pushes, &there, &look)
        });
        return Ok(Exit::Done);
    }
    if found.is_empty() {
        found = ended;
    }
    if found.is_empty() {
        app.show(&pushes, |none| render::push::nothing(&commit, none, &look));
        return Ok(Exit::Failed);
    }
    let mut told = Vec::new();
    let mut all = ListDeploymentsResponse::default();
    for id in found {
        let deployment = api.read(GetDeploymentRequest { id }).await?;
        let around = around(&api, &deployment, None).await;
        told.push(render::blockers::why_there(&deployment, &around, &look));
        all.deployments.push(deployment);
    }
    told.extend(render::push::undecided(&pushes, &look));
    app.show(&all, |_all| told.join("\n\n"));
    Ok(Exit::Done)
}

/// The deployments of a commit: those that are open, made by pushes or asked for by calls; and the
/// newest that has ended of each environment.
async fn deployments_of(
    api: &Api,
    commit: &str,
    pushes: &ListTriggersResponse,
) -> Result<(BTreeSet<String>, BTreeSet<String>), Error> {
    let is_open = |state| !render::words::is_terminal(state);
    let mut open: BTreeSet<String> = pushes
        .triggers
        .iter()
        .filter(|one| one.outcome() == Outcome::Created && is_open(one.deployment_state()))
        .map(|one| one.deployment_id.clone())
        .collect();
    let (mut ended, mut places) = (BTreeSet::new(), BTreeSet::new());
    for commit in whole(api, commit, pushes).await? {
        let request = ListDeploymentsRequest {
            commit,
            ..ListDeploymentsRequest::default()
        };
        // Newest first.
        for one in api.list(request, usize::MAX).await?.deployments {
            if is_open(one.state()) {
                open.insert(one.id);
            } else if places.insert((one.site, one.environment)) {
                ended.insert(one.id);
            }
        }
    }
    Ok((open, ended))
}

/// The whole commits that begin with these digits: pushes tell them, and where no push came, the
/// deployments that were asked for.
async fn whole(
    api: &Api,
    commit: &str,
    pushes: &ListTriggersResponse,
) -> Result<BTreeSet<String>, Error> {
    let is_whole = |one: &str| Commit::of_hash(one).is_some();
    let told = pushes.triggers.iter().map(|one| one.commit.as_str());
    let mut whole: BTreeSet<String> = told
        .chain([commit])
        .filter(|one| is_whole(one))
        .map(str::to_owned)
        .collect();
    if !whole.is_empty() {
        return Ok(whole);
    }
    for state in STATES {
        let request = ListDeploymentsRequest {
            state: state.into(),
            ..ListDeploymentsRequest::default()
        };
        let listed = api.list(request, NEWEST).await?.deployments;
        let commits = listed
            .into_iter()
            .filter_map(|one| Some(one.release?.commit));
        whole.extend(commits.filter(|one| is_whole(one) && one.starts_with(commit)));
    }
    Ok(whole)
}
