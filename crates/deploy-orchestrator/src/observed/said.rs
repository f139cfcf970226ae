//! What the log says of deployments: one line for each decision, once it is committed.

use candlefish_ids::DeploymentId;

use super::Observed;
use crate::{blocker::Blocker, deployment::Deployment, trace};

/// One line about one deployment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Said {
    deployment: DeploymentId,
    /// `site/environment`; empty where the line does not name it.
    place: String,
    what: What,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum What {
    Granted {
        fence: i64,
    },
    Waits(Blocker),
    Live,
    Ended {
        state: &'static str,
        cause: String,
        message: String,
        actor: String,
    },
}

impl Observed {
    /// It has its lane.
    pub(crate) fn granted(deployment: &Deployment) -> Self {
        let fence = deployment.fence;
        Self::said(deployment, What::Granted { fence })
    }

    /// All traffic is on its release.
    pub(crate) fn live(deployment: &Deployment) -> Self {
        Self::said(deployment, What::Live)
    }

    /// It has ended in this state, by this principal or `system`.
    pub(crate) fn ended(deployment: &Deployment, state: &'static str, actor: &str) -> Self {
        let what = What::Ended {
            state,
            cause: deployment.cause.clone(),
            message: deployment.message.clone(),
            actor: actor.to_owned(),
        };
        Self::said(deployment, what)
    }

    /// It waits, and did not wait for a thing of this kind before.
    pub(crate) const fn waits(deployment: DeploymentId, blocker: Blocker) -> Self {
        Self::Said(Said {
            deployment,
            place: String::new(),
            what: What::Waits(blocker),
        })
    }

    fn said(deployment: &Deployment, what: What) -> Self {
        Self::Said(Said {
            deployment: deployment.id,
            place: deployment.place(),
            what,
        })
    }
}

impl Said {
    /// Says it with the deployment's trace, whoever's turn or call led to it.
    pub(super) fn say(&self) {
        trace::about(self.deployment).in_scope(|| self.line());
    }

    fn line(&self) {
        let (id, place) = (self.deployment, &self.place);
        match &self.what {
            What::Granted { fence } => {
                tracing::info!(deployment.id = %id, fence, "{place} is granted its lane");
            }
            What::Waits(blocker) => tracing::info!(
                deployment.id = %id, blocker = blocker.kind.word(), owner = blocker.owner,
                "a deployment waits: {}", blocker.message
            ),
            What::Live => tracing::info!(deployment.id = %id, "{place} is live"),
            What::Ended {
                state,
                cause,
                message,
                actor,
            } => {
                let words = state.replace('_', " ");
                let why = if message.is_empty() { "" } else { ": " };
                tracing::info!(
                    deployment.id = %id, state, cause, actor,
                    "a deployment to {place} has ended as {words}{why}{message}"
                );
            }
        }
    }
}
