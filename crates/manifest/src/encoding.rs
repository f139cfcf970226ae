//! The manifest and its one text form.

use std::collections::BTreeSet;

use sha2::{Digest as _, Sha256};

use crate::{
    Digest, Limits,
    content_type::is_valid,
    path::{PathError, check, check_together},
};

/// The first line; another format gets another number.
const HEAD: &str = "candlefish-manifest 1";

/// One file of a release.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Relative, `/` between segments.
    pub path: String,
    /// SHA-256 of its content.
    pub digest: Digest,
    /// Bytes of its content.
    pub size: u64,
    /// As the `content-type` header says it.
    pub content_type: String,
}

/// All files of a release, sorted by path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    entries: Vec<Entry>,
    byte_count: u64,
}

/// Why content is not a manifest.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A path breaks a rule.
    #[error(transparent)]
    Path(#[from] PathError),
    /// More files than allowed.
    #[error("{files} files, more than {limit}")]
    Files {
        /// How many.
        files: usize,
        /// The limit.
        limit: usize,
    },
    /// A file is too large.
    #[error("path {path:?} has {bytes} bytes, more than {limit}")]
    FileBytes {
        /// Its path.
        path: String,
        /// Its bytes.
        bytes: u64,
        /// The limit.
        limit: u64,
    },
    /// All together are too large.
    #[error("more than {limit} bytes in all, reached with path {path:?}")]
    TotalBytes {
        /// The path with which the limit was passed.
        path: String,
        /// The limit.
        limit: u64,
    },
    /// A content type that no header could carry.
    #[error("path {path:?} has the content type {content_type:?}, which is not one")]
    ContentType {
        /// Its path.
        path: String,
        /// The type.
        content_type: String,
    },
    /// The same content with two sizes.
    #[error("path {path:?} names content {digest} with another size than elsewhere")]
    Sizes {
        /// The path.
        path: String,
        /// Its digest.
        digest: Digest,
    },
    /// The encoded form is too large.
    #[error("the manifest has {bytes} bytes, more than {limit}")]
    ManifestBytes {
        /// Its bytes.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
    /// Not a manifest of a version that is known here.
    #[error("the manifest does not begin with the line {HEAD:?}")]
    Head,
    /// A line is not what encoding would have written.
    #[error("line {line} of the manifest {why}")]
    Line {
        /// Counted from 1.
        line: usize,
        /// In words.
        why: &'static str,
    },
}

/// SHA-256 of these bytes.
pub fn digest_of(bytes: &[u8]) -> Digest {
    Digest::from_bytes(Sha256::digest(bytes).into())
}

impl Manifest {
    /// Checks and sorts the files of a release. No file at all is allowed here: what may be
    /// deployed is the orchestrator's to say.
    pub fn build(mut entries: Vec<Entry>, limits: &Limits) -> Result<Self, Error> {
        if entries.len() > limits.files {
            return Err(Error::Files {
                files: entries.len(),
                limit: limits.files,
            });
        }
        let mut byte_count: u64 = 0;
        for entry in &entries {
            check(&entry.path, limits)?;
            check_entry(entry, limits)?;
            byte_count = byte_count.saturating_add(entry.size);
            if byte_count > limits.total_bytes {
                return Err(Error::TotalBytes {
                    path: entry.path.clone(),
                    limit: limits.total_bytes,
                });
            }
        }
        check_together(entries.iter().map(|e| e.path.as_str()))?;
        check_sizes(&entries)?;
        entries.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(Self {
            entries,
            byte_count,
        })
    }

    /// The files, sorted by path.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The file at a path.
    pub fn get(&self, path: &str) -> Option<&Entry> {
        let place = self
            .entries
            .binary_search_by(|e| e.path.as_str().cmp(path))
            .ok()?;
        self.entries.get(place)
    }

    /// Bytes of all files.
    pub const fn byte_count(&self) -> u64 {
        self.byte_count
    }

    /// The distinct blobs and their sizes in bytes, by digest.
    pub fn blobs(&self) -> BTreeSet<(Digest, u64)> {
        self.entries.iter().map(|e| (e.digest, e.size)).collect()
    }

    /// The one text form.
    pub fn encode(&self) -> Vec<u8> {
        use std::fmt::Write as _;

        let mut text = String::with_capacity(32 + self.entries.len() * 160);
        text.push_str(HEAD);
        text.push('\n');
        for e in &self.entries {
            writeln!(
                text,
                "{}\t{}\t{}\t{}",
                e.digest, e.size, e.content_type, e.path
            )
            .expect("a String takes all text");
        }
        text.into_bytes()
    }

    /// SHA-256 of the text form: the name of this content.
    pub fn digest(&self) -> Digest {
        digest_of(&self.encode())
    }

    /// Reads the text form; refuses what [`Manifest::encode`] would not have written.
    pub fn decode(bytes: &[u8], limits: &Limits) -> Result<Self, Error> {
        if bytes.len() > limits.manifest_bytes {
            return Err(Error::ManifestBytes {
                bytes: bytes.len(),
                limit: limits.manifest_bytes,
            });
        }
        let body = bytes
            .strip_prefix(HEAD.as_bytes())
            .and_then(|rest| rest.strip_prefix(b"\n"))
            .ok_or(Error::Head)?;
        let mut entries: Vec<Entry> = Vec::new();
        for (index, line) in body.split_inclusive(|b| *b == b'\n').enumerate() {
            let entry = decode_line(line).map_err(|fault| fault.at(index + 2))?;
            if entries.last().is_some_and(|last| last.path >= entry.path) {
                return Err(LineFault::Why("is not in the order of paths").at(index + 2));
            }
            if entries.len() == limits.files {
                return Err(Error::Files {
                    files: entries.len() + 1,
                    limit: limits.files,
                });
            }
            entries.push(entry);
        }
        Self::build(entries, limits)
    }
}

fn check_entry(entry: &Entry, limits: &Limits) -> Result<(), Error> {
    if entry.size > limits.file_bytes {
        return Err(Error::FileBytes {
            path: entry.path.clone(),
            bytes: entry.size,
            limit: limits.file_bytes,
        });
    }
    if !is_valid(&entry.content_type) {
        return Err(Error::ContentType {
            path: entry.path.clone(),
            content_type: entry.content_type.clone(),
        });
    }
    Ok(())
}

/// One blob has one size: a second one would make the manifest unsealable, or lie about it.
fn check_sizes(entries: &[Entry]) -> Result<(), Error> {
    let mut sizes = std::collections::HashMap::with_capacity(entries.len());
    for entry in entries {
        if *sizes.entry(entry.digest).or_insert(entry.size) != entry.size {
            return Err(Error::Sizes {
                path: entry.path.clone(),
                digest: entry.digest,
            });
        }
    }
    Ok(())
}

enum LineFault {
    Why(&'static str),
    NotUtf8(String),
}

impl LineFault {
    fn at(self, line: usize) -> Error {
        match self {
            Self::Why(why) => Error::Line { line, why },
            Self::NotUtf8(path) => Error::Path(PathError::NotUtf8 { path }),
        }
    }
}

fn decode_line(line: &[u8]) -> Result<Entry, LineFault> {
    let line = line
        .strip_suffix(b"\n")
        .ok_or(LineFault::Why("has no end"))?;
    let mut fields = line.splitn(4, |b| *b == b'\t');
    let (Some(digest), Some(size), Some(content_type), Some(path)) =
        (fields.next(), fields.next(), fields.next(), fields.next())
    else {
        return Err(LineFault::Why("has not four fields"));
    };
    let digest = std::str::from_utf8(digest)
        .ok()
        .and_then(|text| text.parse().ok())
        .ok_or(LineFault::Why("does not begin with a digest"))?;
    let size = decode_size(size).ok_or(LineFault::Why("has a size that is not one"))?;
    let content_type = std::str::from_utf8(content_type)
        .ok()
        .ok_or(LineFault::Why("has a content type that is not one"))?;
    let path = std::str::from_utf8(path)
        .ok()
        .ok_or_else(|| LineFault::NotUtf8(String::from_utf8_lossy(path).into_owned()))?;
    Ok(Entry {
        path: path.to_owned(),
        digest,
        size,
        content_type: content_type.to_owned(),
    })
}

/// Decimal without sign or leading zero: one text per number.
fn decode_size(text: &[u8]) -> Option<u64> {
    let canonical = text == b"0" || text.first().is_some_and(|b| (b'1'..=b'9').contains(b));
    if !canonical || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(text).ok()?.parse().ok()
}

#[cfg(test)]
mod tests;
