//! Sites, and the environments in which they run.
//!
//! An environment carries the policy by which deployments go, host names of its own, what is live
//! on it, and its hold. It is made together with its lane, and everything that changes it later
//! holds that lane, so what an environment says and what acts on it never disagree.
//!
//! Invariants: slugs and host names say one thing each over the whole platform ([`host`]); a caller
//! who may not see a site learns nothing of it, not even that it is there; a hold says who set it,
//! when and why.
//!
//! This room moves no traffic and starts no deployment: lifting a hold only lets the lane grant
//! what is pending.

pub(crate) mod create;
pub(crate) mod environment;
pub(crate) mod error;
pub(crate) mod event;
pub(crate) mod hold;
pub(crate) mod host;
pub(crate) mod policy;
pub(crate) mod previews;
pub(crate) mod pushes;
pub(crate) mod rpc;
pub(crate) mod store;
pub(crate) mod strategy;
pub(crate) mod update;
pub(crate) mod view;

mod duration;

use candlefish_clock::Moment;
use candlefish_ids::{DeploymentId, EnvironmentId, ReleaseId, SiteId};
use candlefish_runtime::{identity::Caller, refusal::Refusal};
use sqlx::{PgConnection, PgPool};

pub(crate) use error::Error;

use self::{policy::Policy, previews::PreviewRule, pushes::PushRule};
use crate::{field::Faults, stop::Stop};

/// Something that is deployed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Site {
    pub(crate) id: SiteId,
    pub(crate) slug: String,
    pub(crate) name: String,
    /// `owner/name` on GitHub, or empty.
    pub(crate) repository: String,
    pub(crate) source: Source,
    /// Which pull requests get a preview, and how long previews stay.
    pub(crate) previews: PreviewRule,
    /// The folder of the repository that is the site; empty for its root.
    pub(crate) folder: String,
    pub(crate) created_at: Moment,
    pub(crate) created_by: String,
    /// Rises with every change.
    pub(crate) version: i32,
}

/// Where the content of a pushed commit comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Source {
    /// Whoever builds it uploads it.
    Upload,
    /// It is a folder of the repository: [`crate::github::archive`] fetches it.
    Repository,
}

impl Source {
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Upload => "upload",
            Self::Repository => "repository",
        }
    }

    /// A word that a newer release wrote is no business of ours.
    pub(crate) fn from_word(word: &str) -> Self {
        if word == Self::Repository.word() {
            Self::Repository
        } else {
            Self::Upload
        }
    }
}

/// What an environment is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A lasting one.
    Standard,
    /// One that belongs to a single preview deployment.
    Preview,
    /// The preview of the pull request of this number.
    PullRequest(i32),
}

impl Kind {
    /// It may be closed.
    pub(crate) const fn is_preview(self) -> bool {
        matches!(self, Self::Preview | Self::PullRequest(_))
    }
}

/// Where a site runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Environment {
    pub(crate) id: EnvironmentId,
    pub(crate) site_id: SiteId,
    /// The slug of its site.
    pub(crate) site: String,
    pub(crate) slug: String,
    pub(crate) kind: Kind,
    pub(crate) policy: Policy,
    /// Which pushes deploy here by themselves.
    pub(crate) pushes: PushRule,
    /// Host names of its own, besides the platform's for it.
    pub(crate) hosts: Vec<String>,
    pub(crate) live: Option<Live>,
    pub(crate) hold: Option<Hold>,
    /// What stops the line here: its site's stop, one of everything, or both.
    pub(crate) stops: Vec<Stop>,
    /// The deployment that acts on its lane.
    pub(crate) acting: Option<DeploymentId>,
    /// Deployments that wait for its lane.
    pub(crate) pending_count: i64,
    /// What the periodic check found; empty while all releases to keep are restorable.
    pub(crate) not_restorable: String,
    pub(crate) restorable_checked_at: Option<Moment>,
    pub(crate) version: i32,
    /// Set once a preview is closed.
    pub(crate) closed: Option<Closing>,
}

/// What is live on an environment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Live {
    pub(crate) release_id: ReleaseId,
    /// The deployment that made it live.
    pub(crate) deployment_id: Option<DeploymentId>,
    pub(crate) since: Moment,
}

/// Nothing but a rollback deploys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Hold {
    pub(crate) since: Moment,
    /// The principal who set it.
    pub(crate) by: String,
    pub(crate) reason: String,
    /// The rollback that set it.
    pub(crate) deployment_id: Option<DeploymentId>,
}

/// The end of a preview.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Closing {
    pub(crate) since: Moment,
    /// The principal; `system` for its age.
    pub(crate) by: String,
    pub(crate) reason: String,
}

impl Environment {
    /// `docs/production`, as people write it.
    pub(crate) fn place(&self) -> String {
        format!("{}/{}", self.site, self.slug)
    }
}

/// The site of this slug, if the caller may see it.
pub(crate) async fn find(
    conn: &mut PgConnection,
    slug: &str,
    caller: &Caller,
) -> Result<Site, Error> {
    let site = if caller.sees(slug) {
        store::find_site(conn, slug).await?
    } else {
        None
    };
    site.ok_or_else(|| Error::UnknownSite {
        site: slug.to_owned(),
    })
}

/// The environment of these slugs, if the caller may see its site.
pub(crate) async fn find_environment(
    conn: &mut PgConnection,
    site: &str,
    environment: &str,
    caller: &Caller,
) -> Result<Environment, Error> {
    let found = if caller.sees(site) {
        store::find_environment(conn, site, environment).await?
    } else {
        None
    };
    if let Some(environment) = found {
        return Ok(environment);
    }
    let site = find(conn, site, caller).await?;
    let known = store::list_standard_slugs(conn, site.id).await?;
    Err(Error::UnknownEnvironment {
        site: site.slug,
        environment: environment.to_owned(),
        known,
    })
}

/// Names a site or an environment that is not there beside the faults of a request that has some. It
/// is refused in any case, so nothing is locked; a request without faults is looked after by its
/// command, in the transaction. Either slug may be empty. Where the database cannot be asked, what
/// was known before is all that is said.
pub(crate) async fn name_absent(
    pool: &PgPool,
    faults: &mut Faults,
    caller: &Caller,
    site: &str,
    environment: &str,
) {
    if faults.is_empty() || site.is_empty() || faults.names("site") {
        return;
    }
    let Ok(mut conn) = pool.acquire().await else {
        return;
    };
    let looked = if environment.is_empty() || faults.names("environment") {
        find(&mut conn, site, caller).await.map(drop)
    } else {
        let found = find_environment(&mut conn, site, environment, caller).await;
        found.map(drop)
    };
    if let Err(error @ (Error::UnknownSite { .. } | Error::UnknownEnvironment { .. })) = looked {
        for absent in Refusal::from(error).violations() {
            faults.add(absent.field.as_str(), absent.description.as_str());
        }
    }
}
