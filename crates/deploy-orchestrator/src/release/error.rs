//! Why a call about releases can fail, and which code that is.

use candlefish_ids::ReleaseId;
use candlefish_runtime::{
    database,
    refusal::{Code, Refusal},
};

use super::store::Ban;
use crate::{blob, ctx::CommitError, idempotency, noun, site};

/// Why a call about releases failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("there is no release {0}")]
    Unknown(ReleaseId),
    #[error("the manifest of {0} is not uploaded yet: ask for what is missing first")]
    ManifestMissing(ReleaseId),
    #[error(
        "of {0} only the commit is known: create the release of that commit with its manifest's digest"
    )]
    Expected(ReleaseId),
    #[error("the manifest of {release} cannot be used")]
    Manifest {
        release: ReleaseId,
        #[source]
        source: candlefish_manifest::Error,
    },
    #[error("the manifest of {0} names no file: there is nothing to serve")]
    Empty(ReleaseId),
    #[error("the content of {path:?}{} is not uploaded yet", beside(*.more))]
    BlobsMissing { path: String, more: usize },
    #[error(
        "the content of {path:?} has {} in the store, not {expected}",
        noun::counted(*.found, "byte")
    )]
    BlobSize {
        path: String,
        found: u64,
        expected: u64,
    },
    #[error("{release} is not rejected by {place}")]
    NotRejected { release: ReleaseId, place: String },
    #[error("{release} is banned already: {}", .ban.words())]
    Banned { release: ReleaseId, ban: Ban },
    #[error("{release} is not banned; to clear a rejection, name its environment")]
    NotBanned { release: ReleaseId },
    #[error(
        "the content of {0} was collected, because nothing needed it any more: deploy the same content again"
    )]
    Collected(ReleaseId),
    #[error("what {0} needs is being looked at anew: seal it again")]
    Uncounted(ReleaseId),
    #[error(transparent)]
    Naming(#[from] blob::Error),
    #[error("use the blob store")]
    Blobs(#[source] candlefish_blobs::Error),
    #[error("use the database")]
    Sql(#[from] sqlx::Error),
    #[error(transparent)]
    Site(#[from] site::Error),
    #[error(transparent)]
    Idempotency(#[from] idempotency::Error),
    #[error(transparent)]
    Commit(#[from] CommitError),
}

/// Those that lack content too.
fn beside(more: usize) -> String {
    match more {
        0 => String::new(),
        more => format!(" and {}", noun::counted(more, "more file")),
    }
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        let words = crate::step::worker::chain(&error);
        match error {
            Error::Unknown(_) => {
                Self::new(Code::NotFound, "release-unknown", &words).field("id", words)
            }
            Error::ManifestMissing(_) => {
                Self::new(Code::FailedPrecondition, "manifest-missing", words)
            }
            Error::Expected(_) => Self::new(Code::FailedPrecondition, "release-expected", words),
            Error::Manifest { .. } => Self::new(Code::InvalidArgument, "manifest-invalid", &words)
                .field("manifest_digest", words),
            Error::Empty(_) => Self::new(Code::InvalidArgument, "release-empty", &words)
                .field("manifest_digest", words),
            Error::BlobsMissing { .. } | Error::BlobSize { .. } => {
                Self::new(Code::FailedPrecondition, "content-missing", words)
            }
            Error::Collected(_) => {
                Self::new(Code::FailedPrecondition, "release-collected", &words).field("id", words)
            }
            Error::Uncounted(_) => Self::new(Code::Aborted, "content-moved", words),
            Error::Naming(blob::Error::Sql(error)) => database::refuse("count blobs", &error),
            Error::NotRejected { .. } => Self::new(Code::FailedPrecondition, "not-rejected", words),
            Error::Banned { .. } => Self::new(Code::FailedPrecondition, "release-banned", words),
            Error::NotBanned { .. } => Self::new(Code::FailedPrecondition, "not-banned", words),
            Error::Blobs(error @ candlefish_blobs::Error::NoBucket { .. }) => {
                tracing::error!(error = words, "the blob store is not there");
                Self::new(Code::Unavailable, "blobs-unavailable", error.to_string())
            }
            Error::Blobs(error) if error.is_transient() => {
                tracing::warn!(error = words, "the blob store did not answer");
                Self::new(
                    Code::Unavailable,
                    "blobs-unavailable",
                    "the blob store does not answer; the same call may succeed later",
                )
            }
            Error::Blobs(_) => Self::new(Code::Internal, "blobs", words),
            Error::Sql(error) => database::refuse("work on a release", &error),
            Error::Commit(error) | Error::Naming(blob::Error::Commit(error)) => error.into(),
            Error::Site(error) => error.into(),
            Error::Idempotency(error) => error.into(),
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
    fn a_bucket_that_is_missing_is_named_to_who_calls() {
        let bucket = "docs".to_owned();
        let fault = Error::Blobs(candlefish_blobs::Error::NoBucket { bucket });
        let refused = tonic::Status::from(fault);
        assert_eq!(refused.code(), tonic::Code::Unavailable);
        assert!(refused.message().contains("\"docs\""), "{refused}");
    }

    #[test]
    fn content_that_is_missing_is_counted_in_words() {
        let words = |more| {
            let path = "index.html".to_owned();
            Error::BlobsMissing { path, more }.to_string()
        };
        for (more, beside) in [(0, ""), (1, " and 1 more file"), (2, " and 2 more files")] {
            let said = format!("the content of \"index.html\"{beside} is not uploaded yet");
            assert_eq!(words(more), said);
        }
    }
}
