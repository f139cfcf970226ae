//! From a signed push to live, and no push lost while things are down.

use candlefish_devstack::Service;
use candlefish_proto::deploy::{self as pb, deployment::State, trigger::Outcome};
use candlefish_testkit::github::Push;
use e2e::{Content, PATIENCE, Sandbox, api::Commit, api::quick_policy};

use crate::doors::Rest;

const REPOSITORY: &str = "example/handbook";

/// Delivers a push of a commit as GitHub does.
async fn deliver(sandbox: &Sandbox, before: &str, commit: &Commit) {
    let push = Push {
        repository: REPOSITORY,
        branch: "main",
        before,
        commits: &[&commit.id],
        changes: &["docs/a.md"],
        pushed_at: 1_790_000_000,
    };
    let name = format!("guid-{}", commit.id);
    sandbox.delivers(&name, &push.example()).await.unwrap();
}

/// Waits until a commit is decided for production; answers what became of it.
async fn decided(sandbox: &Sandbox, commit: &Commit) -> pb::Trigger {
    candlefish_devstack::wait_until(PATIENCE, "the push is decided", || async {
        let triggers = sandbox.api.triggers(&commit.id).await;
        let mut triggers = triggers.map_err(|status| status.to_string())?;
        triggers
            .pop()
            .ok_or_else(|| "nothing is known yet".to_owned())
    })
    .await
    .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_push_goes_live_with_its_content_and_none_is_lost_while_things_are_down() {
    let sandbox = Sandbox::start().await.unwrap();
    let api = &sandbox.api;
    let site = pb::CreateSiteRequest {
        slug: "handbook".to_owned(),
        repository: REPOSITORY.to_owned(),
        ..Default::default()
    };
    api.sites().create_site(site).await.unwrap();
    let environment = pb::CreateEnvironmentRequest {
        site: "handbook".to_owned(),
        slug: "production".to_owned(),
        policy: Some(quick_policy()),
        pushes: Some(pb::PushRule {
            branch: "main".to_owned(),
            paths: vec!["docs/".to_owned()],
        }),
        ..Default::default()
    };
    api.sites().create_environment(environment).await.unwrap();
    let commits = Commit::chain(21, 3);

    deliver(&sandbox, &"0".repeat(40), &commits[0]).await;
    let waits = decided(&sandbox, &commits[0]).await;
    assert_eq!(waits.outcome(), Outcome::Created);
    assert!(waits.message.contains("nobody uploaded"), "{waits:?}");
    let release = api
        .release("handbook", &Content::site("one"), &commits[0])
        .await
        .unwrap();
    api.succeeds(&waits.deployment_id).await.unwrap();
    sandbox.send_visitors_onwards("handbook.localhost", &["one", "three"]);
    let asked = api.deploy("handbook", "production", &release, None).await;
    assert_eq!(asked.unwrap().id, waits.deployment_id);
    let live = decided(&sandbox, &commits[0]).await;
    assert_eq!(live.message, "is live on handbook/production");
    let by_rest = format!("/v1/triggers?commit={}", commits[0].id);
    let (status, told) = Rest::of(&sandbox).get(&by_rest).await;
    let message = told["triggers"][0]["message"].as_str();
    assert_eq!((status, message), (200, Some(&*live.message)), "{told}");

    // Two pushes while nobody is there who could decide them, and the bus is gone for one.
    let orchestrator = sandbox.stack.processes(Service::Orchestrator).remove(0);
    orchestrator.kill().unwrap();
    deliver(&sandbox, &commits[0].id, &commits[1]).await;
    sandbox.stack.nats().wipe().unwrap();
    deliver(&sandbox, &commits[1].id, &commits[2]).await;
    orchestrator.start().unwrap();
    sandbox.stack.ready("orchestrator-1").await.unwrap();
    // One that is not yet back is not waited for, and visitors may find the older page there.
    sandbox.edges_live().await.unwrap();
    for commit in &commits[1..] {
        let found = decided(&sandbox, commit).await;
        assert_eq!(found.outcome(), Outcome::Created, "{found:?}");
        assert_eq!(found.deployment_state(), State::Pending);
    }
    sandbox.stack.nats().restart().await.unwrap();

    api.release("handbook", &Content::site("three"), &commits[2])
        .await
        .unwrap();
    let newest = decided(&sandbox, &commits[2]).await;
    api.succeeds(&newest.deployment_id).await.unwrap();
    // What it overtook ends when its content comes after all.
    api.release("handbook", &Content::site("two"), &commits[1])
        .await
        .unwrap();
    let overtaken = decided(&sandbox, &commits[1]).await;
    let ended = api.ended(&overtaken.deployment_id).await.unwrap();
    assert_eq!(ended.state(), State::Superseded);
    let page = sandbox.visit(0, "handbook.localhost", "/").await.unwrap();
    assert!(page.body.contains("mark:three<"), "{}", page.body);
    sandbox.stop().await.unwrap();
}
