//! The state directory: what lets an edge start and serve when everything else is down.
//!
//! ```text
//! id                  this edge's name
//! routes              the routes it serves, as one protobuf message
//! routes.later        what came since: each a part of its digest, its length and a message
//! releases/rel_…      the manifest of each release that is staged: its being there says that all
//!                     its content was verified
//! blobs/ab/cdef…      verified copies, when the blob store has no files of its own
//! variants/<boot>/…   compressed forms; a reboot of the machine makes them anew
//! ```
//!
//! Nothing here is the only copy of anything.

use std::{
    collections::HashSet,
    fs::{self, File},
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use candlefish_ids::{Digest, ReleaseId, RequestId};
use candlefish_manifest::digest_of;

/// Why the state directory is of no use.
#[derive(Debug, thiserror::Error)]
#[error("cannot {act} {}", .path.display())]
pub struct Error {
    act: &'static str,
    path: PathBuf,
    #[source]
    source: io::Error,
}

/// The state directory.
#[derive(Debug, Clone)]
pub(crate) struct Disk {
    root: PathBuf,
    variants: PathBuf,
}

impl Disk {
    /// Opens it, makes what is missing, and forgets compressed forms of an earlier boot of the
    /// machine: they are not flushed when written, so a loss of power may have cut them.
    pub(crate) fn open(root: &Path) -> Result<Self, Error> {
        let all = root.join("variants");
        let variants = all.join(machine_boot());
        for folder in [&root.join("releases"), &root.join("blobs"), &variants] {
            fs::create_dir_all(folder).map_err(failed("create", folder))?;
        }
        for entry in fs::read_dir(&all).map_err(failed("list", &all))? {
            let path = entry.map_err(failed("list", &all))?.path();
            if path != variants {
                fs::remove_dir_all(&path).map_err(failed("remove", &path))?;
            }
        }
        Ok(Self {
            root: root.to_owned(),
            variants,
        })
    }

    /// The name kept here, or a new one.
    pub(crate) fn edge_id(&self) -> Result<String, Error> {
        let path = self.root.join("id");
        match fs::read_to_string(&path) {
            Ok(id) if !id.trim().is_empty() => Ok(id.trim().to_owned()),
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(failed("read", &path)(error))
            }
            _ => {
                let suffix = RequestId::new().suffix();
                // The end of a UUIDv7 is its random part.
                let id = format!("edge-{}", suffix.get(18..).unwrap_or(&suffix));
                write(&path, id.as_bytes())?;
                Ok(id)
            }
        }
    }

    /// The routes as they were last written whole; nothing at the first start.
    pub(crate) fn read_routes(&self) -> Result<Option<Vec<u8>>, Error> {
        read(&self.root.join("routes"))
    }

    /// The routes that came after, in their order, up to one that was not written to its end. Some may
    /// be older than what was written whole.
    pub(crate) fn read_later_routes(&self) -> Result<Vec<Vec<u8>>, Error> {
        let bytes = read(&self.root.join("routes.later"))?.unwrap_or_default();
        let mut left = bytes.as_slice();
        let mut routes = Vec::new();
        while let Some((route, rest)) = first_record(left) {
            routes.push(route.to_vec());
            left = rest;
        }
        Ok(routes)
    }

    /// Keeps all routes, flushed, before anybody is told that they are applied.
    pub(crate) fn write_routes(&self, bytes: &[u8]) -> Result<(), Error> {
        write(&self.root.join("routes"), bytes)?;
        // A crash before this leaves what is in the whole as well.
        remove(&self.root.join("routes.later"))
    }

    /// Keeps routes that came since all were written, flushed as well; answers how many bytes that
    /// took. After a failure nobody knows how far it came: all are to be written.
    pub(crate) fn add_routes(&self, routes: &[Vec<u8>]) -> Result<usize, Error> {
        let path = self.root.join("routes.later");
        let bytes: Vec<u8> = routes.iter().flat_map(|route| record(route)).collect();
        let is_new = !path.exists();
        let mut file = File::options()
            .append(true)
            .create(true)
            .open(&path)
            .map_err(failed("open", &path))?;
        file.write_all(&bytes).map_err(failed("write", &path))?;
        file.sync_data().map_err(failed("flush", &path))?;
        if is_new {
            flush_folder(&self.root)?;
        }
        Ok(bytes.len())
    }

    /// The manifest of a release whose content was verified.
    pub(crate) fn read_staged(&self, release: ReleaseId) -> Result<Option<Vec<u8>>, Error> {
        read(&self.staged(release))
    }

    /// Notes that all content of a release is verified.
    pub(crate) fn write_staged(&self, release: ReleaseId, manifest: &[u8]) -> Result<(), Error> {
        write(&self.staged(release), manifest)
    }

    /// The releases that are noted, by whichever run.
    pub(crate) fn noted(&self) -> Result<Vec<ReleaseId>, Error> {
        let folder = self.root.join("releases");
        let mut releases = Vec::new();
        for entry in fs::read_dir(&folder).map_err(failed("list", &folder))? {
            let name = entry.map_err(failed("list", &folder))?.file_name();
            // A note that was not written to its end has another name.
            let release = name
                .to_str()
                .and_then(|name| name.parse::<ReleaseId>().ok());
            releases.extend(release);
        }
        Ok(releases)
    }

    /// Forgets that a release was staged.
    pub(crate) fn forget_staged(&self, release: ReleaseId) -> Result<(), Error> {
        remove(&self.staged(release))
    }

    /// Removes copies and compressed forms of all blobs but these; answers how many files.
    pub(crate) fn sweep(&self, held: &HashSet<Digest>) -> Result<usize, Error> {
        let mut count = 0;
        for root in [&self.root.join("blobs"), &self.variants] {
            for folder in fs::read_dir(root).map_err(failed("list", root))? {
                let folder = folder.map_err(failed("list", root))?;
                let (start, folder) = (folder.file_name(), folder.path());
                for file in fs::read_dir(&folder).map_err(failed("list", &folder))? {
                    let file = file.map_err(failed("list", &folder))?;
                    let name = file.file_name();
                    let name = format!("{}{}", start.to_string_lossy(), name.to_string_lossy());
                    let digest = name.get(..64).and_then(|name| name.parse().ok());
                    if digest.is_none_or(|digest| !held.contains(&digest)) {
                        remove(&file.path())?;
                        count += 1;
                    }
                }
            }
        }
        Ok(count)
    }

    fn staged(&self, release: ReleaseId) -> PathBuf {
        self.root.join("releases").join(release.to_string())
    }

    /// Where a copy of a blob lies.
    pub(crate) fn blob(&self, digest: &Digest) -> PathBuf {
        fanned(self.root.join("blobs"), digest, "")
    }

    /// Where a compressed form of a blob lies; empty when compressing did not make it smaller.
    pub(crate) fn variant(&self, digest: &Digest, ending: &str) -> PathBuf {
        fanned(self.variants.clone(), digest, ending)
    }
}

