//! The table that every request reads.

use std::{
    collections::HashMap,
    sync::{Arc, PoisonError, RwLock},
};

use super::Route;
use crate::{
    release::{Release, Shelf},
    split::Split,
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
    Nothing,
    /// The release is not on this edge (its disk lost it, and the store is down).
    Unstaged,
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
}

/// A release on a route.
#[derive(Debug)]
pub(crate) struct Share {
    pub(crate) release: Arc<Release>,
    pub(crate) weight: u8,
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
    /// What this edge serves for a route, with the releases that are staged now.
    pub(crate) fn of(route: &Route, edge: &str, shelf: &Shelf, traffic: &Traffic) -> Self {
        let needed = route.needed(edge);
        if needed.is_empty() {
            return Self::Nothing;
        }
        let shares: Vec<Share> = route
            .releases
            .iter()
            .filter_map(|weighted| {
                let id = weighted.release.id;
                let weight = match route.rolling {
                    None => weighted.weight,
                    Some(_) if needed.iter().any(|n| n.id == id) => 100,
                    Some(_) => 0,
                };
                Some(Share {
                    release: shelf.get(id)?,
                    weight,
                    counters: traffic.counters(&route.host, id),
                })
            })
            .collect();
        let with_traffic = |share: &Share| share.weight > 0;
        if shares.iter().filter(|share| with_traffic(share)).count() < needed.len() {
            return Self::Unstaged;
        }
        let pick = pick(route, &shares, needed.len());
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
            noindex: route.noindex,
        })
    }
}

fn pick(route: &Route, shares: &[Share], with_traffic: usize) -> Pick {
    let newest = route.releases.last().map(|newest| newest.release.id);
    let has_newest = shares.last().map(|share| share.release.id) == newest;
    // Of several releases one may have all the traffic here, and another one on an edge that lags: who
    // gets the newest is told to keep it.
    if with_traffic > 1 || (route.releases.len() > 1 && has_newest) {
        return Pick::Split(Split {
            generation: route.generation,
            releases: shares.iter().map(|s| (s.release.id, s.weight)).collect(),
            rolling: route.rolling.is_some(),
        });
    }
    let only = shares.iter().position(|share| share.weight > 0);
    Pick::Only(only.unwrap_or_default())
}
