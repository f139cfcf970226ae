//! The trigger: one delivery of a webhook × one site environment, with its outcome.
//!
//! ```text
//! gateway.delivery.received.v1 ──▶ delivery (a row to do) ──fetch──▶ push ──decide──▶ trigger
//!                                                             │         created ──▶ deployment
//!                                                             │         superseded, ignored (why)
//!                                                             └─ not a push: a note
//! ```
//!
//! The event is applied as a row; its body is fetched from the gateway outside of any transaction,
//! read by [`push`], which is pure, and decided by [`decide`], one lane at a time. Every step may be
//! repeated: a delivery has one trigger for an environment, whatever crashed between.
//!
//! Invariants: a push that concerns an environment has a row that says what became of it, and that
//! row never changes its outcome; a hold or a closed window is no reason to ignore one; a push and an
//! upload of the same commit to the same environment are one deployment, in either order; a
//! deployment whose content never comes ends by its deadline and says so.
//!
//! This room asks GitHub nothing: it knows of a repository what deliveries and releases say, and is told
//! of a head that no delivery told of ([`head`]).

pub(crate) mod content;
mod decide;
mod error;
mod fetch;
pub(crate) mod gateway;
pub(crate) mod head;
mod join;
pub(crate) mod on_delivery;
mod outcome;
mod push;
pub(crate) mod rpc;
mod store;
mod view;

use candlefish_ids::DeliveryId;
use jiff::Timestamp;

pub(crate) use error::Error;
pub(crate) use fetch::run;
pub(crate) use join::join;
pub(crate) use store::list_with_unjoined;

/// A delivery whose body is still to be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Delivery {
    pub(crate) id: DeliveryId,
    /// The sender's word: `push`.
    pub(crate) event: String,
    pub(crate) received_at: Timestamp,
    /// Tries that failed so far.
    pub(crate) attempts: i32,
}
