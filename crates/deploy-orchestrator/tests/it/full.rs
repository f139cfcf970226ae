//! Environments in which as many deployments wait as may.

use candlefish_proto::deploy::{self as pb, deployment::State};
use candlefish_testkit::Log;
use tonic::{Code, Status};

use crate::{
    api::{Api, baking, policy, reason},
    inputs::picture,
    sandbox::{SITE, Sandbox},
    stage::{Stage, commit, latest, push},
};

const PENDING: &str = "SELECT count(*) FROM deployment WHERE state = 'pending'";

/// Production goes by turns from now on.
async fn queue(api: &Api) {
    let request = api.request(pb::UpdateEnvironmentRequest {
        site: SITE.to_owned(),
        environment: "production".to_owned(),
        policy: Some(policy()),
        ..pb::UpdateEnvironmentRequest::default()
    });
    api.sites().update_environment(request).await.unwrap();
}

/// Production takes no more of this release.
async fn refused(api: &Api, release: &str) -> Status {
    let refused = api.create("production", release, None).await.unwrap_err();
    is_full(&refused);
    refused
}

fn is_full(refused: &Status) {
    assert_eq!(refused.code(), Code::ResourceExhausted, "{refused}");
    assert_eq!(reason(refused), "lane-full", "{refused}");
}

#[tokio::test]
async fn a_full_queue_refuses_calls_in_words_that_help_and_writes_nothing() {
    let settings = [("CANDLEFISH_MAX_WAITING", "2")];
    let (sandbox, _orchestrator, _edge, api) = Sandbox::started_with(&settings).await;
    api.create_environment("production", policy()).await;
    let live = sandbox.release(&api, "one").await;
    let live = api.deploy_whole("production", &live).await;
    let release = sandbox.release(&api, "two").await;
    api.hold("production").await.unwrap();
    let keyed = api.keyed("kept");
    let oldest = keyed.deploy("production", &release).await;
    let other = api.deploy("production", &release).await;

    let before = picture(&sandbox).await;
    let words = refused(&api, &release).await;
    for part in [
        "as many deployments wait for docs/production as may (2)",
        &format!("The oldest is {oldest}: docs/production is held by erin: an incident"),
        "candlefish why docs/production",
        "candlefish cancel DEP",
        "candlefish env policy docs/production --order latest",
    ] {
        assert!(words.message().contains(part), "{part}: {words}");
    }
    is_full(&api.retry(&live.id).await.unwrap_err());
    assert_eq!(keyed.deploy("production", &release).await, oldest);
    assert_eq!(picture(&sandbox).await, before);

    let preview = api.preview(&release).await.unwrap().into_inner();
    api.wait_for(&preview.id, &[State::Succeeded]).await;
    api.cancel(&other).await.unwrap();
    let next = api.retry(&live.id).await.unwrap().into_inner();
    assert_eq!(next.state(), State::Pending);
    refused(&api, &release).await;
    api.cancel(&next.id).await.unwrap();
    api.deploy("production", &release).await;
    assert_eq!(sandbox.number(PENDING).await, 2);
}

#[tokio::test]
async fn a_full_queue_takes_pushes_their_uploads_and_rollbacks() {
    let stage = Stage::with(&[("CANDLEFISH_MAX_WAITING", "1")]).await;
    let (sandbox, api) = (&stage.sandbox, &stage.api);
    queue(api).await;
    for words in ["one", "two"] {
        let release = sandbox.release(api, words).await;
        api.deploy_whole("production", &release).await;
    }
    api.hold("production").await.unwrap();
    let release = sandbox.release(api, "three").await;
    let waiting = api.deploy("production", &release).await;
    refused(api, &release).await;

    let pushed = stage.pushed(&push(0, 1)).await;
    pushed.is("created", "");
    let built = stage.uploads(&commit(1), "built").await;
    assert_eq!(api.deploy("production", &built).await, pushed.deployment);
    assert_eq!(sandbox.number(PENDING).await, 2);
    refused(api, &release).await;

    let back = api.roll_back("production").await.unwrap().into_inner();
    let back = back.deployment.unwrap().id;
    api.wait_for(&back, &[State::Succeeded]).await;
    for left in [waiting, pushed.deployment] {
        assert_eq!(api.deployment(&left).await.state(), State::Pending);
    }
}

