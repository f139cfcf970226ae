//! A world in which no edge is ever set aside: what waits for a frozen one stays where it is.

use candlefish_proto::deploy as pb;

use crate::{
    api::Api,
    edge::Edge,
    gateway::Gateway,
    previews::allow,
    sandbox::{Orchestrator, SITE, Sandbox},
    stage::Stage,
    steps::lost,
};

const PATIENT: [(&str, &str); 2] = [
    ("CANDLEFISH_EDGE_PATIENCE_MS", "600000"),
    ("CANDLEFISH_EDGE_PATIENCE_HURRIED_MS", "600000"),
];

/// One orchestrator, one edge, and nothing deployed.
pub(crate) struct World {
    pub(crate) sandbox: Sandbox,
    _orchestrator: Orchestrator,
    pub(crate) edge: Edge,
    pub(crate) api: Api,
}

impl World {
    pub(crate) async fn new() -> Self {
        Self::with(&[]).await
    }

    /// With settings besides those that make it patient.
    pub(crate) async fn with(settings: &[(&'static str, &str)]) -> Self {
        let settings = [&PATIENT[..], settings].concat();
        let (sandbox, orchestrator, edge, api) = Sandbox::started_with(&settings).await;
        Self {
            sandbox,
            _orchestrator: orchestrator,
            edge,
            api,
        }
    }

    /// The same with a gateway that tells of pull requests, which get previews.
    pub(crate) async fn of_pulls() -> (Self, Gateway) {
        let stage = Box::pin(Stage::with(&PATIENT)).await;
        allow(&stage.api, pb::preview_rule::From::Repository).await;
        let world = Self {
            sandbox: stage.sandbox,
            _orchestrator: stage.orchestrator,
            edge: stage.edge,
            api: stage.api,
        };
        (world, stage.gateway)
    }

    /// What is deployed from now on goes by this policy.
    pub(crate) async fn replace_policy(&self, environment: &str, policy: pb::Policy) {
        let request = self.api.request(pb::UpdateEnvironmentRequest {
            site: SITE.to_owned(),
            environment: environment.to_owned(),
            policy: Some(policy),
            ..pb::UpdateEnvironmentRequest::default()
        });
        self.api.sites().update_environment(request).await.unwrap();
    }

    /// Stops the line of the site; answers the stop.
    pub(crate) async fn stop(&self, pauses: bool) -> String {
        let stop = crate::stops::set(&self.sandbox, &self.api, SITE, pauses).await;
        stop.unwrap().id
    }

    /// Waits until the candidates of these settle, and takes so many workers from each that the next
    /// one is not risked.
    pub(crate) async fn quarantine(&self, ids: &[&str]) {
        for id in ids {
            self.api.wait_in(id, pb::step::Kind::VerifyCandidate).await;
        }
        self.sandbox.act(&lost("verify_candidate", 6)).await;
    }
}
