//! What nothing needs any more is collected, and says so; what something needs stays.

use std::time::Duration;

use candlefish_manifest::digest_of;
use candlefish_proto::deploy::{self as pb, deployment::State};
use candlefish_testkit::{poll_until, wait_until};

use crate::{
    api::{Answer, Api, fields, policy, reason},
    previews::{SLUG, allow, live, pull},
    sandbox::{SITE, SOON, Sandbox},
    stage::Stage,
};

const OFTEN: [(&str, &str); 1] = [("CANDLEFISH_COLLECT_MS", "100")];
const A_DAY: Duration = Duration::from_hours(25);

/// Keeps no more releases than it must.
fn forgetful() -> pb::Policy {
    pb::Policy {
        keep_releases: 1,
        ..policy()
    }
}

/// A sealed release of a page and of a style that all share.
async fn sealed(sandbox: &Sandbox, api: &Api, words: &str) -> String {
    let files = [("index.html", words), ("style.css", "shared")];
    let content = sandbox.put_content(&files).await;
    let draft = api.create_release(content, "", &[]).await;
    api.seal(&draft).await
}

async fn release(api: &Api, id: &str) -> pb::Release {
    let request = api.request(pb::GetReleaseRequest { id: id.to_owned() });
    let found = api.releases().get_release(request).await;
    found.unwrap().into_inner()
}

async fn roll_back(api: &Api, environment: &str, to: &str) -> Answer<pb::Rollback> {
    let request = api.request(pb::CreateRollbackRequest {
        site: SITE.to_owned(),
        environment: environment.to_owned(),
        to_release_id: to.to_owned(),
        ..pb::CreateRollbackRequest::default()
    });
    let made = api.deployments().create_rollback(request).await?;
    Ok(made.into_inner())
}

/// What the world was told of a release that was collected and begun again.
async fn assert_told(sandbox: &Sandbox, one: &str) {
    let told: Vec<(String, i32)> = sqlx::query_as(
        "SELECT event_type, entity_version FROM outbox
         WHERE entity = $1 ORDER BY entity_version",
    )
    .bind(one)
    .fetch_all(&sandbox.pool)
    .await
    .unwrap();
    let kinds: Vec<&str> = told.iter().map(|(kind, _)| kind.as_str()).collect();
    let kinds: Vec<&str> = kinds
        .iter()
        .filter_map(|kind| kind.strip_prefix("deploy.release."))
        .collect();
    assert_eq!(
        kinds,
        [
            "created.v1",
            "sealed.v1",
            "collected.v1",
            "revived.v1",
            "sealed.v1"
        ]
    );
    assert!(told.is_sorted_by(|a, b| a.1 < b.1), "{told:?}");
}

/// Time jumps, as it never does by itself: what was judged young before it is looked at again.
async fn jump(sandbox: &Sandbox, by: Duration) {
    sandbox.database.advance(by).await;
    sandbox
        .act("UPDATE release SET collect_due_at = '-infinity' WHERE collected_at IS NULL")
        .await;
}

/// A day passes, the own addresses of what has ended are taken away, and every release was looked at.
async fn a_day_passes(sandbox: &Sandbox) {
    sandbox
        .act(
            "UPDATE route SET releases = '[]', assets_of = '[]' WHERE deployment_id IN
              (SELECT id FROM deployment WHERE kind <> 'preview')",
        )
        .await;
    jump(sandbox, A_DAY).await;
    let due = "SELECT count(*) FROM release WHERE state = 'sealed' AND collected_at IS NULL
               AND collect_due_at <= clock()";
    wait_until(SOON, "every release to be looked at", async || {
        sandbox.number(due).await == 0
    })
    .await;
}

/// Waits until the round that is under way, or else the next one, is over.
async fn a_round_ends(sandbox: &Sandbox) {
    let ended =
        "SELECT coalesce(extract(epoch FROM finished_at) * 1000000, 0)::bigint FROM collector";
    let before = sandbox.number(ended).await;
    wait_until(SOON, "a round to end", async || {
        sandbox.number(ended).await > before
    })
    .await;
}

