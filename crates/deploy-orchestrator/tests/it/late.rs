//! What becomes of pushes whose content comes late, or never.

use std::time::Duration;

use candlefish_proto::deploy::{self as pb, deployment::State};

use crate::{
    api::blockers,
    stage::{Stage, commit, push},
};

/// Longer than content is waited for.
const LATER: Duration = Duration::from_mins(61);

/// What is told of the one push of a commit.
async fn told(stage: &Stage, commit: &str) -> pb::Trigger {
    let mut told = stage.api.triggers(commit).await.unwrap();
    assert_eq!(told.len(), 1, "{told:?}");
    told.remove(0)
}

/// The push of a commit is told as live, by this deployment, though its own is another one.
async fn is_live_by(stage: &Stage, commit: &str, own: &str, by: &str) {
    let told = told(stage, commit).await;
    assert_eq!(told.message, "is live on docs/production");
    assert_eq!(told.outcome(), pb::trigger::Outcome::Created);
    let named = (&*told.deployment_id, &*told.went_live_deployment_id);
    assert_eq!(named, (own, by));
}

#[tokio::test]
async fn content_that_never_comes_ends_its_deployment_and_says_so() {
    let stage = Stage::new().await;
    let decided = stage.pushed(&push(0, 1)).await;
    stage
        .sandbox
        .database
        .advance(Duration::from_mins(59))
        .await;
    let waits = stage.api.deployment(&decided.deployment).await;
    assert_eq!(waits.state(), State::Pending);
    stage.sandbox.database.advance(Duration::from_mins(2)).await;
    let ended = stage.api.wait_for(&waits.id, &[State::Failed]).await;
    assert!(
        ended.message.contains("nobody uploaded"),
        "{}",
        ended.message
    );
    assert!(ended.message.contains(&commit(1)), "{}", ended.message);
    let failed = told(&stage, &commit(1)).await;
    assert_eq!(failed.message, ended.message);
    assert_eq!(failed.went_live_deployment_id, "");
    // Content that comes later is a deployment of its own, by whoever asks for it.
    let late = stage.uploads(&commit(1), "late").await;
    let asked = stage.api.deploy("production", &late).await;
    assert_ne!(asked, waits.id);
    stage.api.wait_for(&asked, &[State::Succeeded]).await;
    assert_eq!(stage.api.deployment(&waits.id).await.state(), State::Failed);
    is_live_by(&stage, &commit(1), &waits.id, &asked).await;
    let newer = stage.pushed(&push(1, 2)).await.deployment;
    stage.uploads(&commit(2), "two").await;
    stage.api.wait_for(&newer, &[State::Succeeded]).await;
    is_live_by(&stage, &commit(2), &newer, &newer).await;
    let before = told(&stage, &commit(1)).await;
    let words = "was live on docs/production; something else is now";
    assert_eq!(before.message, words);
    assert_eq!(before.went_live_deployment_id, asked);
}

#[tokio::test]
async fn other_content_of_the_commit_that_comes_late_is_the_push_gone_live() {
    let stage = Stage::new().await;
    let content = stage
        .sandbox
        .put_content(&[("index.html", "given up")])
        .await;
    let left = stage.api.create_release(content, &commit(1), &[]).await;
    let pushed = stage.pushed(&push(0, 1)).await.deployment;
    stage.sandbox.database.advance(LATER).await;
    let ended = stage.api.wait_for(&pushed, &[State::Failed]).await;
    assert_eq!(ended.release_id, left);
    let built = stage.uploads(&commit(1), "built anew").await;
    let asked = stage.api.deploy("production", &built).await;
    let live = stage.api.wait_for(&asked, &[State::Succeeded]).await;
    assert_ne!(live.release_id, left);
    is_live_by(&stage, &commit(1), &pushed, &asked).await;
    // Of what was built from changes that nobody pushed, no commit says what it is.
    stage.sandbox.act("UPDATE release SET dirty = true").await;
    let told = told(&stage, &commit(1)).await;
    assert_eq!(told.message, ended.message);
}

#[tokio::test]
async fn a_retry_waits_for_content_as_long_as_a_push_and_goes_live_with_it() {
    let stage = Stage::new().await;
    let pushed = stage.pushed(&push(0, 1)).await.deployment;
    stage.sandbox.database.advance(LATER).await;
    stage.api.wait_for(&pushed, &[State::Failed]).await;
    let action = format!(
        "candlefish deploy DIR --site docs --env production --commit {}",
        commit(1)
    );
    let again = stage.api.retry(&pushed).await.unwrap().into_inner();
    assert_eq!(blockers(&again), [pb::blocker::Kind::Content]);
    let blocker = &again.blockers[0];
    assert_eq!(blocker.action, action);
    assert!(blocker.until.is_some(), "{blocker:?}");
    stage.sandbox.database.advance(LATER).await;
    let ended = stage.api.wait_for(&again.id, &[State::Failed]).await;
    assert_eq!(ended.cause, "deadline");
    assert!(ended.message.ends_with(&action), "{}", ended.message);
    let last = stage.api.retry(&again.id).await.unwrap().into_inner();
    stage.uploads(&commit(1), "late").await;
    stage.api.wait_for(&last.id, &[State::Succeeded]).await;
    is_live_by(&stage, &commit(1), &pushed, &last.id).await;
}

