//! Everything that a delivery needs: a gateway that holds it, an orchestrator that decides it, a site
//! that it concerns.

use candlefish_proto::deploy as pb;
use candlefish_testkit::{
    github::{APP_ID, Example, Fake, Push},
    poll_until,
};
use sqlx::Row;

use crate::{
    api::{Api, policy},
    edge::Edge,
    gateway::Gateway,
    sandbox::{Orchestrator, SITE, SOON, Sandbox},
};

pub(crate) const REPOSITORY: &str = "example/docs";
pub(crate) const NONE: &str = "0000000000000000000000000000000000000000";

/// Everything that a push needs: the site of [`REPOSITORY`] with `production` on `main`.
pub(crate) struct Stage {
    pub(crate) sandbox: Sandbox,
    pub(crate) gateway: Gateway,
    pub(crate) orchestrator: Orchestrator,
    pub(crate) edge: Edge,
    pub(crate) api: Api,
}

impl Stage {
    pub(crate) async fn new() -> Self {
        Self::with(&[]).await
    }

    /// The same, with settings of its own.
    pub(crate) async fn with(settings: &[(&'static str, &str)]) -> Self {
        let stage = Self::bare(settings).await;
        site(&stage.api, SITE, "Example/Docs").await;
        environment(&stage.api, SITE, "production", "main", &[], latest()).await;
        stage
    }

    /// The same with a GitHub that is asked, and no site yet.
    pub(crate) async fn asking(settings: &[(&'static str, &str)]) -> (Fake, Self) {
        let github = Fake::start().await;
        let stage = Self::asking_of(&github, settings).await;
        (github, stage)
    }

    /// The same where an App asks, whose key lies in the folder.
    pub(crate) async fn asking_as_app(
        settings: &[(&'static str, &str)],
    ) -> (tempfile::TempDir, Fake, Self) {
        let github = Fake::start().await;
        let folder = tempfile::tempdir().unwrap();
        let key = folder.path().join("app.pem");
        std::fs::write(&key, github.app_key()).unwrap();
        let id = APP_ID.to_string();
        let mut all = vec![
            ("CANDLEFISH_GITHUB_TOKEN", ""),
            ("CANDLEFISH_GITHUB_APP_ID", &*id),
            ("CANDLEFISH_GITHUB_APP_KEY", key.to_str().unwrap()),
        ];
        all.extend_from_slice(settings);
        let stage = Self::asking_of(&github, &all).await;
        (folder, github, stage)
    }

    async fn asking_of(github: &Fake, settings: &[(&'static str, &str)]) -> Self {
        let url = github.url();
        let mut all = vec![
            ("CANDLEFISH_GITHUB_API", &*url),
            ("CANDLEFISH_GITHUB_TOKEN", "ghp_secret"),
            ("CANDLEFISH_GITHUB_TIMEOUT_MS", "500"),
            ("CANDLEFISH_GITHUB_WRITE_PAUSE_MS", "1"),
            ("CANDLEFISH_GITHUB_REST_MS", "100"),
        ];
        all.extend_from_slice(settings);
        Self::bare(&all).await
    }

    /// Without a site.
    async fn bare(settings: &[(&'static str, &str)]) -> Self {
        let mut all = vec![("CANDLEFISH_HEAL_MS", "50")];
        all.extend_from_slice(settings);
        let mut sandbox = Sandbox::with(&all).await;
        let gateway = Gateway::start(&sandbox.keys).await;
        sandbox.set("CANDLEFISH_GATEWAY_URL", &gateway.url);
        let orchestrator = sandbox.start().await;
        let edge = Edge::start(&sandbox, "edge-1", orchestrator.running.address).await;
        let api = sandbox.api(orchestrator.running.address);
        api.wait_for_live_edges(1).await;
        Self {
            sandbox,
            gateway,
            orchestrator,
            edge,
            api,
        }
    }

    /// Waits for the decision of a delivery: where, the outcome, why, and its deployment.
    pub(crate) async fn decided(&self, delivery: &str, count: usize) -> Vec<Decided> {
        poll_until(SOON, "the delivery to be decided", async || {
            let done = self.decisions(delivery).await;
            let open = format!(
                "SELECT count(*) FROM delivery WHERE done_at IS NOT NULL AND id = '{}'",
                uuid_of(delivery)
            );
            let is_done = self.sandbox.number(&open).await == 1;
            if is_done && done.len() == count {
                Ok(done)
            } else {
                Err(format!("done: {is_done}, {done:?}"))
            }
        })
        .await
    }

    pub(crate) async fn decisions(&self, delivery: &str) -> Vec<Decided> {
        let rows = sqlx::query(
            "SELECT coalesce(s.slug || '/' || e.slug, s.slug, '') AS place, t.outcome, t.reason,
                    t.message, t.deployment_id
             FROM trigger t LEFT JOIN site s ON s.id = t.site_id
             LEFT JOIN environment e ON e.id = t.environment_id
             WHERE t.delivery_id = $1 ORDER BY 1",
        )
        .bind(uuid_of(delivery))
        .fetch_all(&self.sandbox.pool)
        .await
        .unwrap();
        let decided = rows.iter().map(|row| Decided {
            place: row.get("place"),
            outcome: row.get("outcome"),
            reason: row.get("reason"),
            message: row.get("message"),
            deployment: row
                .get::<Option<uuid::Uuid>, _>("deployment_id")
                .map(|id| candlefish_ids::DeploymentId::from_uuid(id).to_string())
                .unwrap_or_default(),
        });
        decided.collect()
    }

    /// Delivers a push to `main` and waits until it is decided for production.
    pub(crate) async fn pushed(&self, push: &Example) -> Decided {
        let id = self.gateway.receives(push);
        self.decided(&id, 1).await.remove(0)
    }

    /// Uploads the content of a commit, as CI does, without asking for a deployment.
    pub(crate) async fn uploads(&self, commit: &str, words: &str) -> String {
        let content = self.sandbox.put_content(&[("index.html", words)]).await;
        let draft = self.api.create_release(content, commit, &[]).await;
        self.api.seal(&draft).await
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Decided {
    pub(crate) place: String,
    pub(crate) outcome: String,
    pub(crate) reason: String,
    pub(crate) message: String,
    pub(crate) deployment: String,
}

impl Decided {
    pub(crate) fn is(&self, outcome: &str, reason: &str) -> &Self {
        let told = (self.outcome.as_str(), self.reason.as_str());
        assert_eq!(told, (outcome, reason), "{self:?}");
        self
    }
}

pub(crate) fn uuid_of(delivery: &str) -> uuid::Uuid {
    delivery
        .parse::<candlefish_ids::DeliveryId>()
        .unwrap()
        .uuid()
}

pub(crate) fn latest() -> pb::Policy {
    pb::Policy {
        order: pb::policy::Order::Latest.into(),
        ..policy()
    }
}

pub(crate) async fn site(api: &Api, slug: &str, repository: &str) {
    let request = api.request(pb::CreateSiteRequest {
        slug: slug.to_owned(),
        repository: repository.to_owned(),
        ..pb::CreateSiteRequest::default()
    });
    api.sites().create_site(request).await.unwrap();
}

pub(crate) async fn environment(
    api: &Api,
    site: &str,
    slug: &str,
    branch: &str,
    paths: &[&str],
    policy: pb::Policy,
) {
    let request = api.request(pb::CreateEnvironmentRequest {
        site: site.to_owned(),
        slug: slug.to_owned(),
        policy: Some(policy),
        pushes: Some(pb::PushRule {
            branch: branch.to_owned(),
            paths: paths.iter().map(|&one| one.to_owned()).collect(),
        }),
        ..pb::CreateEnvironmentRequest::default()
    });
    api.sites().create_environment(request).await.unwrap();
}

pub(crate) fn commit(number: usize) -> String {
    format!("{number:040x}")
}

/// A push of one commit on top of another to `main`.
pub(crate) fn push(before: usize, after: usize) -> Example {
    let before = if before == 0 {
        NONE.to_owned()
    } else {
        commit(before)
    };
    Push {
        repository: REPOSITORY,
        branch: "main",
        before: &before,
        commits: &[&commit(after)],
        changes: &["docs/a.md"],
        pushed_at: 1_790_000_000 + i64::try_from(after).unwrap(),
    }
    .example()
}
