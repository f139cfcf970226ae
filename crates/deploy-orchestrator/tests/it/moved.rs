//! What is looked at where a branch is not where pushes said: the site's repository is another one than
//! before, or is called otherwise, or GitHub's word is older than the last push.

use std::time::Duration;

use candlefish_proto::deploy::{self as pb, deployment::State};
use candlefish_testkit::{
    github::{Fake, Push, seconds},
    wait_until,
};

use crate::{
    sandbox::{SITE, SOON},
    stage::{self, NONE, REPOSITORY, Stage, commit, latest},
};

const OTHER: &str = "example/handbook";

/// Changes what counts wherever something does.
const CHANGES: &str = "docs/a.md";

/// `production` follows `main`, to which one commit was pushed, and which was looked at.
async fn pushed(paths: &[&str]) -> (Fake, Stage) {
    let (github, stage) = Stage::asking(&[("CANDLEFISH_GITHUB_SWEEP_MS", "100")]).await;
    stage::site(&stage.api, SITE, REPOSITORY).await;
    stage::environment(&stage.api, SITE, "production", "main", paths, latest()).await;
    github.commit(REPOSITORY, &commit(1), &[], &[CHANGES]);
    github.branch(REPOSITORY, "main", &commit(1));
    looks_at(&stage, 1).await;
    let push = Push {
        repository: REPOSITORY,
        branch: "main",
        before: NONE,
        commits: &[&commit(1)],
        changes: &[CHANGES],
        pushed_at: 1_790_000_000,
    }
    .example();
    stage.pushed(&push).await.is("created", "");
    (github, stage)
}

/// Waits until the branch was looked at where it is at this commit, and what follows from that is decided.
async fn looks_at(stage: &Stage, number: usize) {
    let seen = format!(
        "SELECT count(*) FROM github_branch WHERE commit = '{}'",
        commit(number)
    );
    wait_until(SOON, "a look at the branch", async || {
        stage.sandbox.number(&seen).await == 1
    })
    .await;
}

/// Deployments that a look made of this commit.
async fn made(stage: &Stage, number: usize) -> i64 {
    let made = format!(
        "SELECT count(*) FROM trigger WHERE event = 'head' AND outcome = 'created' AND commit = '{}'",
        commit(number)
    );
    stage.sandbox.number(&made).await
}

/// Triggers of this commit.
async fn decided(stage: &Stage, number: usize) -> i64 {
    let decided = format!(
        "SELECT count(*) FROM trigger WHERE commit = '{}'",
        commit(number)
    );
    stage.sandbox.number(&decided).await
}

/// Waits for two more looks that began from now on.
async fn looks_again(github: &Fake) {
    let looks = github.calls("repos/get-branch");
    wait_until(SOON, "two more looks", async || {
        github.calls("repos/get-branch") > looks + 2
    })
    .await;
}

async fn moves(stage: &Stage) {
    let request = stage.api.request(pb::UpdateSiteRequest {
        site: SITE.to_owned(),
        repository: Some(OTHER.to_owned()),
        ..pb::UpdateSiteRequest::default()
    });
    stage.api.sites().update_site(request).await.unwrap();
}

#[tokio::test]
async fn another_repository_deploys_nothing_until_somebody_pushes_to_it() {
    let (github, stage) = pushed(&[]).await;
    github.commit(OTHER, &commit(7), &[], &["a.md"]);
    github.branch(OTHER, "main", &commit(7));
    moves(&stage).await;
    looks_at(&stage, 7).await;
    assert_eq!(made(&stage, 7).await, 0);
    // From then on a push that vanished is found there.
    github.commit(OTHER, &commit(8), &[&commit(7)], &["a.md"]);
    github.branch(OTHER, "main", &commit(8));
    looks_at(&stage, 8).await;
    assert_eq!(made(&stage, 8).await, 1);
}

#[tokio::test]
async fn a_push_that_vanished_is_found_by_the_new_name_of_its_repository() {
    let (github, stage) = pushed(&[]).await;
    github.commit(OTHER, &commit(1), &[], &["a.md"]);
    github.commit(OTHER, &commit(2), &[&commit(1)], &["a.md"]);
    github.branch(OTHER, "main", &commit(2));
    moves(&stage).await;
    looks_at(&stage, 2).await;
    assert_eq!(made(&stage, 2).await, 1);
}

