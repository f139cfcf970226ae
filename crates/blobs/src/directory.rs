//! Blobs as files: `ab/cdef…` below a root, which edges on the same machine read.
//!
//! A blob appears under its name by a rename after its content was checked and flushed, so a
//! reader or a crash never meets half of one. The flush of its folder and of the root comes before
//! the answer, whoever wrote it: what was acknowledged survives a loss of power.

use std::{
    collections::HashMap,
    ffi::OsString,
    io,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError, Weak,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use futures_util::StreamExt as _;
use tokio::{fs, io::AsyncWriteExt as _};
use tokio_util::io::ReaderStream;

use crate::{
    Blob, Body, Digest, Error, Put, Store, Upload, UploadKey,
    verify::{Verifier, verified},
};

/// Read at once; large enough that hashing, not calling, takes the time.
const PIECE_BYTES: usize = 256 * 1024;

/// After so long without a byte, a temporary file is what a crash left.
const ABANDONED: Duration = Duration::from_hours(24);
/// Puts from one look for abandoned files to the next; the first put of a process looks too.
const LOOK_EVERY: u64 = 1000;

/// Keeps temporary names of one process apart.
static NEXT: AtomicU64 = AtomicU64::new(0);

/// Puts of one blob that write at a time. More than one, so that a slow sender keeps nobody else's away.
const WRITERS: usize = 4;

/// Its places are held by the puts that write a blob.
type Turns = tokio::sync::Semaphore;

/// Makes the names in a folder stay.
type Flush = fn(&Path) -> Result<(), Error>;

#[derive(Debug)]
pub(crate) struct Directory {
    root: PathBuf,
    key: Option<UploadKey>,
    puts: AtomicU64,
    /// Of the blobs that are being put.
    turns: Mutex<HashMap<Digest, Weak<Turns>>>,
    flush: Flush,
}

impl Directory {
    pub(crate) fn new(root: PathBuf, key: Option<UploadKey>) -> Self {
        Self {
            root,
            key,
            puts: AtomicU64::new(0),
            turns: Mutex::default(),
            flush: flush_folder,
        }
    }

    /// Few puts of a blob write at a time: or who has one signed URL could fill the disk with temporary
    /// files, as many as there are connections.
    fn turns(&self, digest: &Digest) -> Arc<Turns> {
        let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
        turns.retain(|_, turn| turn.strong_count() > 0);
        let known = turns.entry(*digest).or_default();
        known.upgrade().unwrap_or_else(|| {
            let turn = Arc::new(Turns::new(WRITERS));
            *known = Arc::downgrade(&turn);
            turn
        })
    }

    fn path(&self, digest: &Digest) -> PathBuf {
        let name = digest.to_string();
        let (folder, rest) = name.split_at(2);
        self.root.join(folder).join(rest)
    }

    /// Bytes of a blob, if it is there.
    async fn size(&self, digest: &Digest) -> Result<Option<u64>, Error> {
        let path = self.path(digest);
        match fs::metadata(&path).await {
            Ok(metadata) => Ok(Some(metadata.len())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(Error::Io {
                act: "look at",
                path,
                source,
            }),
        }
    }

    async fn open(&self, digest: &Digest) -> Result<(fs::File, u64), Error> {
        let path = self.path(digest);
        let file = match fs::File::open(&path).await {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(Error::NotFound { digest: *digest });
            }
            Err(source) => return Err(failed("open", &path, source)),
        };
        let metadata = file
            .metadata()
            .await
            .map_err(|e| failed("look at", &path, e))?;
        Ok((file, metadata.len()))
    }
}

#[async_trait]
impl Store for Directory {
    async fn sizes(&self, digests: &[Digest]) -> Result<Vec<Option<u64>>, Error> {
        let paths: Vec<PathBuf> = digests.iter().map(|digest| self.path(digest)).collect();
        blocking(move || paths.into_iter().map(size_of).collect()).await
    }

    async fn get(&self, digest: &Digest) -> Result<Blob, Error> {
        let (file, size) = self.open(digest).await?;
        let path = self.path(digest);
        let pieces = ReaderStream::with_capacity(file, PIECE_BYTES)
            .map(move |piece| piece.map_err(|e| failed("read", &path, e)));
        Ok(Blob {
            size,
            body: verified(*digest, size, Box::pin(pieces)),
        })
    }

    async fn put(&self, digest: &Digest, size: u64, body: Body) -> Result<Put, Error> {
        let turn = self.turns(digest).acquire_owned().await;
        let _turn = turn.expect("nobody closes the turns");
        let (to, flush) = (self.path(digest), self.flush);
        // A file of another size is what a failing disk left: it is replaced.
        if self.size(digest).await? == Some(size) {
            // Another process may have given it its name just now, and not have flushed it yet.
            blocking(move || flush_name(&to, flush)).await?;
            return Ok(Put::Existed);
        }
        let scratch = self.root.join("tmp");
        fs::create_dir_all(&scratch)
            .await
            .map_err(|e| failed("create", &scratch, e))?;
        let (temporary, file) = temporary(&scratch, digest.to_string().into()).await?;
        let before = self.puts.fetch_add(1, Ordering::Relaxed);
        if before.is_multiple_of(LOOK_EVERY) {
            let own = temporary.path.clone();
            blocking(move || {
                remove_abandoned(&own);
                Ok(())
            })
            .await?;
        }
        fill(file, &temporary.path, Verifier::new(*digest, size), body).await?;
        blocking(move || temporary.place(&to, flush)).await?;
        Ok(Put::Stored)
    }

    async fn delete(&self, digest: &Digest) -> Result<(), Error> {
        let path = self.path(digest);
        blocking(move || remove(&path)).await
    }

    async fn upload_url(
        &self,
        digest: &Digest,
        size: u64,
        ttl: Duration,
        now: u64,
    ) -> Result<Upload, Error> {
        let key = self.key.as_ref().ok_or(Error::NoUploadKey)?;
        Ok(Upload {
            url: key.url(digest, size, now.saturating_add(ttl.as_secs())),
            headers: Vec::new(),
        })
    }

    async fn verify(&self, digest: &Digest) -> Result<u64, Error> {
        verify_copy(digest, &self.path(digest)).await
    }

    fn local_path(&self, digest: &Digest) -> Option<PathBuf> {
        Some(self.path(digest))
    }
}

fn failed(act: &'static str, path: &Path, source: io::Error) -> Error {
    Error::Io {
        act,
        path: path.to_owned(),
        source,
    }
}

async fn blocking<T: Send + 'static>(
    act: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    tokio::task::spawn_blocking(act)
        .await
        .unwrap_or_else(|join| {
            let source = io::Error::other(join);
            Err(failed("work on", Path::new("a blob"), source))
        })
}

