//! The platform under fire: processes die in the middle, the bus forgets everything, Postgres goes.

use std::time::Duration;

use candlefish_devstack::Service;
use candlefish_proto::deploy::deployment::State;
use e2e::{
    Content, Sandbox, Visitors,
    api::{Commit, quick_policy},
};

#[tokio::test(flavor = "multi_thread")]
async fn a_deployment_is_carried_on_whatever_dies() {
    let sandbox = Sandbox::with(|builder| builder.replicas(2, 2, 2))
        .await
        .unwrap();
    let api = &sandbox.api;
    let policy = candlefish_proto::deploy::Policy {
        order: candlefish_proto::deploy::policy::Order::Queue.into(),
        ..quick_policy()
    };
    api.set_policy("docs", "production", policy).await.unwrap();
    let commits = Commit::chain(9, 9);
    let marks: Vec<String> = (0..9).map(|place| format!("m{place}")).collect();
    let first = api
        .release("docs", &Content::site(&marks[0]), &commits[0])
        .await
        .unwrap();
    let deployment = api
        .deploy("docs", "production", &first, None)
        .await
        .unwrap();
    api.succeeds(&deployment.id).await.unwrap();

    let edges: Vec<_> = sandbox
        .stack
        .edges()
        .iter()
        .map(|edge| edge.address)
        .collect();
    let names: Vec<&str> = marks.iter().map(String::as_str).collect();
    let visitors = Visitors::send(&edges, "docs.localhost", 1, &names);
    visitors.know(&first, &marks[0]);
    let mut asked = Vec::new();
    for (mark, commit) in marks.iter().zip(&commits).skip(1) {
        let release = api
            .release("docs", &Content::site(mark), commit)
            .await
            .unwrap();
        visitors.know(&release, mark);
        asked.push(
            api.deploy("docs", "production", &release, None)
                .await
                .unwrap()
                .id,
        );
    }
    // Kill one orchestrator after the other while the queue is worked off.
    for (turn, id) in asked.iter().enumerate() {
        let victims = sandbox.stack.processes(Service::Orchestrator);
        let victim = &victims[turn % victims.len()];
        victim.kill().unwrap();
        victim.start().unwrap();
        let ended = api.ended(id).await.unwrap();
        assert_eq!(
            ended.state(),
            State::Succeeded,
            "{}",
            e2e::api::summary(&ended)
        );
    }
    let seen = visitors.come_back().await;
    assert_eq!(seen.complaints, Vec::<String>::new());
    assert_eq!(seen.went_back, Vec::<String>::new());
    let page = sandbox.visit(0, "docs.localhost", "/").await.unwrap();
    assert!(page.body.contains("mark:m8<"), "{}", page.body);
    sandbox.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn losing_the_bus_and_restarting_postgres_costs_only_time() {
    let sandbox = Sandbox::start().await.unwrap();
    let api = &sandbox.api;
    let commits = Commit::chain(10, 3);
    let one = api
        .release("docs", &Content::site("one"), &commits[0])
        .await
        .unwrap();
    let first = api.deploy("docs", "production", &one, None).await.unwrap();
    api.succeeds(&first.id).await.unwrap();

    let nats = sandbox.stack.nats();
    nats.wipe().unwrap();
    let two = api
        .release("docs", &Content::site("two"), &commits[1])
        .await
        .unwrap();
    let second = api.deploy("docs", "production", &two, None).await.unwrap();
    api.succeeds(&second.id).await.unwrap();
    nats.restart().await.unwrap();

    let edges: Vec<_> = sandbox
        .stack
        .edges()
        .iter()
        .map(|edge| edge.address)
        .collect();
    let visitors = Visitors::send(&edges, "docs.localhost", 1, &["two"]);
    let postgres = sandbox.stack.postgres();
    postgres.process().kill().unwrap();
    postgres.restart().await.unwrap();
    candlefish_devstack::wait_until(Duration::from_secs(30), "the API answers", || async {
        api.environment("docs", "production")
            .await
            .map_err(|status| status.to_string())
    })
    .await
    .unwrap();
    let seen = visitors.come_back().await;
    assert_eq!(seen.complaints, Vec::<String>::new());

    let three = api
        .release("docs", &Content::site("three"), &commits[2])
        .await
        .unwrap();
    let third = api
        .deploy("docs", "production", &three, None)
        .await
        .unwrap();
    api.succeeds(&third.id).await.unwrap();
    sandbox.stop().await.unwrap();
}
