//! What turns that share a transaction know of edges, releases and environments: whoever asks first asks
//! for all of them.
//!
//! None of it changes while their lanes are locked, but for edges, which may report in the middle of a lone
//! turn as well: the report wakes the step again.

use std::collections::{HashMap, HashSet};

use candlefish_ids::{DeploymentId, EnvironmentId, ReleaseId};

use super::Shared;
use crate::{
    ctx::Tx,
    deployment::Deployment,
    edge::{
        self,
        store::{Follower, Following},
    },
    lane::{self, store::LiveRelease},
    route::{self, Assets, Written},
    site::host,
    step::edges::written,
};

/// What was read for all.
#[derive(Debug, Default)]
pub(super) struct Known {
    /// Of the deployments that share.
    pub(super) lanes: Vec<Lane>,
    releases: HashSet<ReleaseId>,
    following: Option<Following>,
    live: Option<HashMap<EnvironmentId, LiveRelease>>,
    pub(super) own_hosts: Option<HashMap<EnvironmentId, Vec<String>>>,
    /// What their routes serve the assets of, as they were.
    assets: Option<HashMap<EnvironmentId, Vec<Assets>>>,
    /// Those that there are of the releases that were asked for.
    manifests: HashMap<ReleaseId, Assets>,
    asked: HashSet<ReleaseId>,
}

/// Where a deployment goes.
#[derive(Debug)]
pub(super) struct Lane {
    pub(super) deployment_id: DeploymentId,
    pub(super) environment_id: EnvironmentId,
    pub(super) site: String,
    pub(super) environment: String,
}

impl Known {
    pub(super) fn of(deployments: &[&Deployment]) -> Self {
        let releases = deployments.iter().flat_map(|one| {
            let before = [one.previous_release_id, one.leaves_release_id];
            before.into_iter().flatten().chain([one.release_id])
        });
        let lanes = deployments.iter().map(|one| Lane {
            deployment_id: one.id,
            environment_id: one.environment_id,
            site: one.site.clone(),
            environment: one.environment.clone(),
        });
        Self {
            lanes: lanes.collect(),
            releases: releases.collect(),
            ..Self::default()
        }
    }

    fn environments(&self) -> Vec<EnvironmentId> {
        self.lanes.iter().map(|one| one.environment_id).collect()
    }
}

impl Shared {
    /// The hosts whose routes any step wrote until now. One that is written from now on no edge has.
    fn written_hosts(&self) -> Vec<String> {
        let begun = self.plans.values().flat_map(|plan| &plan.begun);
        let hosts: HashSet<String> = begun.flat_map(written).map(|one| one.host).collect();
        hosts.into_iter().collect()
    }
}

/// How far every edge follows, by id.
pub(in crate::step) async fn followers(
    tx: &mut Tx,
    deployment: &Deployment,
    routes: &[Written],
) -> Result<Vec<Follower>, sqlx::Error> {
    let (now, release) = (tx.now(), deployment.release_id);
    let Some(shared) = tx.shared_of(deployment.id) else {
        return edge::store::list_followers(tx, now, routes, release).await;
    };
    if let Some(following) = &shared.known.following {
        return Ok(following.followers(routes, release));
    }
    let hosts = shared.written_hosts();
    let releases: Vec<ReleaseId> = shared.known.releases.iter().copied().collect();
    let following = edge::store::list_following(tx, now, &hosts, &releases).await?;
    let followers = following.followers(routes, release);
    if let Some(shared) = tx.shared_of(deployment.id) {
        shared.known.following = Some(following);
    }
    Ok(followers)
}

/// Edges are not as they were read.
pub(in crate::step) fn forget_followers(tx: &mut Tx, deployment: DeploymentId) {
    if let Some(shared) = tx.shared_of(deployment) {
        shared.known.following = None;
    }
}

