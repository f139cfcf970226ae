//! The contact: whether an orchestrator was heard lately enough to serve what may have ended since.
//!
//! ```text
//! never ──a stream caught up──▶ stands ──it ended──▶ ended ──another caught up──▶ stands
//! ```
//!
//! A stream that stands is word enough, however long nothing is told: its pings are answered, and an
//! orchestrator that does not see the database ends it. It stands once what it told at its beginning
//! is served, so nothing that ended meanwhile is shown for the moment between the two.
//!
//! By a clock that only goes on, and not kept on disk: after a start nobody knows how long it was off.

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

/// When an orchestrator was heard last.
#[derive(Debug)]
pub(crate) struct Contact {
    patience: Duration,
    last: Mutex<Last>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Last {
    /// Not since the start of the process.
    Never,
    /// A stream stands.
    Stands,
    /// The last one ended then.
    Ended(Instant),
}

impl Contact {
    /// Nobody was heard yet; after the end of a stream it counts as heard lately for `patience`.
    pub(crate) fn new(patience: Duration) -> Self {
        Self {
            patience,
            last: Mutex::new(Last::Never),
        }
    }

    /// A stream caught up, and what it told is served.
    pub(crate) fn stands(&self) {
        self.change(|_| Last::Stands);
    }

    /// The stream ended; one that never caught up told nothing.
    pub(crate) fn ended(&self, now: Instant) {
        self.change(|last| match last {
            Last::Stands => Last::Ended(now),
            Last::Never | Last::Ended(_) => last,
        });
    }

    /// An orchestrator was heard lately enough.
    pub(crate) fn is_recent(&self, now: Instant) -> bool {
        let last = *self.last.lock().unwrap_or_else(PoisonError::into_inner);
        match last {
            Last::Never => false,
            Last::Stands => true,
            Last::Ended(at) => now.saturating_duration_since(at) < self.patience,
        }
    }

    fn change(&self, to: impl FnOnce(Last) -> Last) {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        *last = to(*last);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_was_heard_is_heard_lately_for_as_long_as_is_said() {
        let contact = Contact::new(Duration::from_mins(5));
        let start = Instant::now();
        let minute = |number: u64| start + Duration::from_mins(number);
        // After a start nobody was.
        assert!(!contact.is_recent(minute(0)));
        contact.ended(minute(0));
        assert!(!contact.is_recent(minute(0)));
        contact.stands();
        assert!(contact.is_recent(minute(600)));
        contact.ended(minute(600));
        assert!(contact.is_recent(minute(604)));
        assert!(!contact.is_recent(minute(605)));
        // An attempt that told nothing begins no time anew.
        contact.ended(minute(603));
        assert!(!contact.is_recent(minute(605)));
        contact.stands();
        assert!(contact.is_recent(minute(605)));
        contact.ended(minute(605));
        assert!(contact.is_recent(minute(609)));
    }
}
