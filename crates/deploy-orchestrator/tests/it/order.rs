//! Who acts on a lane, and what becomes of the others.

use std::time::Duration;

use candlefish_proto::deploy::{self as pb, deployment::State};
use tonic::Streaming;

use crate::{
    api::{Api, baking, blockers, millis, policy, reason, recreate, shown},
    edge::Edge,
    sandbox::{Orchestrator, SOON, Sandbox},
};

fn latest() -> pb::Policy {
    pb::Policy {
        order: pb::policy::Order::Latest.into(),
        ..policy()
    }
}

/// A commit of 40 digits.
fn commit(number: usize) -> String {
    format!("{number:040x}")
}

/// The commits before this one in its line, newest first.
fn ancestors(number: usize) -> Vec<String> {
    (1..number).rev().map(commit).collect()
}

/// A line of commits, oldest first, each with all before it as ancestors.
async fn line(sandbox: &Sandbox, api: &Api, count: usize) -> Vec<String> {
    let mut releases = Vec::new();
    for number in 1..=count {
        let ancestors = ancestors(number);
        let ancestors: Vec<&str> = ancestors.iter().map(String::as_str).collect();
        releases.push(sandbox.commit(api, &commit(number), &ancestors).await);
    }
    releases
}

async fn started(policy: pb::Policy) -> (Sandbox, Orchestrator, Edge, Api) {
    let started = Sandbox::started().await;
    started.3.create_environment("production", policy).await;
    started
}

#[tokio::test]
async fn a_newer_commit_supersedes_what_has_no_traffic_yet() {
    let (sandbox, _orchestrator, edge, api) = started(latest()).await;
    let line = line(&sandbox, &api, 3).await;
    edge.act(|script| script.frozen = true);
    let acting = api.deploy("production", &line[0]).await;
    api.wait_in(&acting, pb::step::Kind::Stage).await;
    let waiting = api.deploy("production", &line[1]).await;
    let newest = api.deploy("production", &line[2]).await;
    let superseded = api.wait_for(&waiting, &[State::Superseded]).await;
    assert_eq!(superseded.superseded_by, newest);
    edge.act(|script| script.frozen = false);
    api.wait_for(&newest, &[State::Succeeded]).await;
    let undone = api.wait_for(&acting, &[State::Superseded]).await;
    assert!(!undone.superseded_by.is_empty());
    assert_eq!(undone.target_confirmed, Some(true));
    assert!(undone.pivoted_at.is_none());
}

#[tokio::test]
async fn a_wake_up_that_was_lost_on_a_busy_lane_is_made_up_for() {
    let (sandbox, _orchestrator, _edge, api) = started(policy()).await;
    let line = line(&sandbox, &api, 1).await;
    let made = api.create("production", &line[0], Some(baking())).await;
    let acting = made.unwrap().into_inner().id;
    api.wait_in(&acting, pb::step::Kind::Bake).await;
    let content = sandbox.put_content(&[("index.html", "late")]).await;
    let draft = api.create_release(content, &commit(2), &[]).await;
    let waiting = api.deploy("production", &draft).await;
    let waits = api.deployment(&waiting).await;
    assert_eq!(blockers(&waits), [pb::blocker::Kind::Content]);
    // As a process leaves it that dies between the seal and telling the lanes.
    sandbox
        .act("UPDATE release SET state = 'sealed', sealed_at = clock() WHERE state = 'draft'")
        .await;
    let seen = |one: &pb::Deployment| blockers(one) == [pb::blocker::Kind::Lane];
    api.wait_until(&waiting, "its content to be seen", seen)
        .await;
    // And as it leaves a ban.
    let ban = format!(
        "INSERT INTO ban (release_id, at, by, reason)
         SELECT id, clock(), 'erin', 'no' FROM release WHERE commit = '{}'",
        commit(2)
    );
    sandbox.act(&ban).await;
    let ended = api.wait_for(&waiting, &[State::Cancelled]).await;
    assert!(
        ended.message.contains("banned meanwhile by erin"),
        "{ended:?}"
    );
}

