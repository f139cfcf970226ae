//! The contact: whether an orchestrator was heard lately enough to serve what may have ended since.
//!
//! ```text
//! never ──a stream caught up──▶ stands ──it ended──▶ ended ──another caught up──▶ stands
//! ```
//!
//! A stream stands once what it told at its beginning is served, so nothing that ended meanwhile is
//! shown for the moment between the two. While it stands each turn of the session is a word, however
//! long nothing is told: its pings are answered, and an orchestrator that does not see the database ends
//! it. A session that took no turn for too long, as in a process that was stopped, is a word no more:
//! what it goes on with may be from before, so it must begin anew.
//!
//! By a clock that only goes on, and not kept on disk: after a start nobody knows how long it was off.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

/// When an orchestrator was heard last.
#[derive(Debug)]
pub(crate) struct Contact {
    patience: Duration,
    last: Mutex<Last>,
}

#[derive(Debug, Default)]
struct Last {
    /// Not since the start of the process when there is none.
    heard: Option<Instant>,
    /// A stream stands.
    stands: bool,
}

impl Contact {
    /// Nobody was heard yet; who is counts as heard lately for `patience`, which must be longer than a
    /// session rests between its turns.
    pub(crate) fn new(patience: Duration) -> Self {
        Self {
            patience,
            last: Mutex::default(),
        }
    }

    /// A stream caught up, and what it told is served.
    pub(crate) fn stands(&self, now: Instant) {
        *self.last() = Last {
            heard: Some(now),
            stands: true,
        };
    }

    /// The session takes another turn; false when the one before is too long ago for it to go on. One
    /// that has not caught up told nothing yet.
    #[must_use]
    pub(crate) fn beat(&self, now: Instant) -> bool {
        let mut last = self.last();
        if !last.stands {
            return true;
        }
        let is_recent = self.was_lately(last.heard, now);
        if is_recent {
            last.heard = Some(now);
        }
        is_recent
    }

    /// The stream ended.
    pub(crate) fn ended(&self) {
        self.last().stands = false;
    }

    /// For how long nobody was heard, of the time since `began`; not at all while a stream stands.
    pub(crate) fn silent_for(&self, began: Instant, now: Instant) -> Duration {
        let last = self.last();
        if last.stands {
            return Duration::ZERO;
        }
        let since = last.heard.map_or(began, |heard| heard.max(began));
        now.saturating_duration_since(since)
    }

    /// An orchestrator was heard lately enough.
    pub(crate) fn is_recent(&self, now: Instant) -> bool {
        let heard = self.last().heard;
        self.was_lately(heard, now)
    }

    fn was_lately(&self, heard: Option<Instant>, now: Instant) -> bool {
        heard.is_some_and(|at| now.saturating_duration_since(at) < self.patience)
    }

    fn last(&self) -> MutexGuard<'_, Last> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
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
        // After a start nobody was, and a stream that has not caught up told nothing.
        assert!(!contact.is_recent(minute(0)));
        assert!(contact.beat(minute(0)));
        contact.ended();
        assert!(!contact.is_recent(minute(0)));
        contact.stands(minute(0));
        for turn in 1..=600 {
            assert!(contact.beat(minute(turn)));
        }
        assert!(contact.is_recent(minute(604)));
        // The end was noticed later than the last word came.
        contact.ended();
        assert!(contact.is_recent(minute(604)));
        assert!(!contact.is_recent(minute(605)));
        // An attempt that told nothing begins no time anew.
        assert!(contact.beat(minute(603)));
        contact.ended();
        assert!(!contact.is_recent(minute(605)));
        contact.stands(minute(605));
        assert!(contact.is_recent(minute(609)));
    }

    #[test]
    fn the_moment_between_two_streams_is_no_long_silence() {
        let contact = Contact::new(Duration::from_mins(5));
        let start = Instant::now();
        let second = |number: u64| start + Duration::from_secs(number);
        let silent_at = |number: u64| contact.silent_for(start, second(number)).as_secs();
        assert_eq!([silent_at(0), silent_at(9)], [0, 9]);
        // One that did not catch up told nothing.
        contact.ended();
        assert_eq!(silent_at(9), 9);
        contact.stands(second(9));
        assert_eq!(silent_at(60), 0);
        assert!(contact.beat(second(60)));
        contact.ended();
        assert_eq!([silent_at(61), silent_at(70)], [1, 10]);
        contact.stands(second(70));
        assert_eq!(silent_at(80), 0);
    }

    #[test]
    fn a_stream_of_a_process_that_was_stopped_is_no_word_any_more() {
        let contact = Contact::new(Duration::from_mins(5));
        let start = Instant::now();
        let minute = |number: u64| start + Duration::from_mins(number);
        contact.stands(minute(0));
        assert!(contact.beat(minute(1)));
        // Neither before nor after its first turn, whatever it finds.
        assert!(!contact.is_recent(minute(61)));
        assert!(!contact.beat(minute(61)));
        assert!(!contact.is_recent(minute(61)));
        assert!(!contact.beat(minute(61)));
        contact.ended();
        assert!(!contact.is_recent(minute(61)));
        contact.stands(minute(61));
        assert!(contact.is_recent(minute(61)));
    }
}
