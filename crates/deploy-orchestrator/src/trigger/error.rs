//! Why a delivery is not decided yet; it is tried again.

use crate::{deployment, site};

/// Why a step towards a decision failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("read or write triggers")]
    Sql(#[from] sqlx::Error),
    #[error("ask the gateway")]
    Gateway(#[source] tonic::Status),
    #[error("accept or end a deployment")]
    Deployment(#[from] deployment::Error),
    #[error("read an environment")]
    Site(#[source] site::store::Error),
    #[error("the transaction did not commit")]
    Commit(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl Error {
    /// What did not commit.
    pub(super) fn commit(error: impl std::error::Error + Send + Sync + 'static) -> Self {
        Self::Commit(Box::new(error))
    }
}
