//! Live edges that do not serve what the routes say; pure.
//!
//! An edge applies what it has staged at once, so a lag that lasts is something that it missed, or that
//! was written down wrongly.

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use tokio::time::Instant;

use super::plan::Found;

/// Above what an edge needs to apply a route whose releases it has.
pub(super) const LATE_AFTER: Duration = Duration::from_secs(5);

/// An edge and the version of a host's route that it has not applied.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Lag {
    edge: String,
    host: String,
    version: (i32, i64),
}

impl Lag {
    /// Those of an environment.
    pub(super) fn all(one: &Found) -> impl Iterator<Item = Self> {
        let routes = one.routes.iter();
        routes.flat_map(|route| Self::of(&route.host, (route.epoch, route.version), &route.behind))
    }

    /// Those of a host whose route has this version.
    pub(super) fn of(
        host: &str,
        version: (i32, i64),
        behind: &[String],
    ) -> impl Iterator<Item = Self> {
        behind.iter().map(move |edge| Self {
            edge: edge.clone(),
            host: host.to_owned(),
            version,
        })
    }
}

/// Which edges lag, and since when this process sees it.
#[derive(Debug, Default)]
pub(super) struct Lags {
    since: HashMap<Lag, Instant>,
}

impl Lags {
    /// Takes in all that a round found, each with how long it may last; answers the late edges, each with
    /// how many routes it lacks.
    pub(super) fn late(
        &mut self,
        now: Instant,
        found: Vec<(Lag, Duration)>,
    ) -> BTreeMap<String, u64> {
        let before = std::mem::take(&mut self.since);
        let mut late = BTreeMap::new();
        for (lag, patience) in found {
            let since = before.get(&lag).copied().unwrap_or(now);
            if now.duration_since(since) >= patience {
                *late.entry(lag.edge.clone()).or_insert(0) += 1;
            }
            self.since.insert(lag, since);
        }
        late
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lag(edge: &str, host: &str, version: i64) -> (Lag, Duration) {
        let lag = Lag {
            edge: edge.to_owned(),
            host: host.to_owned(),
            version: (1, version),
        };
        (lag, LATE_AFTER)
    }

    #[test]
    fn an_edge_is_late_when_it_goes_on_lacking_the_same() {
        let mut lags = Lags::default();
        let at = Instant::now();
        let first = vec![lag("a", "x", 1), lag("a", "y", 1), lag("b", "x", 1)];
        assert!(lags.late(at, first).is_empty());
        // Both followed; one of them lacks the next version by now.
        let next = vec![lag("a", "x", 1), lag("a", "y", 1), lag("b", "x", 2)];
        let late = lags.late(at + LATE_AFTER, next.clone());
        assert_eq!(late, BTreeMap::from([("a".to_owned(), 2)]));
        let late = lags.late(at + 2 * LATE_AFTER, next);
        assert_eq!(late.len(), 2);
        assert!(lags.late(at + 2 * LATE_AFTER, Vec::new()).is_empty());
        let again = vec![lag("a", "x", 1)];
        assert!(lags.late(at + 3 * LATE_AFTER, again).is_empty());
    }

    #[test]
    fn each_lag_has_a_patience_of_its_own() {
        let mut lags = Lags::default();
        let at = Instant::now();
        let (slow, _) = lag("a", "x", 1);
        let found = vec![(slow, 6 * LATE_AFTER), lag("b", "y", 1)];
        assert!(lags.late(at, found.clone()).is_empty());
        let late = lags.late(at + LATE_AFTER, found.clone());
        assert_eq!(late, BTreeMap::from([("b".to_owned(), 1)]));
        assert_eq!(lags.late(at + 6 * LATE_AFTER, found).len(), 2);
    }
}
