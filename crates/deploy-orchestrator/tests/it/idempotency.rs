//! A mutating call that is repeated with its key.

use candlefish_proto::deploy::{self as pb, deployment::State};
use futures_util::future::join_all;
use tonic::{Code, Response};

use crate::{
    api::{Answer, Api, baking, fields, policy, reason, recreate},
    edge::Edge,
    sandbox::{Orchestrator, SITE, Sandbox},
};

fn replayed<T>(answer: &Response<T>) -> bool {
    let said = answer.metadata().get("idempotent-replayed");
    said.is_some_and(|said| said == "true")
}

async fn started() -> (Sandbox, Orchestrator, Edge, Api) {
    let started = Sandbox::started().await;
    started.3.create_environment("production", policy()).await;
    started
}

#[tokio::test]
async fn the_same_call_answers_the_same_and_acts_once() {
    let (sandbox, _orchestrator, _edge, api) = started().await;
    let release = sandbox.release(&api, "one").await;
    let keyed = api.keyed("push-1");
    let first = keyed.create("production", &release, None).await.unwrap();
    let id = first.get_ref().id.clone();
    assert!(!replayed(&first));
    api.wait_for(&id, &[State::Succeeded]).await;
    let again = keyed.create("production", &release, None).await.unwrap();
    assert!(replayed(&again));
    // As it was answered then, not as it is now.
    assert_eq!(again.get_ref(), first.get_ref());
    assert_eq!(sandbox.number("SELECT count(*) FROM deployment").await, 1);
}

#[tokio::test]
async fn the_same_key_with_another_message_is_refused() {
    let (sandbox, _orchestrator, _edge, api) = started().await;
    let release = sandbox.release(&api, "one").await;
    let keyed = api.keyed("push-1");
    keyed.create("production", &release, None).await.unwrap();
    let status = keyed
        .create("production", &release, Some(recreate()))
        .await
        .unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    assert_eq!(reason(&status), "idempotency-key-reused");
    assert_eq!(sandbox.number("SELECT count(*) FROM deployment").await, 1);
}

#[tokio::test]
async fn a_key_belongs_to_its_principal_and_its_method() {
    let (sandbox, _orchestrator, _edge, api) = started().await;
    let release = sandbox.release(&api, "one").await;
    let keyed = api.keyed("monday");
    let mine = keyed.create("production", &release, None).await.unwrap();
    let mut other = keyed.clone();
    "robot".clone_into(&mut other.caller.principal);
    let theirs = other.create("production", &release, None).await.unwrap();
    assert_ne!(mine.get_ref().id, theirs.get_ref().id);
    let held = keyed.hold("production").await.unwrap();
    assert!(!replayed(&held));
}

#[tokio::test]
async fn of_equal_calls_at_the_same_time_one_acts() {
    let (sandbox, _orchestrator, _edge, api) = started().await;
    let replica = sandbox.start().await;
    let elsewhere = sandbox.api(replica.running.address);
    let release = sandbox.release(&api, "one").await;
    let calls = (0..8).map(|number| {
        let api = if number % 2 == 0 { &api } else { &elsewhere };
        let (api, release) = (api.keyed("push-1"), release.clone());
        async move { api.create("production", &release, None).await.unwrap() }
    });
    let answers = join_all(calls).await;
    let acted = answers.iter().filter(|answer| !replayed(answer)).count();
    assert_eq!(acted, 1);
    let first = answers.first().unwrap().get_ref().id.clone();
    assert!(answers.iter().all(|answer| answer.get_ref().id == first));
    assert_eq!(sandbox.number("SELECT count(*) FROM deployment").await, 1);
}

#[tokio::test]
async fn of_equal_previews_at_the_same_time_one_is_made() {
    let (sandbox, _orchestrator, _edge, api) = started().await;
    let release = sandbox.release(&api, "one").await;
    let calls = (0..4).map(|_| {
        let (api, release) = (api.keyed("preview-1"), release.clone());
        async move { api.preview(&release).await.unwrap() }
    });
    let answers = join_all(calls).await;
    let acted = answers.iter().filter(|answer| !replayed(answer)).count();
    assert_eq!(acted, 1);
    let previews = "SELECT count(*) FROM environment WHERE kind = 'preview'";
    assert_eq!(sandbox.number(previews).await, 1);
}

#[tokio::test]
async fn a_repeat_after_a_crash_finds_the_answer() {
    let (sandbox, orchestrator, edge, api) = started().await;
    let release = sandbox.release(&api, "one").await;
    edge.act(|script| script.frozen = true);
    let first = api
        .keyed("push-1")
        .create("production", &release, None)
        .await;
    let first = first.unwrap().into_inner();
    orchestrator.kill().await;
    let orchestrator = sandbox.start().await;
    edge.turn_to(orchestrator.running.address);
    edge.act(|script| script.frozen = false);
    let api = sandbox.api(orchestrator.running.address);
    let again = api
        .keyed("push-1")
        .create("production", &release, None)
        .await;
    let again = again.unwrap();
    assert!(replayed(&again));
    assert_eq!(again.get_ref(), &first);
    api.wait_for(&first.id, &[State::Succeeded]).await;
    assert_eq!(sandbox.number("SELECT count(*) FROM deployment").await, 1);
}