#[tokio::test]
async fn where_newer_ones_take_the_place_of_older_ones_only_what_stays_counts() {
    let settings = [("CANDLEFISH_MAX_WAITING", "1")];
    let (sandbox, _orchestrator, _edge, api) = Sandbox::started_with(&settings).await;
    api.create_environment("production", latest()).await;
    api.hold("production").await.unwrap();
    let release = sandbox.release(&api, "one").await;
    let older = api.deploy("production", &release).await;
    let newer = api.deploy("production", &release).await;
    assert_eq!(api.deployment(&older).await.state(), State::Superseded);

    api.pin(&newer, false).await.unwrap();
    let before = picture(&sandbox).await;
    let log = Log::hear();
    let accepted = || log.count("a deployment to docs/production is accepted");
    let words = refused(&api, &release).await;
    assert!(words.message().contains(&newer), "{words}");
    assert!(!words.message().contains("--order"), "{words}");
    assert_eq!(picture(&sandbox).await, before);
    assert_eq!(accepted(), 0);
    assert_eq!(api.deployment(&newer).await.state(), State::Pending);

    api.pin(&newer, true).await.unwrap();
    api.deploy("production", &release).await;
    assert_eq!(accepted(), 1);
    assert_eq!(api.deployment(&newer).await.state(), State::Superseded);
}

/// Neither has its content: they hold no lane, and give way to nothing.
async fn push_twice(stage: &Stage) {
    for number in [0, 1] {
        let pushed = stage.pushed(&push(number, number + 1)).await;
        pushed.is("created", "");
    }
}

#[tokio::test]
async fn a_queue_full_of_pushes_without_content_takes_what_goes_at_once() {
    let stage = Stage::with(&[("CANDLEFISH_MAX_WAITING", "2")]).await;
    let (sandbox, api) = (&stage.sandbox, &stage.api);
    queue(api).await;
    push_twice(&stage).await;
    let release = sandbox.release(api, "one").await;
    let live = api.deploy_whole("production", &release).await;
    let again = api.retry(&live.id).await.unwrap().into_inner();
    api.wait_for(&again.id, &[State::Succeeded]).await;

    let content = sandbox.put_content(&[("index.html", "late")]).await;
    let draft = api.create_release(content, "late", &[]).await;
    refused(api, &draft).await;
    let acts = api.create("production", &release, Some(baking())).await;
    refused(api, &release).await;
    let acts = api.deployment(&acts.unwrap().into_inner().id).await;
    assert!(acts.started_at.is_some(), "{acts:?}");
    assert_eq!(sandbox.number(PENDING).await, 2);
}

#[tokio::test]
async fn a_full_queue_takes_a_call_that_lets_another_go() {
    let settings = [("CANDLEFISH_MAX_WAITING", "1")];
    let (sandbox, _orchestrator, _edge, api) = Sandbox::started_with(&settings).await;
    api.create_environment("production", policy()).await;
    let release = sandbox.release(&api, "one").await;
    api.hold("production").await.unwrap();
    let first = api.deploy("production", &release).await;
    refused(&api, &release).await;
    let lifts = api.create_lifting("production", &release).await.unwrap();
    for id in [first, lifts.into_inner().id] {
        api.wait_for(&id, &[State::Succeeded]).await;
    }
}

#[tokio::test]
async fn beyond_the_limit_a_newer_one_takes_the_place_of_an_older_one_or_goes_at_once() {
    let stage = Stage::with(&[("CANDLEFISH_MAX_WAITING", "1")]).await;
    let (sandbox, api) = (&stage.sandbox, &stage.api);
    api.hold("production").await.unwrap();
    let release = sandbox.release(api, "one").await;
    let older = api.deploy("production", &release).await;
    push_twice(&stage).await;
    assert_eq!(sandbox.number(PENDING).await, 3);
    let newer = api.deploy("production", &release).await;
    assert_eq!(api.deployment(&older).await.state(), State::Superseded);
    assert_eq!(sandbox.number(PENDING).await, 3);

    api.pin(&newer, false).await.unwrap();
    refused(api, &release).await;
    api.lift("production").await.unwrap();
    api.wait_for(&newer, &[State::Succeeded]).await;
    api.deploy_whole("production", &release).await;
    assert_eq!(sandbox.number(PENDING).await, 2);
}
