//! Facts between services: out of one schema, over JetStream, into another.
//!
//! ```text
//! command ──▶ outbox ──relay: stamp──▶ publish ──▶ JetStream ──▶ consumer ──▶ effect + inbox
//!                └───────────────── feed: head, replay ────────────▲ (what the bus lost)
//! ```
//!
//! Postgres is the truth. The relay gives each visible fact the next dense number and publishes it
//! with nothing locked; a consumer records what it applied in the transaction of the effect, sees
//! gaps by the numbers, and asks the owner to replay. Losing all of the bus costs time only.
//!
//! A service carries `sql/messaging.sql` as its migration 0002 and defines `clock()` before it.

pub mod consumer;
pub mod dead_letter;
pub mod epoch;
pub mod feed;
mod inbox;
pub mod nats;
mod outage;
pub mod outbox;
pub mod relay;
pub mod retention;
pub mod streams;

pub use consumer::{Consumer, ConsumerConfig};
pub use outage::Outage;
pub use outbox::Fact;
pub use relay::{Nudge, Relay, RelayConfig};

#[cfg(test)]
mod tests;
