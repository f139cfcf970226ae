//! What can be asked of a deployment is answered in every state, says the same wherever it is asked, and
//! writes nothing.

use candlefish_proto::deploy::{self as pb, blocker, deployment::State};

use crate::{
    api::blockers,
    ground::{Ground, Place},
    sandbox::{SITE, SOON},
    table::{At, stands},
};

/// What every way to ask for a deployment must agree in: its id, its version, its state and what keeps it.
type Gist = (String, i32, State, Vec<blocker::Kind>);

fn gist(one: &pb::Deployment) -> Gist {
    (one.id.clone(), one.version, one.state(), blockers(one))
}

impl Ground {
    /// Get, list, watch, logs and blockers, of what stands there.
    pub(crate) async fn is_read(&self, at: At, place: &Place) {
        let before = self.picture().await;
        let got = gist(&self.world.api.deployment(&place.id).await);
        let (_, _, state, kinds) = &got;
        assert_eq!((*state, &**kinds), stands(at), "get at {at:?}");
        assert_eq!(
            self.listed(place).await,
            Some(got.clone()),
            "list at {at:?}"
        );
        assert_eq!(self.watched(place).await, got, "watch at {at:?}");
        let log = self.world.api.logged(&place.id).await;
        let accepted = log.iter().any(|line| line.starts_with("accepted from "));
        assert!(accepted, "logs at {at:?}: {log:?}");
        assert_eq!(self.kept(place).await, *kinds, "blockers at {at:?}");
        let after = self.picture().await;
        assert_eq!(after, before, "to be asked at {at:?} wrote something");
    }

    /// As the list of its environment has it, if at all.
    async fn listed(&self, place: &Place) -> Option<Gist> {
        let api = &self.world.api;
        let request = api.request(pb::ListDeploymentsRequest {
            site: SITE.to_owned(),
            environment: place.environment.clone(),
            ..pb::ListDeploymentsRequest::default()
        });
        let page = api.deployments().list_deployments(request).await;
        let listed = page.unwrap().into_inner().deployments;
        listed.iter().find(|one| one.id == place.id).map(gist)
    }

    /// What a watcher is told first, who then goes.
    async fn watched(&self, place: &Place) -> Gist {
        let api = &self.world.api;
        let request = api.request(pb::WatchDeploymentRequest {
            id: place.id.clone(),
            after_version: 0,
        });
        let stream = api.deployments().watch_deployment(request).await;
        let mut stream = stream.unwrap().into_inner();
        let told = tokio::time::timeout(SOON, stream.message()).await;
        gist(&told.unwrap().unwrap().unwrap())
    }

    /// What keeps it now, by its ledger.
    async fn kept(&self, place: &Place) -> Vec<blocker::Kind> {
        let ledger = self.world.api.ledger(&place.id, 0, "").await.unwrap();
        let standing = ledger.blockers.iter();
        let standing = standing.filter(|one| one.cleared_at.is_none());
        standing.map(pb::Blocker::kind).collect()
    }
}
