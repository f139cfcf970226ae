//! Compares content with its name while it passes.

use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use sha2::{Digest as _, Sha256};

use crate::{Body, Digest, Error};

/// Sees all pieces of a blob and says at the end whether it was the one.
pub(crate) struct Verifier {
    hasher: Sha256,
    digest: Digest,
    expected: u64,
    seen: u64,
}

impl Verifier {
    pub(crate) fn new(digest: Digest, expected: u64) -> Self {
        Self {
            hasher: Sha256::new(),
            digest,
            expected,
            seen: 0,
        }
    }

    /// Refuses as soon as there is too much.
    pub(crate) fn feed(&mut self, piece: &[u8]) -> Result<(), Error> {
        self.seen = self
            .seen
            .saturating_add(u64::try_from(piece.len()).unwrap_or(u64::MAX));
        if self.seen > self.expected {
            return Err(self.size_error());
        }
        self.hasher.update(piece);
        Ok(())
    }

    pub(crate) fn finish(self) -> Result<u64, Error> {
        if self.seen != self.expected {
            return Err(self.size_error());
        }
        let found = Digest::from_bytes(self.hasher.finalize().into());
        if found == self.digest {
            Ok(self.seen)
        } else {
            Err(Error::Corrupt {
                digest: self.digest,
                found,
            })
        }
    }

    const fn size_error(&self) -> Error {
        Error::Size {
            digest: self.digest,
            expected: self.expected,
            found: self.seen,
        }
    }
}

/// The same body, ending with an error when it was not the blob.
pub(crate) fn verified(digest: Digest, size: u64, body: Body) -> Body {
    let state = Some((body, Verifier::new(digest, size)));
    Box::pin(stream::unfold(state, |state| async {
        let (mut body, mut verifier) = state?;
        match body.next().await {
            Some(Ok(piece)) => match verifier.feed(&piece) {
                Ok(()) => Some((Ok(piece), Some((body, verifier)))),
                Err(error) => Some((Err(error), None)),
            },
            Some(Err(error)) => Some((Err(error), None)),
            None => match verifier.finish() {
                // The end must not look like one more piece to who collects them.
                Ok(_) => None,
                Err(error) => Some((Err::<Bytes, _>(error), None)),
            },
        }
    }))
}
