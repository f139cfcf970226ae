//! A switch with several edges: one is first, and a visitor goes from one to the next.

use candlefish_proto::deploy::{self as pb, deployment::State, record};
use candlefish_testkit::wait_until;

use crate::{
    api::{baking, millis, policy},
    edges::{HOST, started},
    history,
    sandbox::{SITE, SOON, Sandbox},
    stops,
};

#[tokio::test]
async fn an_edge_that_lags_at_a_switch_knows_the_new_release() {
    let (sandbox, _orchestrator, [first, second], api) = started(&[], policy()).await;
    let old = sandbox.release(&api, "old").await;
    api.deploy_whole("production", &old).await;
    let before = second.route(HOST).unwrap();
    second.act(|script| script.up_to = Some(before.version + 1));
    let new = sandbox.release(&api, "new").await;
    let id = api.deploy("production", &new).await;
    wait_until(SOON, "the switch", async || {
        first.serves(HOST) == [(old.clone(), 0), (new.clone(), 100)]
    })
    .await;
    assert_eq!(second.serves(HOST), [(old.clone(), 100), (new.clone(), 0)]);
    let (lags, leads) = (second.route(HOST).unwrap(), first.route(HOST).unwrap());
    let nobody_is_switched = lags.rolled_edges.is_empty() && lags.waiting_edges.is_empty();
    assert!(lags.rolling && nobody_is_switched, "{lags:?}");
    assert!(!leads.rolling, "{leads:?}");
    // What visitors got from the one counts on the other, and nothing that they got before.
    let generation = before.generation + 1;
    assert_eq!(
        (lags.generation, leads.generation),
        (generation, generation)
    );
    second.act(|script| script.up_to = None);
    api.wait_for(&id, &[State::Succeeded]).await;
    for edge in [&first, &second] {
        edge.wait_until_it_serves(HOST, &new).await;
    }
}

#[tokio::test]
async fn nothing_moves_before_every_edge_knows_the_new_release() {
    let (sandbox, _orchestrator, [first, second], api) = started(&[], policy()).await;
    let old = sandbox.release(&api, "old").await;
    api.deploy_whole("production", &old).await;
    let before = second.route(HOST).unwrap().version;
    second.act(|script| script.up_to = Some(before));
    let new = sandbox.release(&api, "new").await;
    let id = api.deploy("production", &new).await;
    wait_until(SOON, "the announcement", async || {
        first.serves(HOST) == [(old.clone(), 100), (new.clone(), 0)]
    })
    .await;
    let waits = api.wait_in(&id, pb::step::Kind::Switch).await;
    assert!(waits.pivoted_at.is_none(), "{waits:?}");
    assert_eq!(waits.weight, 0);
    assert_eq!(first.served(HOST), [Some(old.clone()), Some(old.clone())]);
    api.cancel(&id).await.unwrap();
    second.act(|script| script.up_to = None);
    let ended = api.wait_for(&id, &[State::Cancelled]).await;
    assert!(ended.pivoted_at.is_none(), "{ended:?}");
    for edge in [&first, &second] {
        edge.wait_until_it_serves(HOST, &old).await;
        assert!(!edge.served(HOST).contains(&Some(new.clone())));
    }
    assert_eq!(api.environment("production").await.live_release_id, old);
}

#[tokio::test]
async fn a_stop_that_pauses_comes_between_the_announcement_and_the_move() {
    let (sandbox, _orchestrator, [first, second], api) = started(&[], policy()).await;
    let old = sandbox.release(&api, "old").await;
    api.deploy_whole("production", &old).await;
    let before = second.route(HOST).unwrap().version;
    second.act(|script| script.up_to = Some(before));
    let new = sandbox.release(&api, "new").await;
    let id = api.deploy("production", &new).await;
    let announced = [(old.clone(), 100), (new.clone(), 0)];
    wait_until(SOON, "the announcement", async || {
        first.serves(HOST) == announced
    })
    .await;
    let stop = stops::set(&sandbox, &api, SITE, true).await.unwrap();
    second.act(|script| script.up_to = None);
    let kept = stops::paused(&api, &id).await;
    assert!(kept.pivoted_at.is_none(), "{kept:?}");
    wait_until(SOON, "the edge that lagged", async || {
        second.serves(HOST) == announced
    })
    .await;
    assert_eq!(first.serves(HOST), announced);
    stops::lift(&api, &stop.id).await.unwrap();
    api.wait_for(&id, &[State::Succeeded]).await;
    for edge in [&first, &second] {
        edge.wait_until_it_serves(HOST, &new).await;
    }
}

