//! What this edge holds, as it tells the orchestrator.

use std::{
    collections::{HashMap, HashSet},
    sync::{Mutex, MutexGuard, PoisonError},
};

use candlefish_ids::ReleaseId;
use candlefish_proto::deploy as pb;
use tokio::sync::watch;

use crate::route::Version;

/// Routes and releases of this edge.
#[derive(Debug)]
pub(crate) struct Report {
    state: Mutex<Held>,
    changed: watch::Sender<()>,
}

/// Routes by host, and releases with the reason why they are not staged.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Held {
    routes: HashMap<String, Version>,
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

    /// A route is served, and on disk.
    pub(crate) fn hold(&self, host: &str, version: Version) {
        self.lock().routes.insert(host.to_owned(), version);
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
        self.lock().releases.retain(|id, _| releases.contains(id));
        self.changed.send_replace(());
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
        let routes = now
            .routes
            .iter()
            .filter(|(host, version)| sent.routes.get(*host) != Some(version))
            .map(|(host, version)| pb::HeldRoute {
                host: host.clone(),
                epoch: version.epoch,
                version: version.version,
            })
            .collect();
        let mut releases: Vec<_> = now
            .releases
            .iter()
            .filter(|(id, error)| sent.releases.get(*id) != Some(error))
            .map(|(id, error)| pb::StagedRelease {
                release_id: id.to_string(),
                staged: error.is_none(),
                error: error.clone().unwrap_or_default(),
            })
            .collect();
        let gone = sent
            .releases
            .keys()
            .filter(|id| !now.releases.contains_key(*id));
        releases.extend(gone.map(|id| pb::StagedRelease {
            release_id: id.to_string(),
            staged: false,
            error: String::new(),
        }));
        sent.clone_from(&now);
        (routes, releases)
    }

    fn lock(&self) -> MutexGuard<'_, Held> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_differences_are_told() {
        let report = Report::new();
        let mut sent = Held::default();
        let (first, second) = (ReleaseId::new(), ReleaseId::new());
        let version = |version| Version { epoch: 1, version };
        report.hold("a", version(1));
        report.hold("b", version(1));
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
        report.hold("b", version(2));
        report.staged(second);
        let (routes, releases) = report.difference(&mut sent);
        assert_eq!((routes[0].host.as_str(), routes[0].version), ("b", 2));
        assert!(releases[0].staged && releases[0].error.is_empty());
        report.keep_only(&HashSet::from([first]));
        let (_, releases) = report.difference(&mut sent);
        assert_eq!(releases[0].release_id, second.to_string());
        assert!(!releases[0].staged);
    }
}
