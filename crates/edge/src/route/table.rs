//! The table that every request reads.

use std::{
    collections::HashMap,
    sync::{Arc, PoisonError, RwLock},
};

use super::Route;
use crate::{
    release::{Release, Shelf},
    split::{Part, Split},
    traffic::{Counters, Traffic},
};

/// What is served by host name.
#[derive(Debug, Default)]
pub(crate) struct Table {
    hosts: RwLock<HashMap<Box<str>, Arc<Host>>>,
}

/// What a host serves.
#[derive(Debug)]
pub(crate) enum Host {
    /// The route was taken away, or nothing on it gets traffic yet.
    Nothing { noindex: bool },
    /// The release is not on this edge (its disk lost it, and the store is down).
    Unstaged { noindex: bool },
    /// Content.
    Serving(Serving),
}

/// A host with content: one value for the whole of an answer, so that no answer is made of two
/// versions of a route.
#[derive(Debug)]
pub(crate) struct Serving {
    /// Those of the route that are staged, oldest first.
    pub(crate) shares: Vec<Share>,
    /// Releases whose assets stay reachable.
    pub(crate) assets_of: Vec<Arc<Release>>,
    pub(crate) pick: Pick,
    pub(crate) noindex: bool,
    /// Only while an orchestrator was heard lately.
    pub(crate) preview: bool,
}

/// A release on a route.
#[derive(Debug)]
pub(crate) struct Share {
    pub(crate) release: Arc<Release>,
    pub(crate) counters: Arc<Counters>,
}

/// How a release is picked.
#[derive(Debug)]
pub(crate) enum Pick {
    /// Always the one at this place.
    Only(usize),
    /// By visitor.
    Split(Split),
}

impl Table {
    pub(crate) fn get(&self, host: &str) -> Option<Arc<Host>> {
        let hosts = self.hosts.read().unwrap_or_else(PoisonError::into_inner);
        hosts.get(host).map(Arc::clone)
    }

    pub(crate) fn put(&self, changed: Vec<(Box<str>, Host)>) {
        let mut hosts = self.hosts.write().unwrap_or_else(PoisonError::into_inner);
        for (name, host) in changed {
            hosts.insert(name, Arc::new(host));
        }
    }
}

impl Host {
    /// Search engines are to leave all of its answers out.
    pub(crate) fn noindex(&self) -> bool {
        match self {
            Self::Nothing { noindex } | Self::Unstaged { noindex } => *noindex,
            Self::Serving(serving) => serving.noindex,
        }
    }

    /// What this edge serves for a route, with the releases that are staged now.
    pub(crate) fn of(route: &Route, edge: &str, shelf: &Shelf, traffic: &Traffic) -> Self {
        let needed = route.needed(edge);
        let noindex = route.noindex;
        if needed.is_empty() {
            return Self::Nothing { noindex };
        }
        let mut shares = Vec::new();
        let mut parts = Vec::new();
        for weighted in &route.releases {
            let id = weighted.release.id;
            let weight = match route.rolling {
                None => weighted.weight,
                Some(_) if needed.iter().any(|n| n.id == id) => 100,
                Some(_) => 0,
            };
            let release = shelf.get(id);
            parts.push(Part {
                release: id,
                weight,
                share: release.as_ref().map(|_| shares.len()),
            });
            shares.extend(release.map(|release| Share {
                release,
                counters: traffic.counters(&route.host, id),
            }));
        }
        let Some(pick) = pick(route, parts) else {
            return Self::Unstaged { noindex };
        };
        for share in &shares {
            share.counters.watch(matches!(pick, Pick::Split(_)));
        }
        let assets_of = route
            .assets_of
            .iter()
            .filter_map(|r| shelf.get(r.id))
            .collect();
        Self::Serving(Serving {
            shares,
            assets_of,
            pick,
            noindex,
            preview: route.preview,
        })
    }
}

/// How one of these is picked; nothing when none is here that has traffic.
fn pick(route: &Route, parts: Vec<Part>) -> Option<Pick> {
    let mut with_traffic = parts.iter().filter(|part| part.weight > 0);
    let only = with_traffic.clone().find_map(|part| part.share)?;
    let rolling = route.rolling.is_some();
    let has_newest = parts.last().is_some_and(|newest| newest.share.is_some());
    // Of several releases one may have all the traffic here, and another one on an edge that lags: who
    // gets the newest is told to keep it, and while rolling may come here with it already.
    if with_traffic.nth(1).is_none() && (parts.len() == 1 || !(has_newest || rolling)) {
        return Some(Pick::Only(only));
    }
    Some(Pick::Split(Split {
        generation: route.generation,
        releases: parts,
        rolling,
    }))
}
