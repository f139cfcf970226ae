//! Leaves GitHub alone after it failed too often, and tries it by one call after that. Pure: given
//! the moment.

use std::time::Duration;

use tokio::time::Instant;

/// Failures in a row.
const TOO_OFTEN: u32 = 5;
/// Rests double up to so many times the first.
const LONGEST: u32 = 16;

/// What is known of GitHub's health.
#[derive(Debug, Clone)]
pub(super) struct Breaker {
    rest: Duration,
    failures: u32,
    /// Rests without a call that worked between them.
    rests: u32,
    until: Option<Instant>,
}

/// What a call's end changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Turn {
    Opened(Duration),
    Closed,
}

impl Breaker {
    pub(super) const fn new(rest: Duration) -> Self {
        Self {
            rest,
            failures: 0,
            rests: 0,
            until: None,
        }
    }

    /// How long it is left alone yet; none when a call may go.
    pub(super) fn left(&self, now: Instant) -> Option<Duration> {
        let left = self.until?.saturating_duration_since(now);
        (!left.is_zero()).then_some(left)
    }

    /// GitHub answered, whatever it said.
    pub(super) fn answered(&mut self) -> Option<Turn> {
        let was_open = self.until.take().is_some();
        self.failures = 0;
        self.rests = 0;
        was_open.then_some(Turn::Closed)
    }

    /// GitHub failed, or did not answer.
    pub(super) fn failed(&mut self, now: Instant) -> Option<Turn> {
        self.failures = self.failures.saturating_add(1);
        // After a rest one failure is enough.
        if self.failures < TOO_OFTEN && self.until.is_none() {
            return None;
        }
        if self.left(now).is_some() {
            return None;
        }
        let times = 1_u32.checked_shl(self.rests).unwrap_or(LONGEST);
        let rest = self.rest * times.min(LONGEST);
        self.rests = self.rests.saturating_add(1);
        self.until = Some(now + rest);
        Some(Turn::Opened(rest))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REST: Duration = Duration::from_secs(30);

    #[test]
    fn it_opens_after_failures_in_a_row_and_rests_longer_each_time() {
        let mut breaker = Breaker::new(REST);
        let now = Instant::now();
        for _failure in 1..TOO_OFTEN {
            assert_eq!(breaker.failed(now), None);
        }
        assert_eq!(breaker.left(now), None);
        assert_eq!(breaker.failed(now), Some(Turn::Opened(REST)));
        assert_eq!(breaker.left(now), Some(REST));
        let later = now + REST;
        assert_eq!(breaker.left(later), None);
        assert_eq!(breaker.failed(later), Some(Turn::Opened(REST * 2)));
        // What ends during a rest changes nothing.
        assert_eq!(breaker.failed(later), None);
        assert_eq!(breaker.answered(), Some(Turn::Closed));
        assert_eq!(breaker.failed(later), None);
    }

    #[test]
    fn an_answer_between_failures_keeps_it_closed() {
        let mut breaker = Breaker::new(REST);
        let now = Instant::now();
        for _round in 0..3 {
            for _failure in 1..TOO_OFTEN {
                assert_eq!(breaker.failed(now), None);
            }
            assert_eq!(breaker.answered(), None);
        }
    }

    #[test]
    fn a_rest_has_an_end_however_often_it_fails() {
        let mut breaker = Breaker::new(REST);
        let mut now = Instant::now();
        for _failure in 0..200 {
            breaker.failed(now);
            now += breaker.left(now).unwrap_or_default();
        }
        breaker.failed(now);
        assert_eq!(breaker.left(now), Some(REST * LONGEST));
    }
}
