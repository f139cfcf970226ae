//! GitHub refuses who we are, for a while: nothing is given up for it, and it is not asked for each row. What
//! it refuses alone is given up, and keeps nothing else.

use std::time::Duration;

use candlefish_proto::deploy::{self as pb, deployment::State};
use candlefish_testkit::{github::Fake, wait_until};

use crate::{
    limits::as_app,
    previews::{allow, pull},
    sandbox::{SITE, SOON},
    stage::{self, REPOSITORY, Stage, commit, latest, push},
};

const DEPLOYMENT: &str = "repos/create-deployment";
const COMMENT: &str = "issues/create-comment";
/// More than what is given up after six refusals would have.
const OFTEN: usize = 7;

async fn asking() -> (Fake, Stage) {
    let (github, stage) = Stage::asking(&[]).await;
    follows(&stage).await;
    (github, stage)
}

/// The site, whose `production` follows `main`.
async fn follows(stage: &Stage) {
    stage::site(&stage.api, SITE, REPOSITORY).await;
    stage::environment(&stage.api, SITE, "production", "main", &[], latest()).await;
}

/// Waits until so many rows are so, while the pauses between turns pass.
async fn in_time(stage: &Stage, rows: &str, count: i64) {
    in_steps(stage, Duration::from_secs(1), rows, count).await;
}

async fn in_steps(stage: &Stage, step: Duration, rows: &str, count: i64) {
    let question = format!("SELECT count(*) FROM {rows}");
    wait_until(SOON, rows, async || {
        stage.sandbox.database.advance(step).await;
        stage.sandbox.number(&question).await == count
    })
    .await;
}

/// Waits until a call was refused so often, while the pauses between turns pass.
async fn refused(github: &Fake, stage: &Stage, operation: &str) {
    wait_until(SOON, "several tries", async || {
        stage.sandbox.database.advance(Duration::from_secs(1)).await;
        github.calls(operation) >= OFTEN
    })
    .await;
}

/// Waits until `/metrics` says that these rest, or do not.
async fn resting(stage: &Stage, telling: &str, value: u8) {
    let url = format!("http://{}/metrics", stage.orchestrator.running.ops_address);
    let line = format!("github_resting{{telling=\"{telling}\"}} {value}");
    wait_until(SOON, &line, async || {
        let said = reqwest::get(&url).await.unwrap().text().await.unwrap();
        said.lines().any(|one| one == line)
    })
    .await;
}

#[tokio::test]
async fn bad_credentials_give_no_deployment_up_and_one_is_tried_for_all() {
    let (github, stage) = asking().await;
    github.refuses(DEPLOYMENT, 401);
    for number in 1..=10 {
        stage
            .pushed(&push(number - 1, number))
            .await
            .is("created", "");
    }
    in_time(&stage, "github_deployment WHERE note <> ''", 10).await;
    resting(&stage, "deployments", 1).await;
    refused(&github, &stage, DEPLOYMENT).await;
    // One for each rest, or one more just now; not one for each row.
    assert!(github.calls(DEPLOYMENT) <= OFTEN + 1);
    let open = "SELECT count(*) FROM github_deployment WHERE done_at IS NULL AND refusals = 0";
    assert_eq!(stage.sandbox.number(open).await, 10);
    github.allows(DEPLOYMENT);
    in_time(&stage, "github_deployment WHERE told <> ''", 10).await;
    resting(&stage, "deployments", 0).await;
}

#[tokio::test]
async fn a_right_that_comments_lack_keeps_no_deployment_from_github_and_no_comment_for_ever() {
    let (github, stage) = asking().await;
    allow(&stage.api, pb::preview_rule::From::Repository).await;
    github.refuses(COMMENT, 403);
    stage.pushed(&pull("opened", 0, 1, 1)).await;
    refused(&github, &stage, COMMENT).await;
    in_time(&stage, "github_deployment WHERE told = 'queued'", 1).await;
    resting(&stage, "comments", 1).await;
    github.allows(COMMENT);
    in_time(&stage, "github_pull_comment WHERE told <> ''", 1).await;
    assert_eq!(github.comments(REPOSITORY, 12).len(), 1);
}

#[tokio::test]
async fn what_is_refused_alone_is_given_up_and_keeps_nothing_else() {
    let (github, stage) = asking().await;
    github.refuses_about(DEPLOYMENT, &commit(1), 403);
    stage.pushed(&push(0, 1)).await.is("created", "");
    let alone = format!("github_deployment WHERE commit = '{}'", commit(1));
    in_time(&stage, &format!("{alone} AND note <> ''"), 1).await;
    for (number, refusals) in (2_usize..).zip(1..=6) {
        stage
            .pushed(&push(number - 1, number))
            .await
            .is("created", "");
        let told = format!(
            "github_deployment WHERE told <> '' AND commit = '{}'",
            commit(number)
        );
        in_time(&stage, &told, 1).await;
        let counted = format!("{alone} AND refusals >= {refusals}");
        in_steps(&stage, Duration::from_mins(1), &counted, 1).await;
        // The others are told all the same.
        resting(&stage, "deployments", 0).await;
    }
    let said = "done_at IS NOT NULL AND refusals = 6 AND told = '' AND note LIKE '%with 403%'";
    in_time(&stage, &format!("{alone} AND {said}"), 1).await;
}