#[tokio::test]
async fn a_push_that_was_cancelled_and_is_repeated_is_told_as_live() {
    let stage = Stage::new().await;
    let pushed = stage.pushed(&push(0, 1)).await.deployment;
    stage.api.cancel(&pushed).await.unwrap();
    let ended = stage.api.wait_for(&pushed, &[State::Cancelled]).await;
    assert_eq!(told(&stage, &commit(1)).await.message, ended.message);
    let again = stage.api.retry(&pushed).await.unwrap().into_inner().id;
    stage.uploads(&commit(1), "one").await;
    stage.api.wait_for(&again, &[State::Succeeded]).await;
    is_live_by(&stage, &commit(1), &pushed, &again).await;
}

#[tokio::test]
async fn a_push_that_was_superseded_and_is_repeated_is_told_as_live_and_then_as_what_was() {
    let stage = Stage::new().await;
    // The hold keeps the newer one back until it is cancelled: nothing newer is live.
    stage.api.hold("production").await.unwrap();
    let pushed = stage.pushed(&push(0, 1)).await.deployment;
    let newer = stage.pushed(&push(1, 2)).await.deployment;
    stage.uploads(&commit(1), "one").await;
    stage.uploads(&commit(2), "two").await;
    stage.api.wait_for(&pushed, &[State::Superseded]).await;
    let overtaken = told(&stage, &commit(1)).await;
    assert_eq!(overtaken.outcome(), pb::trigger::Outcome::Superseded);
    assert_eq!(overtaken.message, format!("{newer} took its place"));
    assert_eq!(overtaken.went_live_deployment_id, "");
    stage.api.cancel(&newer).await.unwrap();
    stage.api.wait_for(&newer, &[State::Cancelled]).await;
    stage.api.lift("production").await.unwrap();
    let again = stage.api.retry(&pushed).await.unwrap().into_inner().id;
    stage.api.wait_for(&again, &[State::Succeeded]).await;
    is_live_by(&stage, &commit(1), &pushed, &again).await;
    let last = stage.pushed(&push(2, 3)).await.deployment;
    stage.uploads(&commit(3), "three").await;
    stage.api.wait_for(&last, &[State::Succeeded]).await;
    let before = told(&stage, &commit(1)).await;
    let words = "was live on docs/production; something else is now";
    assert_eq!(before.message, words);
    assert_eq!(before.outcome(), pb::trigger::Outcome::Created);
    assert_eq!(before.deployment_state(), State::Superseded);
    assert_eq!(before.went_live_deployment_id, again);
}

#[tokio::test]
async fn what_a_call_made_of_content_that_never_came_whole_ends_and_says_how_it_is_uploaded() {
    let stage = Stage::new().await;
    let api = &stage.api;
    let content = stage.sandbox.put_content(&[("index.html", "half")]).await;
    let draft = api.create_release(content, "", &[]).await;
    let deployed = api.deploy("production", &draft).await;
    let preview = api.preview(&draft).await.unwrap().into_inner().id;
    // What is whole and waits for something else has no such deadline.
    api.hold("production").await.unwrap();
    let whole = stage.uploads(&commit(1), "whole").await;
    let held = api.deploy("production", &whole).await;
    stage.sandbox.database.advance(LATER).await;
    for (id, to) in [(&deployed, "--env production"), (&preview, "--preview")] {
        let ended = api.wait_for(id, &[State::Failed]).await;
        let words = format!(
            "its content did not come: nobody uploaded it whole in time. Upload it: candlefish \
             deploy DIR --site docs {to}"
        );
        assert_eq!(ended.message, words);
    }
    assert_eq!(api.deployment(&held).await.state(), State::Pending);
}

/// Somebody looked at what they built before they committed all of it; then it is built again, the same.
#[tokio::test]
async fn content_that_was_begun_from_an_unclean_tree_is_the_pushs_once_ci_names_the_commit() {
    let stage = Stage::new().await;
    let content = async || stage.sandbox.put_content(&[("index.html", "built")]).await;
    let tried = stage
        .api
        .create_release(content().await, &commit(1), &[])
        .await;
    stage.api.seal(&tried).await;
    stage.sandbox.act("UPDATE release SET dirty = true").await;
    let pushed = stage.pushed(&push(0, 1)).await.deployment;
    let waits = stage.api.deployment(&pushed).await;
    assert_eq!(blockers(&waits), [pb::blocker::Kind::Content]);
    let built = stage
        .api
        .create_release(content().await, &commit(1), &[])
        .await;
    assert_eq!(built, tried);
    let told = "SELECT count(*) FROM outbox WHERE event_type = 'deploy.release.vouched.v1'";
    assert_eq!(stage.sandbox.number(told).await, 1);
    let asked = stage.api.deploy("production", &built).await;
    assert_eq!(asked, pushed);
    stage.api.wait_for(&pushed, &[State::Succeeded]).await;
    is_live_by(&stage, &commit(1), &pushed, &pushed).await;
    // Once more is nothing new.
    stage
        .api
        .create_release(content().await, &commit(1), &[])
        .await;
    assert_eq!(stage.sandbox.number(told).await, 1);
}
