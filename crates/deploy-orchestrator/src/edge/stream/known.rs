//! What is known of an edge on its stream, and whether that is enough for it to join; pure.

use std::{collections::HashMap, sync::Arc};

use candlefish_clock::Moment;
use candlefish_proto::deploy as pb;
use prost::Message as _;
use tonic::Status;

use crate::route::table::{Routes, Seen};

type Version = (i32, i64);

/// What an edge knows of a route: its version, and whether it is of a preview, which orchestrators of an
/// older build did not say. More of the same version is greater.
type Told = (Version, bool);

/// Of a report in several messages, all of which is kept until the last one came. It is enough for more
/// than a million host names: some 140,000 are 8 MiB.
const MOST_MIB: usize = 64;

/// What is known of the edge on this stream.
#[expect(clippy::struct_excessive_bools, reason = "each is a claim of its own")]
#[derive(Debug, Default)]
pub(super) struct Known {
    pub(super) edge: String,
    pub(super) boot: String,
    pub(super) address: String,
    /// What came of a report that goes on in the next message, and its bytes.
    unfinished: Option<(pb::WatchRoutesRequest, usize)>,
    /// What it holds, or was sent.
    sent: HashMap<String, Told>,
    held: HashMap<String, Told>,
    /// The epoch that holds. What an edge holds of one before may be another fact.
    epoch: i32,
    /// Routes that were current when the stream began, or when the edge was seen to be set aside, and must
    /// be applied to join; then once more those that changed until it had applied them. What goes on
    /// changing is waited for by the deployments that change it.
    to_join: HashMap<String, Version>,
    to_join_renewed: bool,
    /// It joined, was set aside, and is to join again.
    rejoins: bool,
    pub(super) joined: bool,
    pub(super) caught_up: bool,
    /// When the reconciler wanted it to be sent again what it lacks, as far as that was done.
    resent_at: Option<Moment>,
}

impl Known {
    /// A stream begins: nothing of one before counts.
    pub(super) fn begun(report: &pb::WatchRoutesRequest, seen: &Seen) -> Self {
        Self {
            edge: report.edge.clone(),
            boot: report.boot.clone(),
            address: report.address.clone(),
            epoch: seen.epoch,
            to_join: of_environments(&seen.routes),
            ..Self::default()
        }
    }

    /// Puts a report together that comes in several messages; nothing before its last one. What an edge
    /// held before is forgotten with the first report, and must not be gone until the rest comes. One that
    /// is too large to be kept is refused, and what came of it forgotten.
    pub(super) fn whole(
        &mut self,
        message: pb::WatchRoutesRequest,
    ) -> Result<Option<pb::WatchRoutesRequest>, Status> {
        let more = message.encoded_len();
        let (report, bytes) = match self.unfinished.take() {
            None => (message, more),
            Some((mut report, bytes)) => {
                report.held.extend(message.held);
                report.staged.extend(message.staged);
                report.more = message.more;
                (report, bytes.saturating_add(more))
            }
        };
        if bytes > MOST_MIB * 1024 * 1024 {
            return Err(too_large(&report));
        }
        if report.more {
            self.unfinished = Some((report, bytes));
            return Ok(None);
        }
        Ok(Some(report))
    }

    /// The edge tells what it holds.
    pub(super) fn take(&mut self, held: &[pb::HeldRoute]) {
        for one in held {
            let told = ((one.epoch, one.version), one.preview);
            self.held.insert(one.host.clone(), told);
            self.sent.insert(one.host.clone(), told);
        }
    }

    /// A new epoch may have begun.
    pub(super) fn learn(&mut self, epoch: i32) {
        self.epoch = self.epoch.max(epoch);
    }

