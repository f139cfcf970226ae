//! A database that was set back, under edges that go on serving what it forgot.

use candlefish_proto::deploy as pb;
use candlefish_testkit::wait_until;

use crate::{
    api::{Api, policy},
    edge::Edge,
    edges::{EPOCH, HOST, edge_is, started},
    sandbox::{Orchestrator, SITE, SOON, Sandbox},
};

/// What a backup would hold of what is live and routed.
const BACK_UP: &str = "CREATE TABLE route_then AS TABLE route;
    CREATE TABLE environment_then AS TABLE environment;";

/// The routes and what is live are as they were; hosts made since are unknown. As after a restore, and
/// as a volume that was put back: nothing tells it but what others hold.
const SET_BACK: &str = "DELETE FROM route WHERE host NOT IN (SELECT host FROM route_then);
    UPDATE route r SET version = t.version, releases = t.releases, assets_of = t.assets_of
        FROM route_then t WHERE t.host = r.host;
    UPDATE environment e SET live_release_id = t.live_release_id, live_since = t.live_since,
            live_deployment_id = t.live_deployment_id
        FROM environment_then t WHERE t.id = e.id;";

/// The address that a deployment has for itself.
pub(crate) fn own_address(deployment: &str) -> String {
    let suffix = deployment.strip_prefix("dep_").unwrap();
    format!("{suffix}--{SITE}.localhost")
}

/// Two edges that serve a release of which the backup knows nothing.
struct Backed {
    sandbox: Sandbox,
    orchestrator: Orchestrator,
    edges: [Edge; 2],
    api: Api,
    /// What is live in the backup.
    old: String,
    /// The own address of the newer deployment.
    unknown: String,
}

async fn backed_up() -> Backed {
    let (sandbox, orchestrator, edges, api) = started(&[], policy()).await;
    let old = sandbox.release(&api, "old").await;
    api.deploy_whole("production", &old).await;
    sandbox.act(BACK_UP).await;
    let new = sandbox.release(&api, "new").await;
    let newer = api.deploy_whole("production", &new).await;
    Backed {
        sandbox,
        orchestrator,
        edges,
        api,
        old,
        unknown: own_address(&newer.id),
    }
}

impl Backed {
    /// Both edges serve what the backup says is live, in an epoch above this one, and nothing on the
    /// host that it does not know.
    async fn follows(&self, before: i64) {
        for edge in &self.edges {
            edge.wait_until_it_serves(HOST, &self.old).await;
            wait_until(SOON, "the unknown host to go", async || {
                edge.serves(&self.unknown).is_empty()
            })
            .await;
        }
        assert!(self.sandbox.number(EPOCH).await > before);
        let live = self.api.environment("production").await.live_release_id;
        assert_eq!(live, self.old);
    }
}

#[tokio::test]
async fn an_edge_that_is_ahead_is_told_what_is_live() {
    let backed = backed_up().await;
    let before = backed.sandbox.number(EPOCH).await;
    backed.sandbox.act(SET_BACK).await;
    let [first, _second] = &backed.edges;
    first.turn_to(backed.orchestrator.running.address);
    backed.follows(before).await;
    for edge in ["edge-1", "edge-2"] {
        edge_is(&backed.api, edge, pb::edge::State::Live).await;
    }
    // Traffic moves as ever.
    let next = backed.sandbox.release(&backed.api, "next").await;
    backed.api.deploy_whole("production", &next).await;
    first.wait_until_it_serves(HOST, &next).await;
}

#[tokio::test]
async fn edges_of_a_database_on_another_timeline_are_told_what_is_live() {
    let backed = backed_up().await;
    let before = backed.sandbox.number(EPOCH).await;
    let moved = format!("{SET_BACK} UPDATE relay SET timeline = '000000FF';");
    backed.sandbox.act(&moved).await;
    // Nobody has to come anew.
    backed.follows(before).await;
}

#[tokio::test]
async fn two_orchestrators_that_notice_begin_one_epoch() {
    let backed = backed_up().await;
    let other = backed.sandbox.start().await;
    let before = backed.sandbox.number(EPOCH).await;
    backed.sandbox.act(SET_BACK).await;
    let [first, second] = &backed.edges;
    first.turn_to(backed.orchestrator.running.address);
    second.turn_to(other.running.address);
    backed.follows(before).await;
    let sandbox = &backed.sandbox;
    let epochs = "SELECT count(DISTINCT epoch) FROM route";
    assert_eq!(sandbox.number(epochs).await, 1);
    // A second one would be above the minute.
    let is_minute =
        "SELECT (epoch <= (extract(epoch FROM clock()) / 60)::int)::int::bigint FROM relay";
    assert_eq!(sandbox.number(is_minute).await, 1);
}

#[tokio::test]
async fn a_host_that_nobody_knows_is_served_no_more() {
    let (sandbox, orchestrator, edges, api) = started(&[], policy()).await;
    let release = sandbox.release(&api, "one").await;
    let done = api.deploy_whole("production", &release).await;
    let own = own_address(&done.id);
    let unknown = "UPDATE environment SET live_release_id = NULL, live_since = NULL,
            live_deployment_id = NULL;
        DELETE FROM route;";
    sandbox.act(unknown).await;
    let [first, _second] = &edges;
    first.turn_to(orchestrator.running.address);
    for edge in &edges {
        for host in [HOST, &own] {
            wait_until(SOON, "a host to serve nothing", async || {
                edge.serves(host).is_empty()
            })
            .await;
        }
    }
    edge_is(&api, "edge-1", pb::edge::State::Live).await;
    // A name that was used before is no worse for it.
    api.deploy_whole("production", &release).await;
    first.wait_until_it_serves(HOST, &release).await;
}
