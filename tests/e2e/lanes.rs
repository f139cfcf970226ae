//! Who acts, who waits, who has lost its reason to: order, cancel, abort, content that comes late.

use candlefish_proto::deploy::{self as pb, deployment::State, strategy::Kind};
use e2e::{
    Content, Sandbox,
    api::{Commit, quick_policy},
};

fn baking(seconds: i64) -> Kind {
    Kind::BlueGreen(pb::BlueGreen {
        bake: Some(prost_types::Duration { seconds, nanos: 0 }),
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_push_waits_for_a_bake_and_an_older_commit_has_no_turn() {
    let sandbox = Sandbox::start().await.unwrap();
    let api = &sandbox.api;
    let commits = Commit::chain(6, 4);
    let mut releases = Vec::new();
    for (mark, commit) in ["a", "b", "c", "d"].iter().zip(&commits) {
        releases.push(
            api.release("docs", &Content::site(mark), commit)
                .await
                .unwrap(),
        );
    }
    let acting = api
        .deploy("docs", "production", &releases[1], baking(600))
        .await
        .unwrap();
    api.until(&acting.id, "is live", |now| now.live_at.is_some())
        .await
        .unwrap();

    let older = api
        .deploy("docs", "production", &releases[0], None)
        .await
        .unwrap();
    assert_eq!(
        older.state(),
        State::Superseded,
        "{}",
        e2e::api::summary(&older)
    );
    assert!(older.message.contains("roll back"), "{}", older.message);

    let waits = api
        .deploy("docs", "production", &releases[2], None)
        .await
        .unwrap();
    assert_eq!(waits.state(), State::Pending);
    assert_eq!(waits.blockers[0].kind(), pb::blocker::Kind::Lane);
    assert!(waits.blockers[0].message.contains(&acting.id));

    let newest = api
        .deploy("docs", "production", &releases[3], None)
        .await
        .unwrap();
    let overtaken = api.ended(&waits.id).await.unwrap();
    assert_eq!(overtaken.state(), State::Superseded);
    assert_eq!(overtaken.superseded_by, newest.id);

    // Cancelled past its pivot, the acting one goes back; there is nothing before it.
    let cancelled = api.cancel(&acting.id).await.unwrap();
    assert_eq!(cancelled.state(), State::Cancelling);
    let ended = api.ended(&acting.id).await.unwrap();
    assert_eq!(
        ended.state(),
        State::Failed,
        "{}",
        e2e::api::summary(&ended)
    );
    assert_eq!(ended.target_confirmed, Some(true));
    let late = api.cancel(&acting.id).await.unwrap_err();
    assert_eq!(late.code(), tonic::Code::FailedPrecondition);
    assert!(late.message().contains("rollback"), "{}", late.message());

    api.succeeds(&newest.id).await.unwrap();
    let page = sandbox.visit(0, "docs.localhost", "/").await.unwrap();
    assert!(page.body.contains("mark:d<"));
    sandbox.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn under_queue_each_has_its_turn() {
    let sandbox = Sandbox::start().await.unwrap();
    let api = &sandbox.api;
    let policy = pb::Policy {
        order: pb::policy::Order::Queue.into(),
        ..quick_policy()
    };
    api.set_policy("docs", "production", policy).await.unwrap();
    let mut asked = Vec::new();
    for (place, commit) in Commit::chain(7, 4).iter().enumerate() {
        let release = api
            .release("docs", &Content::site(&place.to_string()), commit)
            .await
            .unwrap();
        asked.push(
            api.deploy("docs", "production", &release, None)
                .await
                .unwrap()
                .id,
        );
    }
    let mut finished = Vec::new();
    for id in &asked {
        let ended = api.succeeds(id).await.unwrap();
        let at = ended.finished_at.unwrap();
        finished.push((at.seconds, at.nanos));
        if finished.len() == 1 {
            sandbox.send_visitors_onwards("docs.localhost", &["0", "1", "2", "3"]);
        }
    }
    assert!(finished.is_sorted(), "{finished:?}");
    let page = sandbox.visit(0, "docs.localhost", "/").await.unwrap();
    assert!(page.body.contains("mark:3<"));
    sandbox.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deployment_waits_for_its_content_and_says_so() {
    let sandbox = Sandbox::start().await.unwrap();
    let api = &sandbox.api;
    let content = Content::site("late");
    let draft = api
        .draft("docs", &content, &Commit::default())
        .await
        .unwrap();
    let asked = api
        .deploy("docs", "production", &draft.id, None)
        .await
        .unwrap();
    assert_eq!(asked.state(), State::Pending);
    assert_eq!(asked.blockers[0].kind(), pb::blocker::Kind::Content);
    let uploaded = api.upload(&draft.id, &content).await.unwrap();
    assert_eq!(uploaded, 6, "five files and the manifest");
    api.succeeds(&asked.id).await.unwrap();

    // The same content again is neither uploaded nor stored twice.
    let again = Content::site("late").file("new.html", "mark:late</p>");
    let release = api.draft("docs", &again, &Commit::default()).await.unwrap();
    assert_eq!(
        api.upload(&release.id, &again).await.unwrap(),
        2,
        "one file and the manifest"
    );
    sandbox.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_abort_past_the_pivot_sends_traffic_back_and_rejects_the_release() {
    let sandbox = Sandbox::start().await.unwrap();
    let api = &sandbox.api;
    let commits = Commit::chain(8, 2);
    let one = api
        .release("docs", &Content::site("one"), &commits[0])
        .await
        .unwrap();
    let first = api.deploy("docs", "production", &one, None).await.unwrap();
    api.succeeds(&first.id).await.unwrap();
    sandbox.send_visitors("docs.localhost", &["one", "two"]);
    let two = api
        .release("docs", &Content::site("two"), &commits[1])
        .await
        .unwrap();
    let acting = api
        .deploy("docs", "production", &two, baking(600))
        .await
        .unwrap();
    api.until(&acting.id, "is live", |now| now.live_at.is_some())
        .await
        .unwrap();
    api.abort(&acting.id).await.unwrap();
    let ended = api.ended(&acting.id).await.unwrap();
    assert_eq!(
        ended.state(),
        State::RolledBack,
        "{}",
        e2e::api::summary(&ended)
    );
    for edge in 0..2 {
        let page = sandbox.visit(edge, "docs.localhost", "/").await.unwrap();
        assert!(page.body.contains("mark:one<"));
    }
    let environment = api.environment("docs", "production").await.unwrap();
    assert_eq!(environment.live_release_id, one);
    assert!(environment.hold.is_none());
    let retried = pb::RetryDeploymentRequest {
        id: acting.id.clone(),
        reason: String::new(),
    };
    let refused = api
        .deployments()
        .retry_deployment(retried)
        .await
        .unwrap_err();
    assert!(refused.message().contains("rejected"), "{refused:?}");
    sandbox.stop().await.unwrap();
}
