//! Previews end, and an edge that cannot hear of it does not serve them for ever.

use candlefish_proto::deploy::Route;
use candlefish_testkit::{poll_until, wait_until};

use crate::{
    sandbox::{HOST, Release, SOON, Sandbox, route},
    visitor::Answer,
};

const PREVIEW: &str = "pr-12--docs.localhost";
const PATIENCE: &str = "CANDLEFISH_EDGE_PREVIEWS_MS";

fn preview(version: i64, releases: &[(&Release, i32)]) -> Route {
    Route {
        host: PREVIEW.to_owned(),
        preview: true,
        noindex: true,
        ..route(version, releases)
    }
}

/// A preview that nobody can say is still open.
fn assert_out_of_contact(answer: &Answer) {
    assert_eq!((answer.status, answer.header("retry-after")), (503, "10"));
    assert_eq!(answer.header("cache-control"), "no-store");
    assert_eq!(answer.header("x-robots-tag"), "noindex");
    let why = "This server has not heard lately whether the preview at pr-12--docs.localhost is still open";
    assert!(answer.text().contains(why), "{}", answer.text());
}

#[tokio::test]
async fn previews_are_not_served_for_long_without_a_word_and_lasting_environments_are() {
    let mut sandbox = Sandbox::new().await;
    sandbox.settings.push((PATIENCE, "2000".to_owned()));
    let release = sandbox.release(&[("index.html", "one")]).await;
    let edge = sandbox.edge("edge-1").await;
    sandbox.apply(&edge, route(1, &[(&release, 100)])).await;
    sandbox.apply(&edge, preview(1, &[(&release, 100)])).await;
    let (lasting, fleeting) = (edge.visitor(HOST), edge.visitor(PREVIEW));
    // Nothing is told for longer than that; the stream stands.
    let before = sandbox.heard(&edge).messages;
    wait_until(SOON, "reports of more than two seconds", async || {
        sandbox.heard(&edge).messages >= before + 25
    })
    .await;
    assert_eq!(fleeting.get("/").await.text(), "one");

    sandbox.orchestrator.cut();
    wait_until(SOON, "the preview not to be served", async || {
        fleeting.get("/").await.status != 200
    })
    .await;
    assert_out_of_contact(&fleeting.get("/").await);
    assert_eq!(lasting.get("/").await.text(), "one");

    sandbox.orchestrator.mend();
    wait_until(SOON, "the preview to be served again", async || {
        fleeting.get("/").await.status == 200
    })
    .await;
    assert_eq!(fleeting.get("/").await.text(), "one");
}

#[tokio::test]
async fn a_preview_that_was_closed_unseen_is_never_served_again() {
    let mut sandbox = Sandbox::new().await;
    sandbox.settings.push((PATIENCE, "1".to_owned()));
    let release = sandbox.release(&[("index.html", "one")]).await;
    let edge = sandbox.edge("edge-1").await;
    sandbox.apply(&edge, preview(1, &[(&release, 100)])).await;
    let visitor = edge.visitor(PREVIEW);
    sandbox.orchestrator.cut();
    wait_until(SOON, "the preview not to be served", async || {
        visitor.get("/").await.status == 503
    })
    .await;
    let mut closed = preview(2, &[]);
    closed.preview = false;
    sandbox.orchestrator.send([closed]);
    sandbox.orchestrator.mend();
    // Not for a moment in between, as far as visitors see; the order is the keeper's and the stream's.
    poll_until(SOON, "its host to serve nothing", async || {
        let status = visitor.get("/").await.status;
        assert_ne!(status, 200);
        if status == 404 { Ok(()) } else { Err(status) }
    })
    .await;
}

#[tokio::test]
async fn after_a_start_previews_wait_for_the_first_word() {
    // With five minutes: what was heard before the start does not count.
    let sandbox = Sandbox::new().await;
    let release = sandbox.release(&[("index.html", "one")]).await;
    let edge = sandbox.edge("edge-1").await;
    sandbox.apply(&edge, route(1, &[(&release, 100)])).await;
    sandbox.apply(&edge, preview(1, &[(&release, 100)])).await;
    wait_until(SOON, "the first stream to stand", async || {
        edge.visitor(PREVIEW).get("/").await.status == 200
    })
    .await;
    edge.kill().await;
    sandbox.orchestrator.cut();

    let again = sandbox.edge("edge-1").await;
    assert_eq!(again.visitor(HOST).get("/").await.text(), "one");
    let visitor = again.visitor(PREVIEW);
    assert_out_of_contact(&visitor.get("/").await);
    let posted = visitor.ask("POST", "/", &[]).await;
    assert_eq!(
        (posted.status, posted.header("x-robots-tag")),
        (405, "noindex")
    );
    sandbox.orchestrator.mend();
    wait_until(SOON, "the preview", async || {
        visitor.get("/").await.status == 200
    })
    .await;
    // And for five minutes after the end of the stream, which was noticed before the next is tried.
    let before = sandbox.orchestrator.refused();
    sandbox.orchestrator.cut();
    wait_until(SOON, "the edge to try another stream", async || {
        sandbox.orchestrator.refused() > before
    })
    .await;
    assert_eq!(visitor.get("/").await.text(), "one");
}

#[tokio::test]
async fn a_route_of_the_same_version_tells_that_it_is_of_a_preview_once_and_for_all() {
    let sandbox = Sandbox::new().await;
    let release = sandbox.release(&[("index.html", "one")]).await;
    let edge = sandbox.edge("edge-1").await;
    // As an orchestrator of an older build tells it.
    let mut unsaid = preview(1, &[(&release, 100)]);
    unsaid.preview = false;
    sandbox.apply(&edge, unsaid.clone()).await;
    assert!(!sandbox.heard(&edge).previews.contains(PREVIEW));
    sandbox.orchestrator.send([preview(1, &[(&release, 100)])]);
    wait_until(SOON, "the edge to know it for one", async || {
        sandbox.heard(&edge).previews.contains(PREVIEW)
    })
    .await;
    // The older one again: it says less of the same version.
    sandbox.orchestrator.send([unsaid]);
    sandbox.apply(&edge, route(1, &[(&release, 100)])).await;
    edge.kill().await;
    sandbox.orchestrator.cut();
    let again = sandbox.edge("edge-1").await;
    assert_eq!(again.visitor(HOST).get("/").await.text(), "one");
    assert_out_of_contact(&again.visitor(PREVIEW).get("/").await);
}
