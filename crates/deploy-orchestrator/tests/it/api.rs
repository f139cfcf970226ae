//! The public calls, as the gateway makes them for a person.

use std::{net::SocketAddr, time::Duration};

use candlefish_manifest::Digest;
use candlefish_proto::deploy::{
    self as pb, Deployment, deployment::State, deployment_service_client::DeploymentServiceClient,
    edge_service_client::EdgeServiceClient, queue_service_client::QueueServiceClient,
    release_service_client::ReleaseServiceClient, site_service_client::SiteServiceClient,
    trigger_service_client::TriggerServiceClient,
};
use candlefish_runtime::{
    identity::{Caller, IDENTITY, Kind, Role, Signer},
    listen::REHEARSED,
};
use candlefish_testkit::poll_until;
use tonic::{
    Request, Response, Status,
    transport::{Channel, Uri},
};
use tonic_types::StatusExt as _;

use crate::sandbox::{SITE, SOON};

/// What a refusal or an answer is in a table.
pub(crate) type Answer<T> = Result<T, Status>;

/// Calls as one principal; cheap to clone.
#[derive(Clone)]
pub(crate) struct Api {
    pub(crate) channel: Channel,
    signer: Signer,
    pub(crate) caller: Caller,
    key: Option<String>,
    /// The path that the services are below.
    below: Uri,
}

impl Api {
    pub(crate) fn new(address: SocketAddr, signer: Signer) -> Self {
        let channel = Channel::from_shared(format!("http://{address}"))
            .unwrap()
            .connect_lazy();
        let caller = Caller {
            principal: "erin".to_owned(),
            kind: Kind::Person,
            role: Role::Admin,
            sites: Vec::new(),
            request_id: String::new(),
            issuer: String::new(),
        };
        Self {
            channel,
            signer,
            caller,
            key: None,
            below: Uri::default(),
        }
    }

    /// The same for a principal who sees these sites alone.
    pub(crate) fn seeing(&self, sites: &[&str]) -> Self {
        let mut api = self.clone();
        api.caller.sites = sites.iter().map(|site| (*site).to_owned()).collect();
        api
    }

    /// The same for what CI has: a token that deploys, and may not lift a hold.
    pub(crate) fn deploying(&self) -> Self {
        let mut api = self.clone();
        "ci".clone_into(&mut api.caller.principal);
        api.caller.kind = Kind::Machine;
        api.caller.role = Role::Deployer;
        api
    }

    /// The same with an idempotency key.
    pub(crate) fn keyed(&self, key: &str) -> Self {
        Self {
            key: Some(key.to_owned()),
            ..self.clone()
        }
    }

    /// The same for calls that are only rehearsed.
    pub(crate) fn rehearsing(&self) -> Self {
        Self {
            below: Uri::from_static(REHEARSED),
            ..self.clone()
        }
    }

