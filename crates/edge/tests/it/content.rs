//! Where content comes from, and that it is what it should be.

use candlefish_manifest::digest_of;
use candlefish_testkit::wait_until;

use crate::sandbox::{SOON, Sandbox, route};

#[tokio::test]
async fn a_corrupt_blob_refuses_its_release_and_names_the_path() {
    let (sandbox, edge, visitor, good) = Sandbox::serving(&[("index.html", "old")]).await;
    let bad = sandbox
        .release(&[("index.html", "new"), ("sub/page.html", "page")])
        .await;
    let blob = sandbox.store.local_path(&digest_of(b"page")).unwrap();
    std::fs::write(&blob, "pagf").unwrap();
    sandbox.orchestrator.send([route(2, &[(&bad, 100)])]);
    wait_until(SOON, "the refusal to be told", async || {
        let heard = sandbox.heard(&edge);
        let told = heard.staged.get(&bad.id).cloned().unwrap_or_default();
        !told.staged && told.error.starts_with("sub/page.html: content of blob")
    })
    .await;
    let answer = visitor.get("/").await;
    assert_eq!(
        (answer.text(), answer.header("candlefish-release")),
        ("old", good.id.as_str())
    );
    assert_eq!(sandbox.heard(&edge).held["docs.localhost"], (1, 1));
    std::fs::write(&blob, "page").unwrap();
    wait_until(SOON, "the mended release", async || {
        visitor.get("/").await.text() == "new"
    })
    .await;
    wait_until(SOON, "the mended release to be told", async || {
        let told = sandbox.heard(&edge).staged.get(&bad.id).cloned();
        told.is_some_and(|told| told.staged && told.error.is_empty())
    })
    .await;
}

#[tokio::test]
async fn a_release_that_gets_no_traffic_does_not_hold_a_route_up() {
    let (sandbox, edge, visitor, good) = Sandbox::serving(&[("index.html", "old")]).await;
    let bad = sandbox.release(&[("index.html", "broken")]).await;
    std::fs::remove_file(sandbox.store.local_path(&digest_of(b"broken")).unwrap()).unwrap();
    sandbox
        .apply(&edge, route(2, &[(&good, 100), (&bad, 0)]))
        .await;
    assert_eq!(visitor.get("/").await.text(), "old");
}

#[tokio::test]
async fn a_blob_that_rots_under_the_edge_is_an_error_not_a_wrong_page() {
    let site = [("index.html", "home"), ("rare.html", "rare")];
    let (sandbox, _edge, visitor, _) = Sandbox::serving(&site).await;
    std::fs::write(
        sandbox.store.local_path(&digest_of(b"rare")).unwrap(),
        "rarf",
    )
    .unwrap();
    assert_eq!(visitor.get("/rare").await.status, 500);
    assert_eq!(visitor.get("/").await.status, 200);
}

#[tokio::test]
async fn releases_that_no_route_names_are_let_go() {
    let (sandbox, edge, _, first) = Sandbox::serving(&[("index.html", "one")]).await;
    let second = sandbox.release(&[("index.html", "two")]).await;
    sandbox.apply(&edge, route(2, &[(&second, 100)])).await;
    wait_until(SOON, "the first release to be let go", async || {
        let staged = sandbox.heard(&edge).staged;
        !staged[&first.id].staged && staged[&second.id].staged
    })
    .await;
}

#[tokio::test]
async fn assets_of_former_releases_stay_reachable_and_pages_do_not() {
    let old = [
        ("index.html", "old"),
        ("gone.html", "gone"),
        ("left/index.html", "left"),
        ("old.css", "old css"),
        ("both.css", "old"),
    ];
    let (sandbox, edge, visitor, former) = Sandbox::serving(&old).await;
    let new = sandbox
        .release(&[("index.html", "new"), ("both.css", "new")])
        .await;
    let mut switched = route(2, &[(&new, 100)]);
    switched.assets_of = vec![former.reference()];
    sandbox.apply(&edge, switched).await;
    let asset = visitor.get("/old.css").await;
    assert_eq!((asset.status, asset.text()), (200, "old css"));
    assert_eq!(asset.header("candlefish-release"), former.id);
    assert_eq!(visitor.get("/both.css").await.text(), "new");
    for page in ["/gone", "/gone/", "/left", "/left/"] {
        assert_eq!(visitor.get(page).await.status, 404, "{page}");
    }
    let probe = visitor
        .get_with("/old.css", &[("candlefish-probe", "1")])
        .await;
    assert_eq!(probe.status, 404, "a probe sees the release alone");
}

#[tokio::test]
async fn a_page_for_whatever_is_missing_does_not_hide_assets_of_former_releases() {
    let old = [
        ("_redirects", "/* /index.html 200\n"),
        ("index.html", "old"),
        ("gone.html", "gone"),
        ("app-old.js", "old app"),
        ("forced/old.js", "old"),
        ("lost/old.js", "lost app"),
    ];
    let (sandbox, edge, visitor, former) = Sandbox::serving(&old).await;
    let rules = "/forced/* /index.html 200!\n/lost/* /lost.html 404\n/* /index.html 200\n";
    let files = [
        ("_redirects", rules),
        ("index.html", "new"),
        ("lost.html", "lost"),
    ];
    let new = sandbox.release(&files).await;
    let mut switched = route(2, &[(&new, 100)]);
    switched.assets_of = vec![former.reference()];
    sandbox.apply(&edge, switched).await;
    for (path, status, text, from) in [
        ("/app-old.js", 200, "old app", &former),
        ("/lost/old.js", 200, "lost app", &former),
        ("/lost/none.js", 404, "lost", &new),
        ("/forced/old.js", 200, "new", &new),
        ("/app-none.js", 200, "new", &new),
        ("/gone", 200, "new", &new),
    ] {
        let answer = visitor.get(path).await;
        assert_eq!((answer.status, answer.text()), (status, text), "{path}");
        assert_eq!(answer.header("candlefish-release"), from.id, "{path}");
    }
    let probe = visitor
        .get_with("/app-old.js", &[("candlefish-probe", "1")])
        .await;
    assert_eq!(probe.text(), "new", "a probe sees the release alone");
}
