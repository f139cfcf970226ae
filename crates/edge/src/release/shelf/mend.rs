//! Copies that were found damaged while they were served.
//!
//! A copy may rot, or be cut by a loss of power, and a file of the right size is not read again at a
//! start. So what could not be served is compared with its name, and fetched again when it is not what it
//! should be. The good one takes the name of the bad one in one step: a store that is down must not make
//! of one bad file a release that is not here.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError, Weak},
    time::Duration,
};

use candlefish_blobs::verify_copy;
use candlefish_ids::Digest;
use tokio::{sync::Notify, time::sleep};

use super::Shelf;
use crate::release::content::Content;

/// After each round: a disk that fails at every read must not make a fetch of every request.
pub(super) const PAUSE: Duration = Duration::from_secs(1);
/// The same after one in which the store did not give a blob.
pub(super) const LONG_PAUSE: Duration = Duration::from_secs(15);

/// What is to be compared and fetched.
#[derive(Debug, Default)]
pub(super) struct Damaged {
    contents: Mutex<HashMap<Digest, Weak<Content>>>,
    came: Notify,
}

impl Damaged {
    fn add(&self, content: &Arc<Content>) {
        let mut contents = self.contents.lock().unwrap_or_else(PoisonError::into_inner);
        contents.insert(content.digest, Arc::downgrade(content));
        drop(contents);
        self.came.notify_one();
    }

    /// All that a release still holds.
    fn take(&self) -> Vec<Arc<Content>> {
        let mut contents = self.contents.lock().unwrap_or_else(PoisonError::into_inner);
        let held = contents
            .drain()
            .filter_map(|(_, content)| content.upgrade());
        held.collect()
    }
}

impl Shelf {
    /// Content could not be served: answers whether its copy is looked at, so that it may be read soon.
    /// A file of the store itself is the store's.
    pub(crate) fn found_unreadable(&self, content: &Arc<Content>) -> bool {
        let is_ours = self.store.local_path(&content.digest).is_none();
        if is_ours {
            self.damaged.add(content);
        }
        is_ours
    }

    /// Fetches damaged copies again, as they are found; never returns.
    pub(super) async fn mend_copies(&self) {
        loop {
            match self.mend_round().await {
                Some(pause) => sleep(pause).await,
                None => self.damaged.came.notified().await,
            }
        }
    }

    /// Answers how long to rest; nothing when there was nothing to do.
    pub(crate) async fn mend_round(&self) -> Option<Duration> {
        let mut pause: Option<Duration> = None;
        for content in self.damaged.take() {
            let mended = self.mend(&content).await;
            if let Err(error) = &mended {
                tracing::warn!(%error, blob = %content.digest, "a damaged copy was not fetched again");
                self.damaged.add(&content);
            }
            let rest = mended.map_or(LONG_PAUSE, |()| PAUSE);
            pause = pause.max(Some(rest));
        }
        pause
    }

    async fn mend(&self, content: &Content) -> Result<(), candlefish_blobs::Error> {
        // What is not named yet is not to be swept.
        let _staging = self.staging.read().await;
        let path = &content.identity().path;
        if verify_copy(&content.digest, path).await.is_err() {
            self.store.read_to(&content.digest, path).await?;
            tracing::warn!(blob = %content.digest, "a copy was damaged: it was fetched again");
        }
        Ok(())
    }
}