#[tokio::test]
async fn a_look_that_is_older_than_the_last_push_decides_nothing() {
    let (github, stage) = pushed(&[]).await;
    let mut next = stage::push(1, 2);
    next.body["repository"]["pushed_at"] = seconds().into();
    stage.pushed(&next).await.is("created", "");
    // GitHub dates an answer when it is sent, and still shows the branch as it was before.
    looks_again(&github).await;
    assert_eq!(decided(&stage, 1).await, 1);
}

#[tokio::test]
async fn nor_does_one_that_is_older_than_what_another_look_found() {
    let (github, stage) = pushed(&[]).await;
    // History was rewritten: what was found does not say what it replaced.
    github.commit(REPOSITORY, &commit(9), &[], &[CHANGES]);
    github.branch(REPOSITORY, "main", &commit(9));
    looks_at(&stage, 9).await;
    assert_eq!(made(&stage, 9).await, 1);
    github.branch(REPOSITORY, "main", &commit(1));
    looks_again(&github).await;
    assert_eq!(decided(&stage, 1).await, 1);
}

/// Its delivery is lost, the next one comes, and GitHub still shows the branch as it was before.
#[tokio::test]
async fn a_look_that_is_older_than_the_last_push_does_not_take_its_place() {
    let (github, stage) = pushed(&[]).await;
    // Nothing relates the two: history was rewritten between them.
    let mut next = stage::push(8, 9);
    next.body["forced"] = true.into();
    next.body["repository"]["pushed_at"] = seconds().into();
    github.commit(REPOSITORY, &commit(8), &[], &[CHANGES]);
    let stands = stage
        .pushed(&next)
        .await
        .is("created", "")
        .deployment
        .clone();
    github.branch(REPOSITORY, "main", &commit(8));
    wait_until(SOON, "the look to be decided", async || {
        decided(&stage, 8).await == 1
    })
    .await;
    assert_eq!(made(&stage, 8).await, 0);
    let stands = stage.api.deployment(&stands).await;
    assert_eq!(stands.state(), State::Pending, "{stands:?}");
}

#[tokio::test]
async fn a_branch_that_was_put_back_is_decided_a_minute_after_the_last_push() {
    let (_github, stage) = pushed(&[]).await;
    let mut next = stage::push(1, 2);
    next.body["repository"]["pushed_at"] = (seconds() - 61).into();
    stage.pushed(&next).await.is("created", "");
    wait_until(SOON, "the branch to be decided", async || {
        decided(&stage, 1).await == 2
    })
    .await;
}

#[tokio::test]
async fn a_push_that_is_missing_before_the_first_that_came_is_asked_for_once_a_day() {
    const COMPARE: &str = "repos/compare-commits";
    let (github, stage) = pushed(&["docs/"]).await;
    github.commit(OTHER, &commit(8), &[], &["src/a.rs"]);
    github.branch(OTHER, "main", &commit(8));
    moves(&stage).await;
    looks_at(&stage, 8).await;
    let before = github.calls(COMPARE);
    // What the branch was at before is of no push that came.
    let push = Push {
        repository: OTHER,
        branch: "main",
        before: &commit(7),
        commits: &[&commit(8)],
        changes: &["src/a.rs"],
        pushed_at: 1_790_000_008,
    }
    .example();
    stage.pushed(&push).await.is("ignored", "paths");
    wait_until(SOON, "the question to be noted", async || {
        let noted = "SELECT count(*) FROM github_gap";
        stage.sandbox.number(noted).await == 1
    })
    .await;
    let looks = github.calls("repos/get-branch");
    wait_until(SOON, "more looks", async || {
        github.calls("repos/get-branch") > looks + 3
    })
    .await;
    assert_eq!(github.calls(COMPARE), before + 1);
    stage
        .sandbox
        .database
        .advance(Duration::from_hours(25))
        .await;
    wait_until(SOON, "the question once more", async || {
        github.calls(COMPARE) == before + 2
    })
    .await;
    assert_eq!(made(&stage, 7).await, 0);
}
