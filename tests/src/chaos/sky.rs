//! When something was down, for each of those who judge by it.

use std::collections::BTreeMap;

use candlefish_devstack::Stack;
use candlefish_testkit::checker::Weather;

/// The faults of a run. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Sky {
    /// What kept work from being taken up.
    pub(super) work: Weather,
    /// What kept visitors from an edge, by its name.
    edges: BTreeMap<String, Weather>,
}

impl Sky {
    /// No fault yet.
    pub(super) fn over(stack: &Stack) -> Self {
        let edges = stack.edges().into_iter();
        Self {
            work: Weather::default(),
            edges: edges.map(|edge| (edge.id, Weather::default())).collect(),
        }
    }

    /// What kept visitors from the edge of this name.
    pub(super) fn of_edge(&self, name: &str) -> Weather {
        self.edges.get(name).cloned().unwrap_or_default()
    }
}
