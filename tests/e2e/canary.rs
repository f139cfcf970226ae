//! A canary is judged by its traffic: a good one passes, one that hurts goes back by itself.

use candlefish_proto::deploy::{self as pb, deployment::State, strategy::Kind};
use e2e::{Content, Sandbox, Visitors, api::Commit};

fn canary(weights: &[i32], bake_seconds: i64) -> Kind {
    Kind::Canary(pb::Canary {
        weights: weights.to_vec(),
        interval: Some(prost_types::Duration {
            seconds: 2,
            nanos: 0,
        }),
        bake: Some(prost_types::Duration {
            seconds: bake_seconds,
            nanos: 0,
        }),
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_canary_that_loses_pages_goes_back_by_itself_and_is_rejected() {
    let sandbox = Sandbox::start().await.unwrap();
    let api = &sandbox.api;
    let commits = Commit::chain(2, 2);
    let edges: Vec<_> = sandbox
        .stack
        .edges()
        .iter()
        .map(|edge| edge.address)
        .collect();
    let good = api
        .release("docs", &Content::site("good"), &commits[0])
        .await
        .unwrap();
    let first = api.deploy("docs", "production", &good, None).await.unwrap();
    api.succeeds(&first.id).await.unwrap();

    // It passes verification, for all that it has is there; what it lost only visitors notice.
    let lossy = Content::site("lossy")
        .without("about.html")
        .without("guide/index.html");
    let lossy = api.release("docs", &lossy, &commits[1]).await.unwrap();
    let visitors = Visitors::send(&edges, "docs.localhost", 4, &["good", "lossy"]);
    visitors.know(&good, "good");
    visitors.know(&lossy, "lossy");
    let asked = api
        .deploy("docs", "production", &lossy, canary(&[50], 0))
        .await
        .unwrap();
    let ended = api.ended(&asked.id).await.unwrap();
    let seen = visitors.come_back().await;
    assert_eq!(
        ended.state(),
        State::RolledBack,
        "{}",
        e2e::api::summary(&ended)
    );
    assert_eq!(ended.cause, "verdict", "{}", ended.message);
    assert!(seen.marks["lossy"] > 0, "{seen:?}");
    // They miss what was lost, and nothing else.
    let mut complaints = seen.complaints.iter();
    let is_missed = |words: &String| {
        words.ends_with(" /about: status 404") || words.ends_with(" /guide/: status 404")
    };
    assert!(complaints.all(is_missed), "{:?}", seen.complaints);

    let page = sandbox.visit(0, "docs.localhost", "/about").await.unwrap();
    assert!(page.body.contains("mark:good<"));
    let again = api
        .deploy("docs", "production", &lossy, None)
        .await
        .unwrap_err();
    assert_eq!(again.code(), tonic::Code::FailedPrecondition, "{again:?}");
    assert!(again.message().contains("rejected"), "{again:?}");
    sandbox.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_canary_without_traffic_goes_on_by_our_own_fetches() {
    let sandbox = Sandbox::start().await.unwrap();
    let api = &sandbox.api;
    let commits = Commit::chain(3, 2);
    let one = api
        .release("docs", &Content::site("one"), &commits[0])
        .await
        .unwrap();
    let first = api.deploy("docs", "production", &one, None).await.unwrap();
    api.succeeds(&first.id).await.unwrap();
    let two = api
        .release("docs", &Content::site("two"), &commits[1])
        .await
        .unwrap();
    let asked = api
        .deploy("docs", "production", &two, canary(&[10], 0))
        .await
        .unwrap();
    let ended = api.succeeds(&asked.id).await.unwrap();
    let analyse = ended
        .steps
        .iter()
        .find(|step| step.kind() == pb::step::Kind::Analyse)
        .unwrap();
    assert!(analyse.message.contains("synthetic"), "{}", analyse.message);
    sandbox.stop().await.unwrap();
}
