//! What verified tokens came to, for a few seconds.
//!
//! Whoever keeps an answer need not win a race against whoever forgets all: an answer that was looked
//! up meanwhile is kept, and never found.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
    time::Duration,
};

use moka::future::Cache;

use super::Memory;
use crate::token::Hash;

/// Tokens remembered; a platform has hundreds.
const REMEMBERED: u64 = 10_000;

/// A moment, counted in how often all was forgotten by then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Since(u64);

/// Answers by the token's hash; cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Remembered {
    answers: Cache<Hash, (Since, Memory)>,
    /// How often all was forgotten.
    forgotten: Arc<AtomicU64>,
}

impl Remembered {
    /// Each answer is remembered for so long.
    pub(super) fn new(time: Duration) -> Self {
        let answers = Cache::builder()
            .max_capacity(REMEMBERED)
            .time_to_live(time)
            .build();
        Self {
            answers,
            forgotten: Arc::default(),
        }
    }

    /// Now: to be asked before the database is.
    pub(super) fn now(&self) -> Since {
        Since(self.forgotten.load(SeqCst))
    }

    /// What was looked up since all was forgotten last.
    pub(super) async fn find(&self, hash: &Hash) -> Option<Memory> {
        let (since, memory) = self.answers.get(hash).await?;
        (since == self.now()).then_some(memory)
    }

    /// Remembers what began to be looked up then.
    pub(super) async fn keep(&self, since: Since, hash: Hash, memory: Memory) {
        self.answers.insert(hash, (since, memory)).await;
    }

    /// Forgets all, also what is being looked up.
    pub(super) fn forget(&self) {
        self.forgotten.fetch_add(1, SeqCst);
        // Nothing of it is found any more: this frees its memory.
        self.answers.invalidate_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::Fault;

    fn remembered() -> (Remembered, Hash) {
        let an_hour = Duration::from_hours(1);
        (Remembered::new(an_hour), Hash::of("a token"))
    }

    /// Any answer will do.
    fn answer() -> Memory {
        Memory::Bad(Fault::Unknown)
    }

    #[tokio::test]
    async fn an_answer_is_found_until_all_is_forgotten() {
        let (remembered, hash) = remembered();
        remembered.keep(remembered.now(), hash, answer()).await;
        assert!(remembered.find(&hash).await.is_some());
        assert!(remembered.find(&Hash::of("another")).await.is_none());
        remembered.clone().forget();
        assert!(remembered.find(&hash).await.is_none());
    }

    #[tokio::test]
    async fn what_was_looked_up_before_a_revocation_is_not_found_after_it() {
        let (remembered, hash) = remembered();
        let before = remembered.now();
        // The row is read; the token is revoked and forgotten; only then the answer is kept.
        remembered.forget();
        remembered.keep(before, hash, answer()).await;
        assert!(remembered.find(&hash).await.is_none());
        remembered.keep(remembered.now(), hash, answer()).await;
        assert!(remembered.find(&hash).await.is_some());
    }
}
