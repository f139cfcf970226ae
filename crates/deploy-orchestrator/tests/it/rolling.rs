//! A rolling switch: edge after edge, and those that come while it goes on.

use candlefish_proto::deploy::{self as pb, deployment::State};
use candlefish_testkit::wait_until;

use crate::{
    api::policy,
    edge::Edge,
    sandbox::{SOON, Sandbox},
};

const HOST: &str = "docs.localhost";

fn one_by_one() -> pb::Strategy {
    pb::Strategy {
        kind: Some(pb::strategy::Kind::Rolling(pb::Rolling {
            batch: 1,
            bake: None,
        })),
    }
}

#[tokio::test]
async fn a_rolling_switch_takes_edge_after_edge() {
    let (sandbox, orchestrator, first, api) = Sandbox::started().await;
    let second = Edge::start(&sandbox, "edge-2", orchestrator.running.address).await;
    api.wait_for_live_edges(2).await;
    api.create_environment("production", policy()).await;
    let old = sandbox.release(&api, "old").await;
    api.deploy_whole("production", &old).await;
    let new = sandbox.release(&api, "new").await;
    let made = api.create("production", &new, Some(one_by_one())).await;
    let made = made.unwrap();
    let id = made.into_inner().id;
    let done = api.wait_for(&id, &[State::Succeeded]).await;
    assert_eq!(done.weight, 100);
    for edge in [&first, &second] {
        edge.wait_until_it_serves(HOST, &new).await;
        assert!(!edge.route(HOST).unwrap().rolling);
    }
    let half = api.logged(&id).await;
    assert!(
        half.iter().any(|line| line.starts_with("switch")),
        "{half:?}"
    );
}

#[tokio::test]
async fn an_edge_that_joins_a_rolling_switch_gets_what_others_confirmed() {
    let (sandbox, orchestrator, _first, api) = Sandbox::started().await;
    let address = orchestrator.running.address;
    let second = Edge::start(&sandbox, "edge-2", address).await;
    let third = Edge::start(&sandbox, "edge-3", address).await;
    api.wait_for_live_edges(3).await;
    api.create_environment("production", policy()).await;
    let old = sandbox.release(&api, "old").await;
    api.deploy_whole("production", &old).await;
    // It confirms what announces the release, and the first batch, and follows no further: the second
    // one is never whole.
    let first_batch = third.route(HOST).unwrap().version + 2;
    third.act(|script| script.up_to = Some(first_batch));
    let new = sandbox.release(&api, "new").await;
    let made = api.create("production", &new, Some(one_by_one())).await;
    let id = made.unwrap().into_inner().id;
    wait_until(SOON, "the second batch", async || {
        let route = second.route(HOST).unwrap();
        route.rolling && route.waiting_edges == ["edge-3"]
    })
    .await;
    // Its name comes before all others: it takes nobody's turn and waits for none.
    let joins = Edge::start(&sandbox, "edge-0", address).await;
    api.wait_for_live_edges(4).await;
    let served = joins.served(HOST);
    assert_eq!(served, [Some(new.clone())]);
    assert_eq!(third.served(HOST).last(), Some(&Some(old)));
    third.act(|script| script.up_to = None);
    let done = api.wait_for(&id, &[State::Succeeded]).await;
    assert_eq!(done.weight, 100);
    third.wait_until_it_serves(HOST, &new).await;
    joins.wait_until_it_serves(HOST, &new).await;
    let all_new = joins
        .served(HOST)
        .iter()
        .all(|one| *one == Some(new.clone()));
    assert!(all_new, "{:?}", joins.served(HOST));
}

#[tokio::test]
async fn an_edge_that_joins_before_anybody_confirmed_takes_its_turn() {
    let (sandbox, orchestrator, first, api) = Sandbox::started().await;
    let address = orchestrator.running.address;
    let second = Edge::start(&sandbox, "edge-2", address).await;
    api.wait_for_live_edges(2).await;
    api.create_environment("production", policy()).await;
    let old = sandbox.release(&api, "old").await;
    api.deploy_whole("production", &old).await;
    // It knows of the release.
    let announced = first.route(HOST).unwrap().version + 1;
    first.act(|script| script.up_to = Some(announced));
    let new = sandbox.release(&api, "new").await;
    let made = api.create("production", &new, Some(one_by_one())).await;
    let id = made.unwrap().into_inner().id;
    wait_until(SOON, "the first batch", async || {
        second.route(HOST).unwrap().rolled_edges == ["edge-1"]
    })
    .await;
    let joins = Edge::start(&sandbox, "edge-3", address).await;
    api.wait_for_live_edges(3).await;
    assert_eq!(joins.served(HOST), [Some(old.clone())]);
    first.act(|script| script.up_to = None);
    api.wait_for(&id, &[State::Succeeded]).await;
    joins.wait_until_it_serves(HOST, &new).await;
    let served = joins.served(HOST);
    let turn = served
        .iter()
        .filter(|one| **one == Some(old.clone()))
        .count();
    let (olds, news) = served.split_at(turn);
    assert!(
        olds.iter().all(|one| *one == Some(old.clone())),
        "{served:?}"
    );
    assert!(
        news.iter().all(|one| *one == Some(new.clone())),
        "{served:?}"
    );
}