#[tokio::test]
async fn a_rollback_that_takes_an_announcement_back_tells_of_no_traffic() {
    let patient = [("CANDLEFISH_EDGE_PATIENCE_HURRIED_MS", "600000")];
    let (sandbox, _orchestrator, [first, second], api) = started(&patient, policy()).await;
    let mut live = String::new();
    for words in ["old", "live"] {
        live = sandbox.release(&api, words).await;
        api.deploy_whole("production", &live).await;
    }
    second.wait_until_it_serves(HOST, &live).await;
    let before = second.route(HOST).unwrap().version;
    second.act(|script| script.up_to = Some(before));
    let new = sandbox.release(&api, "new").await;
    let acting = api.deploy("production", &new).await;
    wait_until(SOON, "the announcement", async || {
        first.serves(HOST) == [(live.clone(), 100), (new.clone(), 0)]
    })
    .await;
    // They have forgotten what is not live, and follow no further.
    for edge in [&first, &second] {
        edge.act(|script| script.frozen = true);
    }
    sandbox.act("DELETE FROM edge_release").await;
    let made = api.roll_back("production").await.unwrap();
    let back = made.into_inner().deployment.unwrap().id;
    let ended = api.wait_for(&acting, &[State::Cancelled]).await;
    assert!(ended.pivoted_at.is_none(), "{ended:?}");
    api.cancel(&back).await.unwrap();
    for edge in [&first, &second] {
        edge.act(|script| (script.frozen, script.up_to) = (false, None));
    }
    api.wait_for(&back, &[State::Cancelled]).await;
    for edge in [&first, &second] {
        edge.wait_until_it_serves(HOST, &live).await;
    }
    let told = history::of_kind(&api, "production", record::Kind::Rollback).await;
    let by: Vec<_> = told.iter().map(|one| &*one.by).collect();
    assert_eq!(by, ["erin"]);
    let log = api.logged(&back).await;
    let said = format!("it preempted {acting}: it had moved no traffic yet");
    assert!(log.iter().any(|line| line.contains(&said)), "{log:?}");
}

#[tokio::test]
async fn an_undo_takes_those_along_who_kept_the_new_release() {
    let (sandbox, _orchestrator, edges, api) = started(&[], policy()).await;
    let old = sandbox.release(&api, "old").await;
    api.deploy_whole("production", &old).await;
    let new = sandbox.release(&api, "new").await;
    let made = api.create("production", &new, Some(baking())).await;
    let id = made.unwrap().into_inner().id;
    api.wait_in(&id, pb::step::Kind::Bake).await;
    let switched = edges[0].route(HOST).unwrap().generation;
    api.abort(&id).await.unwrap();
    api.wait_for(&id, &[State::RolledBack]).await;
    for edge in &edges {
        edge.wait_until_it_serves(HOST, &old).await;
        assert_eq!(edge.route(HOST).unwrap().generation, switched + 1);
    }
}

#[tokio::test]
async fn a_canary_is_announced_before_its_first_share() {
    let (sandbox, _orchestrator, edges, api) = started(&[], policy()).await;
    let old = sandbox.release(&api, "old").await;
    api.deploy_whole("production", &old).await;
    let new = sandbox.release(&api, "new").await;
    let canary = pb::Strategy {
        kind: Some(pb::strategy::Kind::Canary(pb::Canary {
            weights: vec![10],
            interval: Some(millis(1000)),
            bake: None,
        })),
    };
    let made = api.create("production", &new, Some(canary)).await;
    let id = made.unwrap().into_inner().id;
    api.wait_for(&id, &[State::Succeeded]).await;
    let (old, new) = (Some(old), Some(new));
    for edge in &edges {
        edge.wait_until_it_serves(HOST, new.as_ref().unwrap()).await;
        // Announced, shared, switched with both on the route, and alone.
        let served = edge.served(HOST);
        let served: Vec<_> = served.iter().collect();
        assert_eq!(served, [&old, &old, &None, &new, &new]);
    }
}

#[tokio::test]
async fn a_rollback_is_one_route() {
    let (sandbox, _orchestrator, [first, second], api) = started(&[], policy()).await;
    let mut releases = Vec::new();
    for words in ["old", "new"] {
        let release = sandbox.release(&api, words).await;
        api.deploy_whole("production", &release).await;
        first.wait_until_it_serves(HOST, &release).await;
        releases.push(release);
    }
    let before = first.route(HOST).unwrap();
    let made = api.roll_back("production").await.unwrap();
    let id = made.into_inner().deployment.unwrap().id;
    api.wait_for(&id, &[State::Succeeded]).await;
    for edge in [&first, &second] {
        edge.wait_until_it_serves(HOST, &releases[0]).await;
        let after = edge.route(HOST).unwrap();
        assert_eq!(
            (after.version, after.generation),
            (before.version + 1, before.generation + 1)
        );
    }
}

#[tokio::test]
async fn where_there_is_one_edge_a_switch_is_one_route() {
    let (sandbox, _orchestrator, edge, api) = Sandbox::started().await;
    api.create_environment("production", policy()).await;
    let mut releases = Vec::new();
    for words in ["old", "new"] {
        let release = sandbox.release(&api, words).await;
        api.deploy_whole("production", &release).await;
        releases.push(Some(release));
    }
    assert_eq!(edge.served(HOST), releases);
}

#[tokio::test]
async fn pages_of_the_release_before_keep_their_assets_when_the_live_one_is_deployed_again() {
    let (sandbox, _orchestrator, [first, _second], api) = started(&[], policy()).await;
    let old = sandbox.release(&api, "old").await;
    let new = sandbox.release(&api, "new").await;
    for release in [&old, &new, &new] {
        api.deploy_whole("production", release).await;
    }
    let kept = || {
        let kept = first.route(HOST).unwrap().assets_of.into_iter();
        kept.map(|one| one.release_id).collect::<Vec<_>>()
    };
    first.wait_until_it_serves(HOST, &new).await;
    assert_eq!(kept(), std::slice::from_ref(&old));
    // Nor are they lost when that is taken back.
    let made = api.create("production", &new, Some(baking())).await;
    let again = made.unwrap().into_inner().id;
    api.wait_in(&again, pb::step::Kind::Bake).await;
    api.cancel(&again).await.unwrap();
    api.wait_until(&again, "an end", |one| one.finished_at.is_some())
        .await;
    assert_eq!(kept(), [old]);
}
