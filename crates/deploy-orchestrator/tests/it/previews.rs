//! Previews of pull requests: made, pushed to, overtaken, and what keeps one from being made.

use candlefish_proto::deploy::{self as pb, deployment::State};
use candlefish_testkit::github::{Example, PullRequest};

use crate::{
    api::{Api, baking, blockers, fields, policy, reason, shown},
    sandbox::{SITE, Sandbox},
    stage::{Decided, REPOSITORY, Stage, commit},
};

pub(crate) const PLACE: &str = "docs/pr-12";
pub(crate) const SLUG: &str = "pr-12";
pub(crate) const HOST: &str = "pr-12--docs.localhost";

/// A delivery of pull request 12: its branch goes from one commit to another.
pub(crate) fn pull(action: &str, before: usize, head: usize, updated_at: u32) -> Example {
    let before = if before == 0 {
        String::new()
    } else {
        commit(before)
    };
    PullRequest {
        repository: REPOSITORY,
        number: 12,
        action,
        before: &before,
        head: &commit(head),
        updated_at,
    }
    .example()
}

/// The site gives pull requests previews from now on.
pub(crate) async fn allow(api: &Api, from: pb::preview_rule::From) {
    let request = api.request(pb::UpdateSiteRequest {
        site: SITE.to_owned(),
        previews: Some(pb::PreviewRule {
            from: from.into(),
            max_age: None,
        }),
        ..pb::UpdateSiteRequest::default()
    });
    api.sites().update_site(request).await.unwrap();
}

/// A stage whose site gives its own pull requests previews.
pub(crate) async fn allowed() -> Stage {
    let stage = Stage::new().await;
    allow(&stage.api, pb::preview_rule::From::Repository).await;
    stage
}

/// Uploads the content of a commit and waits until its deployment is live.
pub(crate) async fn live(stage: &Stage, decided: &Decided, number: usize) -> pb::Deployment {
    stage
        .uploads(&commit(number), &format!("number {number}"))
        .await;
    stage
        .api
        .wait_for(&decided.deployment, &[State::Succeeded])
        .await
}

#[tokio::test]
async fn a_pull_request_gets_an_environment_and_its_upload_is_its_deployment() {
    let stage = allowed().await;
    let decided = stage.pushed(&pull("opened", 0, 1, 1)).await;
    decided.is("created", "");
    assert_eq!(decided.place, PLACE);
    let made = stage.api.environment(SLUG).await;
    assert_eq!(made.kind(), pb::environment::Kind::Preview);
    assert_eq!((made.pull_request, made.closed), (12, None));
    assert_eq!(made.url, format!("http://{HOST}"));
    let waits = stage.api.deployment(&decided.deployment).await;
    assert_eq!(blockers(&waits), [pb::blocker::Kind::Content]);
    assert_eq!(waits.reason, "pull request 12");
    assert_eq!(waits.created_by, "github:Codertocat");
    let action = format!(
        "candlefish deploy DIR --site docs --env pr-12 --commit {}",
        commit(1)
    );
    assert_eq!(waits.blockers[0].action, action);
    let release = waits.release.unwrap();
    assert_eq!(release.message, "Update the README with new information.");
    assert_eq!(release.branches, ["changes"]);

    let uploaded = stage.uploads(&commit(1), "one").await;
    let asked = stage.api.deploy(SLUG, &uploaded).await;
    assert_eq!(asked, waits.id);
    stage.api.wait_for(&asked, &[State::Succeeded]).await;
    stage.edge.wait_until_it_serves(HOST, &uploaded).await;
    let told = stage.api.triggers(&commit(1)).await.unwrap().remove(0);
    assert_eq!(told.message, "is live on docs/pr-12");
    assert_eq!(
        (told.event.as_str(), told.pull_request),
        ("pull_request", 12)
    );
    let made = "SELECT count(*) FROM outbox WHERE event_type = 'deploy.environment.created.v1'
                AND position('pr-12'::bytea IN envelope) > 0";
    assert_eq!(stage.sandbox.number(made).await, 1);
}

