//! The route: what a host name serves here.
//!
//! A route comes whole, with an (epoch, version) that only rises; an older one is refused. It is
//! *held* once it is in the [`table`] that requests read and on disk. Between its coming and its
//! being held, [`keeper`] stages its releases.
//!
//! This room never decides what a host serves; it only refuses to go back.

pub(crate) mod keeper;
pub(crate) mod table;

use candlefish_ids::{Digest, ReleaseId};
use candlefish_proto::deploy as pb;

/// Which of two forms of a route is newer: by epoch, then by version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Version {
    pub(crate) epoch: i32,
    pub(crate) version: i64,
}

/// A release and where its content begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct ReleaseRef {
    pub(crate) id: ReleaseId,
    pub(crate) manifest: Digest,
}

/// A release and its percent of the traffic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Weighted {
    pub(crate) release: ReleaseRef,
    pub(crate) weight: u8,
}

/// How far a rolling switch has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Rolling {
    /// The edges that serve the last release.
    pub(crate) rolled: Vec<String>,
    /// The edges that serve the first; none for all that are not rolled.
    pub(crate) waiting: Vec<String>,
}

impl Rolling {
    /// An edge serves the last release.
    fn switched(&self, edge: &str) -> bool {
        let names = |edges: &[String]| edges.iter().any(|id| id == edge);
        // One that nobody counted joined meanwhile, and the first edges have confirmed the release.
        names(&self.rolled) || (!self.waiting.is_empty() && !names(&self.waiting))
    }
}

/// What a host name serves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Route {
    pub(crate) host: String,
    pub(crate) version: Version,
    /// Oldest first; empty when the route was taken away.
    pub(crate) releases: Vec<Weighted>,
    pub(crate) assets_of: Vec<ReleaseRef>,
    /// `Some` while rolling: who serves which release alone.
    pub(crate) rolling: Option<Rolling>,
    pub(crate) noindex: bool,
    pub(crate) generation: i32,
    /// It may end while nobody can tell this edge.
    pub(crate) preview: bool,
}

/// What is known of a route. Of one version it may be told later that it is of a preview, by an
/// orchestrator of a newer build than the one before: that is more, and greater.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Known {
    pub(crate) version: Version,
    pub(crate) preview: bool,
}

/// Why a route of the orchestrator cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the route of {host:?} has no valid {field}")]
pub(crate) struct Malformed {
    host: String,
    field: &'static str,
}

impl Route {
    /// Reads what the orchestrator sent.
    pub(crate) fn read(route: pb::Route) -> Result<Self, Malformed> {
        let malformed = |field| Malformed {
            host: route.host.clone(),
            field,
        };
        let lower = !route.host.bytes().any(|b| b.is_ascii_uppercase());
        if route.host.is_empty() || !lower {
            return Err(malformed("host"));
        }
        let reference = |reference: &pb::ReleaseRef| {
            Some(ReleaseRef {
                id: reference.release_id.parse().ok()?,
                manifest: reference.manifest_digest.parse().ok()?,
            })
        };
        let weighted = |weighted: &pb::WeightedRelease| {
            Some(Weighted {
                release: reference(weighted.release.as_ref()?)?,
                weight: u8::try_from(weighted.weight).ok().filter(|w| *w <= 100)?,
            })
        };
        let releases: Option<Vec<_>> = route.releases.iter().map(weighted).collect();
        let assets_of: Option<Vec<_>> = route.assets_of.iter().map(reference).collect();
        Ok(Self {
            releases: releases.ok_or_else(|| malformed("releases"))?,
            assets_of: assets_of.ok_or_else(|| malformed("assets_of"))?,
            version: Version {
                epoch: route.epoch,
                version: route.version,
            },
            rolling: route.rolling.then_some(Rolling {
                rolled: route.rolled_edges,
                waiting: route.waiting_edges,
            }),
            noindex: route.noindex,
            generation: route.generation,
            preview: route.preview,
            host: route.host,
        })
    }

    /// As it is kept on disk.
    pub(crate) fn write(&self) -> pb::Route {
        let reference = |r: &ReleaseRef| pb::ReleaseRef {
            release_id: r.id.to_string(),
            manifest_digest: r.manifest.to_string(),
        };
        let edges = |of: fn(&Rolling) -> &Vec<String>| self.rolling.as_ref().map(of).cloned();
        pb::Route {
            host: self.host.clone(),
            epoch: self.version.epoch,
            version: self.version.version,
            releases: self
                .releases
                .iter()
                .map(|w| pb::WeightedRelease {
                    release: Some(reference(&w.release)),
                    weight: i32::from(w.weight),
                })
                .collect(),
            assets_of: self.assets_of.iter().map(reference).collect(),
            rolling: self.rolling.is_some(),
            rolled_edges: edges(|rolling| &rolling.rolled).unwrap_or_default(),
            waiting_edges: edges(|rolling| &rolling.waiting).unwrap_or_default(),
            noindex: self.noindex,
            generation: self.generation,
            preview: self.preview,
            ..pb::Route::default()
        }
    }

    /// How much is known of it.
    pub(crate) fn known(&self) -> Known {
        Known {
            version: self.version,
            preview: self.preview,
        }
    }

