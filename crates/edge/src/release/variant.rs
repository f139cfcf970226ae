//! Compressed forms, made once per blob, after its release is staged.
//!
//! They are prepared behind the visitors' backs: until then a file is served as it is, and staging
//! a release of thousands of files does not wait for a compressor.

use std::{io, io::Write as _, path::PathBuf, sync::Arc};

use candlefish_manifest::digest_of;

use super::content::{Content, Encoding};
use crate::disk::{self, Disk};

/// Below it, headers outweigh what is saved.
const LEAST_BYTES: u64 = 1024;
/// Above it, compressing takes seconds and memory; such files are rare and mostly no text.
const MOST_BYTES: u64 = 8 * 1024 * 1024;
/// Good for text at some 30 MB a second; the best level is twenty times slower for 10 % less.
const BROTLI_QUALITY: u32 = 5;
/// The middle of zlib's levels, for the same reason.
const GZIP_LEVEL: u32 = 6;

/// Whether a blob of this size is worth compressing.
pub(crate) fn is_worth_trying(size: u64) -> bool {
    (LEAST_BYTES..=MOST_BYTES).contains(&size)
}

/// Why a form could not be made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("cannot read {}", .path.display())]
    Read {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("{} no longer holds its blob", .path.display())]
    Changed { path: PathBuf },
    #[error("cannot compress")]
    Compress(#[source] io::Error),
    #[error(transparent)]
    Disk(#[from] disk::Error),
}

/// Makes both forms, or finds them on disk. Takes a core for a while: call it where that is fine.
pub(crate) fn prepare(content: &Arc<Content>, disk: &Disk) -> Result<(), Error> {
    let mut source = None;
    for encoding in [Encoding::Brotli, Encoding::Gzip] {
        let path = disk.variant(&content.digest, &format!(".{}", encoding.name()));
        let size = if let Some(size) = disk::length(&path) {
            size
        } else {
            let bytes = match &source {
                Some(bytes) => bytes,
                None => source.insert(read(content)?),
            };
            let compressed = compress(bytes, encoding).map_err(Error::Compress)?;
            // An empty file says that it is not worth it.
            let kept = if is_smaller(compressed.len(), bytes.len()) {
                compressed.as_slice()
            } else {
                &[]
            };
            disk::write_cached(&path, kept)?;
            u64::try_from(kept.len()).unwrap_or_default()
        };
        content.prepare(encoding, (size > 0).then_some((size, path)));
    }
    Ok(())
}

fn read(content: &Content) -> Result<Vec<u8>, Error> {
    let path = content.identity().path.clone();
    match std::fs::read(&path) {
        // A form of other content would outlive the fault.
        Ok(bytes) if digest_of(&bytes) != content.digest => Err(Error::Changed { path }),
        Ok(bytes) => Ok(bytes),
        Err(source) => Err(Error::Read { path, source }),
    }
}

fn compress(bytes: &[u8], encoding: Encoding) -> io::Result<Vec<u8>> {
    let mut out = Vec::with_capacity(bytes.len() / 3);
    match encoding {
        Encoding::Identity => out.extend_from_slice(bytes),
        Encoding::Brotli => {
            let mut writer = brotli::CompressorWriter::new(&mut out, 64 * 1024, BROTLI_QUALITY, 22);
            writer.write_all(bytes)?;
            writer.flush()?;
            drop(writer);
        }
        Encoding::Gzip => {
            let level = flate2::Compression::new(GZIP_LEVEL);
            let mut writer = flate2::write::GzEncoder::new(&mut out, level);
            writer.write_all(bytes)?;
            writer.finish()?;
        }
    }
    Ok(out)
}

/// At least a twentieth less: otherwise decompressing costs more than it saves.
const fn is_smaller(compressed: usize, plain: usize) -> bool {
    compressed + plain / 20 < plain
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;

    fn content(dir: &tempfile::TempDir, bytes: &[u8]) -> Arc<Content> {
        let path = dir.path().join("blob");
        std::fs::write(&path, bytes).unwrap();
        Arc::new(Content::new(
            digest_of(bytes),
            u64::try_from(bytes.len()).unwrap(),
            path,
        ))
    }

    #[test]
    fn forms_decode_to_the_blob_and_are_found_again() {
        let dir = tempfile::tempdir().unwrap();
        let disk = Disk::open(dir.path()).unwrap();
        let text = "candlefish ".repeat(1000);
        let first = content(&dir, text.as_bytes());
        prepare(&first, &disk).unwrap();
        let form = |encoding| std::fs::read(&first.form(encoding).unwrap().path).unwrap();
        let mut plain = String::new();
        flate2::read::GzDecoder::new(form(Encoding::Gzip).as_slice())
            .read_to_string(&mut plain)
            .unwrap();
        assert_eq!(plain, text);
        plain.clear();
        brotli::Decompressor::new(form(Encoding::Brotli).as_slice(), 4096)
            .read_to_string(&mut plain)
            .unwrap();
        assert_eq!(plain, text);
        let again = content(&dir, text.as_bytes());
        std::fs::remove_file(dir.path().join("blob")).unwrap();
        prepare(&again, &disk).unwrap();
        assert_eq!(
            again.form(Encoding::Brotli).unwrap().size,
            first.form(Encoding::Brotli).unwrap().size
        );
        assert_ne!(
            again.form(Encoding::Brotli).unwrap().etag,
            again.identity().etag
        );
    }

    #[test]
    fn what_does_not_get_smaller_stays_as_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let disk = Disk::open(dir.path()).unwrap();
        let mut noise = Vec::new();
        let mut state = digest_of(b"seed");
        for _ in 0..64 {
            noise.extend_from_slice(state.as_bytes());
            state = digest_of(state.as_bytes());
        }
        let content = content(&dir, &noise);
        prepare(&content, &disk).unwrap();
        assert!(content.is_prepared());
        assert!(content.form(Encoding::Brotli).is_none() && content.form(Encoding::Gzip).is_none());
    }

    #[test]
    fn a_changed_blob_gets_no_forms() {
        let dir = tempfile::tempdir().unwrap();
        let disk = Disk::open(dir.path()).unwrap();
        let content = content(&dir, &b"x".repeat(2000));
        std::fs::write(dir.path().join("blob"), "y".repeat(2000)).unwrap();
        assert!(matches!(
            prepare(&content, &disk),
            Err(Error::Changed { .. })
        ));
        assert!(!content.is_prepared());
    }
}
