//! What the reconciler finds and corrects: routes that a hand, a loss or an undo left wrong, and edges
//! that missed something.

use candlefish_proto::deploy::{self as pb, Route, deployment::State};
use candlefish_testkit::{poll_until, wait_until};

use crate::{
    api::{Api, baking, blockers, policy},
    edge::Edge,
    previews::{self, allowed, live, pull},
    restored::own_address,
    sandbox::{Orchestrator, SOON, Sandbox},
};

const HOST: &str = "docs.localhost";
const STAGING: &str = "staging--docs.localhost";
const OFTEN: [(&str, &str); 1] = [("CANDLEFISH_RECONCILE_MS", "100")];

/// Two releases went live in `production`, one after the other.
async fn started(
    settings: &[(&'static str, &str)],
) -> (Sandbox, Orchestrator, Edge, Api, [String; 2]) {
    let (sandbox, orchestrator, edge, api) = Sandbox::started_with(settings).await;
    api.create_environment("production", policy()).await;
    let mut releases = Vec::new();
    for words in ["one", "two"] {
        let release = sandbox.release(&api, words).await;
        api.deploy_whole("production", &release).await;
        releases.push(release);
    }
    (
        sandbox,
        orchestrator,
        edge,
        api,
        releases.try_into().unwrap(),
    )
}

/// A hand in the database changes a route, and edges are told.
async fn tamper(sandbox: &Sandbox, host: &str, change: &str) {
    sandbox
        .act(&format!(
            "UPDATE route SET {change}, version = version + 1, changed_in = pg_current_xact_id()
             WHERE host = '{host}'"
        ))
        .await;
}

/// Waits until an edge serves what it served before a hand changed its route.
async fn comes_back(edge: &Edge, before: &Route, what: &str) {
    poll_until(SOON, what, async || {
        let route = edge.route(&before.host).unwrap();
        let same = Route {
            version: before.version,
            ..route.clone()
        };
        // Its own version, and that of the correction.
        let corrected = same == *before && route.version >= before.version + 2;
        corrected.then_some(()).ok_or(route)
    })
    .await;
}

/// Nothing is live there, as after an undo that was told to end and did not.
async fn nothing_is_live(sandbox: &Sandbox, environment: &str) {
    sandbox
        .act(&format!(
            "UPDATE environment SET live_release_id = NULL, live_since = NULL,
                 live_deployment_id = NULL WHERE slug = '{environment}'"
        ))
        .await;
}

#[tokio::test]
async fn a_route_where_nothing_is_live_is_taken_away_unless_a_deployment_acts() {
    let (sandbox, _orchestrator, edge, api) = Sandbox::started_with(&OFTEN).await;
    // In the order in which a round goes.
    for environment in ["staging", "production"] {
        api.create_environment(environment, policy()).await;
    }
    let release = sandbox.release(&api, "one").await;
    // It has the traffic, and nothing is live before its pages were fetched.
    edge.act(|script| script.away_on = Some("staging--".to_owned()));
    let acting = api.deploy("staging", &release).await;
    let away = |one: &pb::Deployment| {
        one.pivoted_at.is_some() && blockers(one) == [pb::blocker::Kind::Provider]
    };
    api.wait_until(&acting, "its pages to be missed", away)
        .await;
    api.deploy_whole("production", &release).await;
    let version = format!("SELECT version FROM route WHERE host = '{STAGING}'");
    let before = sandbox.number(&version).await;
    nothing_is_live(&sandbox, "production").await;
    wait_until(SOON, "the stray route to go", async || {
        edge.serves(HOST).is_empty()
    })
    .await;
    assert_eq!(sandbox.number(&version).await, before);
    edge.act(|script| script.away_on = None);
    api.wait_for(&acting, &[State::Succeeded]).await;
    edge.wait_until_it_serves(STAGING, &release).await;
}

#[tokio::test]
async fn whatever_a_hand_changed_comes_back() {
    let (sandbox, _orchestrator, edge, _api, [one, two]) = started(&OFTEN).await;
    edge.wait_until_it_serves(HOST, &two).await;
    let assets = edge.route(HOST).unwrap().assets_of;
    let assets: Vec<_> = assets.into_iter().map(|one| one.release_id).collect();
    assert_eq!(assets, [one]);
    for change in [
        "noindex = NOT noindex",
        "assets_of = '[]'",
        "rolling = true, rolled_edges = '{edge-9}'",
        "waiting_edges = '{edge-1}'",
        "releases = '[]'",
        "releases = '\"none\"', assets_of = '[]', noindex = true",
    ] {
        let before = edge.route(HOST).unwrap();
        tamper(&sandbox, HOST, change).await;
        comes_back(&edge, &before, change).await;
    }
}

#[tokio::test]
async fn a_nudge_corrects_what_the_timer_would_find_an_hour_later() {
    let hourly = [("CANDLEFISH_RECONCILE_MS", "3600000")];
    let (sandbox, _orchestrator, edge, api, [_one, two]) = started(&hourly).await;
    edge.wait_until_it_serves(HOST, &two).await;
    let before = edge.route(HOST).unwrap();
    tamper(&sandbox, HOST, "releases = '[]'").await;
    api.create_environment("staging", policy()).await;
    api.deploy_whole("staging", &two).await;
    comes_back(&edge, &before, "a nudged round").await;
}

#[tokio::test]
async fn drift_is_told_once_with_what_was_wrong() {
    let (sandbox, _orchestrator, edge, api, [_one, two]) = started(&OFTEN).await;
    // It looks as well.
    let _second = sandbox.start().await;
    api.create_environment("staging", policy()).await;
    api.deploy_whole("staging", &two).await;
    for host in [HOST, STAGING] {
        edge.wait_until_it_serves(host, &two).await;
        let before = edge.route(host).unwrap();
        tamper(&sandbox, host, "releases = '[]'").await;
        comes_back(&edge, &before, host).await;
    }
    let mut told = sandbox.told_of_environments().await;
    told.retain(|(name, ..)| name == "deploy.environment.drifted.v1");
    let reasons: Vec<&str> = told.iter().map(|(.., reason)| reason.as_str()).collect();
    assert_eq!(
        reasons,
        [
            "docs.localhost serves something else",
            "staging--docs.localhost serves something else"
        ]
    );
    let after = api.environment("production").await;
    assert_eq!(told[0].1, after.version);
}

#[tokio::test]
async fn a_live_edge_that_is_behind_is_sent_again_what_it_lacks() {
    let (sandbox, orchestrator, edge, _api, [_one, two]) = started(&OFTEN).await;
    edge.wait_until_it_serves(HOST, &two).await;
    // As if what it told had been lost.
    sandbox
        .act("UPDATE edge_route SET version = version - 1 WHERE host = 'docs.localhost'")
        .await;
    let behind = "SELECT count(*) FROM route w JOIN edge_route r ON r.host = w.host
                  WHERE w.host = 'docs.localhost' AND r.version < w.version";
    wait_until(SOON, "the edge to be up to date", async || {
        sandbox.number(behind).await == 0
    })
    .await;
    let url = format!("http://{}/metrics", orchestrator.running.ops_address);
    let said = reqwest::get(&url).await.unwrap().text().await.unwrap();
    assert!(said.contains(r#"route_drift_total{at="edge"}"#), "{said}");
}

/// As if what the edge told of a host had been lost, where a deployment bakes: it is looked at once more.
async fn is_sent_again(host_of: impl Fn(&str) -> String) {
    let patient = [
        ("CANDLEFISH_RECONCILE_MS", "100"),
        ("CANDLEFISH_EDGE_PATIENCE_MS", "3000"),
    ];
    let (sandbox, _orchestrator, edge, api, _live) = started(&patient).await;
    let release = sandbox.release(&api, "three").await;
    let made = api.create("production", &release, Some(baking())).await;
    let bakes = made.unwrap().into_inner().id;
    api.wait_in(&bakes, pb::step::Kind::Bake).await;
    let host = host_of(&bakes);
    edge.wait_until_it_serves(&host, &release).await;
    sandbox
        .act(&format!(
            "UPDATE edge_route SET version = version - 1 WHERE host = '{host}'"
        ))
        .await;
    let behind = format!(
        "SELECT count(*) FROM route w JOIN edge_route r ON r.host = w.host
         WHERE w.host = '{host}' AND r.version < w.version"
    );
    wait_until(SOON, "the edge to be up to date", async || {
        sandbox.number(&behind).await == 0
    })
    .await;
    assert_eq!(api.deployment(&bakes).await.state(), State::Waiting);
}

#[tokio::test]
async fn a_live_edge_that_is_behind_is_found_while_a_deployment_bakes() {
    is_sent_again(|_| HOST.to_owned()).await;
}

#[tokio::test]
async fn a_live_edge_that_is_behind_on_the_address_of_a_deployment_is_found() {
    is_sent_again(own_address).await;
}

#[tokio::test]
async fn search_engines_see_production_alone() {
    let stage = allowed().await;
    stage.api.create_environment("staging", policy()).await;
    let release = stage.sandbox.release(&stage.api, "one").await;
    let production = stage.api.deploy_whole("production", &release).await;
    let staging = stage.api.deploy_whole("staging", &release).await;
    let single = stage.api.preview(&release).await.unwrap().into_inner();
    stage.api.wait_for(&single.id, &[State::Succeeded]).await;
    live(&stage, &stage.pushed(&pull("opened", 0, 1, 1)).await, 1).await;
    let noindex = |host: &str| stage.edge.route(host).unwrap().noindex;
    assert!(!noindex(HOST));
    for host in [
        STAGING,
        previews::HOST,
        &own_address(&production.id),
        &own_address(&staging.id),
        &own_address(&single.id),
    ] {
        assert!(noindex(host), "{host}");
    }
}
