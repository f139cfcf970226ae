//! Which bodies stay in memory.
//!
//! A clock: bodies stand in a queue; when there are too many bytes, the first leaves, unless it was
//! served since its last turn, then it goes to the end. Serving takes no lock of ours, which a list
//! ordered by use would need.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError, Weak},
};

use bytes::Bytes;

use super::content::{Content, Encoding};

/// Bodies in memory, bounded by their bytes.
#[derive(Debug)]
pub(crate) struct Memory {
    limit: u64,
    queue: Mutex<Queue>,
}

#[derive(Debug, Default)]
struct Queue {
    bytes: u64,
    bodies: VecDeque<(Weak<Content>, Encoding, u64)>,
}

impl Memory {
    pub(crate) fn new(limit: u64) -> Self {
        Self {
            limit,
            queue: Mutex::default(),
        }
    }

    /// Keeps a body, for the price of others.
    pub(crate) fn keep(&self, content: &Arc<Content>, encoding: Encoding, bytes: &Bytes) {
        let Some(form) = content.form(encoding) else {
            return;
        };
        if form.size > self.limit {
            return;
        }
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        if !form.keep(bytes) {
            return;
        }
        queue.bytes += form.size;
        queue
            .bodies
            .push_back((Arc::downgrade(content), encoding, form.size));
        // Twice around: the first turn takes the marks of use away.
        let mut turns = queue.bodies.len() * 2;
        while queue.bytes > self.limit && turns > 0 {
            turns -= 1;
            let Some((weak, encoding, size)) = queue.bodies.pop_front() else {
                return;
            };
            // A blob that no release holds any more is gone already.
            let left = weak.upgrade().is_none_or(|c| {
                c.form(encoding)
                    .is_none_or(super::content::Form::yield_unless_used)
            });
            if left {
                queue.bytes -= size;
            } else {
                queue.bodies.push_back((weak, encoding, size));
            }
        }
    }

    /// Bytes that are kept.
    #[cfg(test)]
    pub(crate) fn bytes(&self) -> u64 {
        self.queue.lock().unwrap().bytes
    }
}

#[cfg(test)]
mod tests {
    use candlefish_manifest::digest_of;

    use super::*;
    use crate::release::content::body;

    fn content(dir: &tempfile::TempDir, text: &str) -> Arc<Content> {
        let path = dir.path().join(text);
        std::fs::write(&path, text).unwrap();
        let size = u64::try_from(text.len()).unwrap();
        Arc::new(Content::new(digest_of(text.as_bytes()), size, path))
    }

    #[tokio::test]
    async fn bodies_stay_within_the_limit_and_the_unused_leave_first() {
        let dir = tempfile::tempdir().unwrap();
        let memory = Memory::new(12);
        let all: Vec<_> = ["aaaa", "bbbb", "cccc", "dddd"]
            .iter()
            .map(|t| content(&dir, t))
            .collect();
        for content in &all[..3] {
            body(content, Encoding::Identity, &memory).await.unwrap();
        }
        assert_eq!(memory.bytes(), 12);
        body(&all[0], Encoding::Identity, &memory).await.unwrap();
        body(&all[3], Encoding::Identity, &memory).await.unwrap();
        assert_eq!(memory.bytes(), 12);
        std::fs::remove_dir_all(dir.path()).unwrap();
        let served: Vec<bool> = {
            let mut served = Vec::new();
            for content in &all {
                served.push(body(content, Encoding::Identity, &memory).await.is_ok());
            }
            served
        };
        assert_eq!(served, [true, false, true, true], "b was not used");
    }

    #[tokio::test]
    async fn a_file_that_changed_is_not_served() {
        let dir = tempfile::tempdir().unwrap();
        let memory = Memory::new(100);
        let content = content(&dir, "aaaa");
        std::fs::write(dir.path().join("aaaa"), "abba").unwrap();
        let refused = body(&content, Encoding::Identity, &memory)
            .await
            .unwrap_err();
        assert!(
            matches!(refused, crate::release::content::Error::Changed { .. }),
            "{refused}"
        );
    }

    #[tokio::test]
    async fn what_is_dropped_makes_room() {
        let dir = tempfile::tempdir().unwrap();
        let memory = Memory::new(8);
        for text in ["aaaa", "bbbb", "cccc", "dddd", "eeee"] {
            let content = content(&dir, text);
            body(&content, Encoding::Identity, &memory).await.unwrap();
        }
        assert!(memory.bytes() <= 8);
    }
}