#[tokio::test]
async fn after_the_pivot_a_push_waits() {
    let (sandbox, _orchestrator, _edge, api) = started(latest()).await;
    let line = line(&sandbox, &api, 2).await;
    let made = api.create("production", &line[0], Some(baking())).await;
    let acting = made.unwrap().into_inner().id;
    api.wait_in(&acting, pb::step::Kind::Bake).await;
    let next = api.deploy("production", &line[1]).await;
    let next = api.deployment(&next).await;
    assert_eq!(next.state(), State::Pending);
    assert_eq!(blockers(&next), [pb::blocker::Kind::Lane]);
    let waits = api.deployment(&acting).await;
    let bake = waits
        .steps
        .iter()
        .find(|step| step.kind() == pb::step::Kind::Bake);
    api.advance(&acting, bake.unwrap().ord).await.unwrap();
    api.wait_for(&acting, &[State::Succeeded]).await;
    api.wait_for(&next.id, &[State::Succeeded]).await;
}

#[tokio::test]
async fn an_older_commit_ends_at_once_and_names_the_newer() {
    let (sandbox, _orchestrator, _edge, api) = started(policy()).await;
    let line = line(&sandbox, &api, 2).await;
    let live = api.deploy_whole("production", &line[1]).await;
    let older = api.deploy("production", &line[0]).await;
    let older = api.deployment(&older).await;
    assert_eq!(older.state(), State::Superseded);
    assert_eq!(older.superseded_by, live.id);
    assert!(older.message.contains("roll back"), "{}", older.message);
    assert_eq!(api.environment("production").await.live_release_id, line[1]);
}

#[tokio::test]
async fn under_queue_each_has_its_turn() {
    let (sandbox, _orchestrator, edge, api) = started(policy()).await;
    let line = line(&sandbox, &api, 3).await;
    edge.act(|script| script.frozen = true);
    let mut ids = Vec::new();
    for release in &line {
        ids.push(api.deploy("production", release).await);
    }
    let lane = api.lane("production").await;
    assert_eq!(lane.acting_deployment_id, ids[0]);
    assert_eq!(lane.pending_deployment_ids, ids[1..]);
    edge.act(|script| script.frozen = false);
    let mut ended = Vec::new();
    for id in &ids {
        ended.push(api.wait_for(id, &[State::Succeeded]).await);
    }
    let at = |one: &pb::Deployment| one.finished_at.map(|at| (at.seconds, at.nanos));
    assert!(ended.is_sorted_by_key(at));
}

#[tokio::test]
async fn after_three_superseded_in_a_row_the_next_is_pinned() {
    let settling = pb::Policy {
        settle: Some(millis(600_000)),
        ..latest()
    };
    let (sandbox, _orchestrator, _edge, api) = started(settling).await;
    let line = line(&sandbox, &api, 5).await;
    let mut acting = String::new();
    for release in &line[..4] {
        let next = api.deploy("production", release).await;
        if !acting.is_empty() {
            api.wait_for(&acting, &[State::Superseded]).await;
        }
        acting = next;
        api.wait_in(&acting, pb::step::Kind::VerifyCandidate).await;
    }
    assert_eq!(
        sandbox
            .number("SELECT superseded_in_row::bigint FROM lane")
            .await,
        3
    );
    let last = api.deploy("production", &line[4]).await;
    assert_eq!(api.deployment(&last).await.state(), State::Pending);
    sandbox.database.advance(Duration::from_mins(10)).await;
    api.wait_for(&acting, &[State::Succeeded]).await;
    assert_eq!(
        sandbox
            .number("SELECT superseded_in_row::bigint FROM lane")
            .await,
        0
    );
    api.wait_in(&last, pb::step::Kind::VerifyCandidate).await;
}

#[tokio::test]
async fn content_that_arrives_late_takes_its_turn_then() {
    let (sandbox, _orchestrator, _edge, api) = started(policy()).await;
    let early = sandbox.release(&api, "early").await;
    let content = sandbox.put_content(&[("index.html", "late")]).await;
    let late = api.create_release(content, "", &[]).await;
    let waiting = api.deploy("production", &late).await;
    assert_eq!(
        blockers(&api.deployment(&waiting).await),
        [pb::blocker::Kind::Content]
    );
    let passing = api.deploy("production", &early).await;
    api.wait_for(&passing, &[State::Succeeded]).await;
    assert_eq!(api.deployment(&waiting).await.state(), State::Pending);
    api.seal(&late).await;
    api.wait_for(&waiting, &[State::Succeeded]).await;
}

