//! What is fetched of a candidate: by how many pages a release is known, and the second look after it
//! settled.

use std::time::Duration;

use candlefish_proto::deploy::{self as pb, deployment::State};

use crate::{
    api::{Api, blockers, millis, policy},
    sandbox::Sandbox,
    steps::settling,
};

/// As long as [`settling`] lets a candidate settle.
const SETTLED: Duration = Duration::from_mins(10);

/// Waits until the first look passed and the candidate settles; answers what was seen.
async fn looked_at_once(api: &Api, id: &str) -> String {
    let said = |one: &pb::Deployment| {
        let mut steps = one.steps.iter();
        let verify = steps.find(|step| step.kind() == pb::step::Kind::VerifyCandidate);
        verify.map_or_else(String::new, |step| step.message.clone())
    };
    let settles = |one: &pb::Deployment| said(one).ends_with("once more after settling");
    said(&api.wait_until(id, "the first look", settles).await)
}

#[tokio::test]
async fn a_candidate_that_fails_its_second_look_goes_nowhere() {
    let (sandbox, _orchestrator, edge, api) = Sandbox::started().await;
    api.create_environment("production", settling()).await;
    let release = sandbox.release(&api, "one").await;
    let id = api.deploy("production", &release).await;
    looked_at_once(&api, &id).await;
    let own_address = id.strip_prefix("dep_").unwrap().to_owned();
    edge.act(|script| script.lies_on = Some(own_address));
    sandbox.database.advance(SETTLED).await;
    let ended = api.wait_for(&id, &[State::Failed]).await;
    assert_eq!((&*ended.cause, ended.pivoted_at), ("verification", None));
    assert!(ended.message.contains("other content"), "{}", ended.message);
    assert!(edge.served("docs.localhost").is_empty());
    assert_eq!(api.environment("production").await.live_release_id, "");
}

#[tokio::test]
async fn a_large_release_is_known_by_samples_of_its_pages() {
    let (sandbox, _orchestrator, edge, api) = Sandbox::started().await;
    api.create_environment("production", settling()).await;
    let paths: Vec<String> = (1..500).map(|number| format!("{number}.html")).collect();
    let mut files: Vec<(&str, &str)> = paths.iter().map(|path| (&**path, "a page")).collect();
    files.push(("index.html", "the first page"));
    let content = sandbox.put_content(&files).await;
    let draft = api.create_release(content, "", &[]).await;
    let release = api.seal(&draft).await;
    let id = api.deploy("production", &release).await;
    let seen = looked_at_once(&api, &id).await;
    assert!(seen.starts_with("200 of 500 files match"), "{seen}");
    // Each look asks for the first page by its short address as well.
    assert_eq!(edge.pages().0, 201);
    sandbox.database.advance(SETTLED).await;
    api.wait_for(&id, &[State::Succeeded]).await;
    // A short second look, and a whole one at what is live.
    assert_eq!(edge.pages().0, 201 + 21 + 201);
}

#[tokio::test]
async fn the_second_look_comes_when_its_time_has_come_and_not_with_the_next_poll() {
    let rare = [("CANDLEFISH_POLL_MS", "60000")];
    let (sandbox, _orchestrator, edge, api) = Sandbox::started_with(&rare).await;
    let quick = pb::Policy {
        settle: Some(millis(300)),
        ..policy()
    };
    api.create_environment("production", quick).await;
    let release = sandbox.release(&api, "one").await;
    let id = api.deploy("production", &release).await;
    api.wait_for(&id, &[State::Succeeded]).await;
    // Two looks at the candidate, one at what is live; each asks for the page by both addresses.
    assert_eq!(edge.pages().0, 2 + 2 + 2);
}

#[tokio::test]
async fn a_candidate_that_settles_says_until_when_and_is_not_late_for_it() {
    let (sandbox, _orchestrator, _edge, api) = Sandbox::started().await;
    let short = pb::Policy {
        deadline: Some(millis(60_000)),
        ..settling()
    };
    api.create_environment("production", short).await;
    let release = sandbox.release(&api, "one").await;
    let id = api.deploy("production", &release).await;
    let waits = |one: &pb::Deployment| blockers(one) == [pb::blocker::Kind::Timer];
    let settles = api.wait_until(&id, "a wait that says why", waits).await;
    assert_eq!(settles.state(), State::Waiting);
    let began = settles.started_at.unwrap().seconds;
    let timer = &settles.blockers[0];
    assert!(timer.until.unwrap().seconds >= began + 600, "{timer:?}");
    let passes = format!("candlefish advance {id}");
    assert_eq!((&*timer.owner, &*timer.action), ("time", &*passes));
    assert!(timer.message.contains("settles for 10 min"), "{timer:?}");
    let deadline = settles.deadline_at.unwrap().seconds;
    assert!(deadline >= began + 660, "{}", deadline - began);
    sandbox.database.advance(SETTLED).await;
    let done = api.wait_for(&id, &[State::Succeeded]).await;
    assert!(done.blockers.is_empty());
}

/// Passes its settling, whose time never comes here.
async fn settled_by_a_person(api: &Api, id: &str) {
    looked_at_once(api, id).await;
    let steps = api.deployment(id).await.steps;
    let is_in = |step: &&pb::Step| step.kind() == pb::step::Kind::VerifyCandidate;
    let ord = steps.iter().find(is_in).unwrap().ord;
    api.advance(id, ord).await.unwrap();
}

#[tokio::test]
async fn a_person_takes_the_second_look_at_once_and_does_not_pass_it() {
    let (sandbox, _orchestrator, edge, api) = Sandbox::started().await;
    api.create_environment("production", settling()).await;
    let release = sandbox.release(&api, "one").await;
    let id = api.deploy("production", &release).await;
    settled_by_a_person(&api, &id).await;
    let ended = api.wait_for(&id, &[State::Succeeded]).await;
    assert!(ended.blockers.is_empty());
    // As many looks as time would have brought.
    assert_eq!(edge.pages().0, 2 + 2 + 2);

    let other = sandbox.release(&api, "two").await;
    let id = api.deploy("production", &other).await;
    looked_at_once(&api, &id).await;
    let own_address = id.strip_prefix("dep_").unwrap().to_owned();
    edge.act(|script| script.lies_on = Some(own_address));
    settled_by_a_person(&api, &id).await;
    let ended = api.wait_for(&id, &[State::Failed]).await;
    assert_eq!((&*ended.cause, ended.pivoted_at), ("verification", None));
}