    /// The releases without which this edge cannot serve it: those that get its traffic. A release
    /// without a share must not keep a rollback from being applied.
    pub(crate) fn needed(&self, edge: &str) -> Vec<ReleaseRef> {
        match &self.rolling {
            Some(rolling) => {
                let chosen = if rolling.switched(edge) {
                    self.releases.last()
                } else {
                    self.releases.first()
                };
                chosen.map(|w| w.release).into_iter().collect()
            }
            None => self
                .releases
                .iter()
                .filter(|w| w.weight > 0)
                .map(|w| w.release)
                .collect(),
        }
    }

    /// The releases without which this edge does not say that it holds it. While rolling also the last
    /// one: a visitor may come who got it from another edge, and is to keep it.
    pub(crate) fn awaited(&self, edge: &str) -> Vec<ReleaseRef> {
        let mut awaited = self.needed(edge);
        let last = self.releases.last().map(|w| w.release);
        let last = last.filter(|last| self.rolling.is_some() && !awaited.contains(last));
        awaited.extend(last);
        awaited
    }

    /// All releases that it names, most urgent first.
    pub(crate) fn named(&self) -> impl Iterator<Item = ReleaseRef> {
        self.releases
            .iter()
            .map(|w| w.release)
            .chain(self.assets_of.iter().copied())
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A host with one release, which has all the traffic.
    pub(crate) fn route_of(host: &str, release: ReleaseRef) -> Route {
        let sent = route(vec![pb::WeightedRelease {
            release: Some(pb::ReleaseRef {
                release_id: release.id.to_string(),
                manifest_digest: release.manifest.to_string(),
            }),
            weight: 100,
        }]);
        Route {
            host: host.to_owned(),
            ..Route::read(sent).unwrap()
        }
    }

    fn weighted(id: &str, weight: i32) -> pb::WeightedRelease {
        pb::WeightedRelease {
            release: Some(pb::ReleaseRef {
                release_id: id.to_owned(),
                manifest_digest: "ab".repeat(32),
            }),
            weight,
        }
    }

    fn route(releases: Vec<pb::WeightedRelease>) -> pb::Route {
        pb::Route {
            host: "docs.localhost".to_owned(),
            epoch: 1,
            version: 2,
            releases,
            generation: 3,
            noindex: true,
            preview: true,
            ..pb::Route::default()
        }
    }

    #[test]
    fn a_route_reads_back_as_it_was_written() {
        let (a, b) = (ReleaseId::new().to_string(), ReleaseId::new().to_string());
        let mut sent = route(vec![weighted(&a, 90), weighted(&b, 10)]);
        sent.rolling = true;
        sent.rolled_edges = vec!["edge-1".to_owned()];
        sent.waiting_edges = vec!["edge-2".to_owned()];
        sent.assets_of = vec![weighted(&a, 0).release.unwrap()];
        let read = Route::read(sent.clone()).unwrap();
        assert_eq!(read.write(), sent);
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        let id = ReleaseId::new().to_string();
        let field = |route| Route::read(route).unwrap_err().field;
        assert_eq!(field(route(vec![weighted("rel_x", 100)])), "releases");
        assert_eq!(field(route(vec![weighted(&id, 101)])), "releases");
        assert_eq!(field(route(vec![weighted(&id, -1)])), "releases");
        let mut upper = route(vec![]);
        upper.host = "Docs.localhost".to_owned();
        assert_eq!(field(upper), "host");
    }

    #[test]
    fn only_releases_with_traffic_here_are_needed() {
        let ids = [ReleaseId::new(), ReleaseId::new()];
        let texts = ids.map(|id| id.to_string());
        let owned = |edges: &[&str]| edges.iter().map(ToString::to_string).collect();
        let read = |rolling: Option<[&[&str]; 2]>, weights: [i32; 2]| {
            let mut sent = route(vec![
                weighted(&texts[0], weights[0]),
                weighted(&texts[1], weights[1]),
            ]);
            sent.rolling = rolling.is_some();
            let [rolled, waiting] = rolling.unwrap_or_default();
            (sent.rolled_edges, sent.waiting_edges) = (owned(rolled), owned(waiting));
            Route::read(sent).unwrap()
        };
        let all = |refs: Vec<ReleaseRef>| refs.iter().map(|r| r.id).collect::<Vec<_>>();
        let needed = |rolling: Option<[&[&str]; 2]>, weights: [i32; 2]| {
            all(read(rolling, weights).needed("edge-1"))
        };
        assert_eq!(needed(None, [90, 10]), ids);
        assert_eq!(needed(None, [100, 0]), [ids[0]]);
        assert_eq!(needed(Some([&["edge-2"], &[]]), [100, 0]), [ids[0]]);
        assert_eq!(needed(Some([&["edge-1"], &[]]), [100, 0]), [ids[1]]);
        assert_eq!(needed(Some([&["edge-2"], &["edge-1"]]), [100, 0]), [ids[0]]);
        // It joined after the others were counted.
        assert_eq!(needed(Some([&["edge-2"], &["edge-3"]]), [100, 0]), [ids[1]]);
        // Who saw the last one elsewhere may come before it has traffic here.
        let awaited = |rolling: Option<[&[&str]; 2]>, weights: [i32; 2]| {
            all(read(rolling, weights).awaited("edge-1"))
        };
        assert_eq!(awaited(None, [100, 0]), [ids[0]]);
        assert_eq!(awaited(None, [0, 100]), [ids[1]]);
        assert_eq!(awaited(Some([&[], &[]]), [100, 0]), ids);
        assert_eq!(awaited(Some([&["edge-1"], &[]]), [100, 0]), [ids[1]]);
    }
}
