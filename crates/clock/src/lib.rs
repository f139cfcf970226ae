//! The moment a transaction reads once from its database, and a manual clock for pure code.
//!
//! Timers, deadlines and leases are stored and judged in SQL by `<schema>.clock()`. A transaction
//! reads it once, after its lane's lock, and hands it on as a [`Moment`]: a value that cannot be
//! made from this machine's wall clock by accident, because nothing here reads one.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

/// A moment of the database's clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment(Timestamp);

impl Moment {
    /// The moment that a row or `clock()` gave.
    pub const fn from_database(at: Timestamp) -> Self {
        Self(at)
    }

    /// For rows, messages and people.
    pub const fn timestamp(self) -> Timestamp {
        self.0
    }

    /// This moment and `later`; saturates at the end of time.
    #[must_use]
    pub fn plus(self, later: Duration) -> Self {
        let step = SignedDuration::try_from(later).unwrap_or(SignedDuration::MAX);
        Self(
            self.0
                .saturating_add(step)
                .expect("saturation has no error"),
        )
    }

    /// How long it is since `earlier`; zero when it was later.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::try_from(self.0.duration_since(earlier.0)).unwrap_or(Duration::ZERO)
    }
}

/// A clock that moves when it is told to: for pure code under test.
#[derive(Debug, Clone)]
pub struct ManualClock(Moment);

impl ManualClock {
    /// Begins at this second of 1970.
    pub fn at_second(second: i64) -> Self {
        Self(Moment(
            Timestamp::from_second(second).expect("tests name a second that exists"),
        ))
    }

    /// What it shows.
    pub const fn now(&self) -> Moment {
        self.0
    }

    /// Moves it on and says what it shows then.
    pub fn advance(&mut self, step: Duration) -> Moment {
        self.0 = self.0.plus(step);
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_never_a_negative_time_after_another() {
        let mut clock = ManualClock::at_second(100);
        let before = clock.now();
        let after = clock.advance(Duration::from_millis(1500));
        assert_eq!(after.since(before), Duration::from_millis(1500));
        assert_eq!(before.since(after), Duration::ZERO);
    }

    #[test]
    fn the_end_of_time_is_not_passed() {
        let moment = ManualClock::at_second(0).now().plus(Duration::MAX);
        assert!(moment.plus(Duration::from_secs(1)) >= moment);
    }
}
