//! Live edges that do not serve what the routes say, where nothing acts; pure.
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
const LATE_AFTER: Duration = Duration::from_secs(5);

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
        one.routes.iter().flat_map(|route| {
            route.behind.iter().map(|edge| Self {
                edge: edge.clone(),
                host: route.host.clone(),
                version: (route.epoch, route.version),
            })
        })
    }
}

/// Which edges lag, and since when this process sees it.
#[derive(Debug, Default)]
pub(super) struct Lags {
    since: HashMap<Lag, Instant>,
}

impl Lags {
    /// Takes in all that a round found; answers the late edges, each with how many routes it lacks.
    pub(super) fn late(&mut self, now: Instant, found: Vec<Lag>) -> BTreeMap<String, u64> {
        let before = std::mem::take(&mut self.since);
        let mut late = BTreeMap::new();
        for lag in found {
            let since = before.get(&lag).copied().unwrap_or(now);
            if now.duration_since(since) >= LATE_AFTER {
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

    fn lag(edge: &str, host: &str, version: i64) -> Lag {
        Lag {
            edge: edge.to_owned(),
            host: host.to_owned(),
            version: (1, version),
        }
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
}
