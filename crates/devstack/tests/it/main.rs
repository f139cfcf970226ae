//! Postgres and NATS as a stack runs them.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod database;
mod leftovers;
mod stores;
