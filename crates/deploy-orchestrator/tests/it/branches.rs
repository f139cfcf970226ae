//! Branches that are deleted, and made anew elsewhere: by their deliveries, and where these are lost.

use candlefish_proto::deploy::{
    self as pb,
    deployment::State,
    trigger::{Outcome, Reason},
};
use candlefish_testkit::{
    github::{self, Example, Fake},
    wait_until,
};

use crate::{
    api::blockers,
    sandbox::{SITE, SOON},
    stage::{self, Decided, NONE, REPOSITORY, Stage, commit, latest, push, uuid_of},
};

const LOOK: &str = "repos/get-branch";

/// `main`, which was at this commit, is deleted; as if the next commit were pushed then.
fn deletion(before: usize) -> Example {
    let mut deleted = push(before, before + 1);
    let told = serde_json::json!({
        "after": NONE, "deleted": true, "commits": [], "head_commit": null
    });
    let body = deleted.body.as_object_mut().unwrap();
    body.extend(told.as_object().unwrap().clone());
    deleted
}

async fn is_deleted(stage: &Stage, before: usize) {
    let told = stage.pushed(&deletion(before)).await;
    told.is("ignored", "deleted");
    assert_eq!(told.place, "docs/production");
    let words = "main was deleted; what waits and what is live stay";
    assert_eq!(told.message, words);
}

/// What a delivery that says so of a branch left, at these places.
async fn left(stage: &Stage, delivery: &str, places: &[&str]) {
    let decided = stage.decided(delivery, places.len()).await;
    for (one, place) in decided.iter().zip(places) {
        one.is("ignored", "deleted");
        assert_eq!((&*one.place, &*one.deployment), (*place, ""));
        assert!(one.message.contains("main was deleted"), "{one:?}");
    }
}

#[tokio::test]
async fn a_deleted_branch_leaves_a_trigger_where_it_is_followed_and_at_sites_where_it_is_not() {
    let stage = Stage::new().await;
    stage::environment(&stage.api, SITE, "staging", "main", &["docs/"], latest()).await;
    stage::environment(&stage.api, SITE, "next", "next", &[], latest()).await;
    stage::site(&stage.api, "partners", REPOSITORY).await;
    stage::environment(&stage.api, "partners", "next", "next", &[], latest()).await;
    let places = ["docs/production", "docs/staging", "partners"];
    let mut event = github::delete();
    event.body["repository"]["full_name"] = REPOSITORY.into();
    event.body["ref"] = "main".into();
    event.body["ref_type"] = "branch".into();
    for told in [&deletion(1), &event] {
        let id = stage.gateway.receives(told);
        left(&stage, &id, &places).await;
        let answer = stage.api.delivered(&id).await.unwrap();
        let mut shown: Vec<_> = answer
            .triggers
            .iter()
            .map(|one| {
                assert_eq!(
                    (one.outcome(), one.reason()),
                    (Outcome::Ignored, Reason::Deleted)
                );
                (&*one.site, &*one.environment)
            })
            .collect();
        shown.sort_unstable();
        assert_eq!(
            shown,
            [
                ("docs", "production"),
                ("docs", "staging"),
                ("partners", "")
            ]
        );
    }

    // A tag of that name is followed by nobody.
    event.body["ref_type"] = "tag".into();
    let id = stage.gateway.receives(&event);
    left(&stage, &id, &["docs", "partners"]).await;
}

#[tokio::test]
async fn a_deleted_branch_is_decided_once_whoever_follows_it_when_it_is_looked_at_again() {
    let stage = Stage::new().await;
    stage::site(&stage.api, "partners", REPOSITORY).await;
    let places = ["docs/production", "partners"];
    let id = stage.gateway.receives(&deletion(1));
    left(&stage, &id, &places).await;
    for site in [SITE, "partners"] {
        stage::environment(&stage.api, site, "staging", "main", &[], latest()).await;
    }
    // As after a crash between what it left and the note that it is done.
    let again = format!(
        "UPDATE delivery SET done_at = NULL, retry_at = clock() WHERE id = '{}'",
        uuid_of(&id)
    );
    stage.sandbox.act(&again).await;
    left(&stage, &id, &places).await;
}

/// A push whose content is still to come.
async fn waits(stage: &Stage, push: &Example) -> Decided {
    let made = stage.pushed(push).await;
    made.is("created", "");
    made
}

