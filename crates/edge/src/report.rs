//! What this edge holds, as it tells the orchestrator.

mod page;

use std::{
    collections::{HashMap, HashSet, VecDeque},
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
    state: Mutex<State>,
    changed: watch::Sender<()>,
}

/// Changed hosts that are kept for those who were told all before. Who missed more compares all.
const MOST_CHANGES: usize = 4096;

#[derive(Debug, Default)]
struct State {
    held: Held,
    /// How often a host changed.
    count: u64,
    /// The hosts that changed last, in order: one that is held is never forgotten, so there are many
    /// more than change.
    latest: VecDeque<String>,
}

impl State {
    /// The hosts that changed after so many changes; none when not all of them are known any more.
    fn after(&self, count: u64) -> Option<impl Iterator<Item = &String>> {
        let missed = usize::try_from(self.count.checked_sub(count)?).ok()?;
        let before = self.latest.len().checked_sub(missed)?;
        Some(self.latest.range(before..))
    }
}

/// What was told on a stream.
#[derive(Debug, Default)]
pub(crate) struct Sent {
    held: Held,
    /// The changes of hosts until then.
    count: u64,
}

/// Routes by host, and releases with the reason why they are not staged. A host is never forgotten.
#[derive(Debug, Default, PartialEq, Eq)]
struct Held {
    routes: HashMap<String, Known>,
    releases: HashMap<ReleaseId, Option<Reason>>,
}

/// Why a release is not staged.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Reason {
    words: String,
    /// It may pass, and says nothing of the release.
    passes: bool,
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
        let mut state = self.lock();
        for (host, known) in routes {
            state.held.routes.insert(host.to_owned(), known);
            if state.latest.len() == MOST_CHANGES {
                state.latest.pop_front();
            }
            state.latest.push_back(host.to_owned());
            state.count += 1;
        }
        drop(state);
        self.changed.send_replace(());
    }

    /// A release is staged.
    pub(crate) fn staged(&self, release: ReleaseId) {
        self.lock().held.releases.insert(release, None);
        self.changed.send_replace(());
    }

    /// A release cannot be staged, and why; `passes` says that this is no fault of the release.
    pub(crate) fn failed(&self, release: ReleaseId, why: &str, passes: bool) {
        let words = why.to_owned();
        let why = Some(Reason { words, passes });
        self.lock().held.releases.insert(release, why);
        self.changed.send_replace(());
    }

    /// Forgets all releases but these.
    pub(crate) fn keep_only(&self, releases: &HashSet<ReleaseId>) {
        let mut state = self.lock();
        let before = state.held.releases.len();
        state.held.releases.retain(|id, _| releases.contains(id));
        let forgot = state.held.releases.len() < before;
        drop(state);
        if forgot {
            self.changed.send_replace(());
        }
    }

    /// Routes held.
    pub(crate) fn route_count(&self) -> usize {
        self.lock().held.routes.len()
    }

    /// What differs from what was sent, which it then is; everything at the first time.
    pub(crate) fn difference(
        &self,
        told: &mut Sent,
    ) -> (Vec<pb::HeldRoute>, Vec<pb::StagedRelease>) {
        let state = self.lock();
        let (now, sent) = (&state.held, &mut told.held);
        let mut routes = Vec::new();
        // Only what differs is copied: an edge holds a route of every deployment there was.
        let mut tell = |host: &String, known: &Known| {
            if sent.routes.get(host) != Some(known) {
                sent.routes.insert(host.clone(), *known);
                routes.push(pb::HeldRoute {
                    host: host.clone(),
                    epoch: known.version.epoch,
                    version: known.version.version,
                    preview: known.preview,
                });
            }
        };
        if let Some(changed) = state.after(told.count) {
            let changed = changed.filter_map(|host| now.routes.get_key_value(host));
            changed.for_each(|(host, known)| tell(host, known));
        } else {
            now.routes
                .iter()
                .for_each(|(host, known)| tell(host, known));
        }
        told.count = state.count;
        let mut releases = Vec::new();
        for (id, reason) in &now.releases {
            if sent.releases.get(id) != Some(reason) {
                sent.releases.insert(*id, reason.clone());
                releases.push(pb::StagedRelease {
                    release_id: id.to_string(),
                    staged: reason.is_none(),
                    transient: reason.as_ref().is_some_and(|reason| reason.passes),
                    error: reason
                        .as_ref()
                        .map_or_else(String::new, |one| one.words.clone()),
                });
            }
        }
        sent.releases.retain(|id, _| {
            let stays = now.releases.contains_key(id);
            if !stays {
                releases.push(pb::StagedRelease {
                    release_id: id.to_string(),
                    ..pb::StagedRelease::default()
                });
            }
            stays
        });
        drop(state);
        (routes, releases)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
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
        let mut sent = Sent::default();
        let (first, second) = (ReleaseId::new(), ReleaseId::new());
        let known = |version, preview| Known {
            version: Version { epoch: 1, version },
            preview,
        };
        report.hold([("a", known(1, false)), ("b", known(1, false))]);
        report.staged(first);
        report.failed(second, "index.html: corrupt", true);
        let (routes, releases) = report.difference(&mut sent);
        assert_eq!((routes.len(), releases.len()), (2, 2));
        assert!(
            releases
                .iter()
                .any(|r| !r.staged && r.transient && r.error == "index.html: corrupt")
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
    fn who_was_not_told_for_long_is_told_all_that_differs() {
        let report = Report::new();
        let known = |version| Known {
            version: Version { epoch: 1, version },
            preview: false,
        };
        report.hold([("a", known(1)), ("b", known(1))]);
        let mut sent = Sent::default();
        assert_eq!(report.difference(&mut sent).0.len(), 2);
        let mut late = Sent::default();
        assert_eq!(report.difference(&mut late).0.len(), 2);
        let hosts = |told: Vec<pb::HeldRoute>| {
            let mut hosts: Vec<_> = told
                .into_iter()
                .map(|one| (one.host, one.version))
                .collect();
            hosts.sort_unstable();
            hosts
        };
        report.hold([("b", known(2))]);
        assert_eq!(hosts(report.difference(&mut sent).0), [("b".to_owned(), 2)]);
        for version in 2..=6000 {
            report.hold([("a", known(version))]);
            if version % 1000 == 0 {
                let (told, _) = report.difference(&mut sent);
                assert_eq!(hosts(told), [("a".to_owned(), version)]);
            }
        }
        let (told, _) = report.difference(&mut late);
        assert_eq!(hosts(told), [("a".to_owned(), 6000), ("b".to_owned(), 2)]);
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
