//! A broken release does not go live; a preview does, beside everything else.

use candlefish_proto::deploy::{self as pb, deployment::State};
use e2e::{Content, Sandbox, api::Commit};

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

    sandbox.send_visitors("docs.localhost", &["good"]);
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
