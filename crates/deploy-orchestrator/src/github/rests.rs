//! Leaves a repository alone where GitHub refuses who we are or what we may: that is about our credentials,
//! and not about what was to be told. Pure: given the moment. Kept by each process, for a restart may bring
//! other credentials.

use std::{collections::HashMap, time::Duration};

use tokio::time::Instant;

/// Rests double up to this.
const LONGEST: Duration = Duration::from_mins(10);

/// The repositories that are left alone.
#[derive(Debug)]
pub(super) struct Rests {
    first: Duration,
    /// By name in lower case.
    of: HashMap<String, Rest>,
}

#[derive(Debug, Clone, Copy)]
struct Rest {
    lasts: Duration,
    until: Instant,
}

impl Rests {
    /// None yet; the first of a repository lasts so long, in whole milliseconds.
    pub(super) fn new(first: Duration) -> Self {
        Self {
            first: first.min(LONGEST),
            of: HashMap::new(),
        }
    }

    /// How long a repository is left alone yet, in whole milliseconds; none when it may be told.
    pub(super) fn left(&self, repository: &str, now: Instant) -> Option<Duration> {
        let rest = self.of.get(&repository.to_lowercase())?;
        let left = rest.until.saturating_duration_since(now);
        let millis = u64::try_from(left.as_millis()).unwrap_or(u64::MAX);
        (!left.is_zero()).then(|| Duration::from_millis(millis.saturating_add(1)))
    }

    /// Our credentials were refused there: how long it is left alone, and whether that is new.
    pub(super) fn refused(&mut self, repository: &str, now: Instant) -> (Duration, bool) {
        let known = self.of.get(&repository.to_lowercase()).copied();
        let lasts = known.map_or(self.first, |rest| (rest.lasts * 2).min(LONGEST));
        let until = now + lasts;
        self.of
            .insert(repository.to_lowercase(), Rest { lasts, until });
        (lasts, known.is_none())
    }

    /// They were not; true when it was left alone before.
    pub(super) fn taken(&mut self, repository: &str) -> bool {
        !self.of.is_empty() && self.of.remove(&repository.to_lowercase()).is_some()
    }

    /// Whether any is left alone. One that nobody tried to tell for long after its rest is forgotten: there is
    /// nothing to tell it.
    pub(super) fn is_any(&mut self, now: Instant) -> bool {
        self.of.retain(|_, rest| now < rest.until + LONGEST);
        !self.of.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: Duration = Duration::from_secs(30);

    #[test]
    fn a_repository_rests_longer_each_time_until_it_takes_our_word_and_no_other_does() {
        let mut rests = Rests::new(FIRST);
        let mut now = Instant::now();
        assert!(!rests.taken("example/docs"));
        for (times, seconds) in [30, 60, 120, 240, 480, 600, 600].into_iter().enumerate() {
            let lasts = Duration::from_secs(seconds);
            assert_eq!(rests.refused("Example/Docs", now), (lasts, times == 0));
            let millisecond = Duration::from_millis(1);
            assert_eq!(rests.left("example/docs", now), Some(lasts + millisecond));
            assert_eq!(rests.left("example/other", now), None);
            now += lasts;
            assert_eq!(rests.left("example/docs", now), None);
            assert!(rests.is_any(now));
        }
        assert!(rests.taken("example/docs"));
        assert!(!rests.is_any(now));
        assert_eq!(rests.refused("example/docs", now), (FIRST, true));
    }

    #[test]
    fn one_that_nobody_tells_any_more_is_forgotten() {
        let mut rests = Rests::new(FIRST);
        let now = Instant::now();
        rests.refused("example/docs", now);
        assert!(rests.is_any(now + FIRST + LONGEST / 2));
        assert!(!rests.is_any(now + FIRST + LONGEST));
    }
}
