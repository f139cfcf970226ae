//! The deployment: the act of making one release live in one environment.
//!
//! [`state`] says which moves are legal and what must follow; [`plan`] turns a strategy into steps.
//! Each command file owns its transaction: it locks the lane, then the deployment, reads the
//! database's clock once, decides, and writes deployment, steps, blockers and events in one commit.
//!
//! Invariants: a deployment ends in exactly one terminal state with exactly one terminal event; it
//! acts only while it holds its lane's fence; nothing moves traffic but a commit that holds the lane.
//! This room fetches nothing and moves no traffic itself: the steps do.

pub(crate) mod accept;
pub(crate) mod advance;
pub(crate) mod apply;
pub(crate) mod create;
pub(crate) mod error;
pub(crate) mod event;
mod forecast;
mod limit;
pub(crate) mod pin;
pub(crate) mod plan;
pub(crate) mod push;
pub(crate) mod retry;
pub(crate) mod roll_back;
pub(crate) mod rpc;
pub(crate) mod state;
pub(crate) mod stop;
pub(crate) mod store;
pub(crate) mod target;
pub(crate) mod together;
pub(crate) mod view;
pub(crate) mod watch;

use std::time::Duration;

use candlefish_clock::Moment;
use candlefish_ids::{DeploymentId, EnvironmentId, ReleaseId, SiteId};

pub(crate) use error::Error;

use self::{
    pin::Pin,
    plan::Kind,
    state::{Ending, Facts, State},
};
use crate::site::{policy::Policy, strategy::Strategy};

/// A deployment as its row says.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Deployment {
    pub(crate) id: DeploymentId,
    pub(crate) site_id: SiteId,
    pub(crate) site: String,
    pub(crate) environment_id: EnvironmentId,
    pub(crate) environment: String,
    pub(crate) release_id: ReleaseId,
    pub(crate) kind: Kind,
    pub(crate) strategy: Strategy,
    pub(crate) policy: Policy,
    pub(crate) state: State,
    pub(crate) cause: String,
    pub(crate) message: String,
    pub(crate) fence: i64,
    pub(crate) version: i32,
    pub(crate) pin: Option<Pin>,
    pub(crate) weight: i32,
    pub(crate) created_at: Moment,
    pub(crate) created_by: String,
    pub(crate) deadline_at: Option<Moment>,
    /// What was left of the deadline when a wait for a person paused it.
    pub(crate) deadline_left: Option<Duration>,
    pub(crate) previous_release_id: Option<ReleaseId>,
    pub(crate) retry_of: Option<DeploymentId>,
    pub(crate) leaves_release_id: Option<ReleaseId>,
    pub(crate) superseded_by: Option<DeploymentId>,
    pub(crate) reason: String,
    pub(crate) target_confirmed: Option<bool>,
    pub(crate) trace_id: String,
    pub(crate) span_id: String,
}

impl Deployment {
    /// What the state machine must know besides the state.
    pub(crate) fn facts(&self) -> Facts {
        Facts {
            can_return: self.previous_release_id.is_some(),
            stays: self.previous_release_id == Some(self.release_id),
            is_rollback: self.kind == Kind::Rollback,
        }
    }

    /// The other release that visitors had until it: what a rollback leaves, which may never have become
    /// the environment's, or what was live before. None before it is known, and where there is none.
    pub(crate) fn replaced(&self) -> Option<ReleaseId> {
        let before = [self.leaves_release_id, self.previous_release_id];
        let mut before = before.into_iter().flatten();
        before.find(|before| *before != self.release_id)
    }

    /// The release that its undo takes from visitors: its own, or what a rollback was to leave that ends
    /// before it moved any traffic. None where they keep it, as what an earlier rollback went to.
    pub(crate) fn given_up(&self) -> Option<ReleaseId> {
        let left = self.leaves_release_id.filter(|_left| !self.state.pivoted());
        let given_up = left.unwrap_or(self.release_id);
        (Some(given_up) != self.previous_release_id).then_some(given_up)
    }

    /// The release that a rollback could not go to, which failed before it moved any traffic. None where a
    /// person ended it: nothing is known against its release then.
    pub(crate) fn not_reached(&self) -> Option<ReleaseId> {
        let fails = matches!(
            self.state,
            State::Cancelling {
                ends: Ending::Failed,
                ..
            }
        );
        let is_it = self.kind == Kind::Rollback && fails && !self.state.pivoted();
        is_it.then_some(self.release_id)
    }

    /// How many live edges its steps need. A rollback goes on with what there is: what visitors get hurts
    /// them now, on few edges as on many.
    pub(crate) fn needed_edges(&self) -> usize {
        let needed = usize::try_from(self.policy.min_edges).unwrap_or(1);
        match self.kind {
            Kind::Rollback => needed.min(1),
            Kind::Standard | Kind::Preview => needed,
        }
    }

    /// `docs/production`, or `a preview of docs`.
    pub(crate) fn place(&self) -> String {
        match self.kind {
            Kind::Preview => format!("a preview of {}", self.site),
            Kind::Standard | Kind::Rollback => format!("{}/{}", self.site, self.environment),
        }
    }
}
