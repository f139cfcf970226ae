//! Edges that lag, refuse, lie, fall silent, or tell things late.

use std::time::Duration;

use candlefish_ids::ReleaseId;
use candlefish_proto::deploy::{
    self as pb, HeldRoute, StagedRelease, WatchRoutesRequest, deployment::State,
    edge_service_client::EdgeServiceClient,
};
use candlefish_testkit::{poll_until, wait_until};
use tonic::{Code, Response};

use crate::{
    api::{Api, baking, blockers, policy, shown},
    edge::{Edge, Script},
    sandbox::{Orchestrator, SOON, Sandbox},
};

pub(crate) const HOST: &str = "docs.localhost";
pub(crate) const EPOCH: &str = "SELECT epoch::bigint FROM route WHERE host = 'docs.localhost'";
const IMPATIENT: [(&str, &str); 2] = [
    ("CANDLEFISH_EDGE_PATIENCE_MS", "300"),
    ("CANDLEFISH_EDGE_PATIENCE_HURRIED_MS", "300"),
];

/// Two live edges and the environment `production`.
pub(crate) async fn started(
    settings: &[(&'static str, &str)],
    policy: pb::Policy,
) -> (Sandbox, Orchestrator, [Edge; 2], Api) {
    let (sandbox, orchestrator, edge, api) = Sandbox::started_with(settings).await;
    let second = Edge::start(&sandbox, "edge-2", orchestrator.running.address).await;
    api.wait_for_live_edges(2).await;
    api.create_environment("production", policy).await;
    (sandbox, orchestrator, [edge, second], api)
}

pub(crate) async fn edge_is(api: &Api, id: &str, state: pb::edge::State) -> pb::Edge {
    poll_until(SOON, "an edge's state", async || {
        let edges = api.edges().await;
        let edge = edges.into_iter().find(|edge| edge.id == id).unwrap();
        if edge.state() == state {
            Ok(edge)
        } else {
            Err(edge)
        }
    })
    .await
}

fn step(deployment: &pb::Deployment, kind: pb::step::Kind) -> &pb::Step {
    let found = deployment.steps.iter().find(|step| step.kind() == kind);
    found.unwrap()
}

#[tokio::test]
async fn edges_come_in_pages_by_id() {
    let (_sandbox, _orchestrator, _edges, api) = started(&[], policy()).await;
    let page = async |page_size: i32, page_token: &str| {
        let request = api.request(pb::ListEdgesRequest {
            page_size,
            page_token: page_token.to_owned(),
        });
        let mut client = EdgeServiceClient::new(api.channel.clone());
        client.list_edges(request).await.map(Response::into_inner)
    };
    let all = page(0, "").await.unwrap();
    assert!(all.next_page_token.is_empty());
    let ids = |page: &pb::ListEdgesResponse| -> Vec<String> {
        page.edges.iter().map(|edge| edge.id.clone()).collect()
    };
    assert_eq!(ids(&all).len(), 2);
    let first = page(1, "").await.unwrap();
    let last = page(1, &first.next_page_token).await.unwrap();
    assert!(last.next_page_token.is_empty());
    assert_eq!([ids(&first), ids(&last)].concat(), ids(&all));
    for (size, token) in [(201, ""), (-1, ""), (0, "nonsense")] {
        let refused = page(size, token).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument, "{size} {token}");
    }
}

#[tokio::test]
async fn an_edge_that_lags_is_set_aside_named_and_joins_again() {
    let (sandbox, _orchestrator, [_first, second], api) = started(&IMPATIENT, policy()).await;
    let old = sandbox.release(&api, "old").await;
    api.deploy_whole("production", &old).await;
    second.act(|script| script.frozen = true);
    let new = sandbox.release(&api, "new").await;
    let id = api.deploy("production", &new).await;
    let done = api.wait_for(&id, &[State::Succeeded]).await;
    let said = &step(&done, pb::step::Kind::Switch).message;
    let words = format!("1 of 2 edges; edge-2 unreachable, may still serve {old}");
    assert_eq!(said, &words);
    let aside = edge_is(&api, "edge-2", pb::edge::State::Failing).await;
    assert!(aside.message.contains(&id), "{}", aside.message);
    second.act(|script| script.frozen = false);
    edge_is(&api, "edge-2", pb::edge::State::Live).await;
    second.wait_until_it_serves(HOST, &new).await;
}

#[tokio::test]
async fn an_edge_that_misses_the_way_back_may_still_serve_what_is_undone() {
    // An undo that nobody follows ends later than this.
    let hurried = [("CANDLEFISH_EDGE_PATIENCE_HURRIED_MS", "300")];
    let (sandbox, _orchestrator, [_first, second], api) = started(&hurried, policy()).await;
    let old = sandbox.release(&api, "old").await;
    api.deploy_whole("production", &old).await;
    let new = sandbox.release(&api, "new").await;
    let made = api.create("production", &new, Some(baking())).await;
    let id = made.unwrap().into_inner().id;
    api.wait_in(&id, pb::step::Kind::Bake).await;
    second.act(|script| script.frozen = true);
    api.abort(&id).await.unwrap();
    let done = api.wait_for(&id, &[State::RolledBack]).await;
    assert_eq!(done.target_confirmed, Some(false));
    let said = &step(&done, pb::step::Kind::Return).message;
    let words = format!("1 of 2 edges; edge-2 unreachable, may still serve {new}");
    assert_eq!(said, &words);
}

#[tokio::test]
async fn an_edge_that_cannot_stage_keeps_nobody() {
    let (sandbox, _orchestrator, [_first, second], api) = started(&IMPATIENT, policy()).await;
    second.act(|script| script.stages_nothing = true);
    let release = sandbox.release(&api, "new").await;
    let id = api.deploy("production", &release).await;
    api.wait_for(&id, &[State::Succeeded]).await;
    edge_is(&api, "edge-2", pb::edge::State::Failing).await;
    second.act(|script| script.stages_nothing = false);
    edge_is(&api, "edge-2", pb::edge::State::Live).await;
}

/// Half a minute and more passes, and all edges are heard in every part of it, each time after `report`.
async fn half_a_minute_passes(sandbox: &Sandbox, mut report: impl AsyncFnMut()) {
    let heard = "SELECT count(*) FROM edge WHERE heard_at > clock() - interval '1 second'";
    // An edge is live for five seconds after it was heard: of these, two are left to slow machines.
    for _part in 0..18 {
        report().await;
        wait_until(SOON, "all edges to be heard", async || {
            sandbox.number(heard).await == 2
        })
        .await;
        sandbox.database.advance(Duration::from_secs(2)).await;
    }
}

#[tokio::test]
async fn an_edge_that_stages_something_else_is_not_set_aside() {
    let (sandbox, _orchestrator, [_first, second], api) = started(&[], policy()).await;
    second.act(|script| script.stages_nothing = true);
    let release = sandbox.release(&api, "new").await;
    let id = api.deploy("production", &release).await;
    wait_on_edges(&sandbox, "stage").await;
    let staged = "SELECT count(*) FROM edge_release WHERE edge_id = 'edge-2' AND staged";
    half_a_minute_passes(&sandbox, async || {
        let before = sandbox.number(staged).await;
        second.tell(WatchRoutesRequest {
            staged: vec![StagedRelease {
                release_id: ReleaseId::new().to_string(),
                staged: true,
                ..StagedRelease::default()
            }],
            ..WatchRoutesRequest::default()
        });
        wait_until(SOON, "what it staged to be kept", async || {
            sandbox.number(staged).await > before
        })
        .await;
    })
    .await;
    let looked = sandbox.number(POLLS).await;
    wait_until(SOON, "another look at the wait", async || {
        sandbox.number(POLLS).await > looked
    })
    .await;
    edge_is(&api, "edge-2", pb::edge::State::Live).await;
    half_a_minute_passes(&sandbox, async || {}).await;
    api.wait_for(&id, &[State::Succeeded]).await;
    edge_is(&api, "edge-2", pb::edge::State::Failing).await;
}

#[tokio::test]
async fn an_edge_that_refuses_alone_is_set_aside() {
    let (sandbox, _orchestrator, [_first, second], api) = started(&IMPATIENT, policy()).await;
    second.act(|script| "/a.css is corrupt".clone_into(&mut script.refuses));
    let release = sandbox.release(&api, "new").await;
    let id = api.deploy("production", &release).await;
    api.wait_for(&id, &[State::Succeeded]).await;
}

#[tokio::test]
async fn edges_whose_store_is_away_are_waited_for_and_named_with_it() {
    let (sandbox, _orchestrator, edges, api) = started(&[], policy()).await;
    for edge in &edges {
        edge.act(|script| {
            "the store is away".clone_into(&mut script.refuses);
            script.refusal_passes = true;
        });
    }
    let release = sandbox.release(&api, "new").await;
    let id = api.deploy("production", &release).await;
    let words = "waiting for edge-1 (the store is away), edge-2 (the store is away)";
    poll_until(SOON, "the edges to be named", async || {
        let one = api.deployment(&id).await;
        let said = one.blockers.iter().any(|blocker| blocker.message == words);
        if said { Ok(()) } else { Err(shown(&one)) }
    })
    .await;
    for edge in &edges {
        edge.act(|script| script.refuses.clear());
    }
    api.wait_for(&id, &[State::Succeeded]).await;
}

#[tokio::test]
async fn a_release_that_no_edge_can_stage_fails_with_the_page_named() {
    let (sandbox, _orchestrator, edges, api) = started(&[], policy()).await;
    for edge in &edges {
        edge.act(|script| "/a.css is corrupt".clone_into(&mut script.refuses));
    }
    let release = sandbox.release(&api, "new").await;
    let id = api.deploy("production", &release).await;
    let failed = api.wait_for(&id, &[State::Failed]).await;
    assert_eq!(failed.cause, "verification");
    assert_eq!(failed.message, "/a.css is corrupt");
    assert!(failed.pivoted_at.is_none());
    assert!(
        api.environment("production")
            .await
            .live_release_id
            .is_empty()
    );
}

#[tokio::test]
async fn an_edge_that_answers_something_else_fails_the_release() {
    let (sandbox, _orchestrator, [first, second], api) = started(&[], policy()).await;
    let old = sandbox.release(&api, "old").await;
    api.deploy_whole("production", &old).await;
    let new = sandbox.release(&api, "new").await;
    second.act(|script| script.lies_on = Some("docs.".to_owned()));
    let id = api.deploy("production", &new).await;
    let ended = api.wait_for(&id, &[State::RolledBack]).await;
    assert!(ended.message.contains("on edge-2"), "{}", ended.message);
    assert_eq!(ended.target_confirmed, Some(true));
    for edge in [&first, &second] {
        edge.wait_until_it_serves(HOST, &old).await;
    }
    let live = api.environment("production").await;
    assert_eq!(live.live_release_id, old);
    let again = api.create("production", &new, None).await.unwrap_err();
    assert_eq!(crate::api::reason(&again), "release-rejected");
}

#[tokio::test]
async fn fewer_edges_than_the_policy_needs_is_a_blocker() {
    let three = pb::Policy {
        min_edges: 3,
        ..policy()
    };
    let (sandbox, orchestrator, [_first, second], api) = started(&[], three).await;
    second.act(|script| script.frozen = true);
    let release = sandbox.release(&api, "new").await;
    let id = api.deploy("production", &release).await;
    let blocked = |one: &pb::Deployment| {
        one.state() == State::Waiting && blockers(one) == [pb::blocker::Kind::Edge]
    };
    let waits = api.wait_until(&id, "a wait for edges", blocked).await;
    assert_eq!(waits.blockers[0].message, "2 live edges, 3 needed");
    assert_eq!(waits.blockers[0].owner, "admin");
    let action = format!(
        "candlefish edges (shows them: start 1 more) or candlefish env policy docs/production \
         --min-edges 2 (for what is deployed after it) or candlefish cancel {id}"
    );
    assert_eq!(waits.blockers[0].action, action);
    let _third = Edge::start(&sandbox, "edge-3", orchestrator.running.address).await;
    // The same blocker in other words is somebody else's.
    let behind =
        |one: &pb::Deployment| blocked(one) && one.blockers[0].message == "waiting for edge-2";
    let waits = api.wait_until(&id, "a wait for one edge", behind).await;
    assert_eq!(waits.blockers[0].owner, "platform");
    second.act(|script| script.frozen = false);
    api.wait_for(&id, &[State::Succeeded]).await;
}

#[tokio::test]
async fn a_rollback_goes_on_with_fewer_edges_than_the_policy_needs() {
    let two = pb::Policy {
        min_edges: 2,
        ..policy()
    };
    let (sandbox, _orchestrator, [first, second], api) = started(&[], two).await;
    let old = sandbox.release(&api, "old").await;
    api.deploy_whole("production", &old).await;
    let new = sandbox.release(&api, "new").await;
    api.deploy_whole("production", &new).await;
    second.act(|script| script.silent = true);
    sandbox.database.advance(Duration::from_secs(6)).await;
    edge_is(&api, "edge-2", pb::edge::State::Silent).await;
    api.wait_for_live_edges(1).await;
    let back = api.roll_back("production").await.unwrap().into_inner();
    let back = back.deployment.unwrap().id;
    let done = api.wait_for(&back, &[State::Succeeded]).await;
    first.wait_until_it_serves(HOST, &old).await;
    let said = &step(&done, pb::step::Kind::Switch).message;
    assert!(said.contains("edge-2 unreachable"), "{said}");
}

#[tokio::test]
async fn a_wait_for_edges_is_named_however_late_its_turn_comes() {
    // A second passes between two looks, as under load.
    let slow = [("CANDLEFISH_POLL_MS", "1500")];
    let (sandbox, _orchestrator, [first, _second], api) = started(&slow, policy()).await;
    first.act(|script| script.frozen = true);
    let release = sandbox.release(&api, "new").await;
    let id = api.deploy("production", &release).await;
    api.wait_in(&id, pb::step::Kind::Stage).await;
    sandbox.database.advance(Duration::from_secs(3)).await;
    let blocked = |one: &pb::Deployment| blockers(one) == [pb::blocker::Kind::Edge];
    api.wait_until(&id, "a wait for an edge", blocked).await;
}

#[tokio::test]
async fn a_silent_edge_is_not_waited_for_and_is_named() {
    let (sandbox, _orchestrator, [_first, second], api) = started(&[], policy()).await;
    let old = sandbox.release(&api, "old").await;
    api.deploy_whole("production", &old).await;
    second.act(|script| script.silent = true);
    sandbox.database.advance(Duration::from_secs(6)).await;
    edge_is(&api, "edge-2", pb::edge::State::Silent).await;
    api.wait_for_live_edges(1).await;
    let new = sandbox.release(&api, "new").await;
    let id = api.deploy("production", &new).await;
    let done = api.wait_for(&id, &[State::Succeeded]).await;
    let said = &step(&done, pb::step::Kind::Switch).message;
    assert!(said.contains("edge-2 unreachable"), "{said}");
    second.act(|script| script.silent = false);
    second.wait_until_it_serves(HOST, &new).await;
    edge_is(&api, "edge-2", pb::edge::State::Live).await;
}

#[tokio::test]
async fn an_edge_that_was_not_heard_for_days_is_named_and_counts_for_nothing() {
    let (sandbox, _orchestrator, _edges, api) = started(&[], policy()).await;
    sandbox
        .act(
            "INSERT INTO edge (id, boot, address, heard_at, joined_at)
             VALUES ('edge-9', 'boot', '10.0.0.9:80', clock() - interval '2 days', clock())",
        )
        .await;
    let release = sandbox.release(&api, "new").await;
    let id = api.deploy("production", &release).await;
    let done = api.wait_for(&id, &[State::Succeeded]).await;
    let said = &step(&done, pb::step::Kind::Switch).message;
    assert_eq!(said, "2 of 2 edges; edge-9 not heard for a day");
    edge_is(&api, "edge-9", pb::edge::State::Silent).await;
}

#[tokio::test]
async fn reports_that_come_twice_or_late_take_nothing_back() {
    let (sandbox, _orchestrator, [first, _second], api) = started(&[], policy()).await;
    for words in ["old", "new"] {
        let release = sandbox.release(&api, words).await;
        api.deploy_whole("production", &release).await;
        first.wait_until_it_serves(HOST, &release).await;
    }
    let route = first.route(HOST).unwrap();
    let held = |host: &str, version: i64| HeldRoute {
        host: host.to_owned(),
        epoch: route.epoch,
        version,
        ..HeldRoute::default()
    };
    let report = |host: &str, version: i64| WatchRoutesRequest {
        held: vec![held(host, version)],
        ..WatchRoutesRequest::default()
    };
    for (host, version) in [
        (HOST, route.version - 1),
        (HOST, route.version),
        (HOST, route.version - 1),
    ] {
        first.tell(report(host, version));
    }
    // Several times in one report.
    let release = route.releases[0].release.clone().unwrap().release_id;
    let staged = |staged: bool| StagedRelease {
        release_id: release.clone(),
        staged,
        ..StagedRelease::default()
    };
    let marker = StagedRelease {
        release_id: ReleaseId::new().to_string(),
        staged: true,
        error: "the last report".to_owned(),
        ..StagedRelease::default()
    };
    first.tell(WatchRoutesRequest {
        held: vec![held(HOST, route.version), held(HOST, route.version - 1)],
        staged: vec![staged(false), staged(true), marker],
        ..WatchRoutesRequest::default()
    });
    let marker = "SELECT count(*) FROM edge_release WHERE error = 'the last report'";
    wait_until(SOON, "the last report to be kept", async || {
        sandbox.number(marker).await == 1
    })
    .await;
    let kept =
        "SELECT version FROM edge_route WHERE host = 'docs.localhost' AND edge_id = 'edge-1'";
    assert_eq!(sandbox.number(kept).await, route.version);
    let staged = "SELECT count(*) FROM edge_release WHERE edge_id = 'edge-1' AND NOT staged";
    assert_eq!(sandbox.number(staged).await, 0);
}

#[tokio::test]
async fn an_edge_that_comes_with_a_new_stream_tells_all_anew() {
    let (sandbox, orchestrator, [first, _second], api) = started(&[], policy()).await;
    let release = sandbox.release(&api, "one").await;
    api.deploy_whole("production", &release).await;
    // What it held before, and holds no more.
    sandbox
        .act("INSERT INTO edge_route VALUES ('edge-1', 'gone.localhost', 1, 9)")
        .await;
    first.turn_to(orchestrator.running.address);
    let gone = "SELECT count(*) FROM edge_route WHERE host = 'gone.localhost'";
    wait_until(SOON, "the old rows to go", async || {
        sandbox.number(gone).await == 0
    })
    .await;
    edge_is(&api, "edge-1", pb::edge::State::Live).await;
}

#[tokio::test]
async fn an_edge_that_stages_for_long_joins_with_what_went_live_meanwhile() {
    let (sandbox, orchestrator, _edge, api) = Sandbox::started().await;
    api.create_environment("production", policy()).await;
    let old = sandbox.release(&api, "old").await;
    api.deploy_whole("production", &old).await;
    let frozen = Script {
        frozen: true,
        ..Script::default()
    };
    let address = orchestrator.running.address;
    let late = Edge::start_as(&sandbox, "edge-2", address, frozen).await;
    let begun = "SELECT count(*) FROM edge WHERE id = 'edge-2'";
    wait_until(SOON, "its stream to begin", async || {
        sandbox.number(begun).await == 1
    })
    .await;
    let versions = "SELECT version FROM route WHERE host = 'docs.localhost'";
    let before = sandbox.number(versions).await;
    let new = sandbox.release(&api, "new").await;
    api.deploy_whole("production", &new).await;
    for (version, state) in [
        (before, pb::edge::State::Joining),
        (sandbox.number(versions).await, pb::edge::State::Live),
    ] {
        tell_held(&sandbox, &late, version).await;
        edge_is(&api, "edge-2", state).await;
    }
}

/// Tells that it holds a version of the host's route, and waits until that is kept.
async fn tell_held(sandbox: &Sandbox, edge: &Edge, version: i64) {
    edge.tell(WatchRoutesRequest {
        held: vec![HeldRoute {
            host: HOST.to_owned(),
            epoch: i32::try_from(sandbox.number(EPOCH).await).unwrap(),
            version,
            ..HeldRoute::default()
        }],
        ..WatchRoutesRequest::default()
    });
    wait_until_held(sandbox, version).await;
}

/// Waits until it is kept that the second edge holds this version of the host's route.
async fn wait_until_held(sandbox: &Sandbox, version: i64) {
    let kept = "SELECT coalesce(max(version), 0) FROM edge_route
                WHERE host = 'docs.localhost' AND edge_id = 'edge-2'";
    wait_until(SOON, "a report to be kept", async || {
        sandbox.number(kept).await == version
    })
    .await;
}

#[tokio::test]
async fn a_live_edge_that_joined_behind_is_waited_for_and_not_blamed() {
    let (sandbox, _orchestrator, [first, second], api) = started(&[], policy()).await;
    let old = sandbox.release(&api, "old").await;
    api.deploy_whole("production", &old).await;
    let new = sandbox.release(&api, "new").await;
    first.act(|script| script.away_on = Some("docs.".to_owned()));
    let made = api.create("production", &new, Some(baking())).await;
    let id = made.unwrap().into_inner().id;
    let away = |one: &pb::Deployment| blockers(one) == [pb::blocker::Kind::Provider];
    api.wait_until(&id, "an edge that does not answer", away)
        .await;
    second.wait_until_it_serves(HOST, &new).await;
    let version = second.route(HOST).unwrap().version;
    wait_until_held(&sandbox, version).await;
    // As an edge leaves it that joined while the traffic moved: live, with the route before the switch.
    let joins_behind = "UPDATE edge_route SET version = version - 2
                        WHERE host = 'docs.localhost' AND edge_id = 'edge-2'";
    sandbox.act(joins_behind).await;
    second.act(|script| script.lies_on = Some("docs.".to_owned()));
    first.act(|script| script.away_on = None);
    let behind = |one: &pb::Deployment| {
        blockers(one) == [pb::blocker::Kind::Edge]
            && one.blockers[0].message == "waiting for edge-2"
    };
    api.wait_until(&id, "a wait for the other edge", behind)
        .await;
    second.act(|script| script.lies_on = None);
    tell_held(&sandbox, &second, version).await;
    let bakes = api.wait_in(&id, pb::step::Kind::Bake).await;
    sandbox.act(joins_behind).await;
    let bake = step(&bakes, pb::step::Kind::Bake).ord;
    api.advance(&id, bake).await.unwrap();
    api.wait_until(&id, "a wait for it before the end", behind)
        .await;
    tell_held(&sandbox, &second, version).await;
    api.wait_for(&id, &[State::Succeeded]).await;
}

/// How often a waiting step looked, and what lets it look no more by itself.
const POLLS: &str = "SELECT sum(polls)::bigint FROM step WHERE waits_on_edges";
const ASLEEP: &str = "UPDATE step SET run_at = clock() + interval '1 hour'
                      WHERE state = 'ready' AND waits_on_edges";

async fn wait_on_edges(sandbox: &Sandbox, kind: &str) {
    let waiting = format!(
        "SELECT count(*) FROM step WHERE kind = '{kind}' AND state = 'ready' AND waits_on_edges"
    );
    wait_until(SOON, "a step to wait for edges", async || {
        sandbox.number(&waiting).await == 1
    })
    .await;
}

/// Waits until whole deployments elsewhere, after `report`, give the sleeping step no turn: the
/// reports that it does wait for may still be on their way the first time.
async fn nothing_wakes_it(sandbox: &Sandbox, api: &Api, report: impl Fn() + Send + Sync) {
    let other = sandbox.release(api, "other").await;
    let mut places = 1..;
    wait_until(
        SOON,
        "a deployment elsewhere that wakes nothing",
        async || {
            let place = format!("staging-{}", places.next().unwrap());
            api.create_environment(&place, policy()).await;
            sandbox.act(ASLEEP).await;
            let before = sandbox.number(POLLS).await;
            report();
            api.deploy_whole(&place, &other).await;
            sandbox.number(POLLS).await == before
        },
    )
    .await;
}

#[tokio::test]
async fn a_report_about_one_lane_gives_another_no_turn() {
    let three = pb::Policy {
        min_edges: 3,
        ..policy()
    };
    let (sandbox, orchestrator, _edges, api) = started(&[], three).await;
    let release = sandbox.release(&api, "one").await;
    let id = api.deploy("production", &release).await;
    // No edge is behind: it waits for one more.
    wait_on_edges(&sandbox, "stage").await;
    nothing_wakes_it(&sandbox, &api, || {}).await;
    let _third = Edge::start(&sandbox, "edge-3", orchestrator.running.address).await;
    api.wait_for(&id, &[State::Succeeded]).await;
}

#[tokio::test]
async fn a_report_gives_no_turn_while_another_edge_is_behind() {
    let (sandbox, _orchestrator, [first, second], api) = started(&[], policy()).await;
    let old = sandbox.release(&api, "old").await;
    api.deploy_whole("production", &old).await;
    let announced = first.route(HOST).unwrap().version + 1;
    second.act(|script| script.up_to = Some(announced));
    let new = sandbox.release(&api, "new").await;
    let id = api.deploy("production", &new).await;
    wait_until(SOON, "the switch", async || {
        first.served(HOST).last() == Some(&Some(new.clone()))
    })
    .await;
    wait_on_edges(&sandbox, "switch").await;
    let held = HeldRoute {
        host: HOST.to_owned(),
        epoch: i32::try_from(sandbox.number(EPOCH).await).unwrap(),
        version: first.route(HOST).unwrap().version,
        ..HeldRoute::default()
    };
    let tell = || {
        first.tell(WatchRoutesRequest {
            held: vec![held.clone()],
            ..WatchRoutesRequest::default()
        });
    };
    nothing_wakes_it(&sandbox, &api, tell).await;
    // It sleeps for an hour: the report of the last edge gives it the turn.
    second.act(|script| script.up_to = None);
    api.wait_for(&id, &[State::Succeeded]).await;
}

#[tokio::test]
async fn the_refusal_of_the_last_edge_that_a_step_waits_for_gives_it_a_turn_at_once() {
    let rare = [("CANDLEFISH_POLL_MS", "60000")];
    let (sandbox, _orchestrator, edges, api) = started(&rare, policy()).await;
    for edge in &edges {
        edge.act(|script| script.frozen = true);
    }
    let release = sandbox.release(&api, "new").await;
    let id = api.deploy("production", &release).await;
    wait_on_edges(&sandbox, "stage").await;
    let refusals = "SELECT count(*) FROM edge_release WHERE error <> ''";
    for (before, edge) in (0_i64..).zip(&edges) {
        wait_until(SOON, "the refusal before to be kept", async || {
            sandbox.number(refusals).await == before
        })
        .await;
        sandbox.act(ASLEEP).await;
        // A commit makes the worker look once more: nothing is due, and it sleeps until the poll.
        let place = format!("staging-{before}");
        api.create_environment(&place, policy()).await;
        edge.act(|script| {
            script.frozen = false;
            "/a.css is corrupt".clone_into(&mut script.refuses);
        });
    }
    let failed = api.wait_for(&id, &[State::Failed]).await;
    assert_eq!(failed.message, "/a.css is corrupt");
}

#[tokio::test]
async fn an_edge_is_sent_away_while_its_report_is_written_to_a_database_that_answers_nothing() {
    let (_sandbox, orchestrator, edge, _api) = Sandbox::started().await;
    orchestrator.database_falls_silent();
    // Its reports, ten a second, hang: no error of the database ends the stream.
    poll_until(SOON, "the end of the stream", async || {
        let refusal = edge.refusal();
        let is_it = refusal.contains("does not see its database");
        if is_it { Ok(()) } else { Err(refusal) }
    })
    .await;
}

#[tokio::test]
async fn a_changed_route_is_sent_before_the_reports_that_wait_to_be_written() {
    let (sandbox, _orchestrator, edge, api) = Sandbox::started().await;
    api.create_environment("production", policy()).await;
    let release = sandbox.release(&api, "one").await;
    api.deploy_whole("production", &release).await;
    // Ten come in a second, and three are written.
    sandbox
        .act(
            "CREATE SEQUENCE written;
             CREATE FUNCTION write_slowly() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
                 PERFORM nextval('written'), pg_sleep(0.3);
                 RETURN NEW;
             END $$;
             CREATE TRIGGER write_slowly BEFORE UPDATE ON edge
                 FOR EACH ROW EXECUTE FUNCTION write_slowly();",
        )
        .await;
    let written = "SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM written";
    wait_until(SOON, "reports to wait", async || {
        sandbox.number(written).await > 5
    })
    .await;
    sandbox
        .act(
            "UPDATE route SET version = version + 1, changed_in = pg_current_xact_id()
             WHERE host = 'docs.localhost'",
        )
        .await;
    let versions = "SELECT version FROM route WHERE host = 'docs.localhost'";
    let version = sandbox.number(versions).await;
    // The reconciler would send it half a minute later.
    let soon = Duration::from_secs(15);
    wait_until(soon, "the changed route to be sent", async || {
        edge.route(HOST).unwrap().version == version
    })
    .await;
}

#[tokio::test]
async fn a_report_that_no_edge_can_give_is_refused_and_moves_no_epoch() {
    let (sandbox, _orchestrator, [first, _second], api) = started(&[], policy()).await;
    let release = sandbox.release(&api, "old").await;
    api.deploy_whole("production", &release).await;
    let epoch = sandbox.number("SELECT epoch::bigint FROM relay").await;
    let held = |host: &str| HeldRoute {
        host: host.to_owned(),
        epoch: i32::MAX,
        version: 1,
        ..HeldRoute::default()
    };
    for host in [HOST, "nobody--docs.localhost"] {
        first.tell(WatchRoutesRequest {
            held: vec![held(host)],
            ..WatchRoutesRequest::default()
        });
        let words = format!("names epoch {} of {host}", i32::MAX);
        poll_until(SOON, "the refusal", async || {
            let refusal = first.refusal();
            let is_it = refusal.contains(&words);
            if is_it { Ok(()) } else { Err(refusal) }
        })
        .await;
    }
    let after = sandbox.number("SELECT epoch::bigint FROM relay").await;
    assert_eq!(after, epoch);
    // Its true reports are taken again.
    let new = sandbox.release(&api, "new").await;
    api.deploy_whole("production", &new).await;
    first.wait_until_it_serves(HOST, &new).await;
}