#[tokio::test]
async fn what_waits_for_its_content_stays_when_its_branch_is_deleted_and_so_does_what_is_live() {
    let stage = Stage::new().await;
    let made = waits(&stage, &push(0, 1)).await;
    is_deleted(&stage, 1).await;
    let one = stage.api.deployment(&made.deployment).await;
    assert_eq!(one.state(), State::Pending, "{one:?}");
    assert_eq!(blockers(&one), [pb::blocker::Kind::Content]);
    let words = &one.blockers[0].message;
    assert!(words.contains("nobody uploaded the content"), "{words}");
    let release = stage.uploads(&commit(1), "one").await;
    stage.api.wait_for(&one.id, &[State::Succeeded]).await;
    // Once more, from another webhook, which names its own installation.
    let mut again = deletion(1);
    again.body["installation"]["id"] = 2.into();
    stage.pushed(&again).await.is("ignored", "deleted");
    let live = stage.api.environment("production").await.live_release_id;
    assert_eq!(live, release);
}

#[tokio::test]
async fn a_branch_that_is_made_anew_elsewhere_takes_the_place_of_what_waits() {
    let stage = Stage::new().await;
    let before = waits(&stage, &push(0, 1)).await;
    is_deleted(&stage, 1).await;
    // Nothing relates the two: the new branch says nothing of what was there before.
    let anew = waits(&stage, &push(0, 9)).await;
    stage.uploads(&commit(9), "nine").await;
    let succeeded = &[State::Succeeded];
    stage.api.wait_for(&anew.deployment, succeeded).await;
    stage.uploads(&commit(1), "one").await;
    let superseded = &[State::Superseded];
    let ended = stage.api.wait_for(&before.deployment, superseded).await;
    assert_eq!(ended.superseded_by, anew.deployment);
}

/// Waits for two more looks that began from now on.
async fn looks_again(github: &Fake) {
    let looks = github.calls(LOOK);
    wait_until(SOON, "two more looks", async || {
        github.calls(LOOK) > looks + 2
    })
    .await;
}

/// Waits until the branch was looked at where it is at this commit.
async fn looks_at(stage: &Stage, number: usize) {
    let at = commit(number);
    let seen = format!("SELECT count(*) FROM github_branch WHERE commit = '{at}'");
    wait_until(SOON, "a look at the branch", async || {
        stage.sandbox.number(&seen).await == 1
    })
    .await;
}

#[tokio::test]
async fn a_branch_that_is_not_there_decides_nothing_and_is_found_when_it_is_back() {
    let (github, stage) = Stage::asking(&[("CANDLEFISH_GITHUB_SWEEP_MS", "100")]).await;
    for number in [1, 9] {
        github.commit(REPOSITORY, &commit(number), &[], &["docs/a.md"]);
    }
    github.branch(REPOSITORY, "main", &commit(1));
    stage::site(&stage.api, SITE, REPOSITORY).await;
    stage::environment(&stage.api, SITE, "production", "main", &[], latest()).await;
    looks_at(&stage, 1).await;
    let made = waits(&stage, &push(0, 1)).await;
    let triggers = async || {
        let all = "SELECT count(*) FROM trigger";
        stage.sandbox.number(all).await
    };

    github.deletes_branch(REPOSITORY, "main");
    looks_again(&github).await;
    assert_eq!(triggers().await, 1);
    let failed = "SELECT count(*) FROM github_repository WHERE note <> ''";
    assert_eq!(stage.sandbox.number(failed).await, 0);
    let one = stage.api.deployment(&made.deployment).await;
    assert_eq!(one.state(), State::Pending, "{one:?}");

    // Where it was before it is no news, whether or not somebody told that it was gone.
    is_deleted(&stage, 1).await;
    github.branch(REPOSITORY, "main", &commit(1));
    looks_again(&github).await;
    assert_eq!(triggers().await, 2);

    github.deletes_branch(REPOSITORY, "main");
    looks_again(&github).await;
    github.branch(REPOSITORY, "main", &commit(9));
    looks_at(&stage, 9).await;
    let found = format!(
        "SELECT count(*) FROM trigger WHERE event = 'head' AND outcome = 'created' AND commit = '{}'",
        commit(9)
    );
    assert_eq!(stage.sandbox.number(&found).await, 1);
    assert_eq!(triggers().await, 3);
}