fn size_of(path: PathBuf) -> Result<Option<u64>, Error> {
    match std::fs::metadata(&path) {
        Ok(metadata) => Ok(Some(metadata.len())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed("look at", &path, error)),
    }
}

/// For good: a folder that was not flushed would have it again after a loss of power.
fn remove(path: &Path) -> Result<(), Error> {
    match std::fs::remove_file(path) {
        Ok(()) => flush_folder(path.parent().unwrap_or(path)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(failed("remove", path, error)),
    }
}

/// Proves that a file holds a blob; answers its bytes.
pub async fn verify_copy(digest: &Digest, path: &Path) -> Result<u64, Error> {
    let (path, digest) = (path.to_owned(), *digest);
    // One hop to a blocking thread a blob, not one a piece.
    blocking(move || verify_file(&path, digest)).await
}

fn verify_file(path: &Path, digest: Digest) -> Result<u64, Error> {
    use std::io::Read as _;

    let mut file = match std::fs::File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(Error::NotFound { digest });
        }
        Err(error) => return Err(failed("open", path, error)),
    };
    let size = file
        .metadata()
        .map_err(|e| failed("look at", path, e))?
        .len();
    let mut verifier = Verifier::new(digest, size);
    let piece = usize::try_from(size)
        .unwrap_or(PIECE_BYTES)
        .clamp(1, PIECE_BYTES);
    let mut buffer = vec![0; piece];
    loop {
        let read = file
            .read(&mut buffer)
            .map_err(|e| failed("read", path, e))?;
        match buffer.get(..read) {
            Some(piece) if !piece.is_empty() => verifier.feed(piece)?,
            _ => return verifier.finish(),
        }
    }
}