    /// The reconciler wants it to be sent again what it lacks: what it was sent is forgotten, and all
    /// that it holds is to be written down anew.
    pub(super) fn resend(&mut self, asked_at: Option<Moment>) -> Option<Vec<pb::HeldRoute>> {
        if asked_at <= self.resent_at {
            return None;
        }
        self.resent_at = asked_at;
        self.sent.clone_from(&self.held);
        let held = self
            .held
            .iter()
            .map(|(host, ((epoch, version), preview))| pb::HeldRoute {
                host: host.clone(),
                epoch: *epoch,
                version: *version,
                preview: *preview,
            });
        Some(held.collect())
    }

    /// It neither holds the route at its version nor was sent it, or not with the word that it is of a
    /// preview. One of an older build never says that it knows that: it is sent it whenever all routes are
    /// looked at after a report that names the host, for what that tells takes the place of what was sent.
    pub(super) fn lacks(&self, route: &pb::Route) -> bool {
        let sent = self.sent.get(&route.host);
        sent.is_none_or(|sent| *sent < told_by(route))
    }

    /// What it lacks of the routes that changed after so many changes, each as it is now; none when not
    /// all of those are known any more.
    pub(super) fn lacks_of_changes(&self, seen: &Seen, before: u64) -> Option<Vec<Arc<pb::Route>>> {
        let is_newest = |route: &&Arc<pb::Route>| {
            let now = seen.routes.get(&route.host);
            now.is_some_and(|now| Arc::ptr_eq(now, route))
        };
        let changed = seen.changes.after(before)?.filter(is_newest);
        Some(changed.filter(|route| self.lacks(route)).cloned().collect())
    }

    /// These were sent.
    pub(super) fn sent(&mut self, routes: &[Arc<pb::Route>]) {
        for route in routes {
            self.sent.insert(route.host.clone(), told_by(route));
        }
    }

    /// It applied all that it must, to join for the first time or, set aside, again.
    pub(super) fn joins(&mut self, seen: &Seen, is_aside: bool) -> bool {
        if self.joined && !is_aside {
            self.rejoins = false;
            return false;
        }
        if !seen.sees {
            return false;
        }
        self.learn(seen.epoch);
        if self.joined && !self.rejoins {
            self.rejoins = true;
            self.to_join = self.current(seen);
            self.to_join_renewed = false;
        }
        // An address that is gone altogether is sent to nobody any more.
        self.to_join
            .retain(|host, _| seen.routes.contains_key(host));
        if !self.applied_to_join() {
            return false;
        }
        if !self.to_join_renewed {
            // Staging all of a platform takes minutes, in which other releases go live.
            self.to_join = self.current(seen);
            self.to_join_renewed = true;
        }
        let joins = self.applied_to_join();
        if joins {
            self.rejoins = false;
        }
        joins
    }

    /// What must be applied to join. Again, releases' own addresses as well: what it was set aside for may
    /// be one of them.
    fn current(&self, seen: &Seen) -> HashMap<String, Version> {
        if !self.rejoins {
            return of_environments(&seen.routes);
        }
        let all = seen.routes.values();
        all.map(|route| version_of(route)).collect()
    }

    fn applied_to_join(&self) -> bool {
        self.to_join.iter().all(|(host, wanted)| {
            let held = self.held.get(host);
            held.is_some_and(|(version, _)| version >= wanted && version.0 >= self.epoch)
        })
    }
}

/// An edge never forgets a host: this one comes again with the same until somebody helps it.
fn too_large(report: &pb::WatchRoutesRequest) -> Status {
    let (hosts, releases) = (report.held.len(), report.staged.len());
    let words = format!(
        "a report of more than {MOST_MIB} MiB is not taken, and so far it tells of {hosts} hosts and \
         {releases} releases. Start the edge with an empty CANDLEFISH_STATE_DIR: then it holds what \
         is current, and nothing else"
    );
    Status::resource_exhausted(words)
}

fn of_environments(routes: &Routes) -> HashMap<String, Version> {
    let of_environments = routes
        .values()
        .filter(|route| !route.environment_id.is_empty());
    of_environments.map(|route| version_of(route)).collect()
}

