//! What is wrong with the routes of an environment; pure.

use std::fmt;

use candlefish_ids::EnvironmentId;

use crate::{
    route::{Assets, Spec, Weighted},
    site::host,
};

/// An environment as a round finds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) environment_id: EnvironmentId,
    pub(super) site: String,
    pub(super) environment: String,
    /// A deployment acts on its lane: its routes are that one's business.
    pub(super) acts: bool,
    /// The live release alone; none where nothing is live.
    pub(super) live: Option<Weighted>,
    /// The release that the live one came after, while its content is kept.
    pub(super) left: Option<Assets>,
    /// Its own host names, besides the one that the platform gives it.
    pub(super) own_hosts: Vec<String>,
    pub(super) routes: Vec<Route>,
}

/// A route of an environment as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Route {
    pub(super) host: String,
    pub(super) epoch: i32,
    pub(super) version: i64,
    pub(super) releases: Vec<Weighted>,
    pub(super) assets_of: Vec<Assets>,
    /// Some edges are to serve otherwise than others.
    pub(super) rolls: bool,
    pub(super) noindex: bool,
    /// Live edges that have not applied it.
    pub(super) behind: Vec<String>,
}

/// A route that is not what it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Drift {
    pub(super) host: String,
    pub(super) why: Why,
}

/// How a route is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Why {
    Missing,
    ServesOther,
    /// It serves, and nothing is live.
    Stray,
    Rolls,
    Indexing,
    AssetsLost,
}

impl fmt::Display for Drift {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self.why {
            Why::Missing => "has no route",
            Why::ServesOther => "serves something else",
            Why::Stray => "serves, and should not",
            Why::Rolls => "rolls without a deployment",
            Why::Indexing => "tells search engines the wrong thing",
            Why::AssetsLost => "lost the assets of the release before",
        };
        write!(f, "{} {what}", self.host)
    }
}

impl Found {
    /// Search engines see production alone.
    pub(super) fn noindex(&self) -> bool {
        self.environment != host::PRODUCTION
    }

    /// What each of its hosts is to serve.
    pub(super) fn spec(&self) -> Spec {
        Spec {
            releases: self.live.iter().cloned().collect(),
            assets_of: self.assets(),
            ..Spec::default()
        }
    }

    /// What its routes say: which release an undo left, they alone know. Where they say nothing, what
    /// the live release came after.
    fn assets(&self) -> Vec<Assets> {
        let mut said = self.routes.iter().map(|route| &route.assets_of);
        said.find(|assets| !assets.is_empty())
            .cloned()
            .unwrap_or_else(|| self.left.iter().cloned().collect())
    }

    /// The host names that are to serve what is live.
    fn hosts(&self, domain: &str) -> Vec<String> {
        if self.live.is_none() {
            return Vec::new();
        }
        let own = self.own_hosts.iter().cloned();
        host::all_of_environment(&self.site, &self.environment, domain, own)
    }
}

/// What is wrong. A host that is not the environment's is left alone where something is live: its name
/// follows from the configuration, and another replica's may differ while it is changed.
pub(super) fn plan(one: &Found, domain: &str) -> Vec<Drift> {
    let (hosts, spec) = (one.hosts(domain), one.spec());
    let wrong = hosts.iter().filter_map(|host| {
        let route = one.routes.iter().find(|route| route.host == *host);
        Some((host, why(route, &spec, one.noindex())?))
    });
    let stray = one.routes.iter().filter_map(|route| {
        let is_stray = one.live.is_none() && !route.releases.is_empty();
        is_stray.then_some((&route.host, Why::Stray))
    });
    wrong
        .chain(stray)
        .map(|(host, why)| Drift {
            host: host.clone(),
            why,
        })
        .collect()
}

