//! Reads an archive that somebody else made as the files of a release: a gzip'd tar with one folder at
//! its top, as GitHub packs a commit.
//!
//! Nothing is unpacked to paths that the archive names: whoever reads is handed one file after the
//! other, and says itself where its bytes go. What two readers could take for different things is
//! refused wherever it stands; what cannot be in a release is refused below the wanted folder and
//! passed over elsewhere, because a repository holds more than its site. Links are never followed.
//!
//! Time, memory and bytes are bounded: by [`Limits`], by how far bytes may unpack, and by whoever
//! reads, who may stop it at any block.

use std::{
    cell::Cell,
    collections::HashSet,
    io::{self, BufRead as _, BufReader, Read},
};

use flate2::bufread::GzDecoder;
use sha2::{Digest as _, Sha256};
use tar::Header;

use crate::{
    Digest, Entry, Limits, Manifest, PathError, content_type::guess, encoding, path::check,
};

mod budget;
mod error;
mod name;

pub use error::Error;

use budget::{Budget, Packed, Spent};
use name::Names;

/// What is read of an archive.
#[derive(Clone, Copy)]
pub struct Reading<'a> {
    /// The folder below the archive's top that is the site: `docs/public`; empty for all of it.
    pub folder: &'a str,
    /// How large the release may be. The whole archive must unpack within its bytes.
    pub limits: &'a Limits,
    /// Asked before every block: whether anybody still waits for it.
    pub go_on: &'a dyn Fn() -> bool,
}

impl std::fmt::Debug for Reading<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reading")
            .field("folder", &self.folder)
            .finish_non_exhaustive()
    }
}

/// A file below the wanted folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Its path in the release.
    pub path: String,
    /// Its bytes.
    pub size: u64,
}

/// Reads the archive once and names everything in it. Needs no more memory than the manifest.
pub fn manifest(archive: impl Read, reading: &Reading<'_>) -> Result<Manifest, Error> {
    let mut entries = Vec::new();
    let mut buffer = vec![0; 64 * 1024];
    read(archive, reading, |found, content| {
        let mut hasher = Sha256::new();
        loop {
            let count = content.read(&mut buffer)?;
            let Some(piece) = buffer.get(..count).filter(|piece| !piece.is_empty()) else {
                break;
            };
            hasher.update(piece);
        }
        entries.push(Entry {
            path: found.path.clone(),
            digest: Digest::from_bytes(hasher.finalize().into()),
            size: found.size,
            content_type: guess(&found.path),
        });
        Ok(())
    })?;
    Ok(Manifest::build(entries, reading.limits)?)
}

/// Hands every file below the wanted folder to `take`, in the archive's order, with its content. What
/// `take` leaves unread is read all the same. That no two files collide is [`manifest`]'s to say.
pub fn read(
    archive: impl Read,
    reading: &Reading<'_>,
    mut take: impl FnMut(&Found, &mut dyn Read) -> io::Result<()>,
) -> Result<(), Error> {
    let spent = Spent::default();
    let packed = BufReader::new(Packed::new(archive, &spent));
    let unpacked = Budget::new(GzDecoder::new(packed), reading, &spent);
    let mut blocks = tar::Archive::new(unpacked);
    let mut walk = Walk {
        reading,
        top: None,
        names: Names::default(),
        folders: HashSet::new(),
        files: Vec::new(),
        bytes: 0,
    };
    let faults = |error| spent.explain(error);
    for (place, block) in blocks.entries().map_err(faults)?.raw(true).enumerate() {
        let mut block = block.map_err(faults)?;
        if place >= most_entries(reading.limits) {
            return Err(Error::Entries {
                limit: most_entries(reading.limits),
            });
        }
        let header = block.header().clone();
        if walk.names.take(&header, &mut block, &spent)? {
            continue;
        }
        let Some(found) = walk.judge(&header)? else {
            continue;
        };
        let mut content = Content {
            inner: &mut block,
            read: 0,
        };
        take(&found, &mut content).map_err(|error| spent.explain_taking(error))?;
        io::copy(&mut content, &mut io::sink()).map_err(faults)?;
        if content.read != found.size {
            return Err(Error::ends_early());
        }
    }
    walk.finish()?;
    end(blocks.into_inner(), &spent)
}

/// As many blocks as that many files come with: a folder and an extended header for each, and a few.
fn most_entries(limits: &Limits) -> usize {
    limits.files.saturating_mul(3).saturating_add(16)
}

/// After the last block nothing comes but zeros, and the sum of what was packed is right.
fn end<R: Read>(
    mut unpacked: Budget<'_, GzDecoder<BufReader<R>>>,
    spent: &Spent,
) -> Result<(), Error> {
    // Without the block of zeros that ends it the reader came to the end of the bytes.
    if spent.has_ended() {
        return Err(Error::ends_early());
    }
    let mut buffer = [0; 16 * 1024];
    loop {
        let count = unpacked
            .read(&mut buffer)
            .map_err(|error| spent.explain(error))?;
        match buffer.get(..count) {
            None | Some([]) => break,
            Some(piece) if piece.iter().all(|byte| *byte == 0) => {}
            Some(_) => return Err(Error::Trailing),
        }
    }
    let mut packed = unpacked.into_inner().into_inner();
    let rest = packed.fill_buf().map_err(|error| spent.explain(error))?;
    if rest.is_empty() {
        Ok(())
    } else {
        Err(Error::Trailing)
    }
}

