//! What GitHub limits, refuses and takes back: obeyed by all replicas as one, by each installation for
//! itself.

use std::time::Duration;

use candlefish_proto::deploy::deployment::State;
use candlefish_testkit::{
    github::{Fake, Fault},
    wait_until,
};

use crate::{
    api::Api,
    sandbox::{SITE, SOON, Sandbox},
    stage::{self, REPOSITORY, Stage, commit, latest, push},
};

const SWEEP: (&str, &str) = ("CANDLEFISH_GITHUB_SWEEP_MS", "100");
const LOOK: &str = "repos/get-branch";
const TOKEN: &str = "apps/create-installation-access-token";

/// A GitHub that an App asks, and no site yet.
pub(crate) async fn as_app() -> (tempfile::TempDir, Fake, Stage) {
    Stage::asking_as_app(&[SWEEP]).await
}

/// A site that follows a repository, which is at its first commit.
async fn follows(github: &Fake, api: &Api, site: &str, repository: &str) {
    github.commit(repository, &commit(1), &[], &["docs/a.md"]);
    github.branch(repository, "main", &commit(1));
    stage::site(api, site, repository).await;
    stage::environment(api, site, "production", "main", &[], latest()).await;
}

/// Waits until so many branches were looked at.
async fn looked_at(sandbox: &Sandbox, branches: i64) {
    wait_until(SOON, "the first looks", async || {
        let seen = "SELECT count(*) FROM github_branch";
        sandbox.number(seen).await == branches
    })
    .await;
}

/// Waits until a limit is known to all.
async fn limited(sandbox: &Sandbox) {
    wait_until(SOON, "the limit to be written", async || {
        let limited = "SELECT count(*) FROM github_budget WHERE free_at > clock()";
        sandbox.number(limited).await == 1
    })
    .await;
}

/// Has every repository looked at anew, and waits until each look ended at the limit.
async fn all_are_kept(sandbox: &Sandbox) {
    sandbox
        .act("UPDATE github_repository SET due_at = clock(), note = ''")
        .await;
    wait_until(SOON, "all looks to be kept", async || {
        let others = "SELECT count(*) FROM github_repository WHERE note NOT LIKE '%limit%'";
        sandbox.number(others).await == 0
    })
    .await;
}

/// Calls that looks make.
fn asked(github: &Fake) -> usize {
    github.calls("repos/list-webhooks") + github.calls(LOOK)
}

async fn asked_again(github: &Fake, before: usize) {
    wait_until(SOON, "GitHub to be asked again", async || {
        asked(github) > before
    })
    .await;
}

#[tokio::test]
async fn one_sweep_asks_for_so_many_missing_deliveries_oldest_first_and_heads_wait_for_the_others()
{
    // Longer than this takes.
    let head_start = ("CANDLEFISH_GITHUB_HEAD_START_MS", "240000");
    let (github, stage) = Stage::asking(&[(SWEEP.0, "600000"), head_start]).await;
    github.hook("https://candlefish.example/v1/webhooks/github");
    let missed: Vec<String> = (0..130).map(|number| format!("guid-{number}")).collect();
    for guid in &missed {
        github.delivered(REPOSITORY, guid, 502);
    }
    follows(&github, &stage.api, SITE, REPOSITORY).await;
    let ended = async |how: &str| {
        wait_until(SOON, "a sweep to end", async || {
            let ended = format!("SELECT count(*) FROM github_repository WHERE {how}");
            stage.sandbox.number(&ended).await == 1
        })
        .await;
    };
    ended("rounds = 1 AND then_due_at IS NULL").await;
    assert_eq!(github.redelivered(REPOSITORY), &missed[..100]);
    // Half the pause between two sweeps.
    stage.sandbox.database.advance(Duration::from_mins(5)).await;
    ended("rounds = 0 AND then_due_at IS NOT NULL").await;
    assert_eq!(github.redelivered(REPOSITORY), missed);
    assert_eq!(github.calls(LOOK), 0);
    // The head start.
    stage.sandbox.database.advance(Duration::from_mins(4)).await;
    wait_until(SOON, "the look at the branch", async || {
        github.calls(LOOK) == 1
    })
    .await;
}

