//! What the journeys share: a platform of their own, its API as a client sees it, its sites as a
//! visitor sees them.
#![expect(
    clippy::unwrap_used,
    reason = "a journey that cannot go on ends with where and why"
)]

pub mod api;
pub mod chaos;
pub mod content;
pub mod rng;
pub mod visitors;

use std::{net::SocketAddr, sync::Mutex, time::Duration};

use anyhow::{Context, Result, ensure};
use candlefish_devstack::{Builder, Service, Stack};
use candlefish_testkit::github::Example;

pub use api::Api;
pub use candlefish_testkit::{Page, fetch};
pub use content::Content;
pub use visitors::Visitors;

/// Long enough for a loaded machine; a journey that waits longer is stuck.
pub const PATIENCE: Duration = Duration::from_mins(1);

/// Whether a release that had visitors loses them again while they walk: by a rollback, by an abort, or
/// by its own verdict.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum MayGoBack {
    Yes,
    No,
}

/// A platform of a journey's own, with a site `docs` that has `staging` and `production`.
#[derive(Debug)]
pub struct Sandbox {
    pub stack: Stack,
    pub api: Api,
    /// Those who stroll until they are called back, and whether they may be sent back to older pages.
    visitors: Mutex<Vec<(Visitors, MayGoBack)>>,
}

impl Sandbox {
    /// A platform that runs.
    pub fn of(stack: Stack, api: Api) -> Self {
        Self {
            stack,
            api,
            visitors: Mutex::default(),
        }
    }

    /// Starts one gateway, one orchestrator and two edges, with leases of a second.
    pub async fn start() -> Result<Self> {
        Self::with(|builder| builder.replicas(1, 1, 2)).await
    }

    /// Starts what `adjust` makes of it.
    pub async fn with(adjust: impl FnOnce(Builder) -> Builder) -> Result<Self> {
        let builder = Stack::builder()
            .lease_ms(1000)
            .env(Service::Orchestrator, "CANDLEFISH_SWEEP_MS", "500")
            .env(Service::Orchestrator, "CANDLEFISH_LOG", "info");
        let stack = adjust(builder).start().await?;
        let api = Api::connect(&stack.gateway_url(), stack.admin_token())?;
        api.create_site("docs", &["staging", "production"]).await?;
        let sandbox = Self::of(stack, api);
        sandbox.edges_live().await?;
        Ok(sandbox)
    }

    /// Delivers what happened at GitHub, as the delivery of that name; fails when it is not taken.
    pub async fn delivers(&self, name: &str, example: &Example) -> Result<()> {
        let hook = format!("{}/v1/webhooks/github", self.stack.gateway_url());
        let secret = self.stack.github_webhook_secret();
        let faults = example.faults();
        ensure!(faults.is_empty(), "{name} is not GitHub's: {faults:?}");
        let request = example.request(&reqwest::Client::new(), &hook, name, secret);
        let answer = request.send().await?;
        ensure!(
            answer.status() == 202,
            "{name} is not taken: {}",
            answer.status()
        );
        Ok(())
    }

    /// Waits until every edge is live.
    pub async fn edges_live(&self) -> Result<()> {
        let wanted = self.stack.edges().len();
        candlefish_devstack::wait_until(PATIENCE, "every edge is live", || async {
            let edges = self
                .api
                .edges()
                .await
                .map_err(|status| status.to_string())?;
            let live = edges
                .iter()
                .filter(|edge| edge.state() == candlefish_proto::deploy::edge::State::Live)
                .count();
            if live == wanted {
                Ok(())
            } else {
                Err(format!("{live} of {wanted}: {edges:?}"))
            }
        })
        .await
    }

    /// Fetches a page of an edge as a visitor of `host`.
    pub async fn visit(&self, edge: usize, host: &str, path: &str) -> Result<Page> {
        let edges = self.stack.edges();
        let edge = edges.get(edge).context("an edge of that number")?;
        let page = fetch(&reqwest::Client::new(), edge.address, host, path).await;
        page.context("a page")
    }

    /// Where the edges serve.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        let edges = self.stack.edges();
        edges.iter().map(|edge| edge.address).collect()
    }

    /// From now on a visitor of each edge strolls through a host that serves all pages of
    /// [`Content::site`], with one of these marks, until [`Sandbox::nobody_complains`] or
    /// [`Sandbox::stop`] hears them.
    pub fn send_visitors(&self, host: &str, marks: &[&str]) {
        self.send(host, marks, MayGoBack::Yes);
    }

    /// As [`Sandbox::send_visitors`], where nothing goes back meanwhile: nobody may see a page of an
    /// earlier one of `marks` than before.
    pub fn send_visitors_onwards(&self, host: &str, marks: &[&str]) {
        self.send(host, marks, MayGoBack::No);
    }

    fn send(&self, host: &str, marks: &[&str], may_go_back: MayGoBack) {
        let visitors = Visitors::stroll(&self.addresses(), host, 1, marks);
        let mut sent = self.visitors.lock().unwrap();
        sent.push((visitors, may_go_back));
    }

    /// Calls the visitors back: fails when one of them got no page, a torn or a foreign one, or an older
    /// one than before where nothing goes back, or when a crowd saw nothing at all.
    pub async fn nobody_complains(&self) -> Result<()> {
        let crowds = std::mem::take(&mut *self.visitors.lock().unwrap());
        for (visitors, may_go_back) in crowds {
            let seen = visitors.come_back().await;
            ensure!(seen.complaints.is_empty(), "{:#?}", seen.complaints);
            ensure!(!seen.marks.is_empty(), "visitors saw no page");
            let stayed = may_go_back == MayGoBack::Yes || seen.went_back.is_empty();
            ensure!(stayed, "{:#?}", seen.went_back);
        }
        Ok(())
    }

    /// Hears the visitors, and ends everything in order.
    pub async fn stop(self) -> Result<()> {
        self.nobody_complains().await?;
        self.stack.stop().await
    }
}
