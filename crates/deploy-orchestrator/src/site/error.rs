//! Why a call about sites and environments can fail, and which code that is.

use candlefish_runtime::{
    database,
    refusal::{Code, Refusal},
};

use super::{Closing, Hold, store};
use crate::{ctx::CommitError, idempotency, lane};

/// Why a call about sites and environments failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("there is no site {site:?}")]
    UnknownSite { site: String },
    #[error("{}", unknown_environment(.site, .environment, .known))]
    UnknownEnvironment {
        site: String,
        environment: String,
        /// The slugs of those that exist.
        known: Vec<String>,
    },
    #[error("the site {slug:?} exists already")]
    SiteExists { slug: String },
    #[error("{site} has an environment {slug:?} already")]
    EnvironmentExists { site: String, slug: String },
    #[error("the host name {host:?} belongs to another environment already")]
    HostTaken {
        /// Its place in the request.
        place: usize,
        host: String,
    },
    #[error(
        "the content of {slug} comes from its repository, so it needs one: name another, or make a \
         site whose content is uploaded"
    )]
    NeedsRepository { slug: String },
    #[error("you may not make the site {slug:?}: your token is for other sites")]
    OutsideSites { slug: String },
    #[error("{place} belongs to a single preview: it has neither a policy nor a hold of its own")]
    Preview { place: String },
    #[error("{place} takes the pushes of its pull request, and no others")]
    PullRequestPushes { place: String },
    #[error(
        "{place} is no preview: what lasts is not closed. To stop it: candlefish hold set {place} --reason …"
    )]
    NotAPreview { place: String },
    #[error("{place} is closed already: by {by} since {since}, because {reason:?}",
        by = .closed.by, since = .closed.since.timestamp(), reason = .closed.reason)]
    Closed { place: String, closed: Closing },
    #[error(
        "{place} is held already: by {by} since {since}, because {reason:?}",
        by = .hold.by, since = .hold.since.timestamp(), reason = .hold.reason
    )]
    Held { place: String, hold: Hold },
    #[error("{place} is not held")]
    NotHeld { place: String },
    #[error("begin a transaction")]
    Begin(#[source] sqlx::Error),
    #[error(transparent)]
    Commit(#[from] CommitError),
    #[error("lock a lane")]
    LockLane(#[source] sqlx::Error),
    #[error("lock a site")]
    LockSite(#[source] sqlx::Error),
    #[error(transparent)]
    Store(#[from] store::Error),
    #[error(transparent)]
    Idempotency(#[from] idempotency::Error),
    #[error(transparent)]
    Lane(#[from] lane::Error),
}

/// `docs has production and staging, not "prod"`.
fn unknown_environment(site: &str, environment: &str, known: &[String]) -> String {
    match known {
        [] => format!("{site} has no environments yet, so not {environment:?} either"),
        [only] => format!("{site} has only {only}, not {environment:?}"),
        [first @ .., last] => {
            format!(
                "{site} has {} and {last}, not {environment:?}",
                first.join(", ")
            )
        }
    }
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        let words = error.to_string();
        match error {
            Error::UnknownSite { .. } => {
                Self::new(Code::NotFound, "unknown-site", &words).field("site", words)
            }
            Error::UnknownEnvironment { .. } => {
                Self::new(Code::NotFound, "unknown-environment", &words).field("environment", words)
            }
            Error::SiteExists { .. } => {
                Self::new(Code::AlreadyExists, "site-exists", &words).field("slug", words)
            }
            Error::EnvironmentExists { .. } => {
                Self::new(Code::AlreadyExists, "environment-exists", &words).field("slug", words)
            }
            Error::HostTaken { place, .. } => Self::new(Code::AlreadyExists, "host-taken", &words)
                .field(format!("hosts[{place}]"), words),
            Error::NeedsRepository { .. } => {
                Self::new(Code::FailedPrecondition, "needs-repository", &words)
                    .field("repository", words)
            }
            Error::OutsideSites { .. } => Self::new(Code::PermissionDenied, "outside-sites", words),
            Error::Preview { .. } => Self::new(Code::FailedPrecondition, "preview", words),
            Error::PullRequestPushes { .. } => {
                Self::new(Code::FailedPrecondition, "preview", &words).field("pushes", words)
            }
            Error::NotAPreview { .. } => {
                Self::new(Code::FailedPrecondition, "not-a-preview", &words)
                    .field("environment", words)
            }
            Error::Closed { .. } => {
                Self::new(Code::FailedPrecondition, "environment-closed", words)
            }
            Error::Held { .. } => Self::new(Code::FailedPrecondition, "held", words),
            Error::NotHeld { .. } => Self::new(Code::FailedPrecondition, "not-held", words),
            Error::Begin(source) => database::refuse("begin a transaction", &source),
            Error::Commit(error) => error.into(),
            Error::LockLane(source) => database::refuse("lock a lane", &source),
            Error::LockSite(source) => database::refuse("lock a site", &source),
            Error::Store(error) => error.into(),
            Error::Idempotency(error) => error.into(),
            Error::Lane(error) => error.into(),
        }
    }
}

impl From<Error> for tonic::Status {
    fn from(error: Error) -> Self {
        Refusal::from(error).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_environment_is_answered_with_those_that_exist() {
        let words = |known: &[&str]| {
            let known: Vec<String> = known.iter().map(|&slug| slug.to_owned()).collect();
            unknown_environment("docs", "prod", &known)
        };
        assert_eq!(
            words(&["production", "staging"]),
            "docs has production and staging, not \"prod\""
        );
        assert_eq!(words(&["a", "b", "c"]), "docs has a, b and c, not \"prod\"");
        assert_eq!(
            words(&["production"]),
            "docs has only production, not \"prod\""
        );
        assert_eq!(
            words(&[]),
            "docs has no environments yet, so not \"prod\" either"
        );
    }
}