#[tokio::test]
async fn a_limit_that_one_replica_was_told_of_is_obeyed_by_one_that_was_not() {
    let (github, stage) = Stage::asking(&[SWEEP]).await;
    for number in 1..=5 {
        let (site, repository) = (format!("site-{number}"), format!("example/site-{number}"));
        follows(&github, &stage.api, &site, &repository).await;
    }
    looked_at(&stage.sandbox, 5).await;
    github.fails(LOOK, Fault::Secondary(60));
    limited(&stage.sandbox).await;
    let before = asked(&github);
    // Another replica, which is also what a restart begins.
    let other = stage.sandbox.start().await;
    all_are_kept(&stage.sandbox).await;
    stage.orchestrator.kill().await;
    all_are_kept(&stage.sandbox).await;
    assert_eq!(asked(&github), before);
    stage.sandbox.database.advance(Duration::from_mins(1)).await;
    asked_again(&github, before).await;
    other.stop().await;
}

#[tokio::test]
async fn replicas_take_turns_to_write_from_one_line() {
    const PAUSE_US: i64 = 200_000;
    let (github, stage) = Stage::asking(&[("CANDLEFISH_GITHUB_WRITE_PAUSE_MS", "200")]).await;
    for site in ["one", "two", "three", "four"] {
        follows(&github, &stage.api, site, REPOSITORY).await;
    }
    let other = stage.sandbox.start().await;
    let now = "SELECT (extract(epoch FROM clock()) * 1000000)::bigint";
    let begun = stage.sandbox.number(now).await;
    stage.gateway.receives(&push(0, 1));
    let writes = || {
        let made = github.calls("repos/create-deployment");
        made + github.calls("repos/create-deployment-status")
    };
    wait_until(SOON, "all to be told", async || writes() >= 8).await;
    let pauses = i64::try_from(writes()).unwrap() - 1;
    let took = stage.sandbox.number(now).await - begun;
    assert!(took >= pauses * PAUSE_US, "{pauses} pauses in {took} µs");
    other.stop().await;
}

#[tokio::test]
async fn an_installation_that_is_limited_keeps_no_other_from_being_asked_about() {
    let (_dir, github, stage) = as_app().await;
    github.fails(LOOK, Fault::Secondary(600));
    follows(&github, &stage.api, SITE, REPOSITORY).await;
    limited(&stage.sandbox).await;
    follows(&github, &stage.api, "other", "other/docs").await;
    looked_at(&stage.sandbox, 1).await;
    let kept = "SELECT count(*) FROM github_repository WHERE note LIKE '%limit%'";
    wait_until(SOON, "the first to be kept", async || {
        stage.sandbox.number(kept).await == 1
    })
    .await;
    let looks = github.calls(LOOK);
    wait_until(SOON, "more looks at the other", async || {
        github.calls(LOOK) > looks + 3
    })
    .await;
    let seen = "SELECT count(*) FROM github_branch";
    assert_eq!(stage.sandbox.number(seen).await, 1);
    let others = "SELECT count(*) FROM github_budget
                  WHERE account <> 'installation 7' AND free_at > clock()";
    assert_eq!(stage.sandbox.number(others).await, 0);
}

#[tokio::test]
async fn after_the_last_call_that_is_allowed_nothing_is_asked_until_the_reset() {
    let (github, stage) = Stage::asking(&[SWEEP]).await;
    github.fails(LOOK, Fault::Spent(600));
    follows(&github, &stage.api, SITE, REPOSITORY).await;
    limited(&stage.sandbox).await;
    let before = asked(&github);
    all_are_kept(&stage.sandbox).await;
    // It was answered all the same.
    looked_at(&stage.sandbox, 1).await;
    // One that goes by the database's clock alone, which the test can move.
    stage.orchestrator.kill().await;
    let other = stage.sandbox.start().await;
    stage.sandbox.database.advance(Duration::from_mins(9)).await;
    all_are_kept(&stage.sandbox).await;
    assert_eq!(asked(&github), before);
    stage.sandbox.database.advance(Duration::from_mins(1)).await;
    asked_again(&github, before).await;
    other.stop().await;
}

