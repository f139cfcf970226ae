//! All releases that are staged here, and how they come to be.

mod mend;

use std::{
    collections::{HashMap, HashSet},
    path::{Path, PathBuf},
    string::FromUtf8Error,
    sync::{Arc, Mutex, PoisonError, RwLock, Weak},
    time::SystemTime,
};

use candlefish_blobs::{Store, verify_copy};
use candlefish_ids::{Digest, ReleaseId};
use candlefish_manifest::{Limits, Manifest};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use tokio::sync::Notify;

use self::mend::Damaged;
use super::{
    Release,
    content::{Content, Encoding},
    memory::Memory,
    variant,
};
use crate::{
    disk::{self, Disk},
    route::ReleaseRef,
    rule::{self, Headers, Redirects},
};

/// Blobs looked at together: two cores hash, the rest waits for the disk or S3.
const TOGETHER: usize = 8;
/// `_redirects` and `_headers`.
const RULE_BYTES: u64 = 256 * 1024;

/// Why a release cannot be staged.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("the manifest {digest} cannot be read: {source}")]
    Manifest {
        digest: Digest,
        source: candlefish_blobs::Error,
    },
    #[error("the manifest {digest} is refused: {source}")]
    Refused {
        digest: Digest,
        source: candlefish_manifest::Error,
    },
    #[error("{path}: {source}")]
    Blob {
        path: String,
        source: candlefish_blobs::Error,
    },
    #[error("{path}: the blob {digest} has {found} bytes, the manifest says {expected}")]
    Size {
        path: String,
        digest: Digest,
        found: u64,
        expected: u64,
    },
    #[error("{path}: {source}")]
    RuleText { path: String, source: FromUtf8Error },
    #[error(transparent)]
    Rule(#[from] rule::Error),
    #[error(transparent)]
    Disk(#[from] disk::Error),
    #[error("staging was interrupted")]
    Interrupted,
    #[error("staging it panicked: the log of this edge has more")]
    Panicked,
}

impl Error {
    /// Whether staging may succeed later, with nothing said of the release.
    pub(crate) const fn is_transient(&self) -> bool {
        match self {
            Self::Manifest { source, .. } | Self::Blob { source, .. } => source.is_transient(),
            Self::Disk(_) | Self::Interrupted => true,
            Self::Refused { .. }
            | Self::Size { .. }
            | Self::RuleText { .. }
            | Self::Rule(_)
            | Self::Panicked => false,
        }
    }
}

/// What a file looked like when its content was verified: another look means another content.
type Stamp = (u64, Option<SystemTime>);

/// A blob that some release holds, and the look of its file when it was verified last.
type Held = (Weak<Content>, Option<Stamp>);

/// The staged releases.
#[derive(Debug)]
pub(crate) struct Shelf {
    store: Arc<dyn Store>,
    disk: Disk,
    limits: Limits,
    releases: RwLock<HashMap<ReleaseId, Arc<Release>>>,
    /// All that are noted on disk: those, and what the last run had.
    noted: Mutex<HashSet<ReleaseId>>,
    /// One value for each blob, whoever holds it: what is not found here is swept.
    contents: Mutex<HashMap<Digest, Held>>,
    pub(crate) memory: Memory,
    /// Held shared while content is verified, alone while files of nobody are removed.
    staging: tokio::sync::RwLock<()>,
    /// A release came: its compressed forms are to be made.
    came: Notify,
    damaged: Damaged,
}

impl Shelf {
    pub(crate) fn new(store: Arc<dyn Store>, disk: Disk, memory_bytes: u64) -> Self {
        Self {
            store,
            disk,
            limits: Limits::of_sealed(),
            releases: RwLock::default(),
            noted: Mutex::default(),
            contents: Mutex::default(),
            memory: Memory::new(memory_bytes),
            staging: tokio::sync::RwLock::default(),
            came: Notify::new(),
            damaged: Damaged::default(),
        }
    }

    /// A staged release.
    pub(crate) fn get(&self, release: ReleaseId) -> Option<Arc<Release>> {
        let releases = self.releases.read().unwrap_or_else(PoisonError::into_inner);
        releases.get(&release).cloned()
    }

    /// Fetches and verifies all content of a release, unless it is staged. What this edge verified
    /// before it stopped is not read again, so that it starts with the store down.
    pub(crate) async fn stage(&self, wanted: ReleaseRef) -> Result<Arc<Release>, Error> {
        if let Some(release) = self
            .get(wanted.id)
            .filter(|r| r.manifest == wanted.manifest)
        {
            return Ok(release);
        }
        let _staging = self.staging.read().await;
        let kept = self.disk.read_staged(wanted.id)?;
        let verified = kept.filter(|m| candlefish_manifest::digest_of(m) == wanted.manifest);
        let trusted = verified.is_some();
        let bytes = match verified {
            Some(bytes) => bytes,
            None => self.fetch_manifest(wanted.manifest).await?,
        };
        let manifest = Manifest::decode(&bytes, &self.limits).map_err(|source| Error::Refused {
            digest: wanted.manifest,
            source,
        })?;
        let contents = self.contents(&manifest, trusted).await?;
        let redirects = match self.rule_text(&manifest, "_redirects").await? {
            Some(text) => Redirects::parse(&text)?,
            None => Redirects::default(),
        };
        let headers = match self.rule_text(&manifest, "_headers").await? {
            Some(text) => Headers::parse(&text)?,
            None => Headers::default(),
        };
        if !trusted {
            self.disk.write_staged(wanted.id, &bytes)?;
        }
        let rules = (redirects, headers);
        let release = Release::new(wanted.id, wanted.manifest, &manifest, contents, rules);
        let release = Arc::new(release);
        let mut releases = self
            .releases
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        releases.insert(wanted.id, Arc::clone(&release));
        drop(releases);
        let mut noted = self.noted.lock().unwrap_or_else(PoisonError::into_inner);
        noted.insert(wanted.id);
        drop(noted);
        self.came.notify_one();
        Ok(release)
    }

    async fn fetch_manifest(&self, digest: Digest) -> Result<Vec<u8>, Error> {
        let limit = u64::try_from(self.limits.manifest_bytes).unwrap_or(u64::MAX);
        let read = self.store.read(&digest, limit).await;
        let bytes = read.map_err(|source| Error::Manifest { digest, source })?;
        Ok(bytes.into())
    }

    /// The content of each entry, in their order.
    async fn contents(
        &self,
        manifest: &Manifest,
        trusted: bool,
    ) -> Result<Vec<Arc<Content>>, Error> {
        let mut first = HashMap::new();
        for entry in manifest.entries() {
            first
                .entry(entry.digest)
                .or_insert((entry.size, entry.path.as_str()));
        }
        let wanted: Vec<_> = first
            .into_iter()
            .map(|(digest, (size, path))| (digest, size, path.to_owned()))
            .collect();
        let found: HashMap<Digest, Arc<Content>> = stream::iter(wanted)
            .map(|(digest, size, path)| async move {
                let content = self.content(digest, size, path, trusted).await?;
                Ok::<_, Error>((digest, content))
            })
            .buffer_unordered(TOGETHER)
            .try_collect()
            .await?;
        let of = |digest| found.get(digest).map(Arc::clone);
        manifest
            .entries()
            .iter()
            .map(|entry| of(&entry.digest).ok_or(Error::Interrupted))
            .collect()
    }

    /// One blob: shared with other releases when its file still looks as it did when verified.
    async fn content(
        &self,
        digest: Digest,
        size: u64,
        path: String,
        trusted: bool,
    ) -> Result<Arc<Content>, Error> {
        let local = self.store.local_path(&digest);
        let file = local.clone().unwrap_or_else(|| self.disk.blob(&digest));
        let before = stamp(file.clone()).await;
        if let Some(shared) = self.shared(&digest, before) {
            return Ok(shared);
        }
        let whole = before.is_some_and(|(found, _)| found == size);
        let is_known = whole
            && (trusted || (local.is_none() && self.is_good_copy(&digest, before, &file).await));
        if !is_known {
            let verified = match &local {
                Some(_) => self.store.verify(&digest).await,
                None => self.store.read_to(&digest, &file).await,
            };
            let found = match verified {
                Ok(found) => found,
                Err(source) => return Err(Error::Blob { path, source }),
            };
            if found != size {
                return Err(Error::Size {
                    path,
                    digest,
                    found,
                    expected: size,
                });
            }
        }
        let after = if local.is_some() {
            before
        } else {
            stamp(file.clone()).await
        };
        Ok(self.verified(Content::new(digest, size, file), after))
    }

    /// Whether a copy of ours that no note speaks of is what it should be. It got its name after it was
    /// verified, but was not flushed: a loss of power since may have cut it. What this run saw is not read
    /// again.
    async fn is_good_copy(&self, digest: &Digest, now: Option<Stamp>, file: &Path) -> bool {
        let is_seen = {
            let contents = self.contents.lock().unwrap_or_else(PoisonError::into_inner);
            let then = contents.get(digest).and_then(|(_, then)| *then);
            now.is_some() && now == then
        };
        is_seen || verify_copy(digest, file).await.is_ok()
    }

    fn shared(&self, digest: &Digest, now: Option<Stamp>) -> Option<Arc<Content>> {
        let contents = self.contents.lock().unwrap_or_else(PoisonError::into_inner);
        let (content, then) = contents.get(digest)?;
        content.upgrade().filter(|_| now.is_some() && now == *then)
    }

    /// Content that was verified just now, or what another release holds of it: two that are staged
    /// together verify the same file, and neither must be forgotten with the other.
    fn verified(&self, content: Content, look: Option<Stamp>) -> Arc<Content> {
        let mut contents = self.contents.lock().unwrap_or_else(PoisonError::into_inner);
        let digest = content.digest;
        let held = contents.get(&digest).and_then(|(held, _)| held.upgrade());
        let content = held.unwrap_or_else(|| Arc::new(content));
        contents.insert(digest, (Arc::downgrade(&content), look));
        content
    }

    async fn rule_text(&self, manifest: &Manifest, path: &str) -> Result<Option<String>, Error> {
        let Some(entry) = manifest.get(path) else {
            return Ok(None);
        };
        let blob = |source| Error::Blob {
            path: path.to_owned(),
            source,
        };
        // Also of a copy, which is read without asking the store.
        if entry.size > RULE_BYTES {
            return Err(blob(candlefish_blobs::Error::Large {
                digest: entry.digest,
                size: entry.size,
                limit: RULE_BYTES,
            }));
        }
        let bytes = match self.store.local_path(&entry.digest) {
            Some(_) => self
                .store
                .read(&entry.digest, RULE_BYTES)
                .await
                .map_err(blob)?
                .into(),
            None => read_copy(&self.disk.blob(&entry.digest)).await?,
        };
        match String::from_utf8(bytes) {
            Ok(text) => Ok(Some(text)),
            Err(source) => Err(Error::RuleText {
                path: path.to_owned(),
                source,
            }),
        }
    }

    /// Finds what the last run noted, so that what no route names is forgotten: it may have died before
    /// it could.
    pub(crate) fn take_up_notes(&self) {
        match self.disk.noted() {
            Ok(found) => {
                let mut noted = self.noted.lock().unwrap_or_else(PoisonError::into_inner);
                noted.extend(found);
            }
            Err(error) => tracing::warn!(%error, "what the last run staged is not known"),
        }
    }

    /// Forgets all releases but these, also what the last run noted of others; answers which it forgot.
    /// Requests in hand finish with them.
    pub(crate) fn keep_only(&self, wanted: &HashSet<ReleaseId>) -> Vec<ReleaseId> {
        let gone: Vec<_> = {
            let mut noted = self.noted.lock().unwrap_or_else(PoisonError::into_inner);
            noted.extract_if(|id| !wanted.contains(id)).collect()
        };
        let mut releases = self
            .releases
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        for id in &gone {
            releases.remove(id);
            if let Err(error) = self.disk.forget_staged(*id) {
                tracing::warn!(%error, release.id = %id, "a release that left is still noted on disk");
            }
        }
        drop(releases);
        if !gone.is_empty() {
            let mut contents = self.contents.lock().unwrap_or_else(PoisonError::into_inner);
            contents.retain(|_, (content, _)| content.strong_count() > 0);
        }
        gone
    }

    /// Removes copies and compressed forms of content that no release holds any more, nor one that is
    /// noted and could not be taken up yet. Answers how many files went; nothing when something is being
    /// staged or the disk did not do it, and it is to be tried again.
    pub(crate) async fn sweep(&self) -> Option<usize> {
        let _alone = self.staging.try_write().ok()?;
        let mut held: HashSet<Digest> = {
            let contents = self.contents.lock().unwrap_or_else(PoisonError::into_inner);
            let live = contents.iter().filter(|(_, (c, _))| c.strong_count() > 0);
            live.map(|(digest, _)| *digest).collect()
        };
        let absent = self.noted_alone();
        let (disk, limits) = (self.disk.clone(), self.limits.clone());
        let sweeping = move || {
            for release in absent {
                let note = disk.read_staged(release)?;
                let manifest = note.and_then(|bytes| Manifest::decode(&bytes, &limits).ok());
                let entries = manifest.iter().flat_map(Manifest::entries);
                held.extend(entries.map(|entry| entry.digest));
            }
            disk.sweep(&held)
        };
        match tokio::task::spawn_blocking(sweeping).await {
            Ok(Ok(count)) => Some(count),
            Ok(Err(error)) => {
                tracing::warn!(%error, "what no release holds was not removed");
                None
            }
            Err(error) => {
                tracing::warn!(%error, "what no release holds was not removed");
                None
            }
        }
    }

    /// What is noted and not here.
    fn noted_alone(&self) -> Vec<ReleaseId> {
        let noted = self.noted.lock().unwrap_or_else(PoisonError::into_inner);
        let absent = noted.iter().copied().filter(|id| self.get(*id).is_none());
        absent.collect()
    }

    /// Makes compressed forms of what came, and fetches damaged copies again; never returns.
    pub(crate) async fn tend(self: Arc<Self>) {
        tokio::join!(self.prepare_variants(), self.mend_copies());
    }

    /// Makes compressed forms whenever a release came; never returns.
    async fn prepare_variants(&self) {
        loop {
            for content in self.unprepared() {
                let disk = self.disk.clone();
                let work = Arc::clone(&content);
                let made =
                    tokio::task::spawn_blocking(move || variant::prepare(&work, &disk)).await;
                if let Ok(Err(error)) = made {
                    tracing::warn!(%error, blob = %content.digest, "no compressed forms");
                }
                // What failed is not tried again until the release is staged anew.
                content.prepare(Encoding::Brotli, None);
                content.prepare(Encoding::Gzip, None);
            }
            self.came.notified().await;
        }
    }

    fn unprepared(&self) -> Vec<Arc<Content>> {
        let releases = self.releases.read().unwrap_or_else(PoisonError::into_inner);
        releases
            .values()
            .flat_map(|release| release.files())
            .filter(|file| file.compressible && variant::is_worth_trying(file.content.size()))
            .filter(|file| !file.content.is_prepared())
            .map(|file| Arc::clone(&file.content))
            .collect()
    }
}

async fn stamp(path: PathBuf) -> Option<Stamp> {
    let metadata = tokio::fs::metadata(path).await.ok()?;
    Some((metadata.len(), metadata.modified().ok()))
}

async fn read_copy(path: &Path) -> Result<Vec<u8>, Error> {
    match tokio::fs::read(path).await {
        Ok(bytes) => Ok(bytes),
        Err(_) => Err(Error::Interrupted),
    }
}

#[cfg(test)]
pub(crate) mod tests;
