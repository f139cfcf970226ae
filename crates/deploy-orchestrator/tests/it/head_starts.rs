//! Deliveries that GitHub brings once more come before the head that they lead to is decided, and keep it back
//! for a moment only.

use std::time::Duration;

use candlefish_proto::deploy::{self as pb, deployment::State};
use candlefish_testkit::{github::Fake, wait_until};

use crate::{
    api::policy,
    previews::{allow, pull},
    sandbox::{SITE, SOON},
    stage::{self, REPOSITORY, Stage, commit, push},
    unheard::found,
};

const HOOK: &str = "https://candlefish.example/v1/webhooks/github";
/// Between two sweeps; longer than a test takes, whose clock moves when it says so.
const PAUSE: Duration = Duration::from_mins(10);
/// As long as what is brought once more has: longer than a test takes, too.
const HEAD_START: Duration = Duration::from_mins(5);
const SLOWLY: [(&str, &str); 2] = [
    ("CANDLEFISH_GITHUB_SWEEP_MS", "600000"),
    ("CANDLEFISH_GITHUB_HEAD_START_MS", "300000"),
];

/// `production` is a queue that follows `main`, which is at its first commit, and was looked at.
async fn follows(github: &Fake, stage: &Stage) {
    github.hook(HOOK);
    github.commit(REPOSITORY, &commit(1), &[], &["docs/a.md"]);
    for number in 2..=4 {
        let before = commit(number - 1);
        github.commit(REPOSITORY, &commit(number), &[&before], &["docs/a.md"]);
    }
    github.branch(REPOSITORY, "main", &commit(1));
    let queue = pb::Policy {
        order: pb::policy::Order::Queue.into(),
        ..policy()
    };
    stage::site(&stage.api, SITE, REPOSITORY).await;
    stage::environment(&stage.api, SITE, "production", "main", &[], queue).await;
    wait_until(SOON, "the first look", async || {
        let seen = "SELECT count(*) FROM github_branch";
        stage.sandbox.number(seen).await == 1
    })
    .await;
    wait_until(SOON, "the sweep to end", async || {
        let open = "SELECT count(*) FROM github_repository
                    WHERE due_at <= clock() OR attempts > 0";
        stage.sandbox.number(open).await == 0
    })
    .await;
    let first = stage.pushed(&push(0, 1)).await;
    first.is("created", "");
    stage.uploads(&commit(1), "one").await;
    let succeeded = &[State::Succeeded];
    stage.api.wait_for(&first.deployment, succeeded).await;
}

/// Two pushes are lost, whose content was built.
async fn loses_two() -> (Fake, Stage) {
    let (github, stage) = Stage::asking(&SLOWLY).await;
    follows(&github, &stage).await;
    stage.uploads(&commit(2), "two").await;
    stage.uploads(&commit(3), "three").await;
    github.branch(REPOSITORY, "main", &commit(3));
    github.brings_nothing();
    github.delivered(REPOSITORY, "guid-2", 502);
    github.delivered(REPOSITORY, "guid-3", 502);
    (github, stage)
}

/// The next sweep asks for both and leaves all else.
async fn loses_two_and_asks() -> (Fake, Stage) {
    let (github, stage) = loses_two().await;
    leaves_heads(&stage).await;
    assert_eq!(github.redelivered(REPOSITORY), ["guid-2", "guid-3"]);
    (github, stage)
}

/// The time of the next sweep comes, which decides nothing.
async fn leaves_heads(stage: &Stage) {
    stage.sandbox.database.advance(PAUSE).await;
    wait_until(SOON, "the sweep to leave heads", async || {
        stage.sandbox.number(LEFT).await == 1
    })
    .await;
    assert_eq!(heads(stage).await, 0);
}

/// What is left to a sweep that did not begin yet.
const LEFT: &str = "SELECT count(*) FROM github_repository
                    WHERE then_due_at > due_at AND attempts = 0";

/// Heads that were decided.
async fn heads(stage: &Stage) -> i64 {
    let heads = "SELECT count(*) FROM trigger WHERE event = 'head'";
    stage.sandbox.number(heads).await
}

#[tokio::test]
async fn two_pushes_that_are_brought_once_more_have_each_its_turn_in_a_queue() {
    let (_github, stage) = loses_two_and_asks().await;
    for number in 2..=3 {
        let brought = stage.pushed(&push(number - 1, number)).await;
        brought.is("created", "");
        let succeeded = &[State::Succeeded];
        stage.api.wait_for(&brought.deployment, succeeded).await;
    }
    stage.sandbox.database.advance(HEAD_START).await;
    wait_until(SOON, "the look at the branch", async || {
        let seen = format!(
            "SELECT count(*) FROM github_branch WHERE commit = '{}'",
            commit(3)
        );
        stage.sandbox.number(&seen).await == 1
    })
    .await;
    assert_eq!(heads(&stage).await, 0);
    let deployments = "SELECT count(*) FROM deployment";
    assert_eq!(stage.sandbox.number(deployments).await, 3);
}

