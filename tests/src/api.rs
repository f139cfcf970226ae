//! The platform's API as a gRPC client of the gateway sees it.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use candlefish_proto::deploy::{
    self as pb, deployment_service_client::DeploymentServiceClient,
    edge_service_client::EdgeServiceClient, release_service_client::ReleaseServiceClient,
    site_service_client::SiteServiceClient, trigger_service_client::TriggerServiceClient,
};
use candlefish_proto::event::event_service_client::EventServiceClient;
use tonic::{
    Request, Status,
    metadata::{Ascii, MetadataValue},
    service::{Interceptor, interceptor::InterceptedService},
    transport::{Channel, Endpoint},
};

use crate::{Content, PATIENCE};

type Authorized = InterceptedService<Channel, Bearer>;

/// Adds the token to every call.
#[derive(Debug, Clone)]
pub struct Bearer(MetadataValue<Ascii>);

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        request
            .metadata_mut()
            .insert("authorization", self.0.clone());
        Ok(request)
    }
}

/// One caller of the API.
#[derive(Debug, Clone)]
pub struct Api {
    channel: Channel,
    /// For streams that last as long as who listens.
    long: Channel,
    bearer: Bearer,
    base: String,
    http: reqwest::Client,
}

/// A commit and what it descends from.
#[derive(Debug, Clone, Default)]
pub struct Commit {
    pub id: String,
    /// Nearest first.
    pub ancestors: Vec<String>,
}

impl Commit {
    /// A chain of `count` commits, oldest first, of a history named by `seed`.
    pub fn chain(seed: u32, count: u32) -> Vec<Self> {
        let id = |place: u32| format!("{seed:08x}{place:032x}");
        (1..=count)
            .map(|place| Self {
                id: id(place),
                ancestors: (1..place).rev().map(id).collect(),
            })
            .collect()
    }
}

impl Api {
    pub fn connect(base: &str, token: &str) -> Result<Self> {
        let endpoint = Endpoint::from_shared(base.to_owned())?;
        Ok(Self {
            channel: endpoint
                .clone()
                .timeout(Duration::from_secs(30))
                .connect_lazy(),
            long: endpoint.connect_lazy(),
            bearer: Bearer(format!("Bearer {token}").parse()?),
            base: base.to_owned(),
            http: reqwest::Client::new(),
        })
    }

    pub fn sites(&self) -> SiteServiceClient<Authorized> {
        SiteServiceClient::with_interceptor(self.channel.clone(), self.bearer.clone())
    }

    pub fn releases(&self) -> ReleaseServiceClient<Authorized> {
        ReleaseServiceClient::with_interceptor(self.channel.clone(), self.bearer.clone())
    }

    pub fn deployments(&self) -> DeploymentServiceClient<Authorized> {
        DeploymentServiceClient::with_interceptor(self.channel.clone(), self.bearer.clone())
    }

    /// What became of a commit, newest first.
    pub async fn triggers(&self, commit: &str) -> Result<Vec<pb::Trigger>, Status> {
        let mut client =
            TriggerServiceClient::with_interceptor(self.channel.clone(), self.bearer.clone());
        let request = pb::ListTriggersRequest {
            commit: commit.to_owned(),
            ..Default::default()
        };
        Ok(client.list_triggers(request).await?.into_inner().triggers)
    }

    pub fn events(&self) -> EventServiceClient<Authorized> {
        EventServiceClient::with_interceptor(self.long.clone(), self.bearer.clone())
    }

    pub async fn edges(&self) -> Result<Vec<pb::Edge>, Status> {
        let mut client =
            EdgeServiceClient::with_interceptor(self.channel.clone(), self.bearer.clone());
        Ok(client
            .list_edges(pb::ListEdgesRequest {
                page_size: 200,
                ..Default::default()
            })
            .await?
            .into_inner()
            .edges)
    }

