//! What a rollback says before it is made.

use std::time::Duration;

use candlefish_ids::ReleaseId;
use candlefish_proto::deploy::{self as pb, deployment::State};
use candlefish_testkit::wait_until;

use crate::{
    api::{Api, baking},
    rollbacks::{rolled_back, started},
    sandbox::SOON,
};

/// What a rollback to a release, or to the one before, would be.
async fn told(api: &Api, to: &str) -> pb::Rollback {
    let told = rolled_back(api, |message| {
        to.clone_into(&mut message.to_release_id);
        message.validate_only = true;
    });
    told.await
}

#[tokio::test]
async fn without_the_store_nobody_is_told_that_nothing_is_lost() {
    let (sandbox, _orchestrator, _edge, api, [one, ..]) = started(&[]).await;
    assert!(!told(&api, "").await.loss_unknown);
    let (blobs, away) = (sandbox.blobs(), sandbox.blobs().with_extension("away"));
    std::fs::rename(&blobs, &away).unwrap();
    for to in ["", one.as_str()] {
        let told = told(&api, to).await;
        assert!(told.loss_unknown, "{told:?}");
        assert_eq!(told.lost_path_count, 0);
    }
    std::fs::rename(&away, &blobs).unwrap();
    assert!(!told(&api, "").await.loss_unknown);
}

#[tokio::test]
async fn a_store_that_hangs_keeps_nobody_from_going_back() {
    let (sandbox, _orchestrator, _edge, api, _releases) = started(&[]).await;
    let digest = told(&api, "").await.to.unwrap().manifest_digest;
    let (folder, rest) = digest.split_at(2);
    let manifest = sandbox.blobs().join(folder).join(rest);
    std::fs::remove_file(&manifest).unwrap();
    // Who opens it waits for a writer.
    let made = std::process::Command::new("mkfifo").arg(&manifest).status();
    assert!(made.unwrap().success());
    let told = tokio::time::timeout(Duration::from_secs(20), told(&api, "")).await;
    // Whoever waits goes on.
    std::fs::write(&manifest, "").unwrap();
    assert!(told.expect("it waits for the store").loss_unknown);
}

#[tokio::test]
async fn who_went_back_just_before_is_told_to_whoever_is_next() {
    let (sandbox, _orchestrator, _edge, api, [_one, two, three]) = started(&[]).await;
    assert_eq!(told(&api, "").await.earlier, None);
    let first = rolled_back(&api, |_| {}).await.deployment.unwrap().id;
    api.wait_for(&first, &[State::Succeeded]).await;
    let second = told(&api, "").await;
    assert_eq!(second.from.unwrap().id, two);
    let earlier = second.earlier.unwrap();
    assert_eq!(
        (earlier.deployment_id, &*earlier.by, earlier.left),
        (first, "erin", three)
    );
    assert!(earlier.at.is_some() && earlier.ago.unwrap().seconds < 60);
    sandbox.database.advance(Duration::from_hours(1)).await;
    let later = told(&api, "").await.earlier.unwrap();
    assert!(later.ago.unwrap().seconds >= 3600, "{later:?}");
    // What is deployed since then came by no rollback.
    api.wait_for_live_edges(1).await;
    api.lift("production").await.unwrap();
    let four = sandbox.release(&api, "four").await;
    api.deploy_whole("production", &four).await;
    assert_eq!(told(&api, "").await.earlier, None);
}

#[tokio::test]
async fn what_comes_back_says_when_it_was_live() {
    let (_sandbox, _orchestrator, _edge, api, [one, two, three]) = started(&[]).await;
    let last = |told: pb::Rollback| {
        let last = told.last_live.unwrap();
        assert!(last.since.is_some() && last.until.is_some(), "{last:?}");
        last.replaced_by
    };
    assert_eq!(last(told(&api, "").await), three);
    assert_eq!(last(told(&api, &one).await), two);
    let back = rolled_back(&api, |_| {}).await.deployment.unwrap().id;
    api.wait_for(&back, &[State::Succeeded]).await;
    assert_eq!(last(told(&api, &three).await), two);
    assert_eq!(last(told(&api, "").await), two);
}

#[tokio::test]
async fn what_was_live_stays_so_when_it_is_deployed_again_and_taken_back() {
    let (sandbox, _orchestrator, _edge, api, [_one, _two, three]) = started(&[]).await;
    let made = api.create("production", &three, Some(baking())).await;
    let again = made.unwrap().into_inner().id;
    api.wait_in(&again, pb::step::Kind::Bake).await;
    api.cancel(&again).await.unwrap();
    api.wait_for(&again, &[State::RolledBack]).await;
    let four = sandbox.release(&api, "four").await;
    api.deploy_whole("production", &four).await;
    let told = told(&api, "").await;
    assert_eq!(told.to.unwrap().id, three);
    assert_eq!(told.last_live.unwrap().replaced_by, four);
}

#[tokio::test]
async fn what_is_chosen_anew_once_the_lane_is_ours_is_what_the_answer_tells() {
    let (sandbox, _orchestrator, _edge, api, [one, two, three]) = started(&[]).await;
    assert_eq!(told(&api, "").await.to.unwrap().id, two);
    let mut lane = sandbox.pool.begin().await.unwrap();
    sqlx::query("SELECT FROM lane FOR UPDATE")
        .execute(&mut *lane)
        .await
        .unwrap();
    let goes_back = rolled_back(&api, |_| {});
    let banned = async {
        let waiting = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()
                       AND wait_event_type = 'Lock' AND query LIKE '%FROM lane WHERE environment_id = $1 FOR UPDATE%'";
        wait_until(SOON, "the call to wait for the lane", async || {
            sandbox.number(waiting).await > 0
        })
        .await;
        // What was to come back is banned meanwhile.
        let two = two.parse::<ReleaseId>().unwrap().uuid();
        let ban = format!(
            "INSERT INTO ban (release_id, at, by, reason) VALUES ('{two}', clock(), 'erin', 'it leaks')"
        );
        sandbox.act(&ban).await;
        lane.commit().await.unwrap();
    };
    let (answer, ()) = tokio::join!(goes_back, banned);
    let deployment = answer.deployment.unwrap();
    assert_eq!(deployment.release_id, one);
    assert_eq!(answer.to.unwrap().id, one);
    assert_eq!(answer.from.unwrap().id, three);
    assert!(answer.loss_unknown);
}