fn told_by(route: &pb::Route) -> Told {
    ((route.epoch, route.version), route.preview)
}

fn version_of(route: &pb::Route) -> (String, Version) {
    (route.host.clone(), (route.epoch, route.version))
}

#[cfg(test)]
mod tests {
    use candlefish_clock::ManualClock;

    use super::*;

    /// One route of an environment at this version.
    fn seen(epoch: i32, version: i64) -> Seen {
        let route = pb::Route {
            host: "docs.localhost".to_owned(),
            environment_id: "env_x".to_owned(),
            epoch,
            version,
            ..pb::Route::default()
        };
        let routes = HashMap::from([(route.host.clone(), Arc::new(route))]);
        Seen {
            routes: Arc::new(routes),
            changes: Arc::default(),
            epoch,
            sees: true,
        }
    }

    fn held(epoch: i32, version: i64) -> [pb::HeldRoute; 1] {
        [pb::HeldRoute {
            host: "docs.localhost".to_owned(),
            epoch,
            version,
            preview: false,
        }]
    }

    #[test]
    fn an_edge_joins_with_what_is_of_the_epoch_that_holds() {
        let mut known = Known::begun(&pb::WatchRoutesRequest::default(), &seen(1, 7));
        known.take(&held(1, 9));
        known.learn(2);
        assert!(!known.joins(&seen(1, 7), false));
        assert!(!known.joins(&seen(2, 8), false));
        known.take(&held(2, 8));
        assert!(known.joins(&seen(2, 8), false));
    }

    #[test]
    fn an_edge_that_is_set_aside_joins_again_while_routes_go_on_changing() {
        let mut known = Known::begun(&pb::WatchRoutesRequest::default(), &seen(1, 7));
        known.take(&held(1, 7));
        assert!(known.joins(&seen(1, 7), false));
        known.joined = true;
        assert!(!known.joins(&seen(1, 8), false));
        for _time in 0..2 {
            // Each time it applied a version, the next one is there.
            assert!(!known.joins(&seen(1, 9), true));
            known.take(&held(1, 8));
            assert!(!known.joins(&seen(1, 10), true));
            known.take(&held(1, 9));
            assert!(!known.joins(&seen(1, 10), true));
            known.take(&held(1, 10));
            assert!(known.joins(&seen(1, 11), true));
            // Set aside once more, all that is current then counts anew.
            known.take(&held(1, 7));
        }
    }

    #[test]
    fn a_report_in_several_messages_counts_once_it_is_whole() {
        let release = |id: &str| pb::StagedRelease {
            release_id: id.to_owned(),
            ..pb::StagedRelease::default()
        };
        let message = |version, staged: &[&str], first, more| pb::WatchRoutesRequest {
            edge: "edge-1".to_owned(),
            held: held(1, version).to_vec(),
            staged: staged.iter().map(|id| release(id)).collect(),
            first,
            more,
            ..pb::WatchRoutesRequest::default()
        };
        let mut known = Known::default();
        assert_eq!(known.whole(message(1, &[], true, true)).unwrap(), None);
        let second = known.whole(message(2, &["a"], false, true));
        assert_eq!(second.unwrap(), None);
        let whole = known.whole(message(3, &["b"], false, false)).unwrap();
        let whole = whole.unwrap();
        assert!(whole.first);
        let versions: Vec<_> = whole.held.iter().map(|held| held.version).collect();
        assert_eq!(versions, [1, 2, 3]);
        assert_eq!(whole.staged, [release("a"), release("b")]);
        // The next one stands alone, as each of an edge that knows nothing of this does.
        let next = message(4, &[], false, false);
        assert_eq!(known.whole(next.clone()).unwrap(), Some(next));
    }

