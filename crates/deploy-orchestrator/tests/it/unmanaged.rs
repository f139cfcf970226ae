//! What GitHub does not manage, or does not allow, however often a sweep asks.

use std::time::Duration;

use candlefish_testkit::{github::Fake, wait_until};

use crate::{
    sandbox::{SITE, SOON},
    stage::{self, REPOSITORY, Stage, commit, latest, push},
};

/// `production` follows `main`, which is at its first commit.
async fn following(sweep: &str) -> (Fake, Stage) {
    let (github, stage) = Stage::asking(&[("CANDLEFISH_GITHUB_SWEEP_MS", sweep)]).await;
    github.commit(REPOSITORY, &commit(1), &[], &["docs/a.md"]);
    github.branch(REPOSITORY, "main", &commit(1));
    stage::site(&stage.api, SITE, REPOSITORY).await;
    (github, stage)
}

async fn follows(stage: &Stage) {
    stage::environment(&stage.api, SITE, "production", "main", &[], latest()).await;
}

#[tokio::test]
async fn a_push_that_vanished_is_found_where_github_fails_to_compare_it() {
    let (github, stage) = following("100").await;
    follows(&stage).await;
    stage.pushed(&push(0, 1)).await.is("created", "");
    github.refuses("repos/compare-commits", 500);
    github.commit(REPOSITORY, &commit(2), &[&commit(1)], &["docs/a.md"]);
    github.branch(REPOSITORY, "main", &commit(2));
    wait_until(SOON, "the head to be decided", async || {
        stage.sandbox.database.advance(Duration::from_secs(1)).await;
        let made = "SELECT count(*) FROM trigger WHERE swept AND outcome = 'created'";
        stage.sandbox.number(made).await == 1
    })
    .await;
    // A short outage is waited for: what it changes would not be known.
    assert!(github.calls("repos/compare-commits") >= 10);
}

#[tokio::test]
async fn what_is_not_allowed_is_asked_for_as_seldom_as_what_is() {
    let (github, stage) = following("3600000").await;
    github.refuses("repos/get-branch", 403);
    follows(&stage).await;
    wait_until(SOON, "a sweep that is refused", async || {
        let put_off = "SELECT count(*) FROM github_repository
                       WHERE note <> '' AND due_at > clock() + interval '50 minutes'";
        stage.sandbox.number(put_off).await == 1
    })
    .await;
    assert_eq!(github.calls("repos/get-branch"), 1);
}
