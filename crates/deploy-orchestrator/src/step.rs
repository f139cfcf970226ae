//! The step: the unit of durable progress within a deployment.
//!
//! A step whose whole effect is in our own database is done within one transaction that holds its
//! lane: there is nothing to lease, and a crash leaves it as it was. A step whose work is outside
//! (the two that fetch) is claimed by a lease under the lane's fence, works with nothing locked, and
//! records its outcome guarded by claim and fence; while the database is away it tries again for as long
//! as the lease lasts. One transaction carries a deployment over as many steps as can go at once; the one
//! that grants it its lane takes it over the first ones.
//!
//! A step that waits says until when and for what, and gives its worker back.
//!
//! Turns of different lanes that come at the same time share a transaction ([`turns`]).

pub(crate) mod again;
pub(crate) mod analyse;
pub(crate) mod drive;
pub(crate) mod edges;
pub(crate) mod finish;
pub(crate) mod outcome;
pub(crate) mod shared;
pub(crate) mod shift;
pub(crate) mod stage;
pub(crate) mod store;
pub(crate) mod sweep;
pub(crate) mod turns;
pub(crate) mod undo;
pub(crate) mod verdict;
pub(crate) mod verify;
pub(crate) mod worker;

use std::time::Duration;

use candlefish_clock::Moment;
use candlefish_ids::{DeploymentId, StepId};

use crate::deployment::plan::StepKind;

/// A turn that comes this much after its time was kept by us, not by the release.
const AWAY: Duration = Duration::from_secs(10);

/// A step as its row says.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Step {
    pub(crate) id: StepId,
    pub(crate) deployment_id: DeploymentId,
    pub(crate) ord: i32,
    pub(crate) kind: StepKind,
    pub(crate) weight: i32,
    pub(crate) interval: Duration,
    pub(crate) is_undo: bool,
    pub(crate) attempt: i32,
    pub(crate) lost_leases: i32,
    pub(crate) started_at: Option<Moment>,
    /// What the step knows between its turns.
    pub(crate) detail: serde_json::Value,
    pub(crate) message: String,
}