fn why(route: Option<&Route>, spec: &Spec, noindex: bool) -> Option<Why> {
    let Some(route) = route else {
        return Some(Why::Missing);
    };
    if route.releases != spec.releases {
        Some(Why::ServesOther)
    } else if route.rolls {
        Some(Why::Rolls)
    } else if route.noindex != noindex {
        Some(Why::Indexing)
    } else if route.assets_of.is_empty() && !spec.assets_of.is_empty() {
        Some(Why::AssetsLost)
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use candlefish_ids::ReleaseId;

    use super::*;

    fn weighted(release: ReleaseId) -> Weighted {
        Weighted {
            release,
            manifest: "m".to_owned(),
            weight: 100,
        }
    }

    fn assets(release: ReleaseId) -> Assets {
        Assets {
            release,
            manifest: "m".to_owned(),
        }
    }

    fn route(host: &str, release: ReleaseId) -> Route {
        Route {
            host: host.to_owned(),
            epoch: 1,
            version: 1,
            releases: vec![weighted(release)],
            assets_of: Vec::new(),
            rolls: false,
            noindex: false,
            behind: Vec::new(),
        }
    }

    fn production(live: Option<ReleaseId>, routes: Vec<Route>) -> Found {
        Found {
            environment_id: EnvironmentId::new(),
            site: "docs".to_owned(),
            environment: "production".to_owned(),
            acts: false,
            live: live.map(weighted),
            left: None,
            own_hosts: Vec::new(),
            routes,
        }
    }

    fn said(one: &Found) -> Vec<String> {
        let drift = plan(one, "localhost");
        drift.iter().map(Drift::to_string).collect()
    }

    #[test]
    fn every_host_must_serve_the_live_release_alone() {
        let (live, other) = (ReleaseId::new(), ReleaseId::new());
        let routes = vec![
            route("docs.localhost", live),
            route("old.example.org", other),
        ];
        let mut one = production(Some(live), routes);
        one.own_hosts = vec!["docs.example.org".to_owned(), "old.example.org".to_owned()];
        assert_eq!(
            said(&one),
            [
                "docs.example.org has no route",
                "old.example.org serves something else"
            ]
        );
    }

    #[test]
    fn where_nothing_is_live_nothing_serves() {
        let release = ReleaseId::new();
        let empty = Route {
            releases: Vec::new(),
            ..route("gone.example.org", release)
        };
        let routes = vec![route("docs.localhost", release), empty];
        assert_eq!(
            said(&production(None, routes.clone())),
            ["docs.localhost serves, and should not"]
        );
        assert_eq!(said(&production(Some(release), routes)), [""; 0]);
    }

    #[test]
    fn a_host_of_another_configuration_is_left_alone() {
        let live = ReleaseId::new();
        let routes = vec![route("docs.localhost", live), route("docs.elsewhere", live)];
        assert_eq!(said(&production(Some(live), routes)), [""; 0]);
    }

    #[test]
    fn all_that_follows_from_the_environment_is_compared() {
        let live = ReleaseId::new();
        let good = route("docs.localhost", live);
        let with = |change: fn(&mut Route)| {
            let mut route = good.clone();
            change(&mut route);
            said(&production(Some(live), vec![route]))
        };
        assert_eq!(with(|_| {}), [""; 0]);
        assert_eq!(
            with(|route| route.rolls = true),
            ["docs.localhost rolls without a deployment"]
        );
        assert_eq!(
            with(|route| route.noindex = true),
            ["docs.localhost tells search engines the wrong thing"]
        );
    }

    #[test]
    fn lost_assets_are_those_of_the_release_before_unless_a_route_says_more() {
        let (live, before, undone) = (ReleaseId::new(), ReleaseId::new(), ReleaseId::new());
        let mut one = production(Some(live), vec![route("docs.localhost", live)]);
        assert_eq!(said(&one), [""; 0]);
        one.left = Some(assets(before));
        assert_eq!(
            said(&one),
            ["docs.localhost lost the assets of the release before"]
        );
        assert_eq!(one.spec().assets_of, [assets(before)]);
        if let Some(route) = one.routes.first_mut() {
            route.assets_of = vec![assets(undone)];
        }
        assert_eq!(said(&one), [""; 0]);
        assert_eq!(one.spec().assets_of, [assets(undone)]);
    }
}
