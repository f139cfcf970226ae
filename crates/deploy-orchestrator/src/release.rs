//! The release: immutable content of a site, and the commit it was built from.
//!
//! ```text
//! create (draft) ──▶ missing, upload … ──▶ seal ──▶ sealed for good
//! ```
//!
//! One for each (site, manifest digest, commit). A draft says what is still to upload; sealing proves
//! that everything is there. No command talks to the blob store inside a transaction.

pub(crate) mod ban;
pub(crate) mod clear;
pub(crate) mod create;
pub(crate) mod error;
pub(crate) mod event;
pub(crate) mod expected;
pub(crate) mod missing;
pub(crate) mod reject;
pub(crate) mod rpc;
pub(crate) mod seal;
pub(crate) mod store;
pub(crate) mod view;

pub(crate) use error::Error;
