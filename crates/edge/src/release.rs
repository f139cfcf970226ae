//! The release: immutable content, verified and ready to serve.
//!
//! ```text
//! named by a route ──▶ staging: manifest, every blob compared with its digest, rules read
//!                        │ fault, with the path named; tried again
//!                        ▼
//!                      staged (noted on disk) ──▶ compressed forms are prepared behind its back
//! ```
//!
//! Requests find files in [`index`] by hash, never on disk by name, so no path a visitor sends
//! reaches a file system. Small bodies stay in a bounded [`memory`]; content that several releases
//! share is one [`content::Content`].

pub(crate) mod content;
pub(crate) mod index;
pub(crate) mod memory;
pub(crate) mod shelf;
pub(crate) mod variant;

pub(crate) use index::{File, Place, Release, Slash};
pub(crate) use shelf::Shelf;
