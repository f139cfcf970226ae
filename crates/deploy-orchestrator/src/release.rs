//! The release: immutable content of a site, and the commit it was built from.
//!
//! ```text
//! create (draft) ──▶ missing, upload … ──▶ seal ──▶ sealed for good
//! ```
//!
//! What nothing needs any more is collected ([`crate::collect`]): the record stays, and beginning it
//! again makes it a draft. One for each (site, manifest digest, commit). A draft says what is still to upload; sealing proves
//! that everything is there. No command talks to the blob store inside a transaction.

pub(crate) mod ban;
pub(crate) mod bring;
pub(crate) mod clear;
pub(crate) mod create;
pub(crate) mod error;
pub(crate) mod event;
pub(crate) mod expected;
mod mend;
pub(crate) mod missing;
pub(crate) mod reject;
pub(crate) mod rpc;
pub(crate) mod seal;
pub(crate) mod store;
pub(crate) mod view;

use candlefish_ids::ReleaseId;

use crate::{ctx::Tx, deployment::event::SYSTEM};

pub(crate) use error::Error;

/// Tells the world that a release was collected, in the transaction that did it.
pub(crate) async fn tell_collected(tx: &mut Tx, id: ReleaseId) -> Result<(), Error> {
    let version = store::version(tx, id).await?;
    let answer = view::load(tx, id).await?;
    tx.tell(event::collected(&answer, version, SYSTEM));
    Ok(())
}
