//! Webhook deliveries: what somebody else's service told us, stored as it came before it is answered.
//!
//! ```text
//! POST /v1/webhooks/github ──▶ signature ──▶ row + fact, one commit ──▶ 202
//!                                  │                 └─ known: nothing is written
//!                                  └─ forged: 401
//! ```
//!
//! A delivery is known by the sender's id and by the hash of its body; either makes a repeat, which
//! is answered like the first. The fact names the delivery; who acts on it fetches the body here.
//!
//! Invariants: nothing is stored that is not signed; nothing signed is refused for what it says, so
//! that what we cannot read today is there to be read tomorrow; a 202 is a commit. This room does
//! not read bodies and knows no site.

use std::time::Duration;

use candlefish_ids::DeliveryId;
use candlefish_proto::delivery as pb;
use jiff::Timestamp;

mod event;
pub(crate) mod forget;
pub(crate) mod github;
mod intake;
mod receive;
pub(crate) mod rpc;
pub(crate) mod signature;
mod store;

pub(crate) use signature::Secrets;

/// The name of this schema among sources of events.
pub(crate) const SOURCE: &str = "gateway";
/// As long as a repeat is known.
pub(crate) const KEPT_FOR: Duration = Duration::from_hours(30 * 24);

/// A delivery without its body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Delivery {
    pub(crate) id: DeliveryId,
    /// Who sent it: `github`.
    pub(crate) source: String,
    /// The sender's own id.
    pub(crate) source_id: String,
    /// The sender's word for what happened.
    pub(crate) event: String,
    pub(crate) received_at: Timestamp,
    /// Bytes of the body.
    pub(crate) size: i32,
    /// W3C trace context of the call that brought it; empty when there was none.
    pub(crate) traceparent: String,
}

impl From<Delivery> for pb::Delivery {
    fn from(delivery: Delivery) -> Self {
        Self {
            id: delivery.id.to_string(),
            source: delivery.source,
            source_id: delivery.source_id,
            event: delivery.event,
            received_at: Some(crate::principal::shown(delivery.received_at)),
            size: delivery.size,
            traceparent: delivery.traceparent,
        }
    }
}
