//! `_redirects` and `_headers` over the wire.

use candlefish_manifest::digest_of;
use candlefish_testkit::wait_until;

use crate::sandbox::{SOON, Sandbox, route};

#[tokio::test]
async fn redirects_send_visitors_on() {
    let rules = "/old/* /new/:splat 301\n\
        /app/* /app.html 200\n\
        /secret /gone.html 404\n\
        /page /elsewhere 302\n\
        /forced https://example.com/ 302!\n";
    let site = [
        ("_redirects", rules),
        ("app.html", "app"),
        ("gone.html", "it is gone"),
        ("page.html", "page"),
        ("forced.html", "a file"),
    ];
    let (_sandbox, _edge, visitor, release) = Sandbox::serving(&site).await;
    let moved = visitor.get("/old/a%20b/c?x=1").await;
    assert_eq!(
        (moved.status, moved.header("location")),
        (301, "/new/a%20b/c?x=1")
    );
    assert_eq!(moved.header("candlefish-release"), release.id);
    assert_eq!(moved.header("content-length"), "0");
    let app = visitor.get("/app/any/where").await;
    assert_eq!((app.status, app.text()), (200, "app"));
    let gone = visitor.get("/secret").await;
    assert_eq!((gone.status, gone.text()), (404, "it is gone"));
    assert_eq!(visitor.get("/page").await.text(), "page", "the file wins");
    let forced = visitor.get("/forced").await;
    assert_eq!(
        (forced.status, forced.header("location")),
        (302, "https://example.com/")
    );
    let probe = visitor
        .get_with("/forced.html", &[("candlefish-probe", "1")])
        .await;
    assert_eq!((probe.status, probe.text()), (200, "a file"));
    let hijack = visitor.get("/old//evil.example/%5c").await;
    assert_eq!(hijack.header("location"), "/new//evil.example/%5C");
}

#[tokio::test]
async fn a_page_counts_for_rules_at_the_address_that_leads_to_it_too() {
    let rules = "/guide /elsewhere\n\
        /about /other 302!\n\
        /stay /stay/index.html 200!\n\
        /round/ /round 301!\n\
        /app/* /app 200\n\
        /secret /gone 404\n";
    let site = [
        ("_redirects", rules),
        ("guide/index.html", "guide"),
        ("about.html", "about"),
        ("stay/index.html", "stay"),
        ("round/index.html", "round"),
        ("app/index.html", "app"),
        ("gone/index.html", "it is gone"),
    ];
    let (_sandbox, _edge, visitor, _) = Sandbox::serving(&site).await;
    for (path, status, location) in [
        ("/guide", 301, "/guide/"),
        ("/about/", 302, "/other"),
        ("/round", 301, "/round/"),
        ("/app", 301, "/app/"),
    ] {
        let moved = visitor.get(path).await;
        assert_eq!(
            (moved.status, moved.header("location")),
            (status, location),
            "{path}"
        );
    }
    for (path, status, text) in [
        ("/stay", 200, "stay"),
        ("/stay/", 200, "stay"),
        ("/round/", 200, "round"),
        ("/app/any", 200, "app"),
        ("/secret", 404, "it is gone"),
    ] {
        let answer = visitor.get(path).await;
        assert_eq!((answer.status, answer.text()), (status, text), "{path}");
    }
    let probe = [("candlefish-probe", "1")];
    let moved = visitor.get_with("/about/", &probe).await;
    assert_eq!(moved.header("location"), "/about");
}

#[tokio::test]
async fn headers_are_set_by_path() {
    let rules = "/*\n  X-Frame-Options: DENY\n/assets/*\n  Cache-Control: public, max-age=600\n";
    let site = [
        ("_headers", rules),
        ("index.html", "home"),
        ("assets/a.css", "css"),
        ("assets/list/index.html", "list"),
    ];
    let (_sandbox, _edge, visitor, _) = Sandbox::serving(&site).await;
    let home = visitor.get("/").await;
    assert_eq!(home.header("x-frame-options"), "DENY");
    assert_eq!(
        home.header("cache-control"),
        "public, max-age=0, must-revalidate"
    );
    let asset = visitor.get("/assets/a.css").await;
    assert_eq!(asset.header("cache-control"), "public, max-age=600");
    let tagged = [("if-none-match", asset.header("etag"))];
    let again = visitor.get_with("/assets/a.css", &tagged).await;
    assert_eq!(
        (again.status, again.header("cache-control")),
        (304, "public, max-age=600")
    );
    assert_eq!(
        visitor.get("/nothing").await.header("x-frame-options"),
        "DENY"
    );
    let missing = visitor.get("/assets/none.css").await;
    assert_eq!(
        (missing.status, missing.header("cache-control")),
        (404, "public, max-age=0, must-revalidate"),
        "it may be there tomorrow"
    );
    let moved = visitor.get("/assets/list").await;
    assert_eq!(
        (moved.status, moved.header("cache-control")),
        (301, "public, max-age=0, must-revalidate"),
        "it may lead back tomorrow"
    );
}

