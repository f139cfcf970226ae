//! What a command is about: a deployment by its id, an environment as `SITE/ENV`, or a commit by its
//! digits.

use std::str::FromStr;

use candlefish_ids::DeploymentId;
use candlefish_proto::deploy::{
    Deployment, Environment, GetDeploymentRequest, GetEnvironmentRequest, GetLaneRequest, Lane,
    ListEnvironmentsRequest, ListSitesRequest, policy::Order,
};
use tonic::Code;

use crate::{
    api::Api,
    app::App,
    error::Error,
    project::{Found, Project},
    render::{
        self, Look, blockers,
        ending::{self, Now},
        environment::Kept,
    },
    suggest::nearest,
};

/// Names that are looked through for the one that was meant.
const KNOWN: usize = 1000;

/// An environment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    /// The slug of its site.
    pub(crate) site: String,
    /// Its slug.
    pub(crate) environment: String,
}

impl FromStr for Place {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once('/') {
            Some((site, environment))
                if !site.is_empty() && !environment.is_empty() && !environment.contains('/') =>
            {
                Ok(Self {
                    site: site.to_owned(),
                    environment: environment.to_owned(),
                })
            }
            _ => Err("must be SITE/ENV, such as docs/production".to_owned()),
        }
    }
}

/// A deployment or an environment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Subject {
    /// `dep_…`.
    Deployment(DeploymentId),
    /// `SITE/ENV`.
    Environment(Place),
}

impl FromStr for Subject {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.starts_with("dep_") {
            return text
                .parse()
                .map(Self::Deployment)
                .map_err(|error| format!("is not a deployment's id: {error}"));
        }
        // What makes a text no place is less of use here than what would have been accepted.
        text.parse().map(Self::Environment).ok().ok_or_else(|| {
            "must be a deployment's id (dep_…) or SITE/ENV, such as docs/production".to_owned()
        })
    }
}

/// A commit, or its first digits: as many as the API takes, in lower case.
pub(super) fn commit(text: &str) -> Result<String, String> {
    let is_hex = text.bytes().all(|byte| byte.is_ascii_hexdigit());
    if is_hex && (7..=64).contains(&text.len()) {
        return Ok(text.to_ascii_lowercase());
    }
    Err("must be a commit of 7 to 64 hex digits".to_owned())
}

/// The environment that was named; else the one that the environment variables and `candlefish.toml`
/// name, and who said so.
pub(super) fn place(app: &App, named: Option<Place>) -> Result<Place, Error> {
    if let Some(place) = named {
        return Ok(place);
    }
    let project = Project::find(None, &app.environment)?;
    let site = project.site(None, &app.environment);
    let environment = project.environment(None, &app.environment);
    let Some((site, environment)) = site.zip(environment) else {
        return Err(Error::wrong(
            "which environment?",
            "Name it: SITE/ENV, CANDLEFISH_SITE and CANDLEFISH_ENVIRONMENT, or `site` and `environment` in \
             candlefish.toml. All of them: candlefish status",
        ));
    };
    let from = said_by(&site, Some(&environment));
    let (site, environment) = (site.value, environment.value);
    app.output
        .note(&format!("  {site}/{environment}, as {from}"));
    Ok(Place { site, environment })
}

/// Who named a site, and an environment if one is named: `candlefish.toml and CANDLEFISH_ENVIRONMENT say`.
pub(super) fn said_by(site: &Found, environment: Option<&Found>) -> String {
    match environment.filter(|environment| environment.from != site.from) {
        Some(environment) => format!("{} and {} say", site.from, environment.from),
        None => format!("{} says", site.from),
    }
}

/// As [`place`], of what may be a deployment.
pub(super) fn named(app: &App, named: Option<Subject>) -> Result<Subject, Error> {
    match named {
        Some(subject) => Ok(subject),
        None => place(app, None).map(Subject::Environment),
    }
}

/// The deployment that a subject names: of an environment the one that acts, else the first that
/// waits. `None` when nothing does.
pub(super) async fn current(
    api: &Api,
    subject: &Subject,
) -> Result<Option<(Deployment, Option<Lane>)>, Error> {
    match subject {
        Subject::Deployment(id) => {
            let deployment = api
                .read(GetDeploymentRequest { id: id.to_string() })
                .await?;
            Ok(Some((deployment, None)))
        }
        Subject::Environment(place) => {
            let lane = lane(api, place).await?;
            let acting = Some(&lane.acting_deployment_id).filter(|id| !id.is_empty());
            let Some(id) = acting
                .or_else(|| lane.pending_deployment_ids.first())
                .cloned()
            else {
                return Ok(None);
            };
            let deployment = api.read(GetDeploymentRequest { id }).await?;
            Ok(Some((deployment, Some(lane))))
        }
    }
}