/// A file of a cache: in one piece after a crash of the process, not of the machine.
pub(crate) fn write_cached(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    let folder = path.parent().unwrap_or(path);
    fs::create_dir_all(folder).map_err(failed("create", folder))?;
    let temporary = path.with_added_extension("new");
    fs::write(&temporary, bytes).map_err(failed("write", &temporary))?;
    fs::rename(&temporary, path).map_err(failed("rename to", path))
}

/// Bytes of a file, if there is one.
pub(crate) fn length(path: &Path) -> Option<u64> {
    fs::metadata(path).ok().map(|metadata| metadata.len())
}

fn read(path: &Path) -> Result<Option<Vec<u8>>, Error> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed("read", path)(error)),
    }
}

/// Whole or not at all, also after a loss of power.
fn write(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    let temporary = path.with_added_extension("new");
    let mut file = File::create(&temporary).map_err(failed("create", &temporary))?;
    file.write_all(bytes).map_err(failed("write", &temporary))?;
    file.sync_all().map_err(failed("flush", &temporary))?;
    fs::rename(&temporary, path).map_err(failed("rename to", path))?;
    flush_folder(path.parent().unwrap_or(path))
}

/// The names in a folder stay also after a loss of power.
fn flush_folder(folder: &Path) -> Result<(), Error> {
    File::open(folder)
        .and_then(|folder| folder.sync_all())
        .map_err(failed("flush", folder))
}

fn remove(path: &Path) -> Result<(), Error> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed("remove", path)(error)),
        _ => Ok(()),
    }
}

/// Bytes of a digest that a record begins with: enough to know one that was cut.
const CHECK: usize = 8;