#[tokio::test]
async fn a_newer_head_takes_the_place_of_an_older_one_and_a_late_upload_of_that_goes_nowhere() {
    let stage = allowed().await;
    let first = stage.pushed(&pull("opened", 0, 1, 1)).await;
    let second = stage.pushed(&pull("synchronize", 1, 2, 2)).await;
    assert_eq!(second.is("created", "").place, PLACE);
    let second = live(&stage, &second, 2).await;
    stage.uploads(&commit(1), "number 1").await;
    let ended = stage
        .api
        .wait_for(&first.deployment, &[State::Superseded])
        .await;
    assert_eq!(ended.superseded_by, second.id);
}

#[tokio::test]
async fn a_head_after_history_was_rewritten_wins_also_when_it_goes_back() {
    let stage = allowed().await;
    live(&stage, &stage.pushed(&pull("opened", 0, 1, 1)).await, 1).await;
    // What a push to the branch tells: 2 descends from 1.
    let number = 2;
    let content = stage
        .sandbox
        .put_content(&[("index.html", "number 2")])
        .await;
    let second = stage.pushed(&pull("synchronize", 1, 2, 2)).await;
    let draft = stage
        .api
        .create_release(content, &commit(number), &[&commit(1)])
        .await;
    stage.api.seal(&draft).await;
    stage
        .api
        .wait_for(&second.deployment, &[State::Succeeded])
        .await;
    // The branch is put back to 1: that is what the pull request is at.
    let back = stage.pushed(&pull("synchronize", 2, 1, 3)).await;
    back.is("created", "");
    stage
        .api
        .wait_for(&back.deployment, &[State::Succeeded])
        .await;
    let other = stage.pushed(&pull("synchronize", 1, 9, 4)).await;
    live(&stage, &other, 9).await;
    assert_eq!(
        stage.api.environment(SLUG).await.live_deployment_id,
        other.deployment
    );
}

#[tokio::test]
async fn a_head_that_is_put_back_to_what_is_live_wins_over_the_one_on_its_way() {
    let stage = allowed().await;
    let first = stage.pushed(&pull("opened", 0, 1, 1)).await;
    let first = live(&stage, &first, 1).await;
    stage.edge.act(|script| script.frozen = true);
    let second = stage.pushed(&pull("synchronize", 1, 2, 2)).await;
    stage.uploads(&commit(2), "number 2").await;
    let acting = &second.deployment;
    stage.api.wait_in(acting, pb::step::Kind::Stage).await;
    let back = stage.pushed(&pull("synchronize", 2, 1, 3)).await;
    assert_ne!(back.is("created", "").deployment, first.id);
    stage.edge.act(|script| script.frozen = false);
    let live = stage.api.wait_for(&back.deployment, &[State::Succeeded]);
    assert_eq!(live.await.release_id, first.release_id);
    let gave_way = stage.api.wait_for(acting, &[State::Superseded]).await;
    assert_eq!(gave_way.superseded_by, back.deployment);
    stage
        .edge
        .wait_until_it_serves(HOST, &first.release_id)
        .await;
}

/// What the preview gets from now on bakes, and each has its turn.
async fn bake(stage: &Stage) {
    let request = stage.api.request(pb::UpdateEnvironmentRequest {
        site: SITE.to_owned(),
        environment: SLUG.to_owned(),
        policy: Some(pb::Policy {
            strategy: Some(baking()),
            ..policy()
        }),
        pushes: None,
    });
    stage.api.sites().update_environment(request).await.unwrap();
}

