//! Leaves a repository alone where GitHub refuses who we are or what we may: that is about our credentials,
//! and not about what was to be told. A refusal that meets one row again, though others were told between, is
//! about that row, and leaves nothing else alone. Pure: given the moment. Kept by each process, for a restart
//! may bring other credentials.

use std::{collections::HashMap, time::Duration};

use tokio::time::Instant;

/// Rests double up to this.
pub(super) const LONGEST: Duration = Duration::from_mins(10);
/// A row that was not refused again for so long is forgotten: no pause of one that is left is as long.
const REMEMBERED: Duration = Duration::from_hours(2);

/// The repositories that are left alone.
#[derive(Debug)]
pub(super) struct Rests {
    first: Duration,
    /// By name in lower case.
    of: HashMap<String, Rest>,
    /// Rows that were refused, by the same name and their own.
    rows: HashMap<String, HashMap<String, Row>>,
}

#[derive(Debug, Clone, Copy)]
struct Rest {
    lasts: Duration,
    until: Instant,
}

#[derive(Debug, Clone, Copy)]
struct Row {
    /// When it was refused last.
    at: Instant,
    /// Another row of its repository was told since.
    others_told: bool,
    /// It was refused alone before.
    alone: bool,
}

/// Whom a refusal is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refusal {
    /// Us: the repository is left alone for so long, and whether it was not before.
    OfAll { lasts: Duration, is_new: bool },
    /// The row alone; and whether another one was told since it was refused before.
    OfOne { counts: bool },
}

impl Rests {
    /// None yet; the first of a repository lasts so long, in whole milliseconds.
    pub(super) fn new(first: Duration) -> Self {
        Self {
            first: first.min(LONGEST),
            of: HashMap::new(),
            rows: HashMap::new(),
        }
    }

    /// How long a repository is left alone yet, in whole milliseconds; none when it may be told.
    pub(super) fn left(&self, repository: &str, now: Instant) -> Option<Duration> {
        let rest = self.of.get(&repository.to_lowercase())?;
        let left = rest.until.saturating_duration_since(now);
        let millis = u64::try_from(left.as_millis()).unwrap_or(u64::MAX);
        (!left.is_zero()).then(|| Duration::from_millis(millis.saturating_add(1)))
    }

    /// Whether a row was refused and not told since: those that were not come first.
    pub(super) fn is_refused(&self, repository: &str, row: &str) -> bool {
        let rows = self.rows.get(&repository.to_lowercase());
        rows.is_some_and(|rows| rows.contains_key(row))
    }

    /// A row was refused there, in a way that may be about our credentials, and about the row where
    /// `may_be_of_one`.
    pub(super) fn refused(
        &mut self,
        repository: &str,
        (row, may_be_of_one): (&str, bool),
        now: Instant,
    ) -> Refusal {
        let repository = repository.to_lowercase();
        let known = self.of.get(&repository).copied();
        let rows = self.rows.entry(repository.clone()).or_default();
        let row = rows.entry(row.to_owned()).or_insert(Row {
            at: now,
            others_told: false,
            alone: false,
        });
        row.at = now;
        let counts = std::mem::take(&mut row.others_told);
        // While the repository is left alone nobody was told since that began.
        if may_be_of_one && known.is_none() && (counts || row.alone) {
            row.alone = true;
            return Refusal::OfOne { counts };
        }
        let lasts = known.map_or(self.first, |rest| (rest.lasts * 2).min(LONGEST));
        let until = now + lasts;
        self.of.insert(repository, Rest { lasts, until });
        let is_new = known.is_none();
        Refusal::OfAll { lasts, is_new }
    }

    /// Our credentials were not refused; true when it was left alone before.
    pub(super) fn taken(&mut self, repository: &str) -> bool {
        !self.of.is_empty() && self.of.remove(&repository.to_lowercase()).is_some()
    }

    /// A row was told; true when its repository was left alone before.
    pub(super) fn told(&mut self, repository: &str, row: &str) -> bool {
        if let Some(rows) = self.rows.get_mut(&repository.to_lowercase()) {
            rows.remove(row);
            for other in rows.values_mut() {
                other.others_told = true;
            }
        }
        self.taken(repository)
    }

