//! What bodies in hand may weigh together.
//!
//! A body's share grows as its bytes come: what is only announced weighs nothing, for who announces much
//! and sends nothing would keep everybody out.

use std::{sync::Arc, time::Duration};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// A number of KiB, shared by bodies; cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Budget(Arc<Semaphore>);

/// What one body has of it, until this is dropped.
#[derive(Debug)]
pub(crate) struct Share {
    budget: Budget,
    held: Option<OwnedSemaphorePermit>,
}

impl Budget {
    pub(crate) fn of_kib(kib: usize) -> Self {
        Self(Arc::new(Semaphore::new(kib)))
    }

    /// Nothing yet.
    pub(crate) fn share(&self) -> Share {
        Share {
            budget: self.clone(),
            held: None,
        }
    }
}

impl Share {
    /// Makes it as large as so many bytes; false when there is not so much left.
    pub(crate) fn grow(&mut self, bytes: usize) -> bool {
        let missing = self.missing(bytes);
        if missing == 0 {
            return true;
        }
        let taken = Arc::clone(&self.budget.0).try_acquire_many_owned(missing);
        self.add(taken.ok())
    }

    /// The same, and waits for the first of it. Only for that: who has some and waited for more would keep
    /// it from others who do the same.
    pub(crate) async fn grow_within(&mut self, bytes: usize, patience: Duration) -> bool {
        let missing = self.missing(bytes);
        if self.held.is_some() || missing == 0 {
            return self.grow(bytes);
        }
        let taking = Arc::clone(&self.budget.0).acquire_many_owned(missing);
        let taken = tokio::time::timeout(patience, taking).await;
        self.add(taken.ok().and_then(Result::ok))
    }

    /// KiB that so many bytes are more than what is held.
    fn missing(&self, bytes: usize) -> u32 {
        let held = self.held.as_ref();
        let held = held.map_or(0, OwnedSemaphorePermit::num_permits);
        let missing = bytes.div_ceil(1024).saturating_sub(held);
        u32::try_from(missing).unwrap_or(u32::MAX)
    }

    fn add(&mut self, more: Option<OwnedSemaphorePermit>) -> bool {
        let Some(more) = more else {
            return false;
        };
        match &mut self.held {
            Some(held) => held.merge(more),
            none => *none = Some(more),
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    const KIB: usize = 1024;
    const SOON: Duration = Duration::from_secs(40);

    #[test]
    fn a_share_grows_by_what_came_and_is_given_back_whole() {
        let budget = Budget::of_kib(10);
        let (mut one, mut other) = (budget.share(), budget.share());
        assert!(one.grow(0) && one.grow(1) && one.grow(KIB) && one.grow(4 * KIB));
        assert_eq!(budget.0.available_permits(), 6);
        assert!(!other.grow(6 * KIB + 1));
        assert!(other.grow(6 * KIB));
        assert!(!one.grow(4 * KIB + 1), "nothing is left");
        assert!(one.grow(2 * KIB), "it never shrinks");
        drop(other);
        assert!(one.grow(10 * KIB));
        drop(one);
        assert_eq!(budget.0.available_permits(), 10);
    }

    #[tokio::test]
    async fn only_the_first_of_a_share_is_waited_for() {
        let budget = Budget::of_kib(10);
        let (mut one, mut other) = (budget.share(), budget.share());
        assert!(one.grow(10 * KIB));
        let waiting = other.grow_within(KIB, SOON);
        let (waited, ()) = tokio::join!(waiting, async { drop(one) });
        assert!(waited);
        let more = other.grow_within(11 * KIB, SOON).now_or_never();
        assert_eq!(more, Some(false));
        assert!(other.grow(10 * KIB));
        let mut late = budget.share();
        assert!(!late.grow_within(1, Duration::from_millis(10)).await);
    }
}
