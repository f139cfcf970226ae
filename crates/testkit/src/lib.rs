//! For tests only: databases of their own and the plans that they tell, a proxy that can be cut, a
//! trace collector, a log that is heard, waiting.
//!
//! The servers themselves come from `cargo xtask test`, which names them in the environment.
#![expect(clippy::unwrap_used, reason = "a broken test set-up may panic")]
#![expect(clippy::indexing_slicing, reason = "a broken test set-up may panic")]

pub mod checker;
mod collector;
mod database;
pub mod github;
mod log;
mod page;
pub mod plan;
mod proxy;
mod servers;
mod wait;

pub use collector::{Collector, Span};
pub use database::{Database, OFFSET_CLOCK};
pub use log::Log;
pub use page::{Page, fetch};
pub use proxy::Proxy;
pub use servers::nats_url;
pub use wait::{poll_until, wait_until};
