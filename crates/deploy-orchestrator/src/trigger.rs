//! The trigger: one delivery of a webhook × one site environment, with its outcome.
//!
//! ```text
//! gateway.delivery.received.v1 ──▶ delivery (a row to do) ──fetch──▶ push ──decide──▶ trigger
//!                                                             │         created ──▶ deployment
//!                                                             │         superseded, ignored (why)
//!                                                             └─ anything else ──▶ trigger of its site: why nothing
//! ```
//!
//! The event is applied as a row; its body is fetched from the gateway outside of any transaction,
//! read by [`push`], which is pure, and decided by [`decide`], one lane at a time. What is no push is
//! read by [`other`] and leaves a trigger at each site of its repository, without an environment; that a
//! branch is gone, one for each environment that follows it ([`gone`]). Every step may be repeated: a
//! delivery has one trigger for an environment, whatever crashed between.
//!
//! Invariants: a push that concerns an environment has a row that says what became of it, and that
//! row never changes its outcome; a hold or a closed window is no reason to ignore one; a push and an
//! upload of the same commit to the same environment are one deployment, in either order; a
//! deployment whose content never comes ends by its deadline and says so.
//!
//! Until the event comes a delivery is the gateway's alone; whoever asks what became of a push is told of it
//! all the same ([`unheard`]).
//!
//! This room knows of a repository what deliveries and releases say, and is told of a head or a pull
//! request that no delivery told of ([`head`], [`pull_request`]). It asks GitHub one thing, outside of any
//! transaction, and goes on without the answer: the files of a pull request whose preview is to open where
//! paths count.

pub(crate) mod content;
mod decide;
mod error;
mod fetch;
mod form;
pub(crate) mod gateway;
mod gone;
pub(crate) mod head;
mod join;
mod note;
pub(crate) mod on_delivery;
mod other;
mod outcome;
pub(crate) mod pull_request;
mod push;
pub(crate) mod rpc;
mod store;
mod unheard;
mod view;

use candlefish_ids::DeliveryId;
use jiff::Timestamp;

pub(crate) use error::Error;
#[cfg(test)]
pub(crate) use fetch::decided;
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
    /// W3C trace context of the call that brought it to the gateway; empty until it is fetched, and when
    /// there was none.
    pub(crate) traceparent: String,
}

/// What a delivery is about, as far as it says; texts are empty where it says nothing.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct About {
    /// `owner/name`.
    pub(crate) repository: String,
    /// Or a tag, by its name.
    pub(crate) branch: String,
    pub(crate) commit: String,
    /// What the branch was at.
    pub(crate) before: String,
    /// By the sender's clock, in seconds: it tells one push from another.
    pub(crate) pushed_at: Option<i64>,
    pub(crate) sender: String,
    /// Its number.
    pub(crate) pull_request: Option<i32>,
}
