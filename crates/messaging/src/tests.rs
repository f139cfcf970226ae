//! Against real Postgres and NATS: each test has a database, a source and a stream of its own.

mod consumer;
mod relay;
pub(crate) mod support;