#[tokio::test]
async fn a_held_environment_refuses_nobody_and_moves_nothing() {
    let (sandbox, _orchestrator, _edge, api) = started(policy()).await;
    let release = sandbox.release(&api, "one").await;
    api.hold("production").await.unwrap();
    let id = api.deploy("production", &release).await;
    let held = api.deployment(&id).await;
    assert_eq!(held.state(), State::Pending);
    assert_eq!(blockers(&held), [pb::blocker::Kind::Hold]);
    assert!(held.blockers[0].message.contains("an incident"));
    let status = api.hold("production").await.unwrap_err();
    assert_eq!(reason(&status), "held");
    api.lift("production").await.unwrap();
    let done = api.wait_for(&id, &[State::Succeeded]).await;
    assert!(done.blockers.is_empty());
    assert_eq!(sandbox.number("SELECT count(*) FROM deployment").await, 1);
}

/// What a watcher is told next.
async fn next(stream: &mut Streaming<pb::Deployment>) -> pb::Deployment {
    let next = tokio::time::timeout(SOON, stream.message()).await;
    next.unwrap().unwrap().unwrap()
}

async fn watched(api: &Api, id: &str, after_version: i32) -> Streaming<pb::Deployment> {
    let request = api.request(pb::WatchDeploymentRequest {
        id: id.to_owned(),
        after_version,
    });
    let stream = api.deployments().watch_deployment(request).await;
    stream.unwrap().into_inner()
}

#[tokio::test]
async fn a_watcher_of_what_waits_is_told_what_else_keeps_it() {
    let (sandbox, _orchestrator, _edge, api) = started(policy()).await;
    let line = line(&sandbox, &api, 2).await;
    let made = api.create("production", &line[0], Some(baking())).await;
    let acting = made.unwrap().into_inner().id;
    api.wait_in(&acting, pb::step::Kind::Bake).await;
    let waiting = api.deploy("production", &line[1]).await;
    let mut stream = watched(&api, &waiting, 0).await;
    let first = next(&mut stream).await;
    assert_eq!(blockers(&first), [pb::blocker::Kind::Lane]);
    api.hold("production").await.unwrap();
    let held = next(&mut stream).await;
    assert_eq!(blockers(&held), [pb::blocker::Kind::Hold]);
    crate::stops::set(&sandbox, &api, "docs", false)
        .await
        .unwrap();
    let stopped = next(&mut stream).await;
    let both = [pb::blocker::Kind::Stop, pb::blocker::Kind::Hold];
    assert_eq!(blockers(&stopped), both);
    // Nobody knows whether one that comes again has heard of it.
    let mut again = watched(&api, &waiting, first.version).await;
    assert_eq!(next(&mut again).await, stopped);
    assert_eq!(
        [held.version, stopped.version],
        [first.version; 2],
        "what keeps it is no version of it"
    );
}

#[tokio::test]
async fn a_watcher_that_knows_a_later_version_is_told_what_is_and_then_what_comes() {
    let (sandbox, _orchestrator, _edge, api) = started(policy()).await;
    let release = sandbox.release(&api, "one").await;
    api.hold("production").await.unwrap();
    let waiting = api.deploy("production", &release).await;
    let mut stream = watched(&api, &waiting, i32::MAX).await;
    let first = next(&mut stream).await;
    assert_eq!((&first.id, first.state()), (&waiting, State::Pending));
    api.cancel(&waiting).await.unwrap();
    let mut last = next(&mut stream).await;
    while last.finished_at.is_none() {
        last = next(&mut stream).await;
    }
    assert_eq!(last.state(), State::Cancelled);
    assert!(last.version > first.version);
    let end = tokio::time::timeout(SOON, stream.message()).await;
    assert!(end.unwrap().unwrap().is_none());
}

#[tokio::test]
async fn a_watcher_is_refused_by_every_field_that_is_wrong() {
    let (_sandbox, _orchestrator, _edge, api) = started(policy()).await;
    let request = api.request(pb::WatchDeploymentRequest {
        id: "docs".to_owned(),
        after_version: -1,
    });
    let refused = api.deployments().watch_deployment(request).await;
    let refused = refused.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::InvalidArgument);
    assert_eq!(crate::api::fields(&refused), ["after_version", "id"]);
}