    pub(crate) fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        let token = self.signer.token("deploy-orchestrator", &self.caller);
        let metadata = request.metadata_mut();
        metadata.insert(IDENTITY, token.unwrap().parse().unwrap());
        if let Some(key) = &self.key {
            metadata.insert("idempotency-key", key.parse().unwrap());
        }
        request
    }

    pub(crate) fn deployments(&self) -> DeploymentServiceClient<Channel> {
        DeploymentServiceClient::with_origin(self.channel.clone(), self.below.clone())
    }

    pub(crate) fn releases(&self) -> ReleaseServiceClient<Channel> {
        ReleaseServiceClient::with_origin(self.channel.clone(), self.below.clone())
    }

    pub(crate) fn sites(&self) -> SiteServiceClient<Channel> {
        SiteServiceClient::with_origin(self.channel.clone(), self.below.clone())
    }

    pub(crate) fn queues(&self) -> QueueServiceClient<Channel> {
        QueueServiceClient::with_origin(self.channel.clone(), self.below.clone())
    }

    /// What became of a commit, by its first digits.
    pub(crate) async fn triggers(&self, commit: &str) -> Answer<Vec<pb::Trigger>> {
        let mut all = Vec::new();
        let mut page_token = String::new();
        loop {
            let request = self.request(pb::ListTriggersRequest {
                commit: commit.to_owned(),
                page_size: 2,
                page_token,
                ..pb::ListTriggersRequest::default()
            });
            let mut client = TriggerServiceClient::new(self.channel.clone());
            let page = client.list_triggers(request).await?.into_inner();
            assert!(page.triggers.len() <= 2);
            all.extend(page.triggers);
            page_token = page.next_page_token;
            if page_token.is_empty() {
                return Ok(all);
            }
        }
    }

    /// What became of a delivery, on one page.
    pub(crate) async fn delivered(&self, id: &str) -> Answer<pb::ListTriggersResponse> {
        let request = self.request(pb::ListTriggersRequest {
            delivery_id: id.to_owned(),
            ..pb::ListTriggersRequest::default()
        });
        let mut client = TriggerServiceClient::new(self.channel.clone());
        Ok(client.list_triggers(request).await?.into_inner())
    }

    pub(crate) async fn create_site(&self, slug: &str) {
        let request = self.request(pb::CreateSiteRequest {
            slug: slug.to_owned(),
            ..pb::CreateSiteRequest::default()
        });
        self.sites().create_site(request).await.unwrap();
    }

    /// An environment of [`SITE`].
    pub(crate) async fn create_environment(&self, slug: &str, policy: pb::Policy) {
        let request = self.request(pb::CreateEnvironmentRequest {
            site: SITE.to_owned(),
            slug: slug.to_owned(),
            policy: Some(policy),
            ..pb::CreateEnvironmentRequest::default()
        });
        self.sites().create_environment(request).await.unwrap();
    }

    pub(crate) async fn environment(&self, slug: &str) -> pb::Environment {
        let request = self.request(pb::GetEnvironmentRequest {
            site: SITE.to_owned(),
            environment: slug.to_owned(),
        });
        let found = self.sites().get_environment(request).await;
        found.unwrap().into_inner()
    }

    pub(crate) async fn lane(&self, slug: &str) -> pb::Lane {
        let request = self.request(pb::GetLaneRequest {
            site: SITE.to_owned(),
            environment: slug.to_owned(),
        });
        self.sites().get_lane(request).await.unwrap().into_inner()
    }

    /// A draft; `commit` counts as one when it has 40 digits.
    pub(crate) async fn create_release(
        &self,
        (manifest, size): (Digest, i32),
        commit: &str,
        ancestors: &[&str],
    ) -> String {
        let is_commit = commit.len() == 40;
        let request = self.request(pb::CreateReleaseRequest {
            site: SITE.to_owned(),
            manifest_digest: manifest.to_string(),
            manifest_size: size,
            commit: if is_commit { commit } else { "" }.to_owned(),
            parents: ancestors
                .iter()
                .take(1)
                .map(|&one| one.to_owned())
                .collect(),
            ancestors: ancestors.iter().map(|&one| one.to_owned()).collect(),
            ..pb::CreateReleaseRequest::default()
        });
        let made = self.releases().create_release(request).await;
        made.unwrap().into_inner().id
    }

    pub(crate) async fn seal(&self, release: &str) -> String {
        let request = self.request(pb::SealReleaseRequest {
            id: release.to_owned(),
        });
        let sealed = self.releases().seal_release(request).await;
        sealed.unwrap().into_inner().id
    }

    pub(crate) async fn wait_for_live_edges(&self, count: usize) {
        poll_until(SOON, "live edges", async || {
            let request = self.request(pb::ListEdgesRequest::default());
            let mut client = EdgeServiceClient::new(self.channel.clone());
            let edges = client.list_edges(request).await;
            let edges = edges
                .map_err(|status| status.to_string())?
                .into_inner()
                .edges;
            let live = |edge: &&pb::Edge| edge.state() == pb::edge::State::Live;
            if edges.iter().filter(live).count() == count {
                Ok(())
            } else {
                Err(format!("{edges:?}"))
            }
        })
        .await;
    }

    pub(crate) async fn create(
        &self,
        environment: &str,
        release: &str,
        strategy: Option<pb::Strategy>,
    ) -> Answer<Response<Deployment>> {
        let request = self.request(pb::CreateDeploymentRequest {
            site: SITE.to_owned(),
            environment: environment.to_owned(),
            release_id: release.to_owned(),
            strategy,
            ..pb::CreateDeploymentRequest::default()
        });
        self.deployments().create_deployment(request).await
    }

    pub(crate) async fn preview(&self, release: &str) -> Answer<Response<Deployment>> {
        let request = self.request(pb::CreateDeploymentRequest {
            site: SITE.to_owned(),
            release_id: release.to_owned(),
            preview: true,
            ..pb::CreateDeploymentRequest::default()
        });
        self.deployments().create_deployment(request).await
    }

    /// Creates a deployment that lifts the hold in the same act.
    pub(crate) async fn create_lifting(
        &self,
        environment: &str,
        release: &str,
    ) -> Answer<Response<Deployment>> {
        let request = self.request(pb::CreateDeploymentRequest {
            site: SITE.to_owned(),
            environment: environment.to_owned(),
            release_id: release.to_owned(),
            lift_hold: "it is over".to_owned(),
            ..pb::CreateDeploymentRequest::default()
        });
        self.deployments().create_deployment(request).await
    }

    /// Creates a deployment by the environment's own strategy; answers its id.
    pub(crate) async fn deploy(&self, environment: &str, release: &str) -> String {
        let made = self.create(environment, release, None).await;
        made.unwrap().into_inner().id
    }

    /// Creates a deployment and waits until its release is live and its lane free.
    pub(crate) async fn deploy_whole(&self, environment: &str, release: &str) -> Deployment {
        let made = self.create(environment, release, Some(recreate())).await;
        let id = made.unwrap().into_inner().id;
        self.wait_for(&id, &[State::Succeeded]).await
    }

    pub(crate) async fn deployment(&self, id: &str) -> Deployment {
        let request = self.request(pb::GetDeploymentRequest { id: id.to_owned() });
        let found = self.deployments().get_deployment(request).await;
        found.unwrap().into_inner()
    }

    /// What a watcher is told after a version, until its stream ends.
    pub(crate) async fn watch(&self, id: &str, after_version: i32) -> Vec<Deployment> {
        let request = self.request(pb::WatchDeploymentRequest {
            id: id.to_owned(),
            after_version,
        });
        let stream = self.deployments().watch_deployment(request).await;
        let mut stream = stream.unwrap().into_inner();
        let mut told = Vec::new();
        let all = async {
            while let Some(one) = stream.message().await.unwrap() {
                told.push(one);
            }
        };
        tokio::time::timeout(SOON, all).await.unwrap();
        told
    }

    /// Waits until the deployment is in one of these states.
    pub(crate) async fn wait_for(&self, id: &str, states: &[State]) -> Deployment {
        self.wait_until(id, &format!("{states:?}"), |one| {
            states.contains(&one.state())
        })
        .await
    }

    /// Waits until something holds of the deployment.
    pub(crate) async fn wait_until(
        &self,
        id: &str,
        what: &str,
        claim: impl Fn(&Deployment) -> bool + Send + Sync,
    ) -> Deployment {
        poll_until(SOON, what, async || {
            let found = self.deployment(id).await;
            if claim(&found) {
                return Ok(found);
            }
            Err(shown(&found))
        })
        .await
    }

    /// Waits until it waits in a step of this kind.
    pub(crate) async fn wait_in(&self, id: &str, kind: pb::step::Kind) -> Deployment {
        self.wait_until(id, kind.as_str_name(), |one| {
            let here = |step: &pb::Step| {
                step.kind() == kind
                    && step.state() == pb::step::State::Ready
                    && step.started_at.is_some()
            };
            one.steps.iter().any(here)
        })
        .await
    }

    /// Asks without waiting what the log says.
    pub(crate) async fn logged(&self, id: &str) -> Vec<String> {
        let request = self.request(pb::ListLogsRequest {
            id: id.to_owned(),
            ..pb::ListLogsRequest::default()
        });
        let lines = self.deployments().list_logs(request).await.unwrap();
        let lines = lines.into_inner().lines;
        lines.into_iter().map(|line| line.message).collect()
    }

    /// A page of what kept and keeps it, with the sums by cause on the first.
    pub(crate) async fn ledger(
        &self,
        id: &str,
        page_size: i32,
        page_token: &str,
    ) -> Answer<pb::ListBlockersResponse> {
        let request = self.request(pb::ListBlockersRequest {
            id: id.to_owned(),
            page_size,
            page_token: page_token.to_owned(),
        });
        let page = self.deployments().list_blockers(request).await?;
        Ok(page.into_inner())
    }

    pub(crate) async fn edges(&self) -> Vec<pb::Edge> {
        let request = self.request(pb::ListEdgesRequest::default());
        let mut client = EdgeServiceClient::new(self.channel.clone());
        client.list_edges(request).await.unwrap().into_inner().edges
    }

    pub(crate) async fn cancel(&self, id: &str) -> Answer<Response<Deployment>> {
        self.cancel_because(id, "").await
    }

    pub(crate) async fn cancel_because(
        &self,
        id: &str,
        reason: &str,
    ) -> Answer<Response<Deployment>> {
        let request = self.request(pb::CancelDeploymentRequest {
            id: id.to_owned(),
            reason: reason.to_owned(),
        });
        self.deployments().cancel_deployment(request).await
    }

    pub(crate) async fn abort(&self, id: &str) -> Answer<Response<Deployment>> {
        let request = self.request(pb::AbortDeploymentRequest {
            id: id.to_owned(),
            reason: "it hurts".to_owned(),
        });
        self.deployments().abort_deployment(request).await
    }

    pub(crate) async fn retry(&self, id: &str) -> Answer<Response<Deployment>> {
        let request = self.request(pb::RetryDeploymentRequest {
            id: id.to_owned(),
            reason: String::new(),
        });
        self.deployments().retry_deployment(request).await
    }

    pub(crate) async fn advance(&self, id: &str, step_ord: i32) -> Answer<Response<Deployment>> {
        let request = self.request(pb::AdvanceDeploymentRequest {
            id: id.to_owned(),
            step_ord,
            reason: String::new(),
        });
        self.deployments().advance_deployment(request).await
    }

    pub(crate) async fn pin(&self, id: &str, unpin: bool) -> Answer<Response<Deployment>> {
        let request = self.request(pb::PinDeploymentRequest {
            id: id.to_owned(),
            reason: "it fixes the login".to_owned(),
            unpin,
        });
        self.deployments().pin_deployment(request).await
    }

    pub(crate) async fn roll_back(&self, environment: &str) -> Answer<Response<pb::Rollback>> {
        self.roll_back_because(environment, "").await
    }

    pub(crate) async fn roll_back_because(
        &self,
        environment: &str,
        reason: &str,
    ) -> Answer<Response<pb::Rollback>> {
        let request = self.request(pb::CreateRollbackRequest {
            site: SITE.to_owned(),
            environment: environment.to_owned(),
            reason: reason.to_owned(),
            ..pb::CreateRollbackRequest::default()
        });
        self.deployments().create_rollback(request).await
    }

    pub(crate) async fn hold(&self, environment: &str) -> Answer<Response<pb::Environment>> {
        let request = self.request(pb::SetHoldRequest {
            site: SITE.to_owned(),
            environment: environment.to_owned(),
            reason: "an incident".to_owned(),
        });
        self.sites().set_hold(request).await
    }

    pub(crate) async fn lift(&self, environment: &str) -> Answer<Response<pb::Environment>> {
        let request = self.request(pb::LiftHoldRequest {
            site: SITE.to_owned(),
            environment: environment.to_owned(),
            reason: "it is over".to_owned(),
        });
        self.sites().lift_hold(request).await
    }

    /// Ends a preview.
    pub(crate) async fn close(&self, environment: &str) -> Answer<Response<pb::Environment>> {
        let request = self.request(pb::CloseEnvironmentRequest {
            site: SITE.to_owned(),
            environment: environment.to_owned(),
            reason: "given up".to_owned(),
        });
        self.sites().close_environment(request).await
    }

    /// Puts what waits for a person back to work.
    pub(crate) async fn replay(&self, item: &str) -> Answer<Response<pb::QueueItem>> {
        let request = self.request(pb::ReplayQueueItemRequest {
            id: item.to_owned(),
            reason: "the node was bad".to_owned(),
        });
        self.queues().replay_queue_item(request).await
    }

    /// Gives it up.
    pub(crate) async fn discard(&self, item: &str) -> Answer<Response<pb::QueueItem>> {
        let request = self.request(pb::DiscardQueueItemRequest {
            id: item.to_owned(),
            reason: "hopeless".to_owned(),
        });
        self.queues().discard_queue_item(request).await
    }

    pub(crate) async fn ban(&self, release: &str) -> Answer<Response<pb::Release>> {
        let request = self.request(pb::BanReleaseRequest {
            id: release.to_owned(),
            reason: "it leaks".to_owned(),
        });
        self.releases().ban_release(request).await
    }

    /// Without an environment it lifts the ban.
    pub(crate) async fn clear(
        &self,
        environment: &str,
        release: &str,
    ) -> Answer<Response<pb::Release>> {
        let request = self.request(pb::ClearReleaseRequest {
            id: release.to_owned(),
            environment: environment.to_owned(),
            reason: "it was the network".to_owned(),
        });
        self.releases().clear_release(request).await
    }
}

