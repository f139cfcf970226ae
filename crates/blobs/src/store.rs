//! What every back end does.

use std::{
    fmt,
    path::{Path, PathBuf},
    pin::Pin,
    time::Duration,
};

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use futures_util::{Stream, StreamExt as _, stream};

use crate::{Digest, Upload};

/// Content in pieces.
pub type Body = Pin<Box<dyn Stream<Item = Result<Bytes, Error>> + Send>>;

/// Content in one piece as a [`Body`].
pub fn body_of(bytes: impl Into<Bytes>) -> Body {
    let bytes = bytes.into();
    Box::pin(stream::iter([Ok(bytes)]))
}

/// A blob that is being read.
pub struct Blob {
    /// Its bytes.
    pub size: u64,
    /// Its content; ends with an error when it is not what the digest names.
    pub body: Body,
}

impl fmt::Debug for Blob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Blob")
            .field("size", &self.size)
            .finish_non_exhaustive()
    }
}

/// What became of a put.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Put {
    /// It is stored now.
    Stored,
    /// It was there already.
    Existed,
}

/// Why a store could not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No such blob.
    #[error("there is no blob {digest}")]
    NotFound {
        /// The blob.
        digest: Digest,
    },
    /// The content is not what its name says.
    #[error("content of blob {digest} has the digest {found}")]
    Corrupt {
        /// The blob.
        digest: Digest,
        /// What its content hashes to.
        found: Digest,
    },
    /// The content has another size than announced.
    #[error("content of blob {digest} has {found} bytes or more, not {expected}")]
    Size {
        /// The blob.
        digest: Digest,
        /// As announced.
        expected: u64,
        /// As read so far.
        found: u64,
    },
    /// More bytes than the reader would take.
    #[error("blob {digest} has {size} bytes, more than {limit}")]
    Large {
        /// The blob.
        digest: Digest,
        /// Its bytes.
        size: u64,
        /// The limit.
        limit: u64,
    },
    /// The sender stopped.
    #[error("the content of a blob broke off")]
    Body(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The disk.
    #[error("cannot {act} {}", .path.display())]
    Io {
        /// What was tried.
        act: &'static str,
        /// On what.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// S3.
    #[error("S3 did not {act} blob {digest}")]
    S3 {
        /// What was asked.
        act: &'static str,
        /// Of which blob.
        digest: Digest,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// S3 has no such bucket.
    #[error("S3 has no bucket {bucket:?}: make it, or name the right one in CANDLEFISH_BLOBS")]
    NoBucket {
        /// As configured.
        bucket: String,
    },
    /// A directory without a key cannot sign.
    #[error("this store has no key to sign uploads with")]
    NoUploadKey,
    /// The location is not one.
    #[error("{location:?} is no blob store: {why}")]
    Location {
        /// As configured.
        location: String,
        /// In words.
        why: &'static str,
    },
}

impl Error {
    /// Whether the same call may succeed later: the fault is the store's, and says nothing of the blob.
    /// A missing bucket is one, although somebody has to mend it: nothing in it is given up for lost.
    pub const fn is_transient(&self) -> bool {
        matches!(
            self,
            Self::Io { .. } | Self::S3 { .. } | Self::NoBucket { .. } | Self::Body(_)
        )
    }
}

/// A content-addressed store. All calls may be repeated.
#[async_trait]
pub trait Store: Send + Sync + fmt::Debug {
    /// Bytes of each blob, in the order asked; `None` where there is none.
    async fn sizes(&self, digests: &[Digest]) -> Result<Vec<Option<u64>>, Error>;

    /// Opens a blob; the body is verified while it is read.
    async fn get(&self, digest: &Digest) -> Result<Blob, Error>;

    /// Stores content of exactly `size` bytes under its name, or refuses it.
    async fn put(&self, digest: &Digest, size: u64, body: Body) -> Result<Put, Error>;

    /// Takes a blob away; one that is not there is no fault. Only for who knows that nothing names it.
    async fn delete(&self, digest: &Digest) -> Result<(), Error>;

    /// Where to PUT a blob until `ttl` after `now` (seconds since 1970, by the database's clock).
    async fn upload_url(
        &self,
        digest: &Digest,
        size: u64,
        ttl: Duration,
        now: u64,
    ) -> Result<Upload, Error>;

    /// Reads a blob without keeping it, to prove that it is whole; answers its bytes.
    async fn verify(&self, digest: &Digest) -> Result<u64, Error> {
        let mut blob = self.get(digest).await?;
        let mut size = 0;
        while let Some(piece) = blob.body.next().await {
            size += u64::try_from(piece?.len()).unwrap_or(u64::MAX);
        }
        Ok(size)
    }

    /// The file that holds a blob, for back ends that have files; it need not exist, and is not
    /// verified.
    fn local_path(&self, _digest: &Digest) -> Option<PathBuf> {
        None
    }

    /// Whether each blob is there, in the order asked.
    async fn exists(&self, digests: &[Digest]) -> Result<Vec<bool>, Error> {
        let sizes = self.sizes(digests).await?;
        Ok(sizes.into_iter().map(|size| size.is_some()).collect())
    }

    /// Reads a whole blob of at most `limit` bytes, verified.
    async fn read(&self, digest: &Digest, limit: u64) -> Result<Bytes, Error> {
        let mut blob = self.get(digest).await?;
        if blob.size > limit {
            return Err(Error::Large {
                digest: *digest,
                size: blob.size,
                limit,
            });
        }
        let mut bytes = BytesMut::with_capacity(usize::try_from(blob.size).unwrap_or_default());
        while let Some(piece) = blob.body.next().await {
            bytes.extend_from_slice(&piece?);
        }
        Ok(bytes.freeze())
    }

    /// Copies a blob to a file, verified before it has that name; answers its bytes. For caches:
    /// the copy is not flushed to disk.
    async fn read_to(&self, digest: &Digest, path: &Path) -> Result<u64, Error> {
        let blob = self.get(digest).await?;
        crate::directory::copy(blob, path).await
    }
}
