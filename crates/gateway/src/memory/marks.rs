//! What was forgotten last, and when: numbers alone, so that looking costs a few loads.

use std::{
    hash::{BuildHasher, RandomState},
    sync::atomic::{AtomicU64, Ordering::SeqCst},
};

/// Two names that share a mark only forget each other too often.
const SLOTS: usize = 4096;
/// No moment: while it stands, nothing is old enough or new enough.
const NEVER: u64 = u64::MAX;

/// A moment, counted in what was forgotten by then.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Since(u64);

/// Where the mark of a name is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Slot(usize);

/// When each name, and when everything, was forgotten last.
///
/// What was read is good while it began to be read at or after all marks that concern it. So whoever
/// keeps an answer need not win a race against whoever forgets it: an answer that was on its way
/// meanwhile is kept, and never found.
#[derive(Debug)]
pub(super) struct Marks {
    now: AtomicU64,
    everything: AtomicU64,
    of: Box<[AtomicU64]>,
    names: RandomState,
}

impl Marks {
    /// Nothing is good until [`Marks::follow`].
    pub(super) fn new() -> Self {
        Self {
            now: AtomicU64::new(0),
            everything: AtomicU64::new(NEVER),
            of: (0..SLOTS).map(|_| AtomicU64::new(0)).collect(),
            names: RandomState::new(),
        }
    }

    /// Now, for what begins to be read.
    pub(super) fn now(&self) -> Since {
        Since(self.now.load(SeqCst))
    }

    pub(super) fn slot(&self, name: &str) -> Slot {
        let slots = u64::try_from(SLOTS).unwrap_or(u64::MAX);
        let place = self.names.hash_one(name) % slots;
        Slot(usize::try_from(place).unwrap_or(0))
    }

    /// Whether what was read since then, and shows what has these marks, is good.
    pub(super) fn are_before(&self, slots: &[Slot], since: Since) -> bool {
        let before = |mark: &AtomicU64| mark.load(SeqCst) <= since.0;
        before(&self.everything)
            && slots
                .iter()
                .all(|slot| self.of.get(slot.0).is_some_and(before))
    }

    pub(super) fn forget(&self, name: &str) {
        let moment = self.next();
        if let Some(mark) = self.of.get(self.slot(name).0) {
            mark.fetch_max(moment, SeqCst);
        }
    }

    /// Forgets everything, unless all is forgotten for the time being.
    pub(super) fn forget_everything(&self) {
        let moment = self.next();
        let raise = |mark| (mark != NEVER).then(|| moment.max(mark));
        // Refused when nothing is good anyway.
        let _refused = self.everything.fetch_update(SeqCst, SeqCst, raise);
    }

    /// From here on nothing is good.
    pub(super) fn lose(&self) {
        self.everything.store(NEVER, SeqCst);
    }

    /// From here on what begins to be read is good; no change when that was so.
    pub(super) fn follow(&self) {
        let moment = self.next();
        let (everything, all) = (&self.everything, SeqCst);
        let _was_so = everything.compare_exchange(NEVER, moment, all, all);
    }

    fn next(&self) -> u64 {
        self.now.fetch_add(1, SeqCst) + 1
    }
}
