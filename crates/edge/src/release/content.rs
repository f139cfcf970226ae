//! One blob and its compressed forms, shared by all releases that hold it.

use std::{
    path::PathBuf,
    sync::{
        Arc, OnceLock, PoisonError, RwLock,
        atomic::{AtomicBool, Ordering},
    },
};

use bytes::Bytes;
use candlefish_ids::Digest;
use candlefish_manifest::digest_of;
use http::HeaderValue;

use super::memory::Memory;

/// Bodies up to this many bytes are served from memory.
pub(crate) const SMALL_BYTES: u64 = 256 * 1024;

/// How a body is encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Encoding {
    /// As it is.
    Identity,
    /// `br`.
    Brotli,
    /// `gzip`.
    Gzip,
}

impl Encoding {
    /// The name in `content-encoding`, and the ending of its file and entity tag.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Identity => "",
            Self::Brotli => "br",
            Self::Gzip => "gzip",
        }
    }
}

/// A blob.
#[derive(Debug)]
pub(crate) struct Content {
    pub(crate) digest: Digest,
    identity: Form,
    /// Unset until prepared; `None` when it is not smaller.
    brotli: OnceLock<Option<Form>>,
    gzip: OnceLock<Option<Form>>,
}

/// One form of a blob.
#[derive(Debug)]
pub(crate) struct Form {
    pub(crate) size: u64,
    pub(crate) etag: HeaderValue,
    pub(crate) path: PathBuf,
    body: RwLock<Option<Bytes>>,
    /// Served since memory last looked.
    used: AtomicBool,
}

/// A body could not be read, or is not what was verified.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("cannot read {}", .path.display())]
    Read {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("{} no longer holds blob {digest}", .path.display())]
    Changed { path: PathBuf, digest: Digest },
}

impl Form {
    fn new(digest: &Digest, encoding: Encoding, size: u64, path: PathBuf) -> Self {
        let etag = match encoding {
            Encoding::Identity => format!("\"{digest}\""),
            encoding => format!("\"{digest}-{}\"", encoding.name()),
        };
        Self {
            size,
            etag: HeaderValue::try_from(etag).expect("hex digits and a dash fit a header"),
            path,
            body: RwLock::new(None),
            used: AtomicBool::new(false),
        }
    }

    /// The body, when it is in memory.
    fn kept(&self) -> Option<Bytes> {
        let body = self
            .body
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()?;
        // Read first: a store by every request would make two cores fight for the line.
        if !self.used.load(Ordering::Relaxed) {
            self.used.store(true, Ordering::Relaxed);
        }
        Some(body)
    }

    /// Keeps a body; answers whether it was not there before.
    pub(super) fn keep(&self, bytes: &Bytes) -> bool {
        let mut body = self.body.write().unwrap_or_else(PoisonError::into_inner);
        let new = body.is_none();
        *body = Some(bytes.clone());
        new
    }

    /// Drops the body unless it was served since this was last asked; answers whether it did.
    pub(super) fn yield_unless_used(&self) -> bool {
        if self.used.swap(false, Ordering::Relaxed) {
            return false;
        }
        *self.body.write().unwrap_or_else(PoisonError::into_inner) = None;
        true
    }
}

impl Content {
    /// A verified blob of this size whose file is `path`.
    pub(crate) fn new(digest: Digest, size: u64, path: PathBuf) -> Self {
        Self {
            digest,
            identity: Form::new(&digest, Encoding::Identity, size, path),
            brotli: OnceLock::new(),
            gzip: OnceLock::new(),
        }
    }

    pub(crate) const fn size(&self) -> u64 {
        self.identity.size
    }

    /// A form, if there is one; identity always is.
    pub(crate) fn form(&self, encoding: Encoding) -> Option<&Form> {
        match encoding {
            Encoding::Identity => Some(&self.identity),
            Encoding::Brotli => self.brotli.get()?.as_ref(),
            Encoding::Gzip => self.gzip.get()?.as_ref(),
        }
    }

    /// The blob as it is.
    pub(crate) const fn identity(&self) -> &Form {
        &self.identity
    }

    /// Whether its compressed forms were made, or found not worth it.
    pub(crate) fn is_prepared(&self) -> bool {
        self.brotli.get().is_some() && self.gzip.get().is_some()
    }

    /// Adds a compressed form; no size when it is not worth it. The first word stands.
    pub(crate) fn prepare(&self, encoding: Encoding, form: Option<(u64, PathBuf)>) {
        let form = form.map(|(size, path)| Form::new(&self.digest, encoding, size, path));
        let slot = match encoding {
            Encoding::Identity => return,
            Encoding::Brotli => &self.brotli,
            Encoding::Gzip => &self.gzip,
        };
        slot.get_or_init(|| form);
    }
}

/// The body of a small form: from memory, or read, compared with its digest, and kept.
pub(crate) async fn body(
    content: &Arc<Content>,
    encoding: Encoding,
    memory: &Memory,
) -> Result<Bytes, Error> {
    let form = content.form(encoding).unwrap_or(&content.identity);
    if let Some(bytes) = form.kept() {
        return Ok(bytes);
    }
    let path = form.path.clone();
    let (digest, size) = (content.digest, form.size);
    let read = move || read_checked(path, encoding, digest, size);
    let bytes = tokio::task::spawn_blocking(read)
        .await
        .unwrap_or_else(|join| {
            Err(Error::Read {
                path: form.path.clone(),
                source: std::io::Error::other(join),
            })
        })?;
    memory.keep(content, encoding, &bytes);
    Ok(bytes)
}

fn read_checked(
    path: PathBuf,
    encoding: Encoding,
    digest: Digest,
    size: u64,
) -> Result<Bytes, Error> {
    let bytes = match std::fs::read(&path) {
        Ok(bytes) => bytes,
        Err(source) => return Err(Error::Read { path, source }),
    };
    let whole = u64::try_from(bytes.len()).is_ok_and(|len| len == size);
    if !whole || (encoding == Encoding::Identity && digest_of(&bytes) != digest) {
        return Err(Error::Changed { path, digest });
    }
    Ok(bytes.into())
}