    /// Whether any is left alone. One that nobody tried to tell for long after its rest is forgotten: there is
    /// nothing to tell it.
    pub(super) fn is_any(&mut self, now: Instant) -> bool {
        self.of.retain(|_, rest| now < rest.until + LONGEST);
        self.rows.retain(|_, rows| {
            rows.retain(|_, row| now < row.at + REMEMBERED);
            !rows.is_empty()
        });
        !self.of.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: Duration = Duration::from_secs(30);
    const REPOSITORY: &str = "example/docs";

    #[test]
    fn a_repository_rests_longer_each_time_until_it_takes_our_word_and_no_other_does() {
        let mut rests = Rests::new(FIRST);
        let mut now = Instant::now();
        assert!(!rests.taken(REPOSITORY));
        for (times, seconds) in [30, 60, 120, 240, 480, 600, 600].into_iter().enumerate() {
            let lasts = Duration::from_secs(seconds);
            let is_new = times == 0;
            assert_eq!(
                rests.refused("Example/Docs", ("one", true), now),
                Refusal::OfAll { lasts, is_new }
            );
            let millisecond = Duration::from_millis(1);
            assert_eq!(rests.left(REPOSITORY, now), Some(lasts + millisecond));
            assert_eq!(rests.left("example/other", now), None);
            now += lasts;
            assert_eq!(rests.left(REPOSITORY, now), None);
            assert!(rests.is_any(now));
        }
        assert!(rests.taken(REPOSITORY));
        assert!(!rests.is_any(now));
        // That it was taken says nothing of others.
        assert_eq!(refused(&mut rests, "one", now), NEW);
    }

    #[test]
    fn one_that_nobody_tells_any_more_is_forgotten() {
        let mut rests = Rests::new(FIRST);
        let now = Instant::now();
        refused(&mut rests, "one", now);
        assert!(rests.is_any(now + FIRST + LONGEST / 2));
        assert!(!rests.is_any(now + FIRST + LONGEST));
        assert!(rests.is_refused(REPOSITORY, "one"));
        rests.is_any(now + REMEMBERED);
        assert!(!rests.is_refused(REPOSITORY, "one"));
    }

    const NEW: Refusal = Refusal::OfAll {
        lasts: FIRST,
        is_new: true,
    };

    fn refused(rests: &mut Rests, row: &str, now: Instant) -> Refusal {
        rests.refused(REPOSITORY, (row, true), now)
    }

    #[test]
    fn a_row_that_is_refused_alone_is_counted_and_keeps_no_other() {
        let mut rests = Rests::new(FIRST);
        let now = Instant::now();
        assert_eq!(refused(&mut rests, "one", now), NEW);
        assert!(rests.told("Example/Docs", "another"));
        for counts in [true, false, false] {
            assert_eq!(
                refused(&mut rests, "one", now),
                Refusal::OfOne { counts },
                "what nobody was told between counts once"
            );
            assert_eq!(rests.left(REPOSITORY, now), None);
        }
        assert!(!rests.told(REPOSITORY, "another"));
        assert_eq!(
            refused(&mut rests, "one", now),
            Refusal::OfOne { counts: true }
        );
        // A second one is not known yet to be like it.
        assert_eq!(refused(&mut rests, "two", now), NEW);
        // What is told is not refused any more.
        rests.told(REPOSITORY, "one");
        assert!(!rests.is_refused(REPOSITORY, "one"));
        assert_eq!(refused(&mut rests, "one", now), NEW);
    }

    #[test]
    fn while_all_is_refused_nothing_is_counted() {
        let mut rests = Rests::new(FIRST);
        let mut now = Instant::now();
        refused(&mut rests, "one", now);
        rests.told(REPOSITORY, "another");
        // From here on a right is missing: the others say so before and after it.
        for row in ["two", "one", "three", "one", "two", "one"] {
            let refusal = refused(&mut rests, row, now);
            assert!(matches!(refusal, Refusal::OfAll { .. }), "{row}");
            now += LONGEST;
        }
        // And bad credentials are about no row, whatever was told before.
        rests.told(REPOSITORY, "another");
        let refusal = rests.refused(REPOSITORY, ("one", false), now);
        assert_eq!(refusal, NEW);
    }
}