#[tokio::test]
async fn the_files_of_the_rules_are_not_there_to_visitors() {
    let rules = "/*\n  X-Frame-Options: DENY\n";
    let moved = "/old /new\n/copy /_headers 200\n";
    let site = [
        ("_headers", rules),
        ("_redirects", moved),
        ("404.html", "it is not here"),
        ("docs/_headers", "a file"),
    ];
    let (sandbox, edge, visitor, former) = Sandbox::serving(&site).await;
    let etag = format!("\"{}\"", digest_of(rules.as_bytes()));
    for path in [
        "/_headers",
        "/_redirects",
        "/%5Fheaders",
        "/_redirect%73",
        "/_headers/",
        "/copy",
    ] {
        for headers in [
            &[][..],
            &[("if-none-match", etag.as_str())],
            &[("if-none-match", "*")],
            &[("range", "bytes=0-3")],
        ] {
            let answer = visitor.get_with(path, headers).await;
            assert_eq!(
                (answer.status, answer.text()),
                (404, "it is not here"),
                "{path} {headers:?}"
            );
            assert_eq!(answer.header("x-frame-options"), "DENY");
        }
        let head = visitor.ask("HEAD", path, &[]).await;
        assert_eq!((head.status, head.header("content-length")), (404, "14"));
    }
    assert_eq!(visitor.get("/docs/_headers").await.text(), "a file");
    assert_eq!(visitor.get("/old").await.header("location"), "/new");
    // Nor are those of a former release, whose other files are; and no page of the site says so.
    let plain = sandbox.release(&[("index.html", "new")]).await;
    let mut switched = route(2, &[(&plain, 100)]);
    switched.assets_of = vec![former.reference()];
    sandbox.apply(&edge, switched).await;
    assert_eq!(visitor.get("/docs/_headers").await.text(), "a file");
    let answer = visitor.get("/_headers").await;
    assert_eq!(answer.status, 404);
    assert!(answer.text().contains("Page not found"));
}

#[tokio::test]
async fn while_two_releases_are_served_no_rule_lets_others_keep_what_one_visitor_got() {
    let rules = "/*\n  Cache-Control: public, max-age=600, s-maxage=3600\n";
    let site = [("_headers", rules), ("index.html", "old")];
    let (sandbox, edge, visitor, old) = Sandbox::serving(&site).await;
    let kept = async || visitor.get("/").await.header("cache-control").to_owned();
    assert_eq!(kept().await, "public, max-age=600, s-maxage=3600");
    let new = sandbox
        .release(&[("_headers", rules), ("index.html", "new")])
        .await;
    sandbox
        .apply(&edge, route(2, &[(&old, 50), (&new, 50)]))
        .await;
    assert_eq!(kept().await, "private, max-age=600");
}

#[tokio::test]
async fn rules_that_are_not_understood_refuse_the_release_with_their_line() {
    let (sandbox, edge, visitor, _) = Sandbox::serving(&[("index.html", "old")]).await;
    let bad = sandbox
        .release(&[
            ("index.html", "new"),
            ("_headers", "/*\n  Set-Cookie: a=b\n"),
        ])
        .await;
    sandbox.orchestrator.send([route(2, &[(&bad, 100)])]);
    wait_until(SOON, "the refusal to be told", async || {
        let told = sandbox
            .heard(&edge)
            .staged
            .get(&bad.id)
            .cloned()
            .unwrap_or_default();
        told.error == "line 2 of _headers: the edge sets set-cookie itself"
    })
    .await;
    assert_eq!(visitor.get("/").await.text(), "old");
}