    /// Makes a site and its environments with quick defaults: no settling.
    pub async fn create_site(&self, slug: &str, environments: &[&str]) -> Result<(), Status> {
        let request = pb::CreateSiteRequest {
            slug: slug.to_owned(),
            ..Default::default()
        };
        self.sites().create_site(request).await?;
        for environment in environments {
            let request = pb::CreateEnvironmentRequest {
                site: slug.to_owned(),
                slug: (*environment).to_owned(),
                policy: Some(quick_policy()),
                ..Default::default()
            };
            self.sites().create_environment(request).await?;
        }
        Ok(())
    }

    /// Replaces the policy of an environment.
    pub async fn set_policy(
        &self,
        site: &str,
        environment: &str,
        policy: pb::Policy,
    ) -> Result<(), Status> {
        let request = pb::UpdateEnvironmentRequest {
            site: site.to_owned(),
            environment: environment.to_owned(),
            policy: Some(policy),
            pushes: None,
        };
        self.sites().update_environment(request).await?;
        Ok(())
    }

    pub async fn environment(&self, site: &str, slug: &str) -> Result<pb::Environment, Status> {
        let request = pb::GetEnvironmentRequest {
            site: site.to_owned(),
            environment: slug.to_owned(),
        };
        Ok(self.sites().get_environment(request).await?.into_inner())
    }

    /// Begins a release without uploading its content.
    pub async fn draft(
        &self,
        site: &str,
        content: &Content,
        commit: &Commit,
    ) -> Result<pb::Release, Status> {
        let manifest = content.manifest();
        let request = pb::CreateReleaseRequest {
            site: site.to_owned(),
            manifest_digest: manifest.digest().to_string(),
            manifest_size: i32::try_from(manifest.encode().len()).unwrap(),
            commit: commit.id.clone(),
            parents: commit.ancestors.first().cloned().into_iter().collect(),
            ancestors: commit.ancestors.clone(),
            branch: "main".to_owned(),
            message: format!("Commit {}", commit.id),
            author: "Ada Byron".to_owned(),
            author_email: "ada@example.org".to_owned(),
            committed_at: None,
            dirty: false,
        };
        Ok(self.releases().create_release(request).await?.into_inner())
    }

    /// Uploads what is missing of a release and seals it; answers how many blobs were uploaded.
    pub async fn upload(&self, release: &str, content: &Content) -> Result<usize> {
        let mut uploaded = 0;
        loop {
            let request = pb::ListMissingBlobsRequest {
                id: release.to_owned(),
                ..Default::default()
            };
            let missing = self
                .releases()
                .list_missing_blobs(request)
                .await?
                .into_inner();
            if missing.blobs.is_empty() {
                break;
            }
            for blob in &missing.blobs {
                let body = content
                    .blob(&blob.digest)
                    .context("a blob of the content")?;
                self.put(blob, body).await?;
                uploaded += 1;
            }
        }
        let request = pb::SealReleaseRequest {
            id: release.to_owned(),
        };
        self.releases().seal_release(request).await?;
        Ok(uploaded)
    }

    async fn put(&self, blob: &pb::MissingBlob, body: Vec<u8>) -> Result<()> {
        let url = if blob.upload_url.starts_with('/') {
            format!("{}{}", self.base, blob.upload_url)
        } else {
            blob.upload_url.clone()
        };
        let mut request = self.http.put(url).body(body);
        for (name, value) in &blob.headers {
            request = request.header(name, value);
        }
        let answer = request.send().await?;
        if !answer.status().is_success() && answer.status() != 412 {
            bail!(
                "upload of {}: {} {}",
                blob.digest,
                answer.status(),
                answer.text().await?
            );
        }
        Ok(())
    }

    /// A sealed release.
    pub async fn release(&self, site: &str, content: &Content, commit: &Commit) -> Result<String> {
        let release = self.draft(site, content, commit).await?;
        self.upload(&release.id, content).await?;
        Ok(release.id)
    }

