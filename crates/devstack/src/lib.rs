//! Private Postgres, NATS and the services as processes, for development and for tests.
//!
//! One [`Stack`] serves `cargo xtask up`, the end-to-end tests, the benchmark and the chaos run:
//!
//! ```text
//! Stack::builder() ── install ─▶ programs of the distribution, always the same ones
//!        │            ports ───▶ fixed, or free ones outside the ephemeral range
//!        │            warden ──▶ outlives us by a moment: kills what we leave, removes the folder
//!        ▼
//!   Postgres ─ roles, schemas ─ migrate ─ NATS ─ identity keys ─ orchestrators, gateways, edges
//! ```
//!
//! Invariants: nothing of the distribution's own services is started or touched; however this
//! process ends, `kill -9` included, no process stays behind, and a stack that was not asked to
//! keep its data leaves no folder. What it deliberately does not do: know a service's code. It
//! runs the binaries, and everything it tells them goes through their environment.

mod disk;
pub mod http;
mod identity;
pub mod install;
mod nats;
mod output;
mod ports;
mod postgres;
mod process;
mod s3;
mod stack;
mod supervise;
mod wait;
mod warden;

pub use disk::disk_left;
pub use nats::Nats;
pub use output::{Console, Output};
pub use ports::Port;
pub use postgres::{Account, Postgres};
pub use process::{Launch, Process, Signal};
pub use s3::S3;
pub use stack::{Blobs, Builder, Edge, Service, Stack};
pub use supervise::{Event, supervise};
pub use wait::wait_until;
pub use warden::Warden;
