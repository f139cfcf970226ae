//! Pushes of histories that are no plain line, and pushes that no clock tells apart.

use candlefish_proto::deploy::deployment::State;
use candlefish_testkit::github::{Example, Push};

use crate::stage::{REPOSITORY, Stage, commit, push};

/// A push of these commits, oldest first, on top of another to `main`.
fn push_of(before: usize, commits: &[usize]) -> Example {
    push_to("main", before, commits, 1_790_000_100)
}

fn push_to(branch: &str, before: usize, commits: &[usize], pushed_at: i64) -> Example {
    let commits: Vec<String> = commits.iter().map(|&number| commit(number)).collect();
    let commits: Vec<&str> = commits.iter().map(String::as_str).collect();
    Push {
        repository: REPOSITORY,
        branch,
        before: &commit(before),
        commits: &commits,
        changes: &["docs/a.md"],
        pushed_at,
    }
    .example()
}

async fn is_live(stage: &Stage, deployment: &str) {
    stage.api.wait_for(deployment, &[State::Succeeded]).await;
}

#[tokio::test]
async fn a_merge_is_newer_than_both_of_its_sides() {
    let stage = Stage::new().await;
    let first = stage.pushed(&push(0, 1)).await.deployment;
    stage.uploads(&commit(1), "one").await;
    is_live(&stage, &first).await;
    // 6 merges 5, which somebody wrote on top of 1, into 2.
    let side = stage.pushed(&push(1, 2)).await.deployment;
    let merge = stage.pushed(&push_of(2, &[5, 6])).await.deployment;
    stage.uploads(&commit(6), "both").await;
    is_live(&stage, &merge).await;
    stage.uploads(&commit(2), "one side").await;
    let ended = stage.api.wait_for(&side, &[State::Superseded]).await;
    assert_eq!(ended.superseded_by, merge);
    // Nor does the other side replace it, whoever brings it.
    let content = stage.sandbox.put_content(&[("index.html", "five")]).await;
    let draft = stage
        .api
        .create_release(content, &commit(5), &[&commit(1)])
        .await;
    let other = stage.api.seal(&draft).await;
    let made = stage.api.create("production", &other, None).await.unwrap();
    let ended = stage
        .api
        .wait_for(&made.into_inner().id, &[State::Superseded])
        .await;
    assert_eq!(ended.superseded_by, merge);
}

#[tokio::test]
async fn two_pushes_of_one_second_are_told_apart_by_what_they_descend_from() {
    for swapped in [false, true] {
        let stage = Stage::new().await;
        let first = stage.pushed(&push(0, 1)).await.deployment;
        stage.uploads(&commit(1), "one").await;
        is_live(&stage, &first).await;
        let mut twins = [(push_of(1, &[2]), 2), (push_of(2, &[3]), 3)];
        if swapped {
            twins.reverse();
        }
        let mut made = Vec::new();
        for (example, number) in &twins {
            made.push((*number, stage.pushed(example).await.deployment));
        }
        // The content of the older one comes last: it must not win by that either.
        made.sort_by_key(|(number, _)| std::cmp::Reverse(*number));
        for (number, _) in &made {
            stage.uploads(&commit(*number), &number.to_string()).await;
        }
        is_live(&stage, &made[0].1).await;
        let older = stage.api.wait_for(&made[1].1, &[State::Superseded]).await;
        assert_eq!(older.superseded_by, made[0].1, "swapped: {swapped}");
        let live = stage.api.environment("production").await;
        assert_eq!(live.live_deployment_id, made[0].1, "swapped: {swapped}");
    }
}

#[tokio::test]
async fn a_push_to_two_branches_is_a_push_to_each() {
    let stage = Stage::new().await;
    stage.pushed(&push(0, 1)).await.is("created", "");
    let [other, main] = ["staging", "main"].map(|branch| push_to(branch, 1, &[2], 1_790_000_100));
    stage.pushed(&other).await.is("ignored", "branch");
    stage.pushed(&main).await.is("created", "");
    stage.pushed(&main).await.is("ignored", "duplicate");
}

#[tokio::test]
async fn what_was_pushed_before_history_was_rewritten_replaces_nothing_by_coming_late() {
    let stage = Stage::new().await;
    let forced = |after: usize, pushed_at: i64| {
        let mut example = push_to("main", 1, &[after], pushed_at);
        example.body["forced"] = true.into();
        example
    };
    let first = stage.pushed(&push(0, 1)).await.deployment;
    stage.uploads(&commit(1), "one").await;
    is_live(&stage, &first).await;
    let second = stage.pushed(&forced(9, 1_790_000_200)).await.deployment;
    let late = stage.pushed(&forced(8, 1_790_000_100)).await;
    late.is("superseded", "older");
    assert_eq!(late.deployment, second);
    stage.uploads(&commit(8), "eight").await;
    stage.uploads(&commit(9), "nine").await;
    is_live(&stage, &second).await;
    // What was pushed after it goes live, whatever it is unrelated to.
    let third = stage.pushed(&forced(7, 1_790_000_300)).await;
    third.is("created", "");
    stage.uploads(&commit(7), "seven").await;
    is_live(&stage, &third.deployment).await;
}

#[tokio::test]
async fn who_asks_for_a_release_that_was_left_gets_a_deployment_of_it() {
    let stage = Stage::new().await;
    let first = stage.pushed(&push(0, 1)).await.deployment;
    stage.uploads(&commit(1), "one").await;
    is_live(&stage, &first).await;
    let second = stage.pushed(&push(1, 2)).await.deployment;
    let release = stage.uploads(&commit(2), "two").await;
    is_live(&stage, &second).await;
    let back = stage
        .api
        .roll_back("production")
        .await
        .unwrap()
        .into_inner();
    is_live(&stage, &back.deployment.unwrap().id).await;
    let told = async |number: usize| {
        let told = stage.api.triggers(&commit(number)).await.unwrap();
        told[0].message.clone()
    };
    assert_eq!(told(1).await, "is live on docs/production");
    let left = "was live on docs/production; something else is now";
    assert_eq!(told(2).await, left);
    stage.api.lift("production").await.unwrap();
    let again = stage.api.deploy("production", &release).await;
    assert_ne!(again, second);
    is_live(&stage, &again).await;
    assert_eq!(told(2).await, "is live on docs/production");
}