/// The ledger says nothing new until the content is there.
#[tokio::test]
async fn a_watcher_of_what_lacks_content_is_told_of_holds_and_stops() {
    use pb::blocker::Kind::{Content, Hold, Stop};
    let (sandbox, _orchestrator, _edge, api) = started(policy()).await;
    let content = sandbox.put_content(&[("index.html", "late")]).await;
    let draft = api.create_release(content, "late", &[]).await;
    let waiting = api.deploy("production", &draft).await;
    let mut stream = watched(&api, &waiting, 0).await;
    let first = next(&mut stream).await;
    assert_eq!(blockers(&first), [Content]);
    api.hold("production").await.unwrap();
    let held = next(&mut stream).await;
    assert_eq!(blockers(&held), [Content, Hold]);
    assert_eq!(held.version, first.version);
    let stop = crate::stops::set(&sandbox, &api, "docs", false).await;
    assert_eq!(blockers(&next(&mut stream).await), [Content, Stop, Hold]);
    crate::stops::lift(&api, &stop.unwrap().id).await.unwrap();
    assert_eq!(next(&mut stream).await, held);
    api.seal(&draft).await;
    let charged = next(&mut stream).await;
    // Its time is charged to the hold from now on, which keeps it since before.
    assert_eq!(charged.blockers, held.blockers[1..]);
    api.lift("production").await.unwrap();
    api.wait_for(&waiting, &[State::Succeeded]).await;
}

#[tokio::test]
async fn a_deployment_may_lift_the_hold_with_a_reason() {
    let (sandbox, _orchestrator, _edge, api) = started(policy()).await;
    let release = sandbox.release(&api, "one").await;
    api.hold("production").await.unwrap();
    let waiting = api.deploy("production", &release).await;
    let request = api.request(pb::CreateDeploymentRequest {
        site: "docs".to_owned(),
        environment: "production".to_owned(),
        release_id: release.clone(),
        strategy: Some(recreate()),
        lift_hold: "the fix".to_owned(),
        ..pb::CreateDeploymentRequest::default()
    });
    let made = api.deployments().create_deployment(request).await;
    let id = made.unwrap().into_inner().id;
    assert!(api.environment("production").await.hold.is_none());
    api.wait_for(&waiting, &[State::Succeeded]).await;
    api.wait_for(&id, &[State::Succeeded]).await;
    let told = sandbox.told_of_environments().await;
    let lifted = told.iter().filter(|(name, ..)| name.contains("lifted"));
    let reasons: Vec<&str> = lifted.map(|(.., reason)| reason.as_str()).collect();
    assert_eq!(reasons, ["the fix"]);
}

#[tokio::test]
async fn a_refused_deployment_leaves_the_hold() {
    let (sandbox, _orchestrator, _edge, api) = started(policy()).await;
    let release = sandbox.release(&api, "one").await;
    let made = api.create("production", &release, Some(baking())).await;
    let id = made.unwrap().into_inner().id;
    api.wait_in(&id, pb::step::Kind::Bake).await;
    api.abort(&id).await.unwrap();
    api.hold("production").await.unwrap();
    let request = api.request(pb::CreateDeploymentRequest {
        site: "docs".to_owned(),
        environment: "production".to_owned(),
        release_id: release.clone(),
        lift_hold: "the fix".to_owned(),
        ..pb::CreateDeploymentRequest::default()
    });
    let refused = api.deployments().create_deployment(request).await;
    assert_eq!(reason(&refused.unwrap_err()), "release-rejected");
    assert!(api.environment("production").await.hold.is_some());
}

#[tokio::test]
async fn a_site_that_the_caller_may_not_see_is_not_there() {
    let (sandbox, _orchestrator, _edge, api) = started(policy()).await;
    let release = sandbox.release(&api, "one").await;
    let id = api.deploy_whole("production", &release).await.id;
    let stranger = api.seeing(&["partners"]);
    let unseen = |status: tonic::Status| (status.code(), reason(&status));
    let not_found = tonic::Code::NotFound;
    for (status, word) in [
        (
            stranger.create("production", &release, None).await.err(),
            "unknown-site",
        ),
        (stranger.cancel(&id).await.err(), "deployment-unknown"),
        (stranger.retry(&id).await.err(), "deployment-unknown"),
        (stranger.hold("production").await.err(), "unknown-site"),
        (stranger.roll_back("production").await.err(), "unknown-site"),
        (
            stranger.clear("production", &release).await.err(),
            "release-unknown",
        ),
    ] {
        assert_eq!(unseen(status.unwrap()), (not_found, word.to_owned()));
    }
    let request = stranger.request(pb::ListDeploymentsRequest::default());
    let listed = stranger.deployments().list_deployments(request).await;
    assert!(listed.unwrap().into_inner().deployments.is_empty());
}

