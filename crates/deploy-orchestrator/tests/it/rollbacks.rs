//! Going back by hand.

use candlefish_ids::ReleaseId;
use candlefish_proto::deploy::{self as pb, deployment::State, record};
use candlefish_runtime::identity::Role;
use candlefish_testkit::wait_until;
use tonic::Code;

use crate::{
    api::{Answer, Api, baking, canary, fields, policy, reason},
    edge::Edge,
    history,
    sandbox::{Orchestrator, SITE, SOON, Sandbox},
};

const HOST: &str = "docs.localhost";

/// Three releases went live one after the other.
pub(crate) async fn started(
    settings: &[(&'static str, &str)],
) -> (Sandbox, Orchestrator, Edge, Api, [String; 3]) {
    let (sandbox, orchestrator, edge, api) = Sandbox::started_with(settings).await;
    api.create_environment("production", policy()).await;
    let mut releases = Vec::new();
    for words in ["one", "two", "three"] {
        let release = sandbox.release(&api, words).await;
        api.deploy_whole("production", &release).await;
        releases.push(release);
    }
    (
        sandbox,
        orchestrator,
        edge,
        api,
        releases.try_into().unwrap(),
    )
}

async fn ask(
    api: &Api,
    change: impl FnOnce(&mut pb::CreateRollbackRequest),
) -> Answer<pb::Rollback> {
    let mut message = pb::CreateRollbackRequest {
        site: SITE.to_owned(),
        environment: "production".to_owned(),
        ..pb::CreateRollbackRequest::default()
    };
    change(&mut message);
    let request = api.request(message);
    let made = api.deployments().create_rollback(request).await?;
    Ok(made.into_inner())
}

pub(crate) async fn rolled_back(
    api: &Api,
    change: impl FnOnce(&mut pb::CreateRollbackRequest),
) -> pb::Rollback {
    ask(api, change).await.unwrap()
}

/// That release is no way back, for this reason, neither to be told of nor to be made; the words say
/// what to do instead.
async fn is_no_way_back(api: &Api, release: &str, why: &str, advice: &str) {
    for validate_only in [true, false] {
        let asked = ask(api, |message| {
            release.clone_into(&mut message.to_release_id);
            message.validate_only = validate_only;
        });
        let refused = asked.await.unwrap_err();
        assert_eq!(reason(&refused), why, "{refused}");
        assert_eq!(refused.code(), Code::FailedPrecondition);
        assert_eq!(fields(&refused), ["to_release_id"]);
        assert!(refused.message().contains(advice), "{refused}");
    }
}

#[tokio::test]
async fn it_goes_to_the_release_before_and_holds_the_environment() {
    let (sandbox, _orchestrator, edge, api, [_one, two, three]) = started(&[]).await;
    let made = rolled_back(&api, |_| {}).await;
    assert_eq!(made.from.unwrap().id, three);
    assert_eq!(made.to.unwrap().id, two);
    let id = made.deployment.unwrap().id;
    api.wait_for(&id, &[State::Succeeded]).await;
    edge.wait_until_it_serves(HOST, &two).await;
    let environment = api.environment("production").await;
    assert_eq!(environment.live_release_id, two);
    let hold = environment.hold.unwrap();
    assert_eq!(
        (&*hold.deployment_id, &*hold.reason),
        (&*id, "rolled back by hand")
    );
    let push = sandbox.release(&api, "four").await;
    let held = api.deploy("production", &push).await;
    assert_eq!(api.deployment(&held).await.state(), State::Pending);
}

#[tokio::test]
async fn a_hold_that_was_set_by_hand_names_the_rollback_under_it() {
    let (_sandbox, _orchestrator, _edge, api, [one, _two, _three]) = started(&[]).await;
    let before = api.hold("production").await.unwrap().into_inner();
    let before = before.hold.unwrap();
    let first = rolled_back(&api, |_| {}).await.deployment.unwrap().id;
    api.wait_for(&first, &[State::Succeeded]).await;
    let named = api.environment("production").await.hold.unwrap();
    assert_eq!((named.since, &named.by), (before.since, &before.by));
    assert_eq!(named.deployment_id, first);
    let words = format!("an incident; then {} rolled back by hand", before.by);
    assert_eq!(named.reason, words);
    // One is enough to know.
    let second = rolled_back(&api, |cmd| cmd.to_release_id = one).await;
    let second = second.deployment.unwrap().id;
    api.wait_for(&second, &[State::Succeeded]).await;
    assert_eq!(api.environment("production").await.hold.unwrap(), named);
}

#[tokio::test]
async fn two_people_on_call_go_back_once() {
    let (_sandbox, _orchestrator, edge, api, [_one, two, three]) = started(&[]).await;
    let leaves = |message: &mut pb::CreateRollbackRequest| {
        three.clone_into(&mut message.leaves_release_id);
    };
    let first = rolled_back(&api, leaves).await.deployment.unwrap().id;
    let second = rolled_back(&api, leaves).await;
    assert!(second.already);
    assert_eq!(second.deployment.unwrap().id, first);
    api.wait_for(&first, &[State::Succeeded]).await;
    let third = rolled_back(&api, leaves).await;
    assert_eq!(third.deployment.unwrap().id, first);
    // Also whoever only asks is told which one that is.
    let told = rolled_back(&api, |message| {
        leaves(message);
        message.validate_only = true;
    });
    let told = told.await;
    assert!(told.already && told.deployment.is_none());
    assert_eq!(told.earlier.unwrap().deployment_id, first);
    edge.wait_until_it_serves(HOST, &two).await;
}

#[tokio::test]
async fn a_second_one_while_the_first_has_moved_nothing_yet_is_the_first() {
    let patient = [("CANDLEFISH_EDGE_PATIENCE_HURRIED_MS", "600000")];
    let (sandbox, _orchestrator, edge, api, [_one, _two, three]) = started(&patient).await;
    let four = sandbox.release(&api, "four").await;
    let made = api.create("production", &four, Some(canary())).await;
    let acting = made.unwrap().into_inner().id;
    api.wait_in(&acting, pb::step::Kind::Analyse).await;
    edge.act(|script| script.frozen = true);
    // As of an edge that has forgotten what is not live: the first waits for it before its pivot.
    sandbox.act("DELETE FROM edge_release").await;
    let first = rolled_back(&api, |_| {}).await;
    assert_eq!(first.to.unwrap().id, three);
    let first = first.deployment.unwrap().id;
    let waits = api.wait_in(&first, pb::step::Kind::Stage).await;
    assert_eq!(waits.pivoted_at, None);
    let second = rolled_back(&api, |_| {}).await;
    assert!(second.already);
    assert_eq!(second.from.unwrap().id, four);
    assert_eq!(second.deployment.unwrap().id, first);
    edge.act(|script| script.frozen = false);
    api.wait_for(&first, &[State::Succeeded]).await;
    edge.wait_until_it_serves(HOST, &three).await;
}

#[tokio::test]
async fn what_waited_and_brought_back_what_was_left_is_left_again() {
    let (_sandbox, _orchestrator, edge, api, [_one, two, three]) = started(&[]).await;
    api.hold("production").await.unwrap();
    let waits = api.deploy("production", &three).await;
    let first = rolled_back(&api, |_| {}).await.deployment.unwrap().id;
    api.wait_for(&first, &[State::Succeeded]).await;
    api.lift("production").await.unwrap();
    api.wait_for(&waits, &[State::Succeeded]).await;
    let second = rolled_back(&api, |_| {}).await;
    assert!(!second.already);
    assert_eq!(second.to.unwrap().id, two);
    let second = second.deployment.unwrap().id;
    api.wait_for(&second, &[State::Succeeded]).await;
    edge.wait_until_it_serves(HOST, &two).await;
}

/// As a machine whose clock runs ahead had made the deployment of a release: its id sorts after
/// those of all that follow.
async fn made_ahead(sandbox: &Sandbox, release: &str) {
    let release = release.parse::<ReleaseId>().unwrap().uuid();
    let ahead = "::text PLACING '7fffffff-ffff' FROM 1)::uuid";
    sandbox
        .act(&format!(
            "SET session_replication_role = replica;
             UPDATE deployment SET id = overlay(id{ahead} WHERE release_id = '{release}';
             UPDATE environment SET live_deployment_id = overlay(live_deployment_id{ahead}
                 WHERE live_release_id = '{release}';
             RESET session_replication_role"
        ))
        .await;
}

#[tokio::test]
async fn it_goes_by_admission_whatever_the_clocks_of_the_machines_say() {
    let (sandbox, _orchestrator, edge, api, [_one, two, three]) = started(&[]).await;
    made_ahead(&sandbox, &two).await;
    let told = rolled_back(&api, |message| message.validate_only = true).await;
    assert_eq!(told.to.unwrap().id, two);
    made_ahead(&sandbox, &three).await;
    let leaves = |message: &mut pb::CreateRollbackRequest| {
        three.clone_into(&mut message.leaves_release_id);
    };
    let first = rolled_back(&api, leaves).await;
    assert_eq!(first.to.unwrap().id, two);
    let first = first.deployment.unwrap().id;
    api.wait_for(&first, &[State::Succeeded]).await;
    edge.wait_until_it_serves(HOST, &two).await;
    let second = rolled_back(&api, leaves).await;
    assert!(second.already);
    assert_eq!(second.deployment.unwrap().id, first);
}

#[tokio::test]
async fn it_says_first_what_will_not_come_back() {
    let (sandbox, _orchestrator, _edge, api, _releases) = started(&[]).await;
    let content = sandbox
        .put_content(&[
            ("index.html", "four"),
            ("new/page.html", "x"),
            ("new.css", "y"),
        ])
        .await;
    let draft = api.create_release(content, "", &[]).await;
    let release = api.seal(&draft).await;
    api.deploy_whole("production", &release).await;
    let count = "SELECT (SELECT count(*) FROM deployment) + (SELECT count(*) FROM outbox)";
    let before = sandbox.number(count).await;
    let told = rolled_back(&api, |message| message.validate_only = true).await;
    assert!(told.deployment.is_none());
    assert_eq!(told.lost_path_count, 2);
    assert_eq!(told.lost_paths, ["/new.css", "/new/page.html"]);
    assert_eq!(sandbox.number(count).await, before);
    assert!(api.environment("production").await.hold.is_none());
}

#[tokio::test]
async fn it_preempts_what_acts_and_keeps_its_assets_reachable() {
    let (sandbox, _orchestrator, edge, api, [_one, _two, three]) = started(&[]).await;
    let four = sandbox.release(&api, "four").await;
    let made = api.create("production", &four, Some(canary())).await;
    let acting = made.unwrap().into_inner().id;
    api.wait_in(&acting, pb::step::Kind::Analyse).await;
    let made = rolled_back(&api, |_| {}).await;
    assert_eq!(made.from.unwrap().id, four);
    assert_eq!(made.to.unwrap().id, three);
    let id = made.deployment.unwrap().id;
    let preempted = api.wait_for(&acting, &[State::RolledBack]).await;
    assert_eq!(
        (&*preempted.cause, &preempted.superseded_by),
        ("preempted", &id)
    );
    api.wait_for(&id, &[State::Succeeded]).await;
    edge.wait_until_it_serves(HOST, &three).await;
    let assets = edge.route(HOST).unwrap().assets_of;
    let assets: Vec<_> = assets.iter().map(|one| &one.release_id).collect();
    assert_eq!(
        assets,
        [&four],
        "visitors still hold pages of the release that was left"
    );
}

/// The history says that it was asked for, that it failed and why, and that it is live all the same.
async fn is_told_as_live(api: &Api, failed: &pb::Deployment) {
    let mut told = history::records(api, "production").await;
    told.retain(|one| one.deployment_id == failed.id);
    let kinds: Vec<_> = told.iter().map(pb::Record::kind).collect();
    let (live, fail) = (record::Kind::Live, record::Kind::Fail);
    assert_eq!(
        kinds,
        [live, fail, record::Kind::Hold, record::Kind::Rollback]
    );
    let [live, fail, ..] = &*told else {
        panic!("{told:?}");
    };
    assert_eq!((&*live.by, &*fail.by), ("erin", "system"));
    assert_eq!(fail.reason, failed.message);
    for one in [live, fail] {
        assert_eq!(one.release_id, failed.release_id);
    }
}

#[tokio::test]
async fn one_that_fails_its_verification_stays_where_it_went() {
    let watchful = [("CANDLEFISH_RECONCILE_MS", "100")];
    let (sandbox, _orchestrator, edge, api, [_one, two, _three]) = started(&watchful).await;
    edge.act(|script| script.lies_on = Some("docs.".to_owned()));
    let id = rolled_back(&api, |_| {}).await.deployment.unwrap().id;
    let failed = api.wait_for(&id, &[State::Failed]).await;
    assert!(failed.message.contains("on edge-1"), "{}", failed.message);
    is_told_as_live(&api, &failed).await;
    let version = "SELECT version FROM route WHERE host = 'docs.localhost'";
    let before = sandbox.number(version).await;
    assert_eq!(api.environment("production").await.live_release_id, two);
    // A whole round of the reconciler: it mends a route that it may mend.
    sandbox
        .act("UPDATE route SET releases = '[]' WHERE host = 'staging--docs.localhost'")
        .await;
    api.create_environment("staging", policy()).await;
    edge.act(|script| script.lies_on = None);
    let other = sandbox.release(&api, "other").await;
    api.deploy_whole("staging", &other).await;
    sandbox
        .act("UPDATE route SET releases = '[]', version = version + 1, changed_in = pg_current_xact_id()
              WHERE host = 'staging--docs.localhost'")
        .await;
    wait_until(SOON, "drift to be corrected", async || {
        edge.serves("staging--docs.localhost") == [(other.clone(), 100)]
    })
    .await;
    assert_eq!(sandbox.number(version).await, before);
    assert_eq!(edge.serves(HOST), [(two, 100)]);
}

#[tokio::test]
async fn an_acting_one_yields_to_another_target_alone() {
    let patient = [("CANDLEFISH_EDGE_PATIENCE_HURRIED_MS", "600000")];
    let (_sandbox, _orchestrator, edge, api, [one, two, _three]) = started(&patient).await;
    edge.act(|script| script.frozen = true);
    let first = rolled_back(&api, |_| {}).await;
    assert_eq!(first.to.unwrap().id, two);
    let first = first.deployment.unwrap().id;
    api.wait_until(&first, "the pivot", |one| one.pivoted_at.is_some())
        .await;
    let second = rolled_back(&api, |message| one.clone_into(&mut message.to_release_id)).await;
    assert!(!second.already);
    let second = second.deployment.unwrap().id;
    edge.act(|script| script.frozen = false);
    let preempted = api.wait_for(&first, &[State::RolledBack]).await;
    assert_eq!(preempted.superseded_by, second);
    api.wait_for(&second, &[State::Succeeded]).await;
    edge.wait_until_it_serves(HOST, &one).await;
    // Both were left, also the one by what gave way.
    let third = ask(&api, |message| message.validate_only = true).await;
    assert_eq!(reason(&third.unwrap_err()), "nothing-before");
}

#[tokio::test]
async fn an_acting_one_is_the_answer_to_whoever_goes_to_the_same_release() {
    let (_sandbox, _orchestrator, edge, api, [one, two, three]) = started(&PATIENT).await;
    edge.act(|script| script.frozen = true);
    let first = rolled_back(&api, |_| {}).await.deployment.unwrap().id;
    api.wait_until(&first, "the pivot", |one| one.pivoted_at.is_some())
        .await;
    for leaves in [one.as_str(), ""] {
        let again = rolled_back(&api, |message| {
            leaves.clone_into(&mut message.leaves_release_id);
            two.clone_into(&mut message.to_release_id);
        });
        let again = again.await;
        assert!(again.already, "from {leaves:?}");
        assert_eq!(again.deployment.unwrap().id, first);
        assert_eq!(again.from.unwrap().id, three);
    }
    edge.act(|script| script.frozen = false);
    api.wait_for(&first, &[State::Succeeded]).await;
    edge.wait_until_it_serves(HOST, &two).await;
}

#[tokio::test]
async fn it_does_not_wait_for_a_frozen_edge() {
    let hurried = [("CANDLEFISH_EDGE_PATIENCE_HURRIED_MS", "300")];
    let (sandbox, orchestrator, edge, api, [_one, two, three]) = started(&hurried).await;
    let second = Edge::start(&sandbox, "edge-2", orchestrator.running.address).await;
    api.wait_for_live_edges(2).await;
    second.act(|script| script.frozen = true);
    let id = rolled_back(&api, |_| {}).await.deployment.unwrap().id;
    edge.wait_until_it_serves(HOST, &two).await;
    let done = api.wait_for(&id, &[State::Succeeded]).await;
    let said: Vec<_> = done.steps.iter().map(|step| &*step.message).collect();
    let named = format!("edge-2 unreachable, may still serve {three}");
    assert!(said.iter().any(|words| words.contains(&named)), "{said:?}");
}

#[tokio::test]
async fn it_goes_to_a_commit_by_its_first_digits() {
    let (sandbox, _orchestrator, _edge, api, _releases) = started(&[]).await;
    let commit = "abcdef0123456789abcdef0123456789abcdef01";
    let release = sandbox.commit(&api, commit, &[]).await;
    let to = |message: &mut pb::CreateRollbackRequest, commit: &str| {
        commit.clone_into(&mut message.to_commit);
        message.validate_only = true;
    };
    let refused = ask(&api, |message| to(message, "abcdef0")).await;
    let refused = refused.unwrap_err();
    assert_eq!(reason(&refused), "never-live", "{refused}");
    assert_eq!(fields(&refused), ["to_commit"]);
    let words = format!("candlefish deploy DIR --site docs --env production --commit {commit}");
    assert!(refused.message().contains(&words), "{refused}");
    api.deploy_whole("production", &release).await;
    let after = sandbox.release(&api, "after").await;
    api.deploy_whole("production", &after).await;
    // A later build of the same commit that never was live here is not what it names.
    let content = sandbox.put_content(&[("index.html", "built again")]).await;
    let draft = api.create_release(content, commit, &[]).await;
    assert_ne!(api.seal(&draft).await, release);
    let told = rolled_back(&api, |message| to(message, "abcdef0")).await;
    assert_eq!(told.to.unwrap().id, release);
    let refused = ask(&api, |message| to(message, "fedcba9")).await;
    assert_eq!(reason(&refused.unwrap_err()), "commit-unknown");
}

#[tokio::test]
async fn what_never_was_live_here_is_no_way_back() {
    let (sandbox, _orchestrator, _edge, api, [one, ..]) = started(&[]).await;
    api.create_environment("staging", policy()).await;
    let elsewhere = sandbox.release(&api, "elsewhere").await;
    api.deploy_whole("staging", &elsewhere).await;
    let count = "SELECT (SELECT count(*) FROM deployment) + (SELECT count(*) FROM record)";
    let before = sandbox.number(count).await;
    let advice = "candlefish deploy DIR --site docs --env production";
    is_no_way_back(&api, &elsewhere, "never-live", advice).await;
    // A share of the traffic is not all of it.
    let part = sandbox.release(&api, "part").await;
    assert_eq!(sandbox.number(count).await, before);
    let made = api.create("production", &part, Some(canary())).await;
    let acting = made.unwrap().into_inner().id;
    api.wait_in(&acting, pb::step::Kind::Analyse).await;
    api.cancel(&acting).await.unwrap();
    api.wait_for(&acting, &[State::RolledBack]).await;
    is_no_way_back(&api, &part, "never-live", advice).await;
    assert!(api.environment("production").await.hold.is_none());
    let told = rolled_back(&api, |message| {
        one.clone_into(&mut message.to_release_id);
        message.validate_only = true;
    });
    assert_eq!(told.await.to.unwrap().id, one);
}

#[tokio::test]
async fn what_was_rejected_here_is_no_way_back_until_a_person_clears_it() {
    let (sandbox, _orchestrator, edge, api, [_one, _two, three]) = started(&[]).await;
    let bad = sandbox.release(&api, "bad").await;
    let made = api.create("production", &bad, Some(baking())).await;
    let hurts = made.unwrap().into_inner().id;
    api.wait_in(&hurts, pb::step::Kind::Bake).await;
    api.abort(&hurts).await.unwrap();
    api.wait_for(&hurts, &[State::RolledBack]).await;
    edge.wait_until_it_serves(HOST, &three).await;
    let advice = format!("candlefish releases clear {bad} --env production");
    is_no_way_back(&api, &bad, "release-rejected", &advice).await;
    api.clear("production", &bad).await.unwrap();
    let back = rolled_back(&api, |message| bad.clone_into(&mut message.to_release_id)).await;
    let back = back.deployment.unwrap().id;
    api.wait_for(&back, &[State::Succeeded]).await;
    edge.wait_until_it_serves(HOST, &bad).await;
}

#[tokio::test]
async fn under_the_hold_what_was_left_comes_back_by_an_approver_alone() {
    let (_sandbox, _orchestrator, edge, api, [one, two, three]) = started(&[]).await;
    let machine = api.deploying();
    let first = rolled_back(&machine, |_| {}).await.deployment.unwrap().id;
    api.wait_for(&first, &[State::Succeeded]).await;
    let held = "docs/production is held by ci: rolled back by hand";
    is_no_way_back(&machine, &three, "held", held).await;
    let lift = "candlefish hold lift docs/production --reason";
    is_no_way_back(&machine, &three, "held", lift).await;
    // Further back is still the way out of an incident.
    let further = rolled_back(&machine, |_| {}).await;
    assert_eq!(further.to.unwrap().id, one);
    let further = further.deployment.unwrap().id;
    api.wait_for(&further, &[State::Succeeded]).await;
    is_no_way_back(&machine, &two, "held", lift).await;
    // Who may lift the hold may as well go there.
    let mut person = api.clone();
    person.caller.role = Role::Approver;
    let again = rolled_back(&person, |message| {
        three.clone_into(&mut message.to_release_id);
    });
    let again = again.await.deployment.unwrap().id;
    api.wait_for(&again, &[State::Succeeded]).await;
    edge.wait_until_it_serves(HOST, &three).await;
    // It hurts once more: what that took back is a way back for everybody.
    let back = rolled_back(&machine, |message| {
        one.clone_into(&mut message.to_release_id);
    });
    let back = back.await.deployment.unwrap().id;
    api.wait_for(&back, &[State::Succeeded]).await;
    // With the hold lifted nothing keeps what was left under it.
    api.lift("production").await.unwrap();
    let told = rolled_back(&machine, |message| {
        two.clone_into(&mut message.to_release_id);
        message.validate_only = true;
    });
    assert_eq!(told.await.to.unwrap().id, two);
}

#[tokio::test]
async fn a_deployer_ends_no_rollback_of_another_that_keeps_visitors_from_what_it_left() {
    let (_sandbox, _orchestrator, edge, api, [_one, two, three]) = started(&[]).await;
    let machine = api.deploying();
    let here = edge.route(HOST).map(|route| route.version);
    edge.act(|script| script.up_to = here);
    let first = rolled_back(&api, |_| {}).await.deployment.unwrap().id;
    api.wait_in(&first, pb::step::Kind::Switch).await;
    for refused in [machine.cancel(&first).await, machine.abort(&first).await] {
        let refused = refused.unwrap_err();
        assert_eq!(reason(&refused), "held");
        assert!(refused.message().contains("role approver"), "{refused:?}");
    }
    // Nor by one of its own, which goes further back and takes the place of the first.
    let own = rolled_back(&machine, |_| {}).await.deployment.unwrap().id;
    let refused = machine.cancel(&own).await.unwrap_err();
    assert_eq!(reason(&refused), "held");
    // Who may lift the hold may.
    api.cancel(&own).await.unwrap();
    edge.act(|script| script.up_to = None);
    api.wait_until(&own, "an end", |one| one.finished_at.is_some())
        .await;
    edge.wait_until_it_serves(HOST, &three).await;
    // One's own, of what nobody else left, is one's own to end.
    api.lift("production").await.unwrap();
    let here = edge.route(HOST).map(|route| route.version);
    edge.act(|script| script.up_to = here);
    let own = rolled_back(&machine, |message| {
        two.clone_into(&mut message.to_release_id);
    });
    let own = own.await.deployment.unwrap().id;
    machine.cancel(&own).await.unwrap();
    edge.act(|script| script.up_to = None);
    api.wait_until(&own, "an end", |one| one.finished_at.is_some())
        .await;
}

#[tokio::test]
async fn with_nothing_before_the_route_is_taken_away() {
    let (sandbox, _orchestrator, edge, api) = Sandbox::started().await;
    api.create_environment("production", policy()).await;
    let release = sandbox.release(&api, "one").await;
    let made = api.create("production", &release, Some(baking())).await;
    let id = made.unwrap().into_inner().id;
    api.wait_in(&id, pb::step::Kind::Bake).await;
    let refused = api.roll_back("production").await.unwrap_err();
    assert_eq!(reason(&refused), "nothing-before");
    assert_eq!(api.deployment(&id).await.state(), State::Waiting);
    api.abort(&id).await.unwrap();
    let ended = api.wait_for(&id, &[State::Failed]).await;
    let mut steps = ended.steps.iter();
    let back = steps.find(|step| step.kind() == pb::step::Kind::Return);
    let said = &back.unwrap().message;
    assert!(said.contains("the route is taken away"), "{said}");
    assert!(edge.serves(HOST).is_empty());
    let environment = api.environment("production").await;
    assert!(environment.live_release_id.is_empty());
}

/// It bakes, a person ends it, and visitors get what they had before.
async fn baked_and_cancelled(api: &Api, release: &str) -> String {
    let made = api.create("production", release, Some(baking())).await;
    let id = made.unwrap().into_inner().id;
    api.wait_in(&id, pb::step::Kind::Bake).await;
    api.cancel(&id).await.unwrap();
    api.wait_for(&id, &[State::RolledBack]).await;
    id
}

#[tokio::test]
async fn what_comes_back_is_live_by_a_rollback_that_failed_where_nothing_else_made_it_so() {
    let (sandbox, _orchestrator, edge, api, _releases) = started(&[]).await;
    let four = sandbox.release(&api, "four").await;
    baked_and_cancelled(&api, &four).await;
    edge.act(|script| script.lies_on = Some("docs.".to_owned()));
    let back = rolled_back(&api, |message| {
        four.clone_into(&mut message.to_release_id);
    });
    let failed = back.await.deployment.unwrap().id;
    api.wait_for(&failed, &[State::Failed]).await;
    edge.act(|script| script.lies_on = None);
    api.lift("production").await.unwrap();
    let five = sandbox.release(&api, "five").await;
    baked_and_cancelled(&api, &five).await;
    let live = api.environment("production").await;
    assert_eq!(
        (live.live_release_id, live.live_deployment_id),
        (four, failed)
    );
}

/// A rollback that waits for its edge before its pivot: it has forgotten what is not live, and follows no
/// further.
async fn stuck(sandbox: &Sandbox, edge: &Edge, api: &Api, to: &str) -> String {
    edge.act(|script| script.frozen = true);
    sandbox.act("DELETE FROM edge_release").await;
    let back = rolled_back(api, |message| to.clone_into(&mut message.to_release_id));
    let id = back.await.deployment.unwrap().id;
    let waits = api.wait_in(&id, pb::step::Kind::Stage).await;
    assert_eq!(waits.pivoted_at, None);
    id
}

/// It is cancelled, its edge follows again, and its undo sends traffic to this release.
async fn cancelled_to(api: &Api, edge: &Edge, id: &str, release: &str) {
    api.cancel(id).await.unwrap();
    edge.act(|script| script.frozen = false);
    let ended = api.wait_for(id, &[State::Cancelled]).await;
    assert_eq!(ended.previous_release_id, release);
    assert_eq!(ended.target_confirmed, Some(true));
    let back = |step: &&pb::Step| step.kind() == pb::step::Kind::Return;
    let back = ended.steps.iter().find(back).map(pb::Step::state);
    assert_eq!(back, Some(pb::step::State::Done));
    edge.wait_until_it_serves(HOST, release).await;
    let live = api.environment("production").await;
    assert_eq!(live.live_release_id, release);
}

/// The releases whose assets are served on: visitors may still have a page of them.
fn held_by_visitors(edge: &Edge) -> Vec<String> {
    let assets = edge.route(HOST).unwrap().assets_of.into_iter();
    assets.map(|one| one.release_id).collect()
}

const PATIENT: [(&str, &str); 1] = [("CANDLEFISH_EDGE_PATIENCE_HURRIED_MS", "600000")];

#[tokio::test]
async fn one_that_ends_before_it_moved_traffic_takes_back_what_it_preempted() {
    let (sandbox, _orchestrator, edge, api, [_one, two, three]) = started(&PATIENT).await;
    for (words, strategy, watched) in [
        ("four", baking(), pb::step::Kind::Bake),
        ("five", canary(), pb::step::Kind::Analyse),
    ] {
        let bad = sandbox.release(&api, words).await;
        let made = api.create("production", &bad, Some(strategy)).await;
        let acting = made.unwrap().into_inner().id;
        api.wait_in(&acting, watched).await;
        let first = stuck(&sandbox, &edge, &api, &two).await;
        api.wait_for(&acting, &[State::RolledBack]).await;
        cancelled_to(&api, &edge, &first, &three).await;
        assert_eq!(held_by_visitors(&edge), [bad]);
        let back = history::of_kind(&api, "production", record::Kind::Rollback).await;
        let words = format!("it preempted {acting}: traffic goes back to {three}");
        assert!(
            back.iter()
                .any(|one| (&*one.by, &one.reason) == ("system", &words)),
            "{back:?}"
        );
        api.lift("production").await.unwrap();
    }
}

#[tokio::test]
async fn one_that_is_ended_past_its_pivot_gives_back_what_was_baking_before_it() {
    let (sandbox, _orchestrator, edge, api, [_one, two, _three]) = started(&PATIENT).await;
    let four = sandbox.release(&api, "four").await;
    let made = api.create("production", &four, Some(baking())).await;
    let acting = made.unwrap().into_inner().id;
    api.wait_in(&acting, pb::step::Kind::Bake).await;
    edge.act(|script| script.frozen = true);
    let back = rolled_back(&api, |message| two.clone_into(&mut message.to_release_id));
    let back = back.await.deployment.unwrap().id;
    api.wait_until(&back, "the pivot", |one| one.pivoted_at.is_some())
        .await;
    api.cancel(&back).await.unwrap();
    edge.act(|script| script.frozen = false);
    let ended = api.wait_for(&back, &[State::RolledBack]).await;
    assert_eq!(ended.previous_release_id, four);
    edge.wait_until_it_serves(HOST, &four).await;
    let live = api.environment("production").await;
    assert_eq!(
        (live.live_release_id, live.live_deployment_id),
        (four, acting)
    );
}

#[tokio::test]
async fn one_that_takes_over_from_another_takes_back_what_that_one_preempted() {
    let (sandbox, _orchestrator, edge, api, [one, two, three]) = started(&PATIENT).await;
    let four = sandbox.release(&api, "four").await;
    let made = api.create("production", &four, Some(baking())).await;
    let acting = made.unwrap().into_inner().id;
    api.wait_in(&acting, pb::step::Kind::Bake).await;
    let first = stuck(&sandbox, &edge, &api, &two).await;
    let second = stuck(&sandbox, &edge, &api, &one).await;
    api.wait_for(&first, &[State::Cancelled]).await;
    cancelled_to(&api, &edge, &second, &three).await;
}

#[tokio::test]
async fn what_an_earlier_one_went_to_stays_when_a_later_one_does_not_get_so_far() {
    let (sandbox, _orchestrator, edge, api, [one, two, three]) = started(&PATIENT).await;
    edge.act(|script| script.frozen = true);
    let first = rolled_back(&api, |_| {}).await.deployment.unwrap().id;
    api.wait_until(&first, "the pivot", |one| one.pivoted_at.is_some())
        .await;
    let second = stuck(&sandbox, &edge, &api, &one).await;
    api.wait_for(&first, &[State::RolledBack]).await;
    cancelled_to(&api, &edge, &second, &two).await;
    let live = api.environment("production").await;
    assert_eq!(live.live_deployment_id, first);
    assert_eq!(held_by_visitors(&edge), [three]);
}

#[tokio::test]
async fn one_that_was_on_its_way_back_is_not_what_stays() {
    let (sandbox, _orchestrator, edge, api, [one, two, three]) = started(&PATIENT).await;
    edge.act(|script| script.frozen = true);
    let first = rolled_back(&api, |_| {}).await.deployment.unwrap().id;
    api.wait_until(&first, "the pivot", |one| one.pivoted_at.is_some())
        .await;
    // Of a plan that no worker knows: nobody has come to the way back when the next one takes over.
    sandbox
        .act(
            "CREATE FUNCTION put_off() RETURNS trigger LANGUAGE plpgsql AS
                 'BEGIN NEW.plan_version := 99; RETURN NEW; END';
             CREATE TRIGGER put_off BEFORE INSERT ON step FOR EACH ROW
                 WHEN (NEW.kind = 'return') EXECUTE FUNCTION put_off();",
        )
        .await;
    api.cancel(&first).await.unwrap();
    let second = stuck(&sandbox, &edge, &api, &one).await;
    api.wait_for(&first, &[State::RolledBack]).await;
    sandbox.act("DROP TRIGGER put_off ON step").await;
    cancelled_to(&api, &edge, &second, &three).await;
    assert_eq!(held_by_visitors(&edge), [two]);
}

/// A rollback out of a canary, which takes away what had a share and moves nobody else.
async fn out_of_a_canary(sandbox: &Sandbox, edge: &Edge, api: &Api, words: &str) -> [String; 2] {
    let bad = sandbox.release(api, words).await;
    let made = api.create("production", &bad, Some(canary())).await;
    let acting = made.unwrap().into_inner().id;
    api.wait_in(&acting, pb::step::Kind::Analyse).await;
    edge.act(|script| script.frozen = true);
    let back = rolled_back(api, |_| {}).await.deployment.unwrap().id;
    api.wait_until(&back, "the pivot", |one| one.pivoted_at.is_some())
        .await;
    [bad, back]
}

#[tokio::test]
async fn pages_of_a_canary_stay_reachable_however_its_rollback_ends() {
    let (sandbox, _orchestrator, edge, api, [_one, two, three]) = started(&PATIENT).await;
    let [bad, back] = out_of_a_canary(&sandbox, &edge, &api, "four").await;
    api.cancel(&back).await.unwrap();
    edge.act(|script| script.frozen = false);
    api.wait_for(&back, &[State::RolledBack]).await;
    edge.wait_until_it_serves(HOST, &three).await;
    assert_eq!(held_by_visitors(&edge), [bad]);
    api.lift("production").await.unwrap();
    let [bad, first] = out_of_a_canary(&sandbox, &edge, &api, "five").await;
    let second = stuck(&sandbox, &edge, &api, &two).await;
    api.wait_for(&first, &[State::RolledBack]).await;
    cancelled_to(&api, &edge, &second, &three).await;
    assert_eq!(held_by_visitors(&edge), [bad]);
    let told = history::of_kind(&api, "production", record::Kind::Rollback).await;
    let words = format!("it preempted {first}: traffic stays on {three}");
    assert!(told.iter().any(|one| one.reason == words), "{told:?}");
}

#[tokio::test]
async fn a_deployer_ends_one_that_gives_back_what_was_live_before_what_it_preempted() {
    let (sandbox, _orchestrator, edge, api, [one, two, three]) = started(&PATIENT).await;
    let machine = api.deploying();
    let bad = sandbox.release(&api, "four").await;
    let made = api.create("production", &bad, Some(baking())).await;
    let acting = made.unwrap().into_inner().id;
    api.wait_in(&acting, pb::step::Kind::Bake).await;
    // It leaves what is live, and visitors do not get that back.
    let first = stuck(&sandbox, &edge, &api, &two).await;
    let own = stuck(&sandbox, &edge, &machine, &one).await;
    api.wait_for(&first, &[State::Cancelled]).await;
    cancelled_to(&machine, &edge, &own, &three).await;
}