/// A file's content, counted.
struct Content<'a> {
    inner: &'a mut dyn Read,
    read: u64,
}

impl Read for Content<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.read += u64::try_from(count).unwrap_or(u64::MAX);
        Ok(count)
    }
}

struct Walk<'a> {
    reading: &'a Reading<'a>,
    /// The folder that all lies in.
    top: Option<Vec<u8>>,
    names: Names,
    folders: HashSet<String>,
    files: Vec<String>,
    bytes: u64,
}

impl Walk<'_> {
    /// What a header is: a file to hand over, or nothing of ours.
    fn judge(&mut self, header: &Header) -> Result<Option<Found>, Error> {
        let name = self.names.of(header)?;
        let shown = || String::from_utf8_lossy(&name).into_owned();
        let kind = Kind::of(header).map_err(|kind| Error::Kind {
            path: shown(),
            kind,
        })?;
        let size = name::size(header).map_err(|why| Error::Header { path: shown(), why })?;
        if kind != Kind::File && size != 0 {
            let why = "has content, and is no file";
            return Err(Error::Header { path: shown(), why });
        }
        let segments = name::segments(&name, kind == Kind::Folder)?;
        let (top, below) = segments.split_first().ok_or(PathError::Empty)?;
        let first = self.top.get_or_insert_with(|| top.to_vec());
        if first != top || (below.is_empty() && kind != Kind::Folder) {
            return Err(Error::Top { path: shown() });
        }
        let Some(path) = self.inside(below, kind)? else {
            return Ok(None);
        };
        match kind {
            Kind::Folder => {
                self.folders.insert(path);
                Ok(None)
            }
            Kind::Link => Err(Error::Link { path }),
            Kind::File => self.file(path, size).map(Some),
        }
    }

    /// The path below the wanted folder; none for what is elsewhere, for the folder itself and for
    /// `.git`, which is no content wherever it lies.
    fn inside(&self, below: &[&[u8]], kind: Kind) -> Result<Option<String>, Error> {
        let folder = self.reading.folder;
        let wanted = folder.split('/').filter(|segment| !segment.is_empty());
        let mut rest = below.iter();
        for (place, segment) in wanted.enumerate() {
            match rest.next() {
                Some(one) if *one == segment.as_bytes() => {}
                _ => return Ok(None),
            }
            // A link where the folder should be is the likeliest mistake of all.
            if kind != Kind::Folder && place + 1 == below.len() {
                let path = folder.to_owned();
                return Err(Error::NoFolder { path });
            }
        }
        let rest: Vec<&[u8]> = rest.copied().collect();
        if rest.is_empty() || rest.contains(&b".git".as_slice()) {
            return Ok(None);
        }
        let joined = rest.join(&b'/');
        let path = String::from_utf8(joined).map_err(|error| PathError::NotUtf8 {
            path: String::from_utf8_lossy(error.as_bytes()).into_owned(),
        })?;
        check(&path, self.reading.limits)?;
        Ok(Some(path))
    }

    fn file(&mut self, path: String, size: u64) -> Result<Found, Error> {
        let limits = self.reading.limits;
        if size > limits.file_bytes {
            let limit = limits.file_bytes;
            return Err(Error::Release(encoding::Error::FileBytes {
                path,
                bytes: size,
                limit,
            }));
        }
        self.bytes = self.bytes.saturating_add(size);
        if self.bytes > limits.total_bytes {
            let limit = limits.total_bytes;
            return Err(Error::Release(encoding::Error::TotalBytes { path, limit }));
        }
        if self.files.len() >= limits.files {
            return Err(Error::Release(encoding::Error::Files {
                files: self.files.len() + 1,
                limit: limits.files,
            }));
        }
        self.files.push(path.clone());
        Ok(Found { path, size })
    }

    fn finish(&self) -> Result<(), Error> {
        self.names.finish()?;
        if self.files.is_empty() {
            return Err(Error::Nothing {
                folder: self.reading.folder.to_owned(),
            });
        }
        match self.files.iter().find(|path| self.folders.contains(*path)) {
            Some(path) => Err(Error::Release(encoding::Error::Path(
                PathError::FileAndFolder {
                    path: path.clone(),
                    file: path.clone(),
                },
            ))),
            None => Ok(()),
        }
    }
}

/// What may stand in an archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    File,
    Folder,
    /// Only where nobody looks.
    Link,
}

impl Kind {
    fn of(header: &Header) -> Result<Self, &'static str> {
        match header.entry_type().as_byte() {
            b'0' | 0 => Ok(Self::File),
            b'5' => Ok(Self::Folder),
            b'2' => Ok(Self::Link),
            b'1' => Err("a hard link"),
            b'3' | b'4' => Err("a device"),
            b'6' => Err("a pipe"),
            b'S' => Err("a sparse file"),
            _ => Err("of a kind that is not known here"),
        }
    }
}

#[cfg(test)]
mod tests;
