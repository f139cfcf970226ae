//! A release goes live by each strategy, and a broken one does not.

use candlefish_proto::deploy::{self as pb, deployment::State, strategy::Kind};
use e2e::{Content, Sandbox, Visitors, api::Commit};

#[tokio::test(flavor = "multi_thread")]
async fn every_strategy_takes_a_release_live_without_a_torn_page() {
    let sandbox = Sandbox::start().await.unwrap();
    let api = &sandbox.api;
    let edges: Vec<_> = sandbox
        .stack
        .edges()
        .iter()
        .map(|edge| edge.address)
        .collect();
    let commits = Commit::chain(1, 5);
    let strategies = [
        Kind::BlueGreen(pb::BlueGreen::default()),
        Kind::Recreate(pb::Recreate {}),
        Kind::Rolling(pb::Rolling {
            batch: 1,
            bake: None,
        }),
        Kind::Canary(pb::Canary {
            weights: vec![50],
            interval: Some(prost_types::Duration {
                seconds: 1,
                nanos: 0,
            }),
            bake: None,
        }),
    ];
    let marks = ["first", "blue-green", "recreate", "rolling", "canary"];
    let first = api
        .release("docs", &Content::site("first"), &commits[0])
        .await
        .unwrap();
    let deployment = api
        .deploy("docs", "production", &first, None)
        .await
        .unwrap();
    api.succeeds(&deployment.id).await.unwrap();

    let visitors = Visitors::send(&edges, "docs.localhost", 2, &marks);
    visitors.know(&first, "first");
    for ((strategy, mark), commit) in strategies.into_iter().zip(&marks[1..]).zip(&commits[1..]) {
        let release = api
            .release("docs", &Content::site(mark), commit)
            .await
            .unwrap();
        visitors.know(&release, mark);
        let asked = api
            .deploy("docs", "production", &release, Some(strategy))
            .await
            .unwrap();
        let ended = api.succeeds(&asked.id).await.unwrap();
        assert_eq!(ended.weight, 100, "{mark}");
        assert!(ended.url.contains("docs.localhost"), "{}", ended.url);
        for edge in 0..edges.len() {
            let page = sandbox.visit(edge, "docs.localhost", "/").await.unwrap();
            assert_eq!(
                (page.status, page.release.as_str()),
                (200, release.as_str())
            );
            assert!(
                page.body.contains(&format!("mark:{mark}<")),
                "{mark}: {}",
                page.body
            );
        }
    }
    let seen = visitors.come_back().await;
    assert_eq!(seen.complaints, Vec::<String>::new());
    assert_eq!(seen.went_back, Vec::<String>::new());
    assert!(
        seen.marks.contains_key("canary") && seen.marks.contains_key("first"),
        "{seen:?}"
    );
    sandbox.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_release_is_refused_with_the_page_named_and_nothing_moves() {
    let sandbox = Sandbox::start().await.unwrap();
    let api = &sandbox.api;
    let good = api
        .release("docs", &Content::site("good"), &Commit::default())
        .await
        .unwrap();
    let deployment = api.deploy("docs", "production", &good, None).await.unwrap();
    api.succeeds(&deployment.id).await.unwrap();

    let headless = Content::site("headless").without("index.html");
    let headless = api
        .release("docs", &headless, &Commit::default())
        .await
        .unwrap();
    let refused = api
        .deploy("docs", "production", &headless, None)
        .await
        .unwrap();
    let refused = api.ended(&refused.id).await.unwrap();
    assert_eq!(
        refused.state(),
        State::Failed,
        "{}",
        e2e::api::summary(&refused)
    );
    assert_eq!(refused.cause, "verification");
    assert!(
        refused.message.contains("index.html"),
        "{}",
        refused.message
    );

    // A blob that rots in the store after the seal.
    let rotten = Content::site("rotten").file("about.html", "soon to rot");
    let release = api
        .release("docs", &rotten, &Commit::default())
        .await
        .unwrap();
    let digest = rotten
        .manifest()
        .get("about.html")
        .unwrap()
        .digest
        .to_string();
    let path = sandbox
        .stack
        .blobs_folder()
        .join(&digest[..2])
        .join(&digest[2..]);
    std::fs::write(&path, "it has rotted").unwrap();
    let refused = api
        .deploy("docs", "production", &release, None)
        .await
        .unwrap();
    let refused = api.ended(&refused.id).await.unwrap();
    assert_eq!(
        refused.state(),
        State::Failed,
        "{}",
        e2e::api::summary(&refused)
    );
    assert!(
        refused.message.contains("about.html"),
        "{}",
        refused.message
    );

    let page = sandbox.visit(0, "docs.localhost", "/").await.unwrap();
    assert!(page.body.contains("mark:good<"));
    let environment = api.environment("docs", "production").await.unwrap();
    assert_eq!(environment.live_release_id, good);
    sandbox.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_preview_has_an_address_of_its_own_and_touches_no_environment() {
    let sandbox = Sandbox::start().await.unwrap();
    let api = &sandbox.api;
    let release = api
        .release("docs", &Content::site("look"), &Commit::default())
        .await
        .unwrap();
    let request = pb::CreateDeploymentRequest {
        site: "docs".to_owned(),
        release_id: release,
        preview: true,
        ..Default::default()
    };
    let asked = api
        .deployments()
        .create_deployment(request)
        .await
        .unwrap()
        .into_inner();
    let ended = api.succeeds(&asked.id).await.unwrap();
    let host = format!("{}--docs.localhost", ended.id.trim_start_matches("dep_"));
    assert!(ended.url.contains(&host), "{}", ended.url);
    let page = sandbox.visit(1, &host, "/guide/").await.unwrap();
    assert!(page.body.contains("mark:look<"));
    let page = sandbox.visit(1, "docs.localhost", "/").await.unwrap();
    assert_eq!(page.status, 404);
    sandbox.stop().await.unwrap();
}
