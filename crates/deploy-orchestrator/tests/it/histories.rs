//! Pushes of histories that are no plain line, and pushes that no clock tells apart.

use candlefish_proto::deploy::{self as pb, deployment::State};
use candlefish_testkit::{
    github::{Example, Push},
    wait_until,
};

use crate::{
    sandbox::SOON,
    stage::{REPOSITORY, Stage, commit, push},
};

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

/// A push of a commit that was written on top of the first, whatever the branch was at; so many seconds
/// after another moment.
fn forced(after: usize, seconds: i64) -> Example {
    let mut example = push_to("main", 1, &[after], 1_790_000_000 + seconds);
    let body = example.body.as_object_mut().unwrap();
    body.insert("forced".to_owned(), true.into());
    example
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
    let first = stage.pushed(&push(0, 1)).await.deployment;
    stage.uploads(&commit(1), "one").await;
    is_live(&stage, &first).await;
    let second = stage.pushed(&forced(9, 200)).await.deployment;
    let late = stage.pushed(&forced(8, 100)).await;
    late.is("superseded", "older");
    assert_eq!(late.deployment, second);
    stage.uploads(&commit(8), "eight").await;
    stage.uploads(&commit(9), "nine").await;
    is_live(&stage, &second).await;
    // What was pushed after it goes live, whatever it is unrelated to.
    let third = stage.pushed(&forced(7, 300)).await;
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

#[tokio::test]
async fn content_that_comes_after_history_was_rewritten_undoes_nothing() {
    let stage = Stage::new().await;
    let first = stage.pushed(&push(0, 1)).await.deployment;
    stage.uploads(&commit(1), "one").await;
    is_live(&stage, &first).await;
    let before = stage.pushed(&forced(8, 100)).await.deployment;
    let after = stage.pushed(&forced(9, 200)).await.deployment;
    stage.uploads(&commit(9), "nine").await;
    is_live(&stage, &after).await;
    stage.uploads(&commit(8), "eight").await;
    let ended = stage.api.wait_for(&before, &[State::Superseded]).await;
    assert_eq!(ended.superseded_by, after);

    // The branch is put back to what is live, before and after another one has its content.
    let left = stage.pushed(&forced(7, 300)).await.deployment;
    let back = stage.pushed(&forced(9, 400)).await;
    assert_eq!(back.is("created", "").deployment, after);
    stage.uploads(&commit(7), "seven").await;
    let ended = stage.api.wait_for(&left, &[State::Superseded]).await;
    assert_eq!(ended.superseded_by, after);
    stage.edge.act(|script| script.frozen = true);
    let left = stage.pushed(&forced(6, 500)).await.deployment;
    stage.uploads(&commit(6), "six").await;
    stage.api.wait_in(&left, pb::step::Kind::Stage).await;
    let back = stage.pushed(&forced(9, 600)).await;
    assert_ne!(back.is("created", "").deployment, after);
    stage.edge.act(|script| script.frozen = false);
    let ended = stage.api.wait_for(&left, &[State::Superseded]).await;
    assert_eq!(ended.superseded_by, back.deployment);
    is_live(&stage, &back.deployment).await;
}

#[tokio::test]
async fn of_two_rewritten_pushes_of_one_second_the_one_that_replaced_the_other_is_live() {
    for swapped in [false, true] {
        let stage = Stage::new().await;
        let first = stage.pushed(&push(0, 1)).await.deployment;
        stage.uploads(&commit(1), "one").await;
        is_live(&stage, &first).await;
        let mut second = forced(9, 100);
        second.body["before"] = commit(8).into();
        let mut twins = [forced(8, 100), second];
        if swapped {
            twins.reverse();
        }
        for example in &twins {
            stage.pushed(example).await;
        }
        for number in [9, 8] {
            stage.uploads(&commit(number), &number.to_string()).await;
        }
        wait_until(SOON, "the later one to be live", async || {
            let live = stage.api.environment("production").await.live_deployment_id;
            let live = stage.api.deployment(&live).await;
            live.release.unwrap().commit == commit(9)
        })
        .await;
        let open = "SELECT count(*) FROM deployment WHERE finished_at IS NULL";
        wait_until(SOON, "all to end", async || {
            stage.sandbox.number(open).await == 0
        })
        .await;
        let live = stage.api.environment("production").await.live_deployment_id;
        let live = stage.api.deployment(&live).await.release.unwrap();
        assert_eq!(live.commit, commit(9), "swapped: {swapped}");
    }
}