#[tokio::test]
async fn a_pinned_one_waits_before_the_head_that_came_before_it_and_the_lane_says_so() {
    let stage = allowed().await;
    let api = &stage.api;
    live(&stage, &stage.pushed(&pull("opened", 0, 1, 1)).await, 1).await;
    bake(&stage).await;
    let acting = stage.pushed(&pull("synchronize", 1, 2, 2)).await.deployment;
    stage.uploads(&commit(2), "number 2").await;
    api.wait_in(&acting, pb::step::Kind::Bake).await;
    let head = stage.pushed(&pull("synchronize", 2, 3, 3)).await.deployment;
    stage.uploads(&commit(3), "number 3").await;
    let waits = |one: &pb::Deployment| blockers(one) == [pb::blocker::Kind::Lane];
    api.wait_until(&head, "its content to be seen", waits).await;
    // Nothing but that 3 is the head says that it comes after 9.
    let content = [("index.html", "number 9")];
    let content = stage.sandbox.put_content(&content).await;
    let draft = api.create_release(content, &commit(9), &[]).await;
    let pinned = api.deploy(SLUG, &draft).await;
    api.pin(&pinned, false).await.unwrap();
    api.seal(&draft).await;
    api.wait_until(&pinned, "its content to be seen", waits)
        .await;

    let order = [pinned, head];
    let mut before = format!("{acting} acts on {PLACE}");
    for id in &order {
        let waits = api.deployment(id).await;
        let said: Vec<&str> = waits.blockers.iter().map(|one| &*one.message).collect();
        assert_eq!(said, [&*before], "{}", shown(&waits));
        before = format!("{id} waits before it for {PLACE}");
    }
    assert_eq!(api.lane(SLUG).await.pending_deployment_ids, order);
}

#[tokio::test]
async fn deliveries_that_come_twice_late_or_out_of_order_change_nothing() {
    let stage = allowed().await;
    let newest = stage.pushed(&pull("synchronize", 2, 3, 30)).await;
    newest.is("created", "");
    // The same head is told of once more, by a redelivery and by another event.
    for (again, before, at) in [("synchronize", 2, 30), ("ready_for_review", 0, 31)] {
        let again = stage.pushed(&pull(again, before, 3, at)).await;
        again.is("ignored", "duplicate");
        assert_eq!(again.deployment, newest.deployment);
    }
    for (late, before, head, at) in [
        ("opened", 0, 1, 1),
        ("synchronize", 1, 2, 20),
        ("closed", 0, 2, 25),
    ] {
        let late = stage.pushed(&pull(late, before, head, at)).await;
        late.is("ignored", "older");
        assert!(late.message.contains(&commit(3)[..7]), "{late:?}");
    }
    assert_eq!(stage.api.environment(SLUG).await.closed, None);
    let count = "SELECT count(*) FROM deployment";
    assert_eq!(stage.sandbox.number(count).await, 1);
    let waits = stage.api.deployment(&newest.deployment).await;
    assert_eq!(waits.state(), State::Pending);
}

#[tokio::test]
async fn a_pull_request_that_was_closed_before_it_was_told_of_has_no_preview() {
    let stage = allowed().await;
    let closed = stage.pushed(&pull("closed", 0, 2, 20)).await;
    closed.is("ignored", "closed");
    assert_eq!(closed.place, SITE);
    for (late, before, head, at) in [("opened", 0, 1, 1), ("synchronize", 1, 2, 19)] {
        stage
            .pushed(&pull(late, before, head, at))
            .await
            .is("ignored", "closed");
    }
    let made = "SELECT count(*) FROM environment WHERE kind = 'preview'";
    assert_eq!(stage.sandbox.number(made).await, 0);
    let again = stage.pushed(&pull("reopened", 0, 2, 21)).await;
    assert_eq!(again.is("created", "").place, PLACE);
}

#[tokio::test]
async fn the_rule_of_the_site_says_whose_pull_requests_get_one() {
    let stage = Stage::new().await;
    let off = stage.pushed(&pull("opened", 0, 1, 1)).await;
    off.is("ignored", "previews_off");
    assert!(
        off.message
            .contains("candlefish sites update docs --previews"),
        "{off:?}"
    );
    assert_eq!(off.place, SITE);
    allow(&stage.api, pb::preview_rule::From::Repository).await;
    let forked = |at: u32, repo: serde_json::Value| {
        let head = usize::try_from(at).unwrap();
        let mut example = pull("synchronize", head - 1, head, at);
        example.body["pull_request"]["head"]["repo"] = repo;
        example
    };
    let example = pull("synchronize", 1, 2, 2);
    let mut mallory = example.body["pull_request"]["head"]["repo"].clone();
    mallory["full_name"] = "mallory/docs".into();
    for (at, repo) in [(2, mallory.clone()), (3, serde_json::Value::Null)] {
        let fork = stage.pushed(&forked(at, repo)).await;
        fork.is("ignored", "fork");
        assert!(fork.message.contains("--previews forks"), "{fork:?}");
    }
    let made = "SELECT count(*) FROM environment WHERE kind = 'preview'";
    assert_eq!(stage.sandbox.number(made).await, 0);
    allow(&stage.api, pb::preview_rule::From::Forks).await;
    let fork = stage.pushed(&forked(4, mallory)).await;
    assert_eq!(fork.is("created", "").place, PLACE);
    let locked = stage.pushed(&pull("locked", 0, 4, 5)).await;
    locked.is("ignored", "not_acted_on");
}

