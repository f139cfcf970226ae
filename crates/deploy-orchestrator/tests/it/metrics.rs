//! What `/metrics` says of deployments.

use candlefish_ids::DeadLetterId;
use candlefish_proto::deploy::{self as pb, deployment::State};
use candlefish_testkit::poll_until;

use crate::{
    api::{Api, baking, policy},
    sandbox::{SOON, Sandbox},
};

/// One succeeded, one as a preview, one rolled back, one acting and one waiting behind it.
async fn make_history(sandbox: &Sandbox, api: &Api) {
    api.create_environment("metered", policy()).await;
    let old = sandbox.release(api, "old").await;
    api.deploy_whole("metered", &old).await;
    let preview = api.preview(&old).await.unwrap().into_inner().id;
    api.wait_for(&preview, &[State::Succeeded]).await;
    let new = sandbox.release(api, "new").await;
    let made = api.create("metered", &new, Some(baking())).await;
    let aborted = made.unwrap().into_inner().id;
    api.wait_in(&aborted, pb::step::Kind::Bake).await;
    api.abort(&aborted).await.unwrap();
    api.wait_for(&aborted, &[State::RolledBack]).await;
    let other = sandbox.release(api, "other").await;
    let acting = api.create("metered", &other, Some(baking())).await;
    let acting = acting.unwrap().into_inner().id;
    api.wait_in(&acting, pb::step::Kind::Bake).await;
    api.deploy("metered", &old).await;
    sandbox
        .act(&format!(
            "INSERT INTO dead_letter (id, consumer, source, epoch, seq, event_type, payload, error,
                 deliveries, created_at)
             VALUES ('{}', 'c', 's', 1, 7, 't', '\\x00', 'e', 8, clock())",
            DeadLetterId::new().uuid()
        ))
        .await;
    // Two of five are not decided, nor due.
    sandbox
        .act(
            "INSERT INTO delivery (id, event, received_at, retry_at, done_at)
             SELECT gen_random_uuid(), 'push', clock(), clock() + interval '1 hour',
                    CASE WHEN n > 2 THEN clock() END FROM generate_series(1, 5) n",
        )
        .await;
}

#[tokio::test]
async fn deployments_steps_and_queues_are_counted() {
    let (sandbox, orchestrator, _edge, api) = Sandbox::started().await;
    make_history(&sandbox, &api).await;
    let url = format!("http://{}/metrics", orchestrator.running.ops_address);
    let said = async |start: &str| -> Option<f64> {
        let text = reqwest::get(&url).await.unwrap().text().await.unwrap();
        let mut lines = text.lines();
        lines.find_map(|line| line.strip_prefix(start)?.trim().parse().ok())
    };
    for (start, value) in [
        (
            r#"deployments_total{site="docs",environment="metered",status="succeeded"}"#,
            1.0,
        ),
        (
            r#"deployments_total{site="docs",environment="metered",status="rolled_back"}"#,
            1.0,
        ),
        (
            r#"deployment_duration_seconds_count{site="docs",environment="metered"}"#,
            2.0,
        ),
        (
            r#"deployment_duration_seconds_bucket{site="docs",environment="metered",le="600"}"#,
            2.0,
        ),
        ("active_deployments", 1.0),
        (r#"queue_depth{queue="pending"}"#, 1.0),
        (r#"queue_depth{queue="quarantined"}"#, 0.0),
        (r#"queue_depth{queue="dead_letters"}"#, 1.0),
        (r#"queue_depth{queue="deliveries"}"#, 2.0),
    ] {
        poll_until(SOON, start, async || match said(start).await {
            Some(found) if (found - value).abs() < 0.1 => Ok(()),
            other => Err(other),
        })
        .await;
    }
    // Other orchestrators of this process count here as well.
    for (start, least) in [
        (
            r#"deployments_total{site="docs",environment="preview",status="succeeded"}"#,
            1.0,
        ),
        (r#"step_duration_seconds_count{kind="switch"}"#, 3.0),
        (r#"step_duration_seconds_count{kind="return"}"#, 1.0),
        // There is no bus, so that facts wait for it.
        (r#"outbox_lag_seconds{source="deploy"}"#, 0.001),
        (r#"queue_depth{queue="outbox-deploy"}"#, 1.0),
    ] {
        poll_until(SOON, start, async || match said(start).await {
            Some(found) if found >= least => Ok(()),
            other => Err(other),
        })
        .await;
    }
    // How many are due is another number at every look: that it is told is all that can be said.
    assert_ne!(said("steps_due").await, None);
}