#[tokio::test]
async fn a_refused_call_keeps_no_answer() {
    let (sandbox, _orchestrator, _edge, api) = started().await;
    let release = sandbox.release(&api, "one").await;
    let keyed = api.keyed("lift-1");
    assert_eq!(
        reason(&keyed.lift("production").await.unwrap_err()),
        "not-held"
    );
    api.hold("production").await.unwrap();
    assert!(!replayed(&keyed.lift("production").await.unwrap()));
    assert!(replayed(&keyed.lift("production").await.unwrap()));
    drop(release);
}

#[tokio::test]
async fn a_repeat_that_lifted_a_hold_answers_and_another_one_finds_nothing_to_lift() {
    let (sandbox, _orchestrator, _edge, api) = started().await;
    let release = sandbox.release(&api, "one").await;
    api.hold("production").await.unwrap();
    let keyed = api.keyed("lift-1");
    let first = keyed.create_lifting("production", &release).await.unwrap();
    assert!(!replayed(&first));
    let records = sandbox.number("SELECT count(*) FROM record").await;
    let again = keyed.create_lifting("production", &release).await.unwrap();
    assert!(replayed(&again));
    assert_eq!(again.get_ref(), first.get_ref());
    let other = api.create_lifting("production", &release).await;
    let refused = other.unwrap_err();
    assert_eq!(
        (refused.code(), &*reason(&refused)),
        (Code::FailedPrecondition, "not-held")
    );
    assert!(refused.message().starts_with("docs/production is not held"));
    assert_eq!(fields(&refused), ["lift_hold"]);
    assert_eq!(
        sandbox.number("SELECT count(*) FROM record").await,
        records,
        "what did nothing is not recorded"
    );
    assert_eq!(sandbox.number("SELECT count(*) FROM deployment").await, 1);
}

#[tokio::test]
async fn a_repeated_rollback_answers_what_it_did() {
    let (sandbox, _orchestrator, _edge, api) = started().await;
    for words in ["one", "two"] {
        let release = sandbox.release(&api, words).await;
        api.deploy_whole("production", &release).await;
    }
    let keyed = api.keyed("oops");
    let first = keyed.roll_back("production").await.unwrap().into_inner();
    let id = first.deployment.clone().unwrap().id;
    api.wait_for(&id, &[State::Succeeded]).await;
    // Now nothing before the live release is left to go back to.
    let other = api.roll_back("production").await.unwrap_err();
    assert_eq!(reason(&other), "nothing-before");
    let again = keyed.roll_back("production").await.unwrap();
    assert!(replayed(&again));
    assert_eq!(again.into_inner(), first);
}

/// Calls that look their site up before anything else: whether each is answered as a repeat.
async fn asked(api: &Api, release: &str) -> [Answer<bool>; 4] {
    let draft = api.request(pb::CreateReleaseRequest {
        site: SITE.to_owned(),
        manifest_digest: "5a".repeat(32),
        manifest_size: 1,
        ..pb::CreateReleaseRequest::default()
    });
    let environment = api.request(pb::CreateEnvironmentRequest {
        site: SITE.to_owned(),
        slug: "staging".to_owned(),
        ..pb::CreateEnvironmentRequest::default()
    });
    let preview = api.preview(release).await;
    let back = api.roll_back("production").await;
    let draft = api.releases().create_release(draft).await;
    let made = api.sites().create_environment(environment).await;
    [
        preview.map(|answer| replayed(&answer)),
        back.map(|answer| replayed(&answer)),
        draft.map(|answer| replayed(&answer)),
        made.map(|answer| replayed(&answer)),
    ]
}

#[tokio::test]
async fn a_repeat_with_a_token_for_other_sites_is_told_nothing() {
    let (sandbox, _orchestrator, _edge, api) = started().await;
    for words in ["one", "two"] {
        let release = sandbox.release(&api, words).await;
        api.deploy_whole("production", &release).await;
    }
    let release = api.environment("production").await.live_release_id;
    let keyed = api.keyed("monday");
    for is_repeat in [false, true] {
        for answer in asked(&keyed, &release).await {
            assert_eq!(answer.unwrap(), is_repeat);
        }
        for answer in asked(&keyed.seeing(&["partners"]), &release).await {
            let status = answer.unwrap_err();
            let told = (status.code(), reason(&status));
            assert_eq!(told, (Code::NotFound, "unknown-site".to_owned()));
        }
    }
}

#[tokio::test]
async fn a_repeated_verb_answers_what_it_did_although_it_would_be_refused_now() {
    let (sandbox, _orchestrator, _edge, api) = started().await;
    let release = sandbox.release(&api, "one").await;
    let made = api.create("production", &release, Some(baking())).await;
    let id = made.unwrap().into_inner().id;
    api.wait_in(&id, pb::step::Kind::Bake).await;
    let keyed = api.keyed("stop-1");
    let first = keyed.cancel(&id).await.unwrap();
    // With no release to go back to it ends as failed.
    api.wait_for(&id, &[State::Failed]).await;
    assert_eq!(reason(&api.cancel(&id).await.unwrap_err()), "terminal");
    let again = keyed.cancel(&id).await.unwrap();
    assert!(replayed(&again));
    assert_eq!(again.get_ref(), first.get_ref());
}