#[tokio::test]
async fn no_push_supersedes_a_pinned_one_until_it_is_unpinned() {
    let (sandbox, _orchestrator, edge, api) = started(latest()).await;
    let line = line(&sandbox, &api, 4).await;
    edge.act(|script| script.frozen = true);
    let acting = api
        .create("production", &line[0], Some(baking()))
        .await
        .unwrap();
    let acting = acting.into_inner().id;
    api.wait_in(&acting, pb::step::Kind::Stage).await;
    let pinned = api.pin(&acting, false).await.unwrap().into_inner();
    assert_eq!(pinned.pin.as_ref().unwrap().by, "erin");
    assert_eq!(pinned.pin.unwrap().reason, "it fixes the login");
    let waiting = api.deploy("production", &line[1]).await;
    assert_eq!(
        reason(&api.pin(&acting, false).await.unwrap_err()),
        "pinned"
    );
    api.pin(&waiting, false).await.unwrap();
    let newest = api.deploy("production", &line[2]).await;
    for id in [&acting, &waiting, &newest] {
        let one = api.deployment(id).await;
        assert!(one.finished_at.is_none(), "{}", shown(&one));
    }
    let lane = api.lane("production").await;
    assert_eq!(lane.acting_deployment_id, acting);
    assert_eq!(lane.pending_deployment_ids, [&*waiting, &newest]);

    // The lane chooses again: the newest takes the place of both.
    api.pin(&waiting, true).await.unwrap();
    let ended = api.wait_for(&waiting, &[State::Superseded]).await;
    assert_eq!((ended.superseded_by, ended.pin), (newest.clone(), None));
    let goes_on = api.deployment(&acting).await;
    assert!(
        matches!(goes_on.state(), State::Running | State::Waiting),
        "{}",
        shown(&goes_on)
    );
    api.pin(&acting, true).await.unwrap();
    edge.act(|script| script.frozen = false);
    let undone = api.wait_for(&acting, &[State::Superseded]).await;
    assert_eq!(undone.superseded_by, newest);
    api.wait_for(&newest, &[State::Succeeded]).await;
    let log = api.logged(&waiting).await;
    assert!(
        log.contains(&"pinned by erin: it fixes the login".to_owned()),
        "{log:?}"
    );
    let told = sandbox.number(
        "SELECT count(*) FROM outbox WHERE event_type IN ('deploy.deployment.pinned.v1', 'deploy.deployment.unpinned.v1')",
    );
    assert_eq!(told.await, 4);
}

#[tokio::test]
async fn what_was_pinned_first_goes_first_and_the_newer_one_after_it() {
    let (sandbox, _orchestrator, edge, api) = started(latest()).await;
    let line = line(&sandbox, &api, 3).await;
    edge.act(|script| script.frozen = true);
    let acting = api.deploy("production", &line[0]).await;
    api.wait_in(&acting, pb::step::Kind::Stage).await;
    api.pin(&acting, false).await.unwrap();
    let pinned = api.deploy("production", &line[1]).await;
    api.pin(&pinned, false).await.unwrap();
    let newest = api.deploy("production", &line[2]).await;
    edge.act(|script| script.frozen = false);
    let mut ended = Vec::new();
    for id in [&acting, &pinned, &newest] {
        ended.push(api.wait_for(id, &[State::Succeeded]).await);
    }
    let at = |one: &pb::Deployment| one.finished_at.map(|at| (at.seconds, at.nanos));
    assert!(ended.is_sorted_by_key(at));
}