#[tokio::test]
async fn the_slug_of_a_preview_is_nobody_else_s() {
    let stage = allowed().await;
    let make = async |slug: &str| {
        let request = stage.api.request(pb::CreateEnvironmentRequest {
            site: SITE.to_owned(),
            slug: slug.to_owned(),
            policy: Some(policy()),
            ..pb::CreateEnvironmentRequest::default()
        });
        stage.api.sites().create_environment(request).await
    };
    let status = make("pr-7").await.unwrap_err();
    assert_eq!(fields(&status), ["slug"]);
    make("pr-next").await.unwrap();
    // One that was made before there were previews stays what it is.
    let taken = "UPDATE environment SET slug = 'pr-12' WHERE slug = 'pr-next'";
    stage.sandbox.act(taken).await;
    let taken = stage.pushed(&pull("opened", 0, 1, 1)).await;
    taken.is("ignored", "slug_taken");
    assert!(taken.message.contains(PLACE), "{taken:?}");
    let closed = stage.pushed(&pull("closed", 0, 1, 2)).await;
    closed.is("ignored", "closed");
    assert_eq!(stage.api.environment(SLUG).await.closed, None);
}

#[tokio::test]
async fn a_preview_of_a_pull_request_has_a_policy_and_a_hold_but_no_pushes_of_its_own() {
    let stage = allowed().await;
    stage.pushed(&pull("opened", 0, 1, 1)).await;
    stage.api.hold(SLUG).await.unwrap();
    stage.api.lift(SLUG).await.unwrap();
    let update = async |policy: Option<pb::Policy>, pushes: Option<pb::PushRule>| {
        let request = pb::UpdateEnvironmentRequest {
            site: SITE.to_owned(),
            environment: SLUG.to_owned(),
            policy,
            pushes,
        };
        let sites = &mut stage.api.sites();
        sites.update_environment(stage.api.request(request)).await
    };
    let after = update(Some(policy()), None).await.unwrap().into_inner();
    assert_eq!(after.policy.unwrap().keep_releases, 10);
    let rule = pb::PushRule {
        branch: "main".to_owned(),
        paths: Vec::new(),
    };
    let status = update(None, Some(rule)).await.unwrap_err();
    assert_eq!(
        (reason(&status), fields(&status)),
        ("preview".to_owned(), vec!["pushes".to_owned()])
    );
}

#[tokio::test]
async fn two_replicas_decide_each_delivery_of_a_pull_request_once() {
    let stage = allowed().await;
    let _second = stage.sandbox.start().await;
    let mut ids = Vec::new();
    for number in 1..=12_usize {
        let at = u32::try_from(number).unwrap();
        let action = if number == 1 { "opened" } else { "synchronize" };
        let example = pull(action, number - 1, number, at);
        ids.push(stage.gateway.receives(&example));
    }
    for id in &ids {
        stage.decided(id, 1).await;
    }
    let count = async |question: &str| stage.sandbox.number(question).await;
    let sandbox: &Sandbox = &stage.sandbox;
    assert_eq!(count("SELECT count(*) FROM trigger").await, 12);
    assert_eq!(
        sandbox
            .number("SELECT count(*) FROM environment WHERE kind = 'preview'")
            .await,
        1
    );
    let head = format!(
        "SELECT count(*) FROM pull_request WHERE is_open AND head_commit = '{}'",
        commit(12)
    );
    assert_eq!(count(&head).await, 1);
}