/// The environment at a place.
pub(super) async fn environment(api: &Api, place: &Place) -> Result<Environment, Error> {
    let request = GetEnvironmentRequest {
        site: place.site.clone(),
        environment: place.environment.clone(),
    };
    explained(
        api,
        api.read(request).await,
        &place.site,
        Some(&place.environment),
    )
    .await
}

/// The environment of a deployment, or why it could not be read.
pub(super) async fn environment_of(
    api: &Api,
    deployment: &Deployment,
) -> Result<Environment, String> {
    let place = Place {
        site: deployment.site.clone(),
        environment: deployment.environment.clone(),
    };
    let read = environment(api, &place).await;
    read.map_err(|error| error.to_string())
}

/// What is so now where a deployment went; asked only where what is said of it depends on that.
pub(super) async fn now(api: &Api, deployment: &Deployment) -> Now {
    if !ending::asks_for_now(deployment) {
        return Now::Free;
    }
    Now::of(deployment, &environment_of(api, deployment).await)
}

/// The order of a deployment's environment, or why it could not be read; asked only where what is said of
/// the deployment depends on it.
pub(super) async fn order(api: &Api, deployment: &Deployment) -> Option<Result<Order, String>> {
    if !blockers::asks_for_order(deployment) {
        return None;
    }
    let read = environment_of(api, deployment).await;
    Some(read.map(|environment| environment.policy.unwrap_or_default().order()))
}

/// What holds and stops the environment of a deployment, in lines for below that deployment. That it
/// could not be read is one of them: the answer about the deployment stands. JSON is the deployment
/// alone, and nothing is asked for it.
pub(super) async fn kept(app: &App, api: &Api, deployment: &Deployment, look: &Look) -> Kept {
    if app.shared.json {
        return Kept::default();
    }
    let read = environment_of(api, deployment).await;
    render::environment::kept(deployment, &read, look)
}

/// The lane of an environment.
pub(super) async fn lane(api: &Api, place: &Place) -> Result<Lane, Error> {
    let request = GetLaneRequest {
        site: place.site.clone(),
        environment: place.environment.clone(),
    };
    explained(
        api,
        api.read(request).await,
        &place.site,
        Some(&place.environment),
    )
    .await
}

/// Makes of "not found" which name it was, and which was perhaps meant.
pub(super) async fn explained<T>(
    api: &Api,
    answer: Result<T, Error>,
    site: &str,
    environment: Option<&str>,
) -> Result<T, Error> {
    match answer {
        Err(Error::Refused(status)) if status.code() == Code::NotFound => {
            // When even the lists are refused, the first answer says more.
            let unknown = unknown(api, site, environment).await.ok().flatten();
            Err(unknown.unwrap_or(Error::Refused(status)))
        }
        other => other,
    }
}

async fn unknown(api: &Api, site: &str, environment: Option<&str>) -> Result<Option<Error>, Error> {
    let sites = api.list(ListSitesRequest::default(), KNOWN).await?.sites;
    let slugs = || sites.iter().map(|site| site.slug.as_str());
    if !slugs().any(|slug| slug == site) {
        let near = nearest(site, slugs()).map(str::to_owned);
        return Ok(Some(Error::UnknownSite {
            site: site.to_owned(),
            near,
        }));
    }
    let Some(environment) = environment else {
        return Ok(None);
    };
    let request = ListEnvironmentsRequest {
        site: site.to_owned(),
        ..Default::default()
    };
    let environments = api.list(request, KNOWN).await?.environments;
    let known: Vec<String> = environments
        .into_iter()
        .map(|environment| environment.slug)
        .collect();
    if known.iter().any(|slug| slug == environment) {
        return Ok(None);
    }
    let near = nearest(environment, known.iter().map(String::as_str)).map(str::to_owned);
    Ok(Some(Error::UnknownEnvironment {
        site: site.to_owned(),
        environment: environment.to_owned(),
        near,
        known,
    }))
}