/// A deployment of this commit of the line that is pinned before its content is there, and so waits for
/// its lane after what descends from it.
async fn pinned_late(sandbox: &Sandbox, api: &Api, number: usize) -> String {
    let (commit, ancestors) = (commit(number), ancestors(number));
    let ancestors: Vec<&str> = ancestors.iter().map(String::as_str).collect();
    let content = sandbox.put_content(&[("index.html", &*commit)]).await;
    let draft = api.create_release(content, &commit, &ancestors).await;
    let id = api.deploy("production", &draft).await;
    api.pin(&id, false).await.unwrap();
    api.seal(&draft).await;
    let waits = |one: &pb::Deployment| blockers(one) == [pb::blocker::Kind::Lane];
    api.wait_until(&id, "its content to be seen", waits).await;
    id
}

/// Two pinned commits wait with these that descend from them and came before them: who each says is
/// before it is who goes before it.
async fn each_names_who_goes_before_it(policy: pb::Policy, descendants: &[usize]) {
    let (sandbox, _orchestrator, _edge, api) = started(policy).await;
    let first = sandbox.commit(&api, &commit(1), &[]).await;
    let made = api.create("production", &first, Some(baking())).await;
    let acting = made.unwrap().into_inner().id;
    let bakes = api.wait_in(&acting, pb::step::Kind::Bake).await;
    let unrelated = sandbox.commit(&api, &commit(9), &[]).await;
    let unrelated = api.deploy("production", &unrelated).await;
    api.pin(&unrelated, false).await.unwrap();
    let mut newer = Vec::new();
    for &number in descendants {
        let ancestors = ancestors(number);
        let ancestors: Vec<&str> = ancestors.iter().map(String::as_str).collect();
        let release = sandbox.commit(&api, &commit(number), &ancestors).await;
        newer.push(api.deploy("production", &release).await);
    }
    let younger = pinned_late(&sandbox, &api, 3).await;
    let older = pinned_late(&sandbox, &api, 2).await;
    let order = [unrelated, older, younger].into_iter().chain(newer);
    let order: Vec<String> = order.collect();

    let mut before = format!("{acting} acts on docs/production");
    for id in &order {
        let waits = api.deployment(id).await;
        let said: Vec<&str> = waits.blockers.iter().map(|one| &*one.message).collect();
        assert_eq!(said, [&*before], "{}", shown(&waits));
        before = format!("{id} waits before it for docs/production");
    }
    let lane = api.lane("production").await;
    assert_eq!(lane.acting_deployment_id, acting);
    assert_eq!(lane.pending_deployment_ids, order);

    let bake = |step: &&pb::Step| step.kind() == pb::step::Kind::Bake;
    let bake = bakes.steps.iter().find(bake).unwrap().ord;
    api.advance(&acting, bake).await.unwrap();
    let mut ended = Vec::new();
    for id in &order {
        ended.push(api.wait_for(id, &[State::Succeeded]).await);
    }
    let at = |at: Option<prost_types::Timestamp>| at.map(|at| (at.seconds, at.nanos)).unwrap();
    let follows =
        |one: &pb::Deployment, next: &pb::Deployment| at(one.finished_at) <= at(next.started_at);
    assert!(ended.is_sorted_by(follows), "{ended:#?}");
}

#[tokio::test]
async fn in_a_queue_each_names_who_goes_before_it_also_beside_pins() {
    Box::pin(each_names_who_goes_before_it(policy(), &[4, 5])).await;
}

#[tokio::test]
async fn under_latest_each_names_who_goes_before_it_also_beside_pins() {
    Box::pin(each_names_who_goes_before_it(latest(), &[5])).await;
}

#[tokio::test]
async fn a_pin_is_for_those_who_see_the_site_and_for_what_a_push_could_supersede() {
    let (sandbox, _orchestrator, edge, api) = started(latest()).await;
    let line = line(&sandbox, &api, 2).await;
    for release in &line {
        api.deploy_whole("production", release).await;
    }
    edge.act(|script| script.frozen = true);
    let preview = api.preview(&line[0]).await.unwrap().into_inner().id;
    let back = api.roll_back("production").await.unwrap().into_inner();
    let back = back.deployment.unwrap().id;
    for id in [&preview, &back] {
        let refused = api.pin(id, false).await.unwrap_err();
        assert_eq!(reason(&refused), "not-pinnable", "{refused}");
        let unseen = api.seeing(&["other"]).pin(id, false).await.unwrap_err();
        assert_eq!(unseen.code(), tonic::Code::NotFound);
    }
    edge.act(|script| script.frozen = false);
}
