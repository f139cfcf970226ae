//! What was taken out of work and waits for a person: quarantined steps, and dead letters.

pub(crate) mod rpc;
pub(crate) mod store;