    /// Accepts a deployment.
    pub async fn deploy(
        &self,
        site: &str,
        environment: &str,
        release: &str,
        strategy: impl Into<Option<pb::strategy::Kind>>,
    ) -> Result<pb::Deployment, Status> {
        let request = pb::CreateDeploymentRequest {
            site: site.to_owned(),
            environment: environment.to_owned(),
            release_id: release.to_owned(),
            strategy: strategy
                .into()
                .map(|kind| pb::Strategy { kind: Some(kind) }),
            ..Default::default()
        };
        Ok(self
            .deployments()
            .create_deployment(request)
            .await?
            .into_inner())
    }

    pub async fn deployment(&self, id: &str) -> Result<pb::Deployment, Status> {
        let request = pb::GetDeploymentRequest { id: id.to_owned() };
        Ok(self
            .deployments()
            .get_deployment(request)
            .await?
            .into_inner())
    }

    /// Waits until the deployment is as `wanted` says; the error shows how it was last.
    pub async fn until(
        &self,
        id: &str,
        what: &str,
        wanted: impl Fn(&pb::Deployment) -> bool + Send + Sync,
    ) -> Result<pb::Deployment> {
        candlefish_devstack::wait_until(PATIENCE, &format!("{id} {what}"), || async {
            let now = self
                .deployment(id)
                .await
                .map_err(|status| status.to_string())?;
            if wanted(&now) {
                Ok(now)
            } else {
                Err(summary(&now))
            }
        })
        .await
    }

    /// Waits until the deployment is terminal.
    pub async fn ended(&self, id: &str) -> Result<pb::Deployment> {
        self.until(id, "ends", |deployment| deployment.finished_at.is_some())
            .await
    }

    /// Waits until the deployment succeeded; any other end is an error at once.
    pub async fn succeeds(&self, id: &str) -> Result<pb::Deployment> {
        let ended = self.ended(id).await?;
        if ended.state() != pb::deployment::State::Succeeded {
            bail!("{}", summary(&ended));
        }
        Ok(ended)
    }

    pub async fn cancel(&self, id: &str) -> Result<pb::Deployment, Status> {
        let request = pb::CancelDeploymentRequest {
            id: id.to_owned(),
            reason: "a journey".to_owned(),
        };
        Ok(self
            .deployments()
            .cancel_deployment(request)
            .await?
            .into_inner())
    }

    pub async fn abort(&self, id: &str) -> Result<pb::Deployment, Status> {
        let request = pb::AbortDeploymentRequest {
            id: id.to_owned(),
            reason: "a journey".to_owned(),
        };
        Ok(self
            .deployments()
            .abort_deployment(request)
            .await?
            .into_inner())
    }

    pub async fn roll_back(&self, site: &str, environment: &str) -> Result<pb::Rollback, Status> {
        let request = pb::CreateRollbackRequest {
            site: site.to_owned(),
            environment: environment.to_owned(),
            reason: "a journey".to_owned(),
            ..Default::default()
        };
        Ok(self
            .deployments()
            .create_rollback(request)
            .await?
            .into_inner())
    }

    pub async fn lift_hold(&self, site: &str, environment: &str) -> Result<(), Status> {
        let request = pb::LiftHoldRequest {
            site: site.to_owned(),
            environment: environment.to_owned(),
            reason: "a journey".to_owned(),
        };
        self.sites().lift_hold(request).await?;
        Ok(())
    }
}

/// No settling and deadlines that a stuck journey reaches.
pub fn quick_policy() -> pb::Policy {
    pb::Policy {
        settle: Some(prost_types::Duration {
            seconds: 0,
            nanos: 1_000_000,
        }),
        ..Default::default()
    }
}

/// A deployment in a line or two, for the person who reads a failed journey.
pub fn summary(deployment: &pb::Deployment) -> String {
    let steps: Vec<String> = deployment
        .steps
        .iter()
        .map(|step| format!("{:?} {:?} {:?}", step.kind(), step.state(), step.message))
        .collect();
    let blockers: Vec<&str> = deployment
        .blockers
        .iter()
        .map(|blocker| blocker.message.as_str())
        .collect();
    format!(
        "{} is {:?} ({}: {}), blockers {blockers:?}, steps {steps:#?}",
        deployment.id,
        deployment.state(),
        deployment.cause,
        deployment.message
    )
}
