//! Idempotency keys kept for the safe repeat.
//!
//! A key is written before the request that carries it and taken away once the answer is known. A
//! request that may or may not have arrived leaves its key behind, so that the same command, asked
//! again, is the same request. A kept key is used for an hour: somebody who deploys the same
//! content again the next day means a new deployment.

use std::{fs, path::PathBuf, time::Duration};

use sha2::{Digest as _, Sha256};
use uuid::Uuid;

const KEPT: Duration = Duration::from_hours(1);

/// Where keys are kept.
#[derive(Debug, Clone)]
pub(crate) struct Repeats {
    folder: Option<PathBuf>,
}

/// The key of one request.
#[derive(Debug)]
pub(crate) struct Repeat {
    /// What goes out as `idempotency-key`.
    pub(crate) key: String,
    /// The encoded request that the key is for.
    pub(crate) request: Vec<u8>,
    /// The key was left behind by an earlier try.
    pub(crate) again: bool,
    /// How long ago it was left behind; when the last of several tries got no answer.
    pub(crate) age: Duration,
    path: Option<PathBuf>,
}

impl Repeats {
    /// Keeps keys below the folder of contexts; without one, keys are not kept.
    pub(crate) fn new(config: Option<&PathBuf>) -> Self {
        Self {
            folder: config.map(|folder| folder.join("repeats")),
        }
    }

    /// The key for what was asked of this API: the one left behind with its request, or a new one
    /// for this request, kept.
    pub(crate) fn begin(&self, api: &str, method: &str, asked: &[u8], request: Vec<u8>) -> Repeat {
        self.find(api, method, asked).unwrap_or_else(|| {
            self.forget();
            let path = self.path(api, method, asked);
            let repeat = Repeat {
                key: Uuid::new_v4().to_string(),
                request,
                again: false,
                age: Duration::ZERO,
                path,
            };
            repeat.keep();
            repeat
        })
    }

    /// What an earlier try left behind.
    pub(crate) fn find(&self, api: &str, method: &str, asked: &[u8]) -> Option<Repeat> {
        let path = self.path(api, method, asked)?;
        let age = fs::metadata(&path)
            .ok()?
            .modified()
            .ok()?
            .elapsed()
            .unwrap_or_default();
        let text = fs::read_to_string(&path).ok()?;
        let (key, request) = text.split_once('\n')?;
        let request = hex::decode(request.trim()).ok()?;
        let kept = age < KEPT && Uuid::parse_str(key).is_ok();
        kept.then(|| Repeat {
            key: key.to_owned(),
            request,
            again: true,
            age,
            path: Some(path),
        })
    }

    /// Takes away what is too old to be used: nobody may ever ask the same again.
    fn forget(&self) {
        let folder = self.folder.as_ref();
        let Some(listed) = folder.and_then(|folder| fs::read_dir(folder).ok()) else {
            return;
        };
        for entry in listed.flatten() {
            let written = entry.metadata().and_then(|kept| kept.modified());
            let age = written.ok().and_then(|at| at.elapsed().ok());
            if age.is_some_and(|age| age >= KEPT) {
                // What stays is looked at again next time.
                drop(fs::remove_file(entry.path()));
            }
        }
    }

    fn path(&self, api: &str, method: &str, asked: &[u8]) -> Option<PathBuf> {
        let mut hasher = Sha256::new();
        for part in [api.as_bytes(), method.as_bytes(), asked] {
            hasher.update(part.len().to_le_bytes());
            hasher.update(part);
        }
        let name = hex::encode(hasher.finalize());
        self.folder.as_ref().map(|folder| folder.join(name))
    }
}

impl Repeat {
    /// Leaves the key for the next try. Answers whether it could be kept.
    pub(crate) fn keep(&self) -> bool {
        let Some(path) = &self.path else { return false };
        let folder = path.parent().map(fs::create_dir_all);
        let text = format!("{}\n{}\n", self.key, hex::encode(&self.request));
        folder.is_some_and(|made| made.is_ok()) && fs::write(path, text).is_ok()
    }

    /// The answer is known: the next such request is a new one.
    pub(crate) fn settle(&self) {
        if let Some(path) = &self.path {
            // A key that stays is harmless within its hour, and there is nothing better to do.
            drop(fs::remove_file(path));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;

    fn begin(repeats: &Repeats, api: &str, method: &str, asked: &[u8]) -> Repeat {
        repeats.begin(api, method, asked, asked.to_vec())
    }

    #[test]
    fn an_unanswered_request_keeps_its_key_and_an_answered_one_does_not() {
        let folder = tempfile::tempdir().unwrap();
        let repeats = Repeats::new(Some(&folder.path().to_owned()));
        let first = repeats.begin("http://a", "M", b"asked", b"first".to_vec());
        let again = repeats.begin("http://a", "M", b"asked", b"second".to_vec());
        assert!(!first.again && again.again);
        assert_eq!((&first.key, &first.request), (&again.key, &again.request));
        again.settle();
        assert!(repeats.find("http://a", "M", b"asked").is_none());
        assert_ne!(begin(&repeats, "http://a", "M", b"asked").key, first.key);
    }

    #[test]
    fn a_key_that_is_too_old_is_not_used_and_does_not_stay() {
        let folder = tempfile::tempdir().unwrap();
        let repeats = Repeats::new(Some(&folder.path().to_owned()));
        let old = begin(&repeats, "http://a", "M", b"old").path.unwrap();
        let file = fs::File::options().write(true).open(&old).unwrap();
        file.set_modified(SystemTime::UNIX_EPOCH).unwrap();
        assert!(repeats.find("http://a", "M", b"old").is_none());
        let new = begin(&repeats, "http://a", "M", b"new").path.unwrap();
        assert!(new.exists() && !old.exists());
    }

    #[test]
    fn other_requests_have_other_keys() {
        let folder = tempfile::tempdir().unwrap();
        let repeats = Repeats::new(Some(&folder.path().to_owned()));
        let one = begin(&repeats, "http://a", "M", b"request").key;
        for (api, method, asked) in [
            ("http://b", "M", "request"),
            ("http://a", "N", "request"),
            ("http://a", "M", "another"),
            ("http://aM", "", "request"),
        ] {
            assert_ne!(one, begin(&repeats, api, method, asked.as_bytes()).key);
        }
    }

    #[test]
    fn without_a_folder_keys_are_made_and_not_kept() {
        let repeats = Repeats::new(None);
        let first = begin(&repeats, "http://a", "M", b"request");
        assert!(!first.keep());
        assert_ne!(first.key, begin(&repeats, "http://a", "M", b"request").key);
    }
}
