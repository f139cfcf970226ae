//! The one encoding of a release's manifest, and the path rules.
//!
//! A manifest maps each path of a site to the SHA-256, the size and the content type of what lies
//! there. It is a text with one form per content, so its own SHA-256 names the release's content:
//!
//! ```text
//! candlefish-manifest 1
//! <sha-256, hex> TAB <bytes, decimal> TAB <content type> TAB <path> LF
//! ```
//!
//! one line per file, sorted by the bytes of the path. [`Manifest::decode`] refuses everything
//! that [`Manifest::encode`] would not have written; the path rules ([`check_path`]) hold on both
//! sides, so no reader has to ask whether a path leaves the tree.
//!
//! [`archive`] reads a release from an archive that somebody else made.
//!
//! This crate does not know where blobs lie, and signs nothing.

pub mod archive;
mod content_type;
mod encoding;
mod limits;
mod path;
mod walk;

pub use candlefish_ids::Digest;
pub use content_type::{guess as guess_content_type, is_compressible, is_html};
pub use encoding::{Entry, Error, Manifest, digest_of};
pub use limits::Limits;
pub use path::{PathError, check as check_path};
pub use walk::{Error as WalkError, File, Progress, hash, walk};
