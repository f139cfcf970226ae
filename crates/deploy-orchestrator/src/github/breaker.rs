//! Leaves GitHub alone after it failed too often, and tries it by one call after that; each process does so
//! for itself. Pure: given the moment.

use std::time::Duration;

use tokio::time::Instant;

/// Failures in a row.
const TOO_OFTEN: u32 = 5;
/// Rests double up to so many times the first.
const LONGEST: u32 = 16;
/// While one call tries it, the others come again so soon.
const MEANWHILE: Duration = Duration::from_secs(1);

/// What is known of GitHub's health.
#[derive(Debug, Clone)]
pub(super) struct Breaker {
    rest: Duration,
    failures: u32,
    /// Rests without a call that worked between them.
    rests: u32,
    until: Option<Instant>,
    /// Until when the call that tries it after a rest is waited for, should nothing be heard of it.
    trying: Option<Instant>,
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
            trying: None,
        }
    }

    /// How long it is left alone yet; none when a call may go.
    pub(super) fn left(&self, now: Instant) -> Option<Duration> {
        let rests = left(self.until, now);
        rests.or_else(|| left(self.trying, now).map(|left| left.min(MEANWHILE)))
    }

    /// A call goes, unless GitHub is left alone yet: for how long is the error. After a rest it is the only one
    /// until its end is told, or `longest` has passed.
    pub(super) fn go(&mut self, now: Instant, longest: Duration) -> Result<(), Duration> {
        if let Some(left) = self.left(now) {
            return Err(left);
        }
        self.trying = self.until.map(|_over| now + longest);
        Ok(())
    }

    /// GitHub answered, whatever it said.
    pub(super) fn answered(&mut self) -> Option<Turn> {
        let was_open = self.until.take().is_some();
        self.trying = None;
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
        if left(self.until, now).is_some() {
            return None;
        }
        self.trying = None;
        let times = 1_u32.checked_shl(self.rests).unwrap_or(LONGEST);
        let rest = self.rest * times.min(LONGEST);
        self.rests = self.rests.saturating_add(1);
        self.until = Some(now + rest);
        Some(Turn::Opened(rest))
    }
}

/// How long it is yet; none when it is over.
fn left(until: Option<Instant>, now: Instant) -> Option<Duration> {
    let left = until?.saturating_duration_since(now);
    (!left.is_zero()).then_some(left)
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
    fn after_a_rest_one_call_goes_at_a_time() {
        let longest = Duration::from_secs(20);
        let mut breaker = Breaker::new(REST);
        let now = Instant::now();
        // While all is well as many go as come.
        for _call in 0..TOO_OFTEN {
            assert_eq!(breaker.go(now, longest), Ok(()));
        }
        for _failure in 0..TOO_OFTEN {
            breaker.failed(now);
        }
        assert_eq!(breaker.go(now, longest), Err(REST));
        let mut now = now + REST;
        assert_eq!(breaker.go(now, longest), Ok(()));
        assert_eq!(breaker.go(now, longest), Err(MEANWHILE));
        assert_eq!(breaker.left(now), Some(MEANWHILE));
        // One of which nothing is heard keeps the others for so long.
        now += longest;
        assert_eq!(breaker.go(now, longest), Ok(()));
        assert_eq!(breaker.failed(now), Some(Turn::Opened(REST * 2)));
        assert_eq!(breaker.go(now, longest), Err(REST * 2));
        now += REST * 2;
        assert_eq!(breaker.go(now, longest), Ok(()));
        assert_eq!(breaker.answered(), Some(Turn::Closed));
        for _call in 0..TOO_OFTEN {
            assert_eq!(breaker.go(now, longest), Ok(()));
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
