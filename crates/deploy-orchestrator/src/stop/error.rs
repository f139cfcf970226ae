//! Why a call about stops can fail, and which code that is.

use candlefish_clock::Moment;
use candlefish_ids::StopId;
use candlefish_runtime::{
    database,
    refusal::{Code, Refusal},
};

use super::Stop;
use crate::{ctx::CommitError, idempotency, site};

/// Why a call about stops failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("there is no stop {0}")]
    Unknown(StopId),
    #[error(
        "{scope} is stopped already: by {by} until {until:.0}, because {reason:?}; to change it, lift \
         it first: {lift}",
        scope = .0.scope(), by = .0.by, until = .0.until.timestamp(), reason = .0.reason,
        lift = .0.lift_command()
    )]
    Stopped(Box<Stop>),
    #[error("{id} was lifted by {by} at {at:.0}", at = .at.timestamp())]
    Ended { id: StopId, by: String, at: Moment },
    #[error("must be in the future, and at most 7 days ahead: it is {:.0} here", .now.timestamp())]
    Until { now: Moment },
    #[error("your token is for some sites alone: it does not reach a stop of everything")]
    OutsideSites,
    #[error("use the database")]
    Sql(#[from] sqlx::Error),
    #[error(transparent)]
    Site(#[from] site::Error),
    #[error(transparent)]
    SiteStore(#[from] site::store::Error),
    #[error(transparent)]
    Idempotency(#[from] idempotency::Error),
    #[error(transparent)]
    Commit(#[from] CommitError),
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        let words = error.to_string();
        match error {
            Error::Unknown(_) => {
                Self::new(Code::NotFound, "stop-unknown", &words).field("id", words)
            }
            Error::Stopped(_) => Self::new(Code::FailedPrecondition, "stopped", words),
            Error::Ended { .. } => Self::new(Code::FailedPrecondition, "stop-ended", words),
            Error::Until { .. } => Self::new(
                Code::InvalidArgument,
                "invalid-fields",
                "the request has 1 fault",
            )
            .field("until", words),
            Error::OutsideSites => Self::new(Code::PermissionDenied, "outside-sites", words),
            Error::Sql(error) => database::refuse("set or lift a stop", &error),
            Error::Site(error) => error.into(),
            Error::SiteStore(error) => error.into(),
            Error::Idempotency(error) => error.into(),
            Error::Commit(error) => error.into(),
        }
    }
}

impl From<Error> for tonic::Status {
    fn from(error: Error) -> Self {
        Refusal::from(error).into()
    }
}