#[tokio::test]
async fn what_nothing_needs_is_collected_and_can_be_uploaded_again() {
    let (sandbox, _orchestrator, _edge, api) = Sandbox::started_with(&OFTEN).await;
    for environment in ["production", "staging"] {
        api.create_environment(environment, forgetful()).await;
    }
    let (mut releases, mut deployments) = (Vec::new(), Vec::new());
    for words in ["one", "two", "three", "four"] {
        let release = sealed(&sandbox, &api, words).await;
        deployments.push(api.deploy_whole("production", &release).await.id);
        releases.push(release);
    }
    a_day_passes(&sandbox).await;
    // The fourth is live, and the third is what a rollback goes to.
    assert_eq!(gone(&api, &releases).await, [true, true, false, false]);

    let one = &*releases[0];
    let refused = api.create("production", one, None).await.unwrap_err();
    assert_eq!(reason(&refused), "release-collected");
    assert_eq!(fields(&refused), ["release_id"]);
    let words = "candlefish deploy DIR --site docs --env production";
    assert!(refused.message().contains(words), "{refused}");
    let refused = api.retry(&deployments[0]).await.unwrap_err();
    assert_eq!(reason(&refused), "release-collected");
    let refused = roll_back(&api, "production", one).await.unwrap_err();
    assert_eq!(reason(&refused), "release-collected");
    assert_eq!(fields(&refused), ["to_release_id"]);
    let refused = api.preview(one).await.unwrap_err();
    assert_eq!(reason(&refused), "release-collected");
    let back = roll_back(&api, "production", "").await.unwrap();
    assert_eq!(back.to.unwrap().id, releases[2]);
    api.wait_for(&back.deployment.unwrap().id, &[State::Succeeded])
        .await;

    // A day after nothing names them, the blobs go, and not before; what a release still names stays.
    let blobs = ["one", "two", "three", "four", "shared"].map(|text| digest_of(text.as_bytes()));
    a_round_ends(&sandbox).await;
    assert_eq!(sandbox.store.exists(&blobs).await.unwrap(), [true; 5]);
    a_day_passes(&sandbox).await;
    poll_until(SOON, "two pages to be gone", async || {
        let there = sandbox.store.exists(&blobs).await.unwrap();
        if there == [false, false, true, true, true] {
            Ok(())
        } else {
            Err(there)
        }
    })
    .await;

    // The same content is the same release, which is begun again.
    let again = sealed(&sandbox, &api, "one").await;
    assert_eq!(again, one);
    assert!(release(&api, one).await.collected_at.is_none());
    api.deploy_whole("staging", one).await;
    assert_told(&sandbox, one).await;
}

#[tokio::test]
async fn what_waits_what_has_an_address_and_what_is_kept_stays() {
    let (sandbox, _orchestrator, _edge, api) = Sandbox::started_with(&OFTEN).await;
    api.create_environment("production", policy()).await;
    api.create_environment("staging", policy()).await;
    let mut kept = Vec::new();
    for words in ["one", "two", "three"] {
        let release = sealed(&sandbox, &api, words).await;
        api.deploy_whole("production", &release).await;
        kept.push(release);
    }
    let previewed = sealed(&sandbox, &api, "previewed").await;
    let preview = api.preview(&previewed).await.unwrap().into_inner().id;
    api.wait_for(&preview, &[State::Succeeded]).await;
    let held = sealed(&sandbox, &api, "held").await;
    api.hold("staging").await.unwrap();
    let waits = api.deploy("staging", &held).await;
    let never = sealed(&sandbox, &api, "never deployed").await;
    a_day_passes(&sandbox).await;
    for id in kept.iter().chain([&previewed, &held]) {
        assert!(release(&api, id).await.collected_at.is_none(), "{id}");
    }
    assert!(release(&api, &never).await.collected_at.is_some());
    // It ended: nothing keeps it any more.
    api.cancel(&waits).await.unwrap();
    a_day_passes(&sandbox).await;
    assert!(release(&api, &held).await.collected_at.is_some());
}

/// Which of these are collected.
async fn gone(api: &Api, releases: &[String]) -> Vec<bool> {
    let mut gone = Vec::new();
    for id in releases {
        gone.push(release(api, id).await.collected_at.is_some());
    }
    gone
}

#[tokio::test]
async fn the_preview_of_a_pull_request_keeps_what_it_may_go_back_to_as_long_as_it_is_open() {
    let stage = Stage::with(&OFTEN).await;
    let api = &stage.api;
    allow(api, pb::preview_rule::From::Repository).await;
    let opened = stage.pushed(&pull("opened", 0, 1, 1)).await;
    let mut releases = vec![live(&stage, &opened, 1).await.release_id];
    let request = api.request(pb::UpdateEnvironmentRequest {
        site: SITE.to_owned(),
        environment: SLUG.to_owned(),
        policy: Some(pb::Policy {
            keep_releases: 3,
            ..policy()
        }),
        pushes: None,
    });
    api.sites().update_environment(request).await.unwrap();
    for (before, head, at) in [(1, 2, 2), (2, 3, 3), (3, 4, 4)] {
        let pushed = stage.pushed(&pull("synchronize", before, head, at)).await;
        releases.push(live(&stage, &pushed, head).await.release_id);
    }
    a_day_passes(&stage.sandbox).await;
    assert_eq!(gone(api, &releases).await, [true, false, false, false]);
    let back = roll_back(api, SLUG, &releases[1]).await.unwrap();
    let back = back.deployment.unwrap().id;
    api.wait_for(&back, &[State::Succeeded]).await;

    let closed = stage.pushed(&pull("closed", 0, 4, 5)).await;
    closed.is("closed", "");
    a_day_passes(&stage.sandbox).await;
    assert_eq!(gone(api, &releases).await, [true; 4]);
}

#[tokio::test]
async fn the_turn_of_a_replica_that_died_is_taken_up() {
    let (sandbox, first, _edge, api) = Sandbox::started_with(&OFTEN).await;
    let id = sealed(&sandbox, &api, "one").await;
    first.kill().await;
    // Nobody else runs who could give the turn back.
    sandbox
        .act("UPDATE collector SET due_at = clock() + interval '26 hours'")
        .await;
    let second = sandbox.start().await;
    let api = sandbox.api(second.running.address);
    jump(&sandbox, A_DAY).await;
    assert!(release(&api, &id).await.collected_at.is_none());
    jump(&sandbox, Duration::from_hours(2)).await;
    wait_until(SOON, "the release to be collected", async || {
        release(&api, &id).await.collected_at.is_some()
    })
    .await;
}
