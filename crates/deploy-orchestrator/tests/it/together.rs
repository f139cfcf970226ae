//! Calls that share a transaction: each is answered as if it had come alone.

use candlefish_proto::deploy::{Deployment, deployment::State};
use candlefish_testkit::poll_until;
use futures_util::future::join_all;
use sqlx::{Connection, PgConnection};
use tonic::Response;

use crate::{
    api::{Answer, Api, policy, reason, recreate},
    sandbox::{Orchestrator, SOON, Sandbox},
};

/// Deployments of as many transactions as there may be at the same time, held up at their lanes.
const TURNS: usize = 2;

/// Waits until so many calls wait for a turn.
async fn wait_for_calls(orchestrator: &Orchestrator, count: usize) {
    let url = format!("http://{}/metrics", orchestrator.running.ops_address);
    poll_until(SOON, "calls to wait for a turn", async || {
        let text = reqwest::get(&url).await.unwrap().text().await.unwrap();
        let line = format!("queue_depth{{queue=\"accept\"}} {count}");
        if text.lines().any(|one| one == line) {
            Ok(())
        } else {
            Err(text)
        }
    })
    .await;
}

/// Makes `calls` while every turn is taken, and lets all go on at once.
async fn while_turns_are_taken<T>(
    sandbox: &Sandbox,
    orchestrator: &Orchestrator,
    api: &Api,
    waiting: usize,
    calls: impl Future<Output = T>,
) -> T {
    let calls = Box::pin(calls);
    let release = sandbox.release(api, "what holds the turns").await;
    for number in 0..TURNS {
        api.create_environment(&format!("busy-{number}"), policy())
            .await;
    }
    let mut holder = PgConnection::connect_with(&sandbox.database.options())
        .await
        .unwrap();
    let mut held = holder.begin().await.unwrap();
    sqlx::query(
        "SELECT 1 FROM lane l JOIN environment e ON e.id = l.environment_id
         WHERE e.slug LIKE 'busy-%' FOR UPDATE OF l",
    )
    .execute(&mut *held)
    .await
    .unwrap();
    let busy = async |slug| api.create(slug, &release, Some(recreate())).await.unwrap();
    let takes = async {
        // One after the other: two that come together would share a turn.
        let first = busy("busy-0");
        let second = async {
            wait_for_locks(sandbox, 1).await;
            busy("busy-1").await
        };
        tokio::join!(first, second)
    };
    let rest = async {
        wait_for_locks(sandbox, TURNS).await;
        let lets_go = async {
            wait_for_calls(orchestrator, waiting).await;
            held.rollback().await.unwrap();
        };
        tokio::join!(calls, lets_go).0
    };
    tokio::join!(takes, rest).1
}

async fn wait_for_locks(sandbox: &Sandbox, count: usize) {
    let count = i64::try_from(count).unwrap();
    let question = "SELECT count(*) FROM pg_stat_activity
                    WHERE datname = current_database() AND wait_event_type = 'Lock'";
    poll_until(
        SOON,
        "transactions to wait for lanes",
        async || match sandbox.number(question).await {
            all if all == count => Ok(()),
            some => Err(some),
        },
    )
    .await;
}

fn id(answer: Answer<Response<Deployment>>) -> String {
    answer.unwrap().into_inner().id
}

#[tokio::test]
async fn calls_that_wait_share_a_transaction() {
    let (sandbox, orchestrator, _edge, api) = Sandbox::started().await;
    let release = sandbox.release(&api, "one").await;
    let lanes: Vec<String> = (0..8).map(|lane| format!("lane-{lane}")).collect();
    for lane in &lanes {
        api.create_environment(lane, policy()).await;
    }
    let call = async |lane: String| {
        let keyed = api.keyed(&format!("push-to-{lane}"));
        id(keyed.create(&lane, &release, Some(recreate())).await)
    };
    let calls = join_all(lanes.iter().cloned().map(call));
    let made = Box::pin(while_turns_are_taken(
        &sandbox,
        &orchestrator,
        &api,
        lanes.len(),
        calls,
    ))
    .await;
    for (lane, one) in lanes.iter().zip(&made) {
        let whole = api.wait_for(one, &[State::Succeeded]).await;
        assert_eq!(&whole.environment, lane);
        assert_eq!(api.logged(one).await.first().unwrap(), "accepted from erin");
        let again = api.keyed(&format!("push-to-{lane}"));
        assert_eq!(
            &id(again.create(lane, &release, Some(recreate())).await),
            one
        );
    }
    let transactions = "SELECT count(DISTINCT xmin::text) FROM idempotency";
    assert_eq!(sandbox.number(transactions).await, 1);
}