/// The live release of the deployment's environment; none before the first.
pub(in crate::step) async fn find_live(
    tx: &mut Tx,
    deployment: &Deployment,
) -> Result<Option<LiveRelease>, sqlx::Error> {
    let environment = deployment.environment_id;
    let Some(shared) = tx.shared_of(deployment.id) else {
        return lane::store::find_live(tx, environment).await;
    };
    if let Some(live) = &shared.known.live {
        return Ok(live.get(&environment).cloned());
    }
    let environments = shared.known.environments();
    let live = lane::store::list_live(tx, &environments).await?;
    let found = live.get(&environment).cloned();
    if let Some(shared) = tx.shared_of(deployment.id) {
        let releases = live.values().map(|one| one.release_id);
        shared.known.releases.extend(releases);
        shared.known.live = Some(live);
    }
    Ok(found)
}

/// All host names that visitors of a deployment's environment come by now, the platform's first.
pub(in crate::step) async fn hosts(
    tx: &mut Tx,
    deployment: &Deployment,
    domain: &str,
) -> Result<Vec<String>, sqlx::Error> {
    let Some(shared) = tx.shared_of(deployment.id) else {
        return route::hosts(tx, deployment, domain).await;
    };
    if shared.known.own_hosts.is_none() {
        let environments = shared.known.environments();
        let own = route::list_own_hosts(tx, &environments).await?;
        if let Some(shared) = tx.shared_of(deployment.id) {
            shared.known.own_hosts = Some(own);
        }
    }
    let known = tx.shared_of(deployment.id);
    let own = known.and_then(|shared| {
        let all = shared.known.own_hosts.as_ref()?;
        all.get(&deployment.environment_id).cloned()
    });
    let (site, environment) = (&deployment.site, &deployment.environment);
    let own = own.unwrap_or_default();
    Ok(host::all_of_environment(site, environment, domain, own))
}

/// The releases whose assets the routes of the deployment's environment serve besides.
pub(in crate::step) async fn assets(
    tx: &mut Tx,
    deployment: &Deployment,
) -> Result<Vec<Assets>, sqlx::Error> {
    let environment = deployment.environment_id;
    let Some(shared) = tx.shared_of(deployment.id) else {
        let mut all = route::store::list_assets(tx, &[environment]).await?;
        return Ok(all.remove(&environment).unwrap_or_default());
    };
    if let Some(all) = &shared.known.assets {
        return Ok(all.get(&environment).cloned().unwrap_or_default());
    }
    let environments = shared.known.environments();
    let all = route::store::list_assets(tx, &environments).await?;
    let found = all.get(&environment).cloned().unwrap_or_default();
    if let Some(shared) = tx.shared_of(deployment.id) {
        shared.known.assets = Some(all);
    }
    Ok(found)
}

/// The manifests of releases, as routes name them: in the order asked, unknown ones left out.
pub(in crate::step) async fn manifests(
    tx: &mut Tx,
    deployment: &Deployment,
    releases: &[ReleaseId],
) -> Result<Vec<Assets>, sqlx::Error> {
    let Some(shared) = tx.shared_of(deployment.id) else {
        return route::store::manifests(tx, releases).await;
    };
    let known = &shared.known;
    if !releases.iter().all(|one| known.asked.contains(one)) {
        let wanted = known.releases.iter().chain(releases).copied();
        let wanted: HashSet<ReleaseId> = wanted.filter(|one| !known.asked.contains(one)).collect();
        let wanted: Vec<ReleaseId> = wanted.into_iter().collect();
        let found = route::store::manifests(tx, &wanted).await?;
        if let Some(shared) = tx.shared_of(deployment.id) {
            shared.known.asked.extend(wanted);
            let found = found.into_iter().map(|one| (one.release, one));
            shared.known.manifests.extend(found);
        }
    }
    let Some(shared) = tx.shared_of(deployment.id) else {
        return Ok(Vec::new());
    };
    let manifest = |release: &ReleaseId| shared.known.manifests.get(release).cloned();
    Ok(releases.iter().filter_map(manifest).collect())
}
