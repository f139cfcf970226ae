//! Content-addressed store: S3, or a directory on one machine.
//!
//! A blob is named by its SHA-256 and never changes. Both back ends speak one upload protocol: a
//! signed URL to which the content is PUT once ([`Store::upload_url`]); S3 checks it by itself,
//! the directory's is checked by [`UploadKey::read`], [`Signed::at`] and [`Store::put`]. Everything that is
//! read through [`Store::get`], [`Store::read`] and [`Store::read_to`] is compared with its name.
//!
//! This crate does not know manifests nor what is still needed, and reads no environment.

mod directory;
mod location;
mod s3;
mod store;
mod upload;
mod verify;

pub use candlefish_ids::Digest;
pub use directory::verify_copy;
pub use location::{Options, S3Keys, open};
pub use store::{Blob, Body, Error, Put, Store, body_of};
pub use upload::{KeyError, Refused, Signed, Upload, UploadKey};