#[tokio::test]
async fn what_is_refused_leaves_the_others() {
    let (sandbox, orchestrator, _edge, api) = Sandbox::started().await;
    let release = sandbox.release(&api, "one").await;
    let banned = sandbox.release(&api, "two").await;
    api.ban(&banned).await.unwrap();
    for lane in ["good", "other", "third"] {
        api.create_environment(lane, policy()).await;
    }
    api.keyed("used")
        .create("third", &release, Some(recreate()))
        .await
        .unwrap();
    let unknown = candlefish_ids::ReleaseId::new().to_string();
    let blind = api.seeing(&["elsewhere"]);
    let used = api.keyed("used");
    let calls = async {
        tokio::join!(
            api.create("good", &release, Some(recreate())),
            api.create("other", &banned, Some(recreate())),
            api.create("other", &unknown, Some(recreate())),
            api.create("nowhere", &release, Some(recreate())),
            blind.create("good", &release, Some(recreate())),
            used.create("other", &release, Some(recreate())),
        )
    };
    let (good, ban, missing, nowhere, hidden, reused) = Box::pin(while_turns_are_taken(
        &sandbox,
        &orchestrator,
        &api,
        6,
        calls,
    ))
    .await;
    api.wait_for(&id(good), &[State::Succeeded]).await;
    assert_eq!(reason(&ban.unwrap_err()), "release-banned");
    assert_eq!(reason(&missing.unwrap_err()), "release-unknown");
    assert_eq!(reason(&nowhere.unwrap_err()), "unknown-environment");
    assert_eq!(reason(&hidden.unwrap_err()), "unknown-site");
    assert_eq!(reason(&reused.unwrap_err()), "idempotency-key-reused");
    let made = "SELECT count(*) FROM deployment WHERE environment_id IN
                (SELECT id FROM environment WHERE slug IN ('good', 'other', 'nowhere'))";
    assert_eq!(sandbox.number(made).await, 1);
}

/// Where as many wait as may.
#[tokio::test]
async fn a_full_lane_refuses_its_own_call_alone() {
    let settings = [("CANDLEFISH_MAX_WAITING", "1")];
    let (sandbox, orchestrator, _edge, api) = Sandbox::started_with(&settings).await;
    let release = sandbox.release(&api, "one").await;
    for lane in ["good", "full", "fine"] {
        api.create_environment(lane, policy()).await;
    }
    api.hold("full").await.unwrap();
    let waits = api.deploy("full", &release).await;
    let calls = async {
        tokio::join!(
            api.create("good", &release, Some(recreate())),
            api.create("full", &release, Some(recreate())),
            api.create("fine", &release, Some(recreate())),
        )
    };
    let (good, full, fine) = Box::pin(while_turns_are_taken(
        &sandbox,
        &orchestrator,
        &api,
        3,
        calls,
    ))
    .await;
    assert_eq!(reason(&full.unwrap_err()), "lane-full");
    for one in [good, fine] {
        api.wait_for(&id(one), &[State::Succeeded]).await;
    }
    assert_eq!(api.deployment(&waits).await.state(), State::Pending);
    let made = "SELECT count(*) FROM deployment WHERE environment_id =
                (SELECT id FROM environment WHERE slug = 'full')";
    assert_eq!(sandbox.number(made).await, 1);
}

#[tokio::test]
async fn equal_calls_and_calls_to_one_lane_follow_each_other() {
    let (sandbox, orchestrator, _edge, api) = Sandbox::started().await;
    let release = sandbox.release(&api, "one").await;
    api.create_environment("lane", policy()).await;
    api.hold("lane").await.unwrap();
    let twin = api.keyed("twin");
    let calls = async {
        tokio::join!(
            twin.create("lane", &release, None),
            twin.create("lane", &release, None),
            api.create("lane", &release, None),
        )
    };
    let (one, two, third) = Box::pin(while_turns_are_taken(
        &sandbox,
        &orchestrator,
        &api,
        3,
        calls,
    ))
    .await;
    let (one, two, third) = (id(one), id(two), id(third));
    assert_eq!(one, two);
    assert_ne!(one, third);
    let made = "SELECT count(*) FROM deployment WHERE environment_id =
                (SELECT id FROM environment WHERE slug = 'lane')";
    assert_eq!(sandbox.number(made).await, 2);
}

/// A transaction that fails before its commit takes nobody with it: each call goes alone.
#[tokio::test]
async fn a_transaction_that_fails_is_tried_again_by_each() {
    let (sandbox, orchestrator, _edge, api) = Sandbox::started().await;
    let release = sandbox.release(&api, "one").await;
    for lane in ["good", "cursed"] {
        api.create_environment(lane, policy()).await;
    }
    sandbox
        .act(
            "CREATE FUNCTION curse() RETURNS trigger LANGUAGE plpgsql AS $$
             BEGIN
                 IF NEW.reason = 'cursed' THEN RAISE 'no' USING ERRCODE = '40001'; END IF;
                 RETURN NEW;
             END $$",
        )
        .await;
    sandbox
        .act(
            "CREATE TRIGGER curse BEFORE INSERT ON deployment FOR EACH ROW
             EXECUTE FUNCTION curse()",
        )
        .await;
    let cursed = api.request(candlefish_proto::deploy::CreateDeploymentRequest {
        site: crate::sandbox::SITE.to_owned(),
        environment: "cursed".to_owned(),
        release_id: release.clone(),
        reason: "cursed".to_owned(),
        ..Default::default()
    });
    let calls = async {
        let mut deployments = api.deployments();
        tokio::join!(
            api.create("good", &release, Some(recreate())),
            deployments.create_deployment(cursed),
        )
    };
    let (good, bad) = Box::pin(while_turns_are_taken(
        &sandbox,
        &orchestrator,
        &api,
        2,
        calls,
    ))
    .await;
    api.wait_for(&id(good), &[State::Succeeded]).await;
    assert_eq!(bad.unwrap_err().code(), tonic::Code::Unavailable);
}