    #[test]
    fn a_report_that_does_not_end_is_refused_and_forgotten() {
        let part = |host: usize| pb::WatchRoutesRequest {
            held: vec![pb::HeldRoute {
                host: "h".repeat(host),
                ..pb::HeldRoute::default()
            }],
            more: true,
            ..pb::WatchRoutesRequest::default()
        };
        let mut known = Known::default();
        for _part in 1..MOST_MIB {
            assert_eq!(known.whole(part(1024 * 1024)).unwrap(), None);
        }
        let refused = known.whole(part(1024 * 1024)).unwrap_err();
        assert_eq!(refused.code(), tonic::Code::ResourceExhausted);
        for told in ["64 MiB", "64 hosts", "CANDLEFISH_STATE_DIR"] {
            assert!(refused.message().contains(told), "{refused:?}");
        }
        assert_eq!(known.unfinished, None);
    }

    #[test]
    fn what_was_sent_and_not_applied_is_sent_again_once_it_is_asked_for() {
        let mut known = Known::begun(&pb::WatchRoutesRequest::default(), &seen(1, 7));
        known.take(&held(1, 6));
        let newer = seen(1, 7);
        let newer: Vec<_> = newer.routes.values().cloned().collect();
        assert!(known.lacks(&newer[0]));
        known.sent(&newer);
        assert!(!known.lacks(&newer[0]));
        assert_eq!(known.resend(None), None);
        let asked_at = Some(ManualClock::at_second(1).now());
        assert_eq!(known.resend(asked_at).as_deref(), Some(&held(1, 6)[..]));
        assert!(known.lacks(&newer[0]));
        assert_eq!(known.resend(asked_at), None);
    }

    #[test]
    fn of_what_changed_it_lacks_each_route_once_as_it_is_now() {
        let mut seen = seen(1, 7);
        for version in 8..=9 {
            let mut route = pb::Route::clone(seen.routes.values().next().unwrap());
            route.version = version;
            seen.add(route);
        }
        let known = Known::begun(&pb::WatchRoutesRequest::default(), &seen);
        let versions = |known: &Known, before| {
            let lacking = known.lacks_of_changes(&seen, before);
            lacking.map(|all| all.iter().map(|route| route.version).collect::<Vec<_>>())
        };
        assert_eq!(versions(&known, 0), Some(vec![9]));
        assert_eq!(versions(&known, 1), Some(vec![9]));
        assert_eq!(versions(&known, 2), Some(vec![]));
        assert_eq!(versions(&known, 3), None);
        let mut told = Known::begun(&pb::WatchRoutesRequest::default(), &seen);
        told.take(&held(1, 9));
        assert_eq!(versions(&told, 0), Some(vec![]));
    }

    #[test]
    fn a_preview_is_sent_again_to_an_edge_that_does_not_know_it_for_one() {
        let preview = Arc::new(pb::Route {
            host: "docs.localhost".to_owned(),
            epoch: 1,
            version: 7,
            preview: true,
            ..pb::Route::default()
        });
        let mut known = Known::begun(&pb::WatchRoutesRequest::default(), &seen(1, 7));
        known.take(&held(1, 7));
        assert!(known.lacks(&preview));
        // One of an older build says the same of it for ever.
        known.sent(&[Arc::clone(&preview)]);
        assert!(!known.lacks(&preview));
        known.take(&held(1, 7));
        assert!(known.lacks(&preview));
        let [mut knows] = held(1, 7);
        knows.preview = true;
        let mut known = Known::begun(&pb::WatchRoutesRequest::default(), &seen(1, 7));
        known.take(&[knows.clone()]);
        assert!(!known.lacks(&preview));
        let asked_at = Some(ManualClock::at_second(1).now());
        assert_eq!(known.resend(asked_at), Some(vec![knows]));
        // What is taken away serves nothing, and is no preview's then.
        let mut away = pb::Route::clone(&preview);
        (away.version, away.preview) = (8, false);
        assert!(known.lacks(&away));
    }
}
