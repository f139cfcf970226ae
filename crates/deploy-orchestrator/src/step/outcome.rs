//! What one turn of a step came to.

use std::time::Duration;

use serde_json::Value;

use crate::{blocker::Blocker, deployment::state::Cause};

/// What one turn of a step came to.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Outcome {
    /// Done; the message says what it found.
    Done { message: String },
    /// Not yet. The worker is free until then.
    Wait(Wait),
    /// Failed for good; the deployment is undone for this cause.
    Failed { cause: Cause, message: String },
}

/// What a step waits for.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Wait {
    pub(crate) again_in: Duration,
    /// Look again at once when an edge reports.
    pub(crate) on_edges: bool,
    pub(crate) message: String,
    /// None for a wait too short to name.
    pub(crate) blocker: Option<Blocker>,
    /// What the step must know at its next turn.
    pub(crate) detail: Value,
}

impl Outcome {
    pub(crate) fn done(message: impl Into<String>) -> Self {
        Self::Done {
            message: message.into(),
        }
    }

    pub(crate) fn failed(cause: Cause, message: impl Into<String>) -> Self {
        Self::Failed {
            cause,
            message: message.into(),
        }
    }
}