/// A message that tells where it ends, and whether it is whole.
fn record(message: &[u8]) -> Vec<u8> {
    let check = digest_of(message);
    let length = u32::try_from(message.len()).expect("a message of the stream has some megabytes");
    let mut bytes = Vec::with_capacity(CHECK + 4 + message.len());
    bytes.extend(check.as_bytes().iter().take(CHECK));
    bytes.extend_from_slice(&length.to_be_bytes());
    bytes.extend_from_slice(message);
    bytes
}

/// The first message, and what follows it; nothing when it is not whole.
fn first_record(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (check, rest) = bytes.split_first_chunk::<CHECK>()?;
    let (length, rest) = rest.split_first_chunk::<4>()?;
    let length = usize::try_from(u32::from_be_bytes(*length)).ok()?;
    let (message, rest) = rest.split_at_checked(length)?;
    let is_whole = digest_of(message).as_bytes().starts_with(check);
    is_whole.then_some((message, rest))
}

fn fanned(root: PathBuf, digest: &Digest, ending: &str) -> PathBuf {
    let name = digest.to_string();
    let (folder, rest) = name.split_at(2);
    root.join(folder).join(format!("{rest}{ending}"))
}

fn failed(act: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error + use<> {
    let path = path.to_owned();
    move |source| Error { act, path, source }
}

/// Names this boot of the machine; where Linux does not say, forms are kept over boots.
fn machine_boot() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id")
        .map_or_else(|_| "boot".to_owned(), |id| id.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_edge_keeps_its_name() {
        let dir = tempfile::tempdir().unwrap();
        let id = Disk::open(dir.path()).unwrap().edge_id().unwrap();
        assert!(id.starts_with("edge-") && id.len() == 13, "{id}");
        assert_eq!(Disk::open(dir.path()).unwrap().edge_id().unwrap(), id);
    }

    #[test]
    fn routes_that_came_later_are_read_up_to_one_that_was_cut() {
        let dir = tempfile::tempdir().unwrap();
        let disk = Disk::open(dir.path()).unwrap();
        let later = || disk.read_later_routes().unwrap();
        assert_eq!(later(), Vec::<Vec<u8>>::new());
        disk.add_routes(&[b"one".to_vec(), b"two".to_vec()])
            .unwrap();
        disk.add_routes(&[b"three".to_vec()]).unwrap();
        assert_eq!(later(), [&b"one"[..], b"two", b"three"]);
        // The power goes while the last one is written, or before its last block is.
        let path = dir.path().join("routes.later");
        let whole = fs::read(&path).unwrap();
        for cut in whole.len() - 16..whole.len() {
            fs::write(&path, &whole[..cut]).unwrap();
            assert_eq!(later(), [&b"one"[..], b"two"], "{cut}");
            let zeros = [&whole[..cut], &vec![0; whole.len() - cut]].concat();
            fs::write(&path, zeros).unwrap();
            assert_eq!(later(), [&b"one"[..], b"two"], "{cut}");
        }
        disk.write_routes(b"all").unwrap();
        assert_eq!(later(), Vec::<Vec<u8>>::new());
        assert_eq!(disk.read_routes().unwrap().as_deref(), Some(&b"all"[..]));
    }

    #[test]
    fn what_is_written_is_read_and_old_variants_go() {
        let dir = tempfile::tempdir().unwrap();
        let disk = Disk::open(dir.path()).unwrap();
        assert_eq!(disk.read_routes().unwrap(), None);
        disk.write_routes(b"routes").unwrap();
        assert_eq!(disk.read_routes().unwrap().as_deref(), Some(&b"routes"[..]));
        let release = ReleaseId::new();
        disk.forget_staged(release).unwrap();
        disk.write_staged(release, b"manifest").unwrap();
        assert!(disk.read_staged(release).unwrap().is_some());
        let cut = format!("releases/{}.new", ReleaseId::new());
        fs::write(dir.path().join(cut), "mani").unwrap();
        assert_eq!(disk.noted().unwrap(), [release]);
        disk.forget_staged(release).unwrap();
        assert_eq!(disk.read_staged(release).unwrap(), None);
        assert!(disk.noted().unwrap().is_empty());
        let old = dir.path().join("variants/of-an-earlier-boot");
        fs::create_dir(&old).unwrap();
        let kept = disk.variant(&Digest::from_bytes([1; 32]), ".br");
        write_cached(&kept, b"x").unwrap();
        Disk::open(dir.path()).unwrap();
        assert!(!old.exists());
        assert_eq!(length(&kept), Some(1));
    }
}
