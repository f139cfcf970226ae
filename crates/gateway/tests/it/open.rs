//! What answers without a token.

use candlefish_proto::deploy::{ListSitesResponse, Site};
use reqwest::Method;

use crate::stand::Stand;

#[tokio::test]
async fn the_description_of_the_api_needs_no_token() {
    let stand = Stand::start().await;
    let answer = stand.get("/openapi.json", "").await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.body["openapi"], "3.1.0");
    assert_eq!(answer.body["servers"][0]["url"], stand.api.as_str());
    let elsewhere = stand
        .ask(Method::GET, "/openapi.json", "")
        .header("host", "api.example.org<\"'")
        .header("x-forwarded-proto", "https");
    let answer = stand.send(elsewhere).await;
    assert_eq!(answer.body["servers"][0]["url"], "https://api.example.org");
    let post = stand
        .send(stand.ask(Method::POST, "/openapi.json", ""))
        .await;
    assert_eq!(
        (post.status.as_u16(), post.header("allow")),
        (405, "GET, HEAD")
    );
}

#[tokio::test]
async fn pages_for_people_need_no_token_and_name_what_they_may_run() {
    let stand = Stand::start().await;
    for (path, script) in [
        ("/", false),
        ("/docs", true),
        ("/problems/not-found", false),
    ] {
        let answer = stand.get(path, "").await;
        assert_eq!(answer.status, 200, "{path}");
        assert_eq!(
            answer.header("content-type"),
            "text/html; charset=utf-8",
            "{path}"
        );
        assert_eq!(answer.header("x-content-type-options"), "nosniff", "{path}");
        let policy = answer.header("content-security-policy");
        assert!(
            policy.starts_with("default-src 'none'; "),
            "{path}: {policy}"
        );
        assert_eq!(policy.contains("script-src"), script, "{path}: {policy}");
        let page = answer.body.as_str().unwrap();
        assert!(page.starts_with("<!doctype html>"), "{path}");
        assert_eq!(page.contains("<script"), script, "{path}");
    }
    stand.get("/problems/no-such", "").await.is_problem(404);
}

#[tokio::test]
async fn sites_are_shown_without_a_token_only_where_that_is_wanted() {
    let site = Site {
        slug: "docs".to_owned(),
        name: "Our documentation".to_owned(),
        ..Site::default()
    };
    let sites = ListSitesResponse {
        sites: vec![site],
        next_page_token: String::new(),
    };
    for (open, shown) in [("false", false), ("true", true)] {
        let stand = Stand::start_with(&[("CANDLEFISH_OPEN_STATUS", open)]).await;
        stand.backend.will_answer("SiteService/ListSites", &sites);
        let page = stand.get("/", "").await.body;
        let page = page.as_str().unwrap();
        assert_eq!(page.contains("Our documentation"), shown, "{open}");
    }
}
