//! Reads a folder as the files of a release.
//!
//! Two passes, so that a progress bar knows its end: [`walk`] lists and checks, [`hash`] reads.
//! Links are followed while they stay in the tree; one that leaves it is refused, because it
//! would publish what lies elsewhere on the machine.

use std::{
    fs, io,
    io::Read as _,
    path::{Path, PathBuf},
};

use sha2::{Digest as _, Sha256};

use crate::{
    Digest, Entry, Limits, PathError,
    content_type::guess,
    encoding,
    path::{check, check_together},
};

/// A file that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct File {
    /// Its path in the release.
    pub path: String,
    /// Where it lies on this machine.
    pub source: PathBuf,
    /// Bytes, when it was listed.
    pub size: u64,
}

/// How far hashing is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Files read.
    pub files: usize,
    /// Bytes read.
    pub bytes: u64,
}

/// Why a folder cannot be read as a release.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The folder itself.
    #[error("cannot open the folder {}", .path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Something in it.
    #[error("cannot read {path:?}")]
    Read {
        /// Its path in the folder.
        path: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A link out of the tree.
    #[error("{path:?} is a link out of the folder, to {}", .target.display())]
    LinkOut {
        /// The link.
        path: String,
        /// Where it leads.
        target: PathBuf,
    },
    /// A link to a folder that holds it.
    #[error("{path:?} is a link to a folder that holds the link")]
    LinkLoop {
        /// The link.
        path: String,
    },
    /// A socket, a device, a pipe.
    #[error("{path:?} is neither a file nor a folder")]
    Special {
        /// Its path in the folder.
        path: String,
    },
    /// A path breaks a rule.
    #[error(transparent)]
    Path(#[from] PathError),
    /// It is too large.
    #[error(transparent)]
    Large(#[from] encoding::Error),
}

/// Lists the files below `dir`, sorted by path. Leaves out `.git` wherever it lies.
pub fn walk(dir: &Path, limits: &Limits) -> Result<Vec<File>, Error> {
    let folder = |source| Error::Folder {
        path: dir.to_owned(),
        source,
    };
    let root = dir.canonicalize().map_err(folder)?;
    let mut walk = Walk {
        root: root.clone(),
        limits,
        found: Vec::new(),
        bytes: 0,
    };
    let entries = fs::read_dir(&root).map_err(folder)?;
    walk.folder(entries, "", &mut vec![root])?;
    walk.found.sort_by(|a, b| a.path.cmp(&b.path));
    check_together(walk.found.iter().map(|f| f.path.as_str()))?;
    Ok(walk.found)
}

/// Reads the listed files. `progress` is called after every 256 KiB and every file.
pub fn hash(
    files: &[File],
    limits: &Limits,
    mut progress: impl FnMut(Progress),
) -> Result<Vec<Entry>, Error> {
    let mut done = Progress { files: 0, bytes: 0 };
    let mut entries = Vec::with_capacity(files.len());
    let mut buffer = vec![0; 256 * 1024];
    for file in files {
        let (digest, size) = hash_file(file, limits, &mut buffer, |read| {
            done.bytes += read;
            progress(done);
        })?;
        done.files += 1;
        progress(done);
        entries.push(Entry {
            path: file.path.clone(),
            digest,
            size,
            content_type: guess(&file.path),
        });
    }
    Ok(entries)
}

fn hash_file(
    file: &File,
    limits: &Limits,
    buffer: &mut [u8],
    mut read_on: impl FnMut(u64),
) -> Result<(Digest, u64), Error> {
    let fault = |source| Error::Read {
        path: file.path.clone(),
        source,
    };
    let mut source = fs::File::open(&file.source).map_err(fault)?;
    let mut hasher = Sha256::new();
    let mut size: u64 = 0;
    loop {
        let read = source.read(buffer).map_err(fault)?;
        let Some(chunk) = buffer.get(..read).filter(|chunk| !chunk.is_empty()) else {
            return Ok((Digest::from_bytes(hasher.finalize().into()), size));
        };
        hasher.update(chunk);
        let bytes = u64::try_from(read).unwrap_or(u64::MAX);
        size = size.saturating_add(bytes);
        // It may have grown since it was listed.
        check_size(&file.path, size, limits)?;
        read_on(bytes);
    }
}

fn check_size(path: &str, bytes: u64, limits: &Limits) -> Result<(), Error> {
    if bytes > limits.file_bytes {
        return Err(Error::Large(encoding::Error::FileBytes {
            path: path.to_owned(),
            bytes,
            limit: limits.file_bytes,
        }));
    }
    Ok(())
}

struct Walk<'a> {
    root: PathBuf,
    limits: &'a Limits,
    found: Vec<File>,
    bytes: u64,
}

impl Walk<'_> {
    /// `above` are the real folders from the root to this one: a link to one of them is a loop.
    fn folder(
        &mut self,
        entries: fs::ReadDir,
        prefix: &str,
        above: &mut Vec<PathBuf>,
    ) -> Result<(), Error> {
        for entry in entries {
            let entry = entry.map_err(|source| Error::Read {
                path: prefix.to_owned(),
                source,
            })?;
            if entry.file_name() == ".git" {
                continue;
            }
            let name = entry.file_name();
            let Some(name) = name.to_str() else {
                let path = joined(prefix, &name.to_string_lossy());
                return Err(Error::Path(PathError::NotUtf8 { path }));
            };
            let path = joined(prefix, name);
            check(&path, self.limits)?;
            self.entry(&entry.path(), path, above)?;
        }
        Ok(())
    }

    fn entry(&mut self, at: &Path, path: String, above: &mut Vec<PathBuf>) -> Result<(), Error> {
        let real = self.resolve(at, &path)?;
        let fault = |source| Error::Read {
            path: path.clone(),
            source,
        };
        let metadata = fs::metadata(&real).map_err(fault)?;
        if metadata.is_dir() {
            if above.contains(&real) {
                return Err(Error::LinkLoop { path });
            }
            let entries = fs::read_dir(&real).map_err(fault)?;
            above.push(real);
            self.folder(entries, &path, above)?;
            above.pop();
            return Ok(());
        }
        if !metadata.is_file() {
            return Err(Error::Special { path });
        }
        self.file(path, real, metadata.len())
    }

    fn file(&mut self, path: String, source: PathBuf, size: u64) -> Result<(), Error> {
        check_size(&path, size, self.limits)?;
        self.bytes = self.bytes.saturating_add(size);
        if self.bytes > self.limits.total_bytes {
            return Err(Error::Large(encoding::Error::TotalBytes {
                path,
                limit: self.limits.total_bytes,
            }));
        }
        if self.found.len() == self.limits.files {
            return Err(Error::Large(encoding::Error::Files {
                files: self.found.len() + 1,
                limit: self.limits.files,
            }));
        }
        self.found.push(File { path, source, size });
        Ok(())
    }

    /// Where it really lies; refuses links that leave the tree or enter `.git`.
    fn resolve(&self, at: &Path, path: &str) -> Result<PathBuf, Error> {
        let fault = |source| Error::Read {
            path: path.to_owned(),
            source,
        };
        if !fs::symlink_metadata(at).map_err(fault)?.is_symlink() {
            return Ok(at.to_owned());
        }
        let real = at.canonicalize().map_err(fault)?;
        let inside = real
            .strip_prefix(&self.root)
            .is_ok_and(|rest| rest.iter().all(|segment| segment != ".git"));
        if inside {
            Ok(real)
        } else {
            Err(Error::LinkOut {
                path: path.to_owned(),
                target: real,
            })
        }
    }
}

fn joined(prefix: &str, name: &str) -> String {
    if prefix.is_empty() {
        name.to_owned()
    } else {
        format!("{prefix}/{name}")
    }
}

#[cfg(test)]
mod tests;
