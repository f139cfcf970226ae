//! The lane: the single-writer queue of one environment.
//!
//! Its row is the first lock of every command that touches a deployment, an environment's hold or a
//! route. At most one deployment acts on it; each grant, cancel and preemption raises its fence.
//! [`grant()`] runs in every transaction that admits, ends or unblocks a deployment, and in a sweep.
//!
//! The lane decides *who* acts; what acting means is the deployment's and the steps' business.

pub(crate) mod content;
pub(crate) mod descents;
pub(crate) mod grant;
pub(crate) mod kept;
pub(crate) mod order;
pub(crate) mod store;
pub(crate) mod view;

#[cfg(test)]
mod tests;

pub(crate) use grant::{content_arrived, grant, grant_each};

/// What a lane cannot do is what its deployments cannot do.
pub(crate) use crate::deployment::Error;