#[tokio::test]
async fn what_does_not_arrive_keeps_a_head_back_for_a_moment_and_nothing_new_prolongs_it() {
    let (github, stage) = loses_two_and_asks().await;
    github.branch(REPOSITORY, "main", &commit(4));
    github.delivered(REPOSITORY, "guid-4", 502);
    stage.sandbox.database.advance(HEAD_START).await;
    wait_until(SOON, "the head to be decided", async || {
        let made = format!(
            "SELECT count(*) FROM trigger
             WHERE event = 'head' AND outcome = 'created' AND commit = '{}'",
            commit(4)
        );
        stage.sandbox.number(&made).await == 1
    })
    .await;
    assert_eq!(heads(&stage).await, 1);
    assert_eq!(github.redelivered(REPOSITORY), ["guid-2", "guid-3"]);
    // The sweep after that asks again, and comes when it would have come.
    stage.sandbox.database.advance(PAUSE).await;
    let all = ["guid-2", "guid-3", "guid-4", "guid-2", "guid-3"];
    wait_until(SOON, "all to be asked for", async || {
        github.redelivered(REPOSITORY) == all
    })
    .await;
}

#[tokio::test]
async fn what_another_replica_has_just_asked_for_keeps_heads_back_as_well() {
    let (github, stage) = loses_two().await;
    // It does so when the next sweep comes, for its own lasts longer than its lease.
    stage
        .sandbox
        .act(
            "INSERT INTO github_redelivery (repository, guid, asked_at, times)
             SELECT 'example/docs', guid, clock() + interval '10 minutes', 1
             FROM unnest(ARRAY['guid-2', 'guid-3']) AS guid",
        )
        .await;
    leaves_heads(&stage).await;
    assert!(github.redelivered(REPOSITORY).is_empty());
    is_decided_after_the_head_start(&stage).await;
}

async fn is_decided_after_the_head_start(stage: &Stage) {
    stage.sandbox.database.advance(HEAD_START).await;
    wait_until(SOON, "the head to be decided", async || {
        heads(stage).await == 1
    })
    .await;
}

/// An App asks; the branch is two pushes further, and the App's row is as said when its repository is due.
async fn is_behind_as_app(row: &str) -> (tempfile::TempDir, Fake, Stage) {
    let (dir, github, stage) = Stage::asking_as_app(&SLOWLY).await;
    follows(&github, &stage).await;
    github.branch(REPOSITORY, "main", &commit(3));
    for guid in ["guid-2", "guid-3"] {
        github.app_delivered(guid, 502);
    }
    let is = format!("UPDATE github_repository SET {row} WHERE repository = ''");
    stage.sandbox.act(&is).await;
    (dir, github, stage)
}

#[tokio::test]
async fn an_app_s_own_webhook_is_asked_before_a_head_is_decided_whichever_is_due_first() {
    for row in [
        "due_at = clock() + interval '1 hour'",
        "due_at = clock() + interval '5 minutes'",
    ] {
        let (_dir, github, stage) = is_behind_as_app(row).await;
        leaves_heads(&stage).await;
        wait_until(SOON, "the App's deliveries to be asked for", async || {
            let idle = "SELECT count(*) FROM github_repository
                        WHERE repository = '' AND attempts = 0 AND due_at > clock()";
            let asked = github.app_redelivered() == ["guid-2", "guid-3"];
            asked && stage.sandbox.number(idle).await == 1
        })
        .await;
        assert_eq!(heads(&stage).await, 0);
        is_decided_after_the_head_start(&stage).await;
    }
}

#[tokio::test]
async fn while_an_app_s_own_webhook_is_looked_at_heads_wait_but_not_for_ever() {
    // As by another replica, or one that GitHub fails.
    let row = "attempts = 1, due_at = clock() + interval '1 hour'";
    let (_dir, github, stage) = is_behind_as_app(row).await;
    leaves_heads(&stage).await;
    stage.sandbox.database.advance(HEAD_START).await;
    // What is due after it is taken before it.
    stage
        .sandbox
        .act("INSERT INTO github_repository (repository, due_at) VALUES ('example/none', clock())")
        .await;
    wait_until(SOON, "another to be swept", async || {
        let there = "SELECT count(*) FROM github_repository WHERE repository = 'example/none'";
        stage.sandbox.number(there).await == 0
    })
    .await;
    assert_eq!(
        (heads(&stage).await, stage.sandbox.number(LEFT).await),
        (0, 1)
    );
    stage.sandbox.database.advance(PAUSE).await;
    wait_until(SOON, "the head to be decided", async || {
        heads(&stage).await == 1
    })
    .await;
    assert!(github.app_redelivered().is_empty());
}

#[tokio::test]
async fn an_app_s_own_webhook_is_asked_before_an_unheard_pull_request_is_decided() {
    let (_dir, github, stage) = Stage::asking_as_app(&SLOWLY).await;
    stage::site(&stage.api, SITE, REPOSITORY).await;
    allow(&stage.api, pb::preview_rule::From::Repository).await;
    wait_until(SOON, "the first look", async || {
        let looked = "SELECT count(*) FROM github_repository
                      WHERE pulls_since IS NOT NULL AND attempts = 0";
        stage.sandbox.number(looked).await == 1
    })
    .await;
    stage
        .sandbox
        .act(
            "UPDATE github_repository SET pulls_since = pulls_since - 60;
             UPDATE github_repository SET due_at = clock() + interval '1 hour'
             WHERE repository = ''",
        )
        .await;
    github.shows(&pull("opened", 0, 1, 1));
    leaves_heads(&stage).await;
    let said = "SELECT count(*) FROM trigger WHERE event = 'pull'";
    assert_eq!(stage.sandbox.number(said).await, 0);
    stage.sandbox.database.advance(HEAD_START).await;
    found(&stage, 1).await.is("created", "");
}