#[tokio::test]
async fn heads_are_looked_at_where_webhooks_may_not_be_seen() {
    let (github, stage) = Stage::asking(&[SWEEP]).await;
    github.refuses("repos/list-webhooks", 404);
    follows(&github, &stage.api, SITE, REPOSITORY).await;
    looked_at(&stage.sandbox, 1).await;
    github.commit(REPOSITORY, &commit(2), &[&commit(1)], &["docs/a.md"]);
    github.branch(REPOSITORY, "main", &commit(2));
    wait_until(SOON, "the head to be decided", async || {
        let made = "SELECT count(*) FROM trigger WHERE swept AND outcome = 'created'";
        stage.sandbox.number(made).await == 1
    })
    .await;
    assert!(github.calls("repos/list-webhooks") > 1);
    assert_eq!(github.calls("repos/list-webhook-deliveries"), 0);
}

#[tokio::test]
async fn a_token_that_was_taken_back_is_replaced() {
    let (_dir, github, stage) = as_app().await;
    follows(&github, &stage.api, SITE, REPOSITORY).await;
    looked_at(&stage.sandbox, 1).await;
    let installations = || github.calls("apps/get-repo-installation");
    // The library asks for another token by itself, once; then the installation is asked for as well.
    for (refusals, asks_anew) in [(1, false), (2, true)] {
        let (tokens, known, looks) = (github.calls(TOKEN), installations(), github.calls(LOOK));
        for _time in 0..refusals {
            github.fails(LOOK, Fault::Refused(401));
        }
        wait_until(SOON, "another token, and looks by it", async || {
            stage.sandbox.database.advance(Duration::from_secs(1)).await;
            github.calls(TOKEN) > tokens && github.calls(LOOK) > looks + refusals + 2
        })
        .await;
        assert_eq!(installations() > known, asks_anew);
        wait_until(SOON, "a whole look", async || {
            let whole = "SELECT count(*) FROM github_repository
                         WHERE repository <> '' AND note = ''";
            stage.sandbox.number(whole).await == 1
        })
        .await;
    }
}

#[tokio::test]
async fn while_no_budget_can_be_read_nothing_is_asked_and_deployments_go_on() {
    let (github, stage) = Stage::asking(&[SWEEP]).await;
    follows(&github, &stage.api, SITE, REPOSITORY).await;
    looked_at(&stage.sandbox, 1).await;
    let sandbox = &stage.sandbox;
    sandbox
        .act("ALTER TABLE github_budget RENAME TO mislaid")
        .await;
    wait_until(SOON, "looks to fail", async || {
        let failed = "SELECT count(*) FROM github_repository WHERE note LIKE '%is not known%'";
        sandbox.number(failed).await == 1
    })
    .await;
    let before = asked(&github);
    github.commit(REPOSITORY, &commit(2), &[&commit(1)], &["docs/a.md"]);
    github.branch(REPOSITORY, "main", &commit(2));
    let made = stage.pushed(&push(1, 2)).await;
    made.is("created", "");
    stage.uploads(&commit(2), "two").await;
    let succeeded = &[State::Succeeded];
    stage.api.wait_for(&made.deployment, succeeded).await;
    wait_until(SOON, "GitHub to be told in vain", async || {
        let tried = "SELECT count(*) FROM github_deployment WHERE attempts > 0 AND note <> ''";
        sandbox.number(tried).await == 1
    })
    .await;
    assert_eq!(asked(&github), before);
    assert_eq!(github.calls("repos/create-deployment"), 0);
    sandbox
        .act("ALTER TABLE mislaid RENAME TO github_budget")
        .await;
    wait_until(SOON, "GitHub to know it", async || {
        sandbox.database.advance(Duration::from_secs(10)).await;
        asked(&github) > before && github.deployments(REPOSITORY).len() == 1
    })
    .await;
}
