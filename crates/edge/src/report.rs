//! What this edge holds, as it tells the orchestrator.

mod page;

use std::{
    collections::{HashMap, HashSet},
    sync::{Mutex, MutexGuard, PoisonError},
};

use candlefish_ids::ReleaseId;
use candlefish_proto::deploy as pb;
use tokio::sync::watch;

pub(crate) use page::pages;

use crate::route::Known;

/// Routes and releases of this edge.
#[derive(Debug)]
pub(crate) struct Report {
    state: Mutex<Held>,
    changed: watch::Sender<()>,
}

/// Routes by host, and releases with the reason why they are not staged. A host is never forgotten.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Held {
    routes: HashMap<String, Known>,
    releases: HashMap<ReleaseId, Option<String>>,
}

impl Report {
    pub(crate) fn new() -> Self {
        Self {
            state: Mutex::default(),
            changed: watch::Sender::new(()),
        }
    }

    /// Told whenever something changes.
    pub(crate) fn watch(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    /// Routes are served, and on disk: told together.
    pub(crate) fn hold<'a>(&self, routes: impl IntoIterator<Item = (&'a str, Known)>) {
        let mut held = self.lock();
        for (host, known) in routes {
            held.routes.insert(host.to_owned(), known);
        }
        drop(held);
        self.changed.send_replace(());
    }

    /// A release is staged.
    pub(crate) fn staged(&self, release: ReleaseId) {
        self.lock().releases.insert(release, None);
        self.changed.send_replace(());
    }

    /// A release cannot be staged, and why.
    pub(crate) fn failed(&self, release: ReleaseId, why: &str) {
        self.lock().releases.insert(release, Some(why.to_owned()));
        self.changed.send_replace(());
    }

    /// Forgets all releases but these.
    pub(crate) fn keep_only(&self, releases: &HashSet<ReleaseId>) {
        let mut held = self.lock();
        let before = held.releases.len();
        held.releases.retain(|id, _| releases.contains(id));
        let forgot = held.releases.len() < before;
        drop(held);
        if forgot {
            self.changed.send_replace(());
        }
    }

    /// Routes held.
    pub(crate) fn route_count(&self) -> usize {
        self.lock().routes.len()
    }

    /// What differs from what was sent, which it then is; everything at the first time.
    pub(crate) fn difference(
        &self,
        sent: &mut Held,
    ) -> (Vec<pb::HeldRoute>, Vec<pb::StagedRelease>) {
        let now = self.lock();
        let mut routes = Vec::new();
        // Only what differs is copied: an edge holds a route of every deployment there was.
        for (host, known) in &now.routes {
            if sent.routes.get(host) != Some(known) {
                sent.routes.insert(host.clone(), *known);
                routes.push(pb::HeldRoute {
                    host: host.clone(),
                    epoch: known.version.epoch,
                    version: known.version.version,
                    preview: known.preview,
                });
            }
        }
        let mut releases = Vec::new();
        for (id, error) in &now.releases {
            if sent.releases.get(id) != Some(error) {
                sent.releases.insert(*id, error.clone());
                releases.push(pb::StagedRelease {
                    release_id: id.to_string(),
                    staged: error.is_none(),
                    error: error.clone().unwrap_or_default(),
                });
            }
        }
        sent.releases.retain(|id, _| {
            let stays = now.releases.contains_key(id);
            if !stays {
                releases.push(pb::StagedRelease {
                    release_id: id.to_string(),
                    staged: false,
                    error: String::new(),
                });
            }
            stays
        });
        drop(now);
        (routes, releases)
    }

    fn lock(&self) -> MutexGuard<'_, Held> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::route::Version;

    #[test]
    fn only_differences_are_told() {
        let report = Report::new();
        let mut sent = Held::default();
        let (first, second) = (ReleaseId::new(), ReleaseId::new());
        let known = |version, preview| Known {
            version: Version { epoch: 1, version },
            preview,
        };
        report.hold([("a", known(1, false)), ("b", known(1, false))]);
        report.staged(first);
        report.failed(second, "index.html: corrupt");
        let (routes, releases) = report.difference(&mut sent);
        assert_eq!((routes.len(), releases.len()), (2, 2));
        assert!(
            releases
                .iter()
                .any(|r| !r.staged && r.error == "index.html: corrupt")
        );
        assert_eq!(report.difference(&mut sent), (vec![], vec![]));
        report.hold([("b", known(2, false))]);
        report.staged(second);
        let (routes, releases) = report.difference(&mut sent);
        assert_eq!((routes[0].host.as_str(), routes[0].version), ("b", 2));
        assert!(releases[0].staged && releases[0].error.is_empty());
        report.hold([("b", known(2, true))]);
        let (routes, _) = report.difference(&mut sent);
        assert!(routes[0].version == 2 && routes[0].preview, "{routes:?}");
        report.keep_only(&HashSet::from([first]));
        let (_, releases) = report.difference(&mut sent);
        assert_eq!(releases[0].release_id, second.to_string());
        assert!(!releases[0].staged);
        assert_eq!(report.difference(&mut sent), (vec![], vec![]));
    }

    #[test]
    fn nobody_is_woken_for_what_is_kept() {
        let report = Report::new();
        let release = ReleaseId::new();
        report.staged(release);
        let changed = report.watch();
        report.keep_only(&HashSet::from([release]));
        assert!(!changed.has_changed().unwrap());
        report.keep_only(&HashSet::new());
        assert!(changed.has_changed().unwrap());
    }
}