/// A file that goes when it was not placed: also when the writer's future is dropped, as a server
/// does with a client that hung up.
struct Temporary {
    path: PathBuf,
    placed: bool,
}

impl Temporary {
    /// Gives a flushed file its name, for good.
    fn place(mut self, to: &Path, flush: Flush) -> Result<(), Error> {
        let folder = to.parent().unwrap_or(to);
        std::fs::create_dir_all(folder).map_err(|e| failed("create", folder, e))?;
        std::fs::rename(&self.path, to).map_err(|e| failed("rename", &self.path, e))?;
        self.placed = true;
        flush_name(to, flush)
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if self.placed {
            return;
        }
        if let Err(error) = std::fs::remove_file(&self.path) {
            tracing::warn!(%error, path = %self.path.display(), "a temporary file could not be removed");
        }
    }
}

/// A new file that nobody else writes. Another process may have our number: the next is taken.
async fn temporary(folder: &Path, stem: OsString) -> Result<(Temporary, fs::File), Error> {
    loop {
        let mut name = stem.clone();
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        name.push(format!(".{}.{number}", std::process::id()));
        let path = folder.join(name);
        let opened = fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .open(&path)
            .await;
        match opened {
            Ok(file) => {
                return Ok((
                    Temporary {
                        path,
                        placed: false,
                    },
                    file,
                ));
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(source) => return Err(failed("create", &path, source)),
        }
    }
}

/// Removes the files beside a new one that a crash left long ago: who was killed in the middle of an
/// upload cannot. Ages are by the disk's own clock.
fn remove_abandoned(own: &Path) {
    let now = std::fs::metadata(own).and_then(|metadata| metadata.modified());
    let beside = own.parent().map(std::fs::read_dir);
    let (Ok(now), Some(Ok(beside))) = (now, beside) else {
        return;
    };
    for file in beside.flatten() {
        let written = file.metadata().and_then(|metadata| metadata.modified());
        let age = written.ok().and_then(|at| now.duration_since(at).ok());
        if age.is_some_and(|age| age >= ABANDONED)
            && let Err(error) = std::fs::remove_file(file.path())
        {
            tracing::warn!(%error, path = %file.path().display(), "an abandoned file could not be removed");
        }
    }
}

/// Writes a body that must be what the verifier expects, and flushes it to disk.
async fn fill(
    mut file: fs::File,
    path: &Path,
    mut verifier: Verifier,
    mut body: Body,
) -> Result<(), Error> {
    while let Some(piece) = body.next().await {
        let piece = piece?;
        verifier.feed(&piece)?;
        file.write_all(&piece)
            .await
            .map_err(|e| failed("write", path, e))?;
    }
    verifier.finish()?;
    file.flush().await.map_err(|e| failed("write", path, e))?;
    file.sync_all().await.map_err(|e| failed("flush", path, e))
}

/// The name of a blob stays: in its folder, and the folder in the root. Also where the folder was there
/// before, as another put may have made it just now.
fn flush_name(path: &Path, flush: Flush) -> Result<(), Error> {
    let folder = path.parent().unwrap_or(path);
    flush(folder.parent().unwrap_or(folder))?;
    flush(folder)
}

fn flush_folder(folder: &Path) -> Result<(), Error> {
    std::fs::File::open(folder)
        .and_then(|folder| folder.sync_all())
        .map_err(|e| failed("flush", folder, e))
}

/// Copies a verified blob to `path` by way of a temporary file beside it.
pub(crate) async fn copy(blob: Blob, path: &Path) -> Result<u64, Error> {
    let folder = path.parent().unwrap_or_else(|| Path::new("."));
    fs::create_dir_all(folder)
        .await
        .map_err(|e| failed("create", folder, e))?;
    let stem = path.file_name().unwrap_or_default().to_owned();
    let (mut temporary, mut file) = temporary(folder, stem).await?;
    let mut body = blob.body;
    let written = |e| failed("write", path, e);
    while let Some(piece) = body.next().await {
        file.write_all(&piece?).await.map_err(written)?;
    }
    file.flush().await.map_err(written)?;
    fs::rename(&temporary.path, path)
        .await
        .map_err(|e| failed("rename to", path, e))?;
    temporary.placed = true;
    Ok(blob.size)
}

#[cfg(test)]
mod tests;
