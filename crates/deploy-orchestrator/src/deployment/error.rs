//! Why a command on a deployment can fail, and which code that is.

use candlefish_clock::Moment;
use candlefish_ids::{DeploymentId, ReleaseId};
use candlefish_runtime::{
    database,
    refusal::{Code, Refusal},
};

use super::{Deployment, plan::Kind, state::InvalidTransition, store};
use crate::{ctx::CommitError, idempotency, release::store::Ban};

/// Why a command on a deployment can fail.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("the transaction did not begin")]
    Begin(#[source] sqlx::Error),
    #[error(transparent)]
    Commit(#[from] CommitError),
    #[error(transparent)]
    Sql(#[from] sqlx::Error),
    #[error(transparent)]
    Store(#[from] store::Error),
    #[error(transparent)]
    Transition(#[from] InvalidTransition),
    #[error(transparent)]
    Idempotency(#[from] idempotency::Error),
    /// What the caller reads is in it already.
    #[error(transparent)]
    Refused(#[from] Refusal),
}

impl Error {
    /// Another transaction held what this one needed, or the database was not there: look again.
    pub(crate) fn is_contention(&self) -> bool {
        self.sql()
            .is_some_and(|error| database::code(error) == Code::Unavailable)
    }

    fn sql(&self) -> Option<&sqlx::Error> {
        match self {
            Self::Begin(error) | Self::Sql(error) | Self::Store(store::Error::Sql(error)) => {
                Some(error)
            }
            Self::Commit(error) => error.sql(),
            _ => None,
        }
    }
}

/// There is no such deployment for this caller.
pub(crate) fn unknown(id: DeploymentId) -> Refusal {
    let words = format!("there is no deployment {id}");
    Refusal::new(Code::NotFound, "deployment-unknown", &words).field("id", words)
}

/// What to type for another one of its kind: a preview is made of the content anew, whether its own is
/// open or closed, and a rollback is asked for again.
pub(super) fn again(deployment: &Deployment) -> String {
    match deployment.kind {
        Kind::Standard => format!("candlefish retry {}", deployment.id),
        Kind::Rollback => format!("candlefish rollback {}", deployment.place()),
        Kind::Preview => format!("candlefish deploy DIR --site {} --preview", deployment.site),
    }
}

/// There is no such release for this caller.
pub(crate) fn unknown_release(id: ReleaseId) -> Refusal {
    Refusal::new(
        Code::InvalidArgument,
        "release-unknown",
        format!("there is no release {id}"),
    )
    .field("release_id", no_release(id))
}

/// What is said of the field.
pub(super) fn no_release(id: ReleaseId) -> String {
    format!("no release {id} in this site")
}

/// A banned release goes nowhere until a person lifts the ban.
pub(super) fn banned(release: ReleaseId, ban: &Ban) -> Refusal {
    let words = format!(
        "{release} is banned {}. Lift the ban first: candlefish releases unban {release} --reason …",
        ban.words()
    );
    Refusal::new(Code::FailedPrecondition, "release-banned", words)
        .field("release_id", format!("banned {}", ban.words()))
}

/// A collected release goes nowhere until its content is uploaded again.
pub(super) fn collected(release: ReleaseId, field: &str, at: Moment, again: &str) -> Refusal {
    let words = format!(
        "the content of {release} was collected at {:.0}, because nothing needed it any more. Deploy the \
         same content again: {again}",
        at.timestamp()
    );
    Refusal::new(Code::FailedPrecondition, "release-collected", &words).field(field, words)
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        match error {
            Error::Refused(refusal) => refusal,
            Error::Idempotency(error) => error.into(),
            Error::Transition(error) => Self::new(
                Code::FailedPrecondition,
                "state-forbids",
                format!("not possible while it is {}", error.from),
            ),
            error => match error.sql() {
                Some(sql) => database::refuse("move a deployment", sql),
                None => Self::new(
                    Code::Internal,
                    "internal",
                    crate::step::worker::chain(&error),
                ),
            },
        }
    }
}

impl From<Error> for tonic::Status {
    fn from(error: Error) -> Self {
        Refusal::from(error).into()
    }
}