#[tokio::test]
async fn a_repository_that_we_do_not_see_for_a_while_loses_nothing() {
    const UPDATE: &str = "issues/update-comment";
    let (github, stage) = asking().await;
    allow(&stage.api, pb::preview_rule::From::Repository).await;
    stage.pushed(&pull("opened", 0, 1, 1)).await;
    in_time(&stage, "github_pull_comment WHERE told <> ''", 1).await;
    in_time(&stage, "github_deployment WHERE told <> ''", 1).await;
    // GitHub says of what one may not see that it is not there.
    let hidden = [
        UPDATE,
        "pulls/list",
        "repos/create-deployment-status",
        "repos/list-deployments",
    ];
    for operation in hidden {
        github.refuses(operation, 404);
    }
    stage.pushed(&pull("closed", 0, 1, 2)).await;
    refused(&github, &stage, UPDATE).await;
    resting(&stage, "comments", 1).await;
    refused(&github, &stage, "repos/create-deployment-status").await;
    let lost = "SELECT (SELECT count(*) FROM github_pull_comment WHERE given_up)
                     + (SELECT count(*) FROM github_deployment WHERE refusals > 0)";
    assert_eq!(stage.sandbox.number(lost).await, 0);
    for operation in hidden {
        github.allows(operation);
    }
    in_time(&stage, "github_pull_comment WHERE done_at IS NOT NULL", 1).await;
    in_time(&stage, "github_deployment WHERE told = 'inactive'", 1).await;
    let said = github.comments(REPOSITORY, 12);
    assert!(said[0].contains("was torn down"), "{said:?}");
}

#[tokio::test]
async fn an_app_that_is_put_back_tells_what_was_not_told() {
    const INSTALLATION: &str = "apps/get-repo-installation";
    let (_dir, github, stage) = as_app().await;
    github.refuses(INSTALLATION, 404);
    follows(&stage).await;
    stage.pushed(&push(0, 1)).await;
    resting(&stage, "deployments", 1).await;
    in_time(&stage, "github_deployment WHERE attempts > 6", 1).await;
    let open = "SELECT count(*) FROM github_deployment WHERE done_at IS NULL AND refusals = 0";
    assert_eq!(stage.sandbox.number(open).await, 1);
    github.allows(INSTALLATION);
    in_time(&stage, "github_deployment WHERE told = 'queued'", 1).await;
}

#[tokio::test]
async fn what_is_over_for_a_day_is_given_up_and_nothing_else() {
    let (github, stage) = asking().await;
    allow(&stage.api, pb::preview_rule::From::Repository).await;
    for operation in [DEPLOYMENT, COMMENT] {
        github.refuses(operation, 401);
    }
    let live = stage.pushed(&push(0, 1)).await.deployment;
    stage.uploads(&commit(1), "one").await;
    stage.api.wait_for(&live, &[State::Succeeded]).await;
    let ended = stage.pushed(&push(1, 2)).await.deployment;
    stage.api.cancel(&ended).await.unwrap();
    stage.api.wait_for(&ended, &[State::Cancelled]).await;
    stage.pushed(&pull("opened", 0, 3, 1)).await;
    in_time(&stage, "github_pull_comment WHERE note <> ''", 1).await;
    stage.pushed(&pull("closed", 0, 3, 2)).await;
    in_time(&stage, "github_deployment WHERE note <> ''", 3).await;
    let over = ["github_deployment", "github_pull_comment"]
        .map(|table| format!("{table} WHERE done_at IS NOT NULL"));
    for rows in &over {
        let count = format!("SELECT count(*) FROM {rows}");
        assert_eq!(stage.sandbox.number(&count).await, 0, "{rows}");
    }
    let day = Duration::from_hours(25);
    stage.sandbox.database.advance(day).await;
    // The push that was cancelled and the preview; what is live is not over.
    in_time(&stage, &over[0], 2).await;
    in_time(&stage, &over[1], 1).await;
    stage.sandbox.database.advance(day).await;
    github.allows(DEPLOYMENT);
    in_time(&stage, "github_deployment WHERE told = 'success'", 1).await;
    assert_eq!(github.deployments(REPOSITORY).len(), 1);
}