/// The stable word of a refusal.
pub(crate) fn reason(status: &Status) -> String {
    let info = status.get_details_error_info();
    info.map_or_else(|| format!("no reason: {status}"), |info| info.reason)
}

/// The fields that a refusal names.
pub(crate) fn fields(status: &Status) -> Vec<String> {
    let named = status.get_details_bad_request();
    let violations = named.into_iter().flat_map(|named| named.field_violations);
    violations.map(|one| one.field).collect()
}

/// The kinds of a deployment's standing blockers.
pub(crate) fn blockers(deployment: &Deployment) -> Vec<pb::blocker::Kind> {
    deployment.blockers.iter().map(pb::Blocker::kind).collect()
}

/// One line for a failed wait.
pub(crate) fn shown(one: &Deployment) -> String {
    let step = |step: &pb::Step| {
        format!(
            "{} {} {:?}",
            step.kind().as_str_name(),
            step.state().as_str_name(),
            step.message
        )
    };
    let steps: Vec<String> = one.steps.iter().map(step).collect();
    let state = one.state().as_str_name();
    format!(
        "{} {state} {:?}: {steps:#?} {:?}",
        one.id, one.message, one.blockers
    )
}

pub(crate) fn millis(count: u64) -> prost_types::Duration {
    Duration::from_millis(count).try_into().unwrap()
}

/// No bake, no analysis.
pub(crate) fn recreate() -> pb::Strategy {
    pb::Strategy {
        kind: Some(pb::strategy::Kind::Recreate(pb::Recreate {})),
    }
}

/// Bakes for an hour.
pub(crate) fn baking() -> pb::Strategy {
    pb::Strategy {
        kind: Some(pb::strategy::Kind::BlueGreen(pb::BlueGreen {
            bake: Some(millis(3_600_000)),
        })),
    }
}

/// Watches 10 % for an hour.
pub(crate) fn canary() -> pb::Strategy {
    pb::Strategy {
        kind: Some(pb::strategy::Kind::Canary(pb::Canary {
            weights: vec![10],
            interval: Some(millis(3_600_000)),
            bake: None,
        })),
    }
}

/// Quick: no settling, no bake; each deployment has its turn.
pub(crate) fn policy() -> pb::Policy {
    pb::Policy {
        order: pb::policy::Order::Queue.into(),
        strategy: Some(recreate()),
        settle: Some(millis(0)),
        ..pb::Policy::default()
    }
}
