//! What answers without a token, and what a token shows there.

use candlefish_proto::deploy::{
    Environment, Hold, ListEnvironmentsResponse, ListSitesResponse, Site, Stop,
};
use prost_types::Timestamp;
use reqwest::Method;

use crate::stand::Stand;

#[tokio::test]
async fn the_description_of_the_api_needs_no_token() {
    let stand = Stand::start().await;
    let answer = stand.get("/openapi.json", "").await;
    assert_eq!(answer.status, 200);
    assert!(answer.header("x-request-id").starts_with("req_"));
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
#[expect(
    clippy::disallowed_methods,
    reason = "an example is tried by this machine's clock"
)]
async fn an_example_that_names_a_time_names_one_to_come() {
    let stand = Stand::start().await;
    let answer = stand.get("/openapi.json", "").await;
    let call = &answer.body["paths"]["/v1/stops"]["post"]["requestBody"];
    let until = &call["content"]["application/json"]["example"]["until"];
    let until: jiff::Timestamp = until.as_str().unwrap().parse().unwrap();
    let ahead = until.duration_since(jiff::Timestamp::now());
    assert!((1..=24).contains(&ahead.as_hours()), "{until}");
}

#[tokio::test]
async fn over_http_2_too_the_description_names_the_address_that_was_asked() {
    let stand = Stand::start().await;
    let client = reqwest::Client::builder().http2_prior_knowledge();
    let asked = client
        .build()
        .unwrap()
        .get(format!("{}/openapi.json", stand.api));
    let answer = stand.send(asked).await;
    assert_eq!(answer.body["servers"][0]["url"], stand.api.as_str());
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
        assert!(answer.header("x-request-id").starts_with("req_"), "{path}");
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

fn one_site() -> ListSitesResponse {
    let site = Site {
        slug: "docs".to_owned(),
        name: "Our documentation".to_owned(),
        ..Site::default()
    };
    ListSitesResponse {
        sites: vec![site],
        next_page_token: String::new(),
    }
}

#[tokio::test]
async fn sites_are_shown_without_a_token_only_where_that_is_wanted() {
    let sites = one_site();
    for (open, shown) in [("false", false), ("true", true)] {
        let stand = Stand::start_with(&[("CANDLEFISH_OPEN_STATUS", open)]).await;
        stand.backend.will_answer("SiteService/ListSites", &sites);
        let page = stand.get("/", "").await.body;
        let page = page.as_str().unwrap();
        assert_eq!(page.contains("Our documentation"), shown, "{open}");
        let mut known = stand.environment.iter();
        let known = known.find(|(name, _)| name == "CANDLEFISH_ORCHESTRATOR_URL");
        let address = known.unwrap().1.trim_start_matches("http://");
        for what in [address, env!("CARGO_PKG_VERSION")] {
            assert_eq!(page.contains(what), shown, "{what}, {open}: {page}");
        }
    }
}

#[tokio::test]
async fn a_replica_that_is_down_hides_nothing() {
    let stand = Stand::start_with(&[
        ("CANDLEFISH_OPEN_STATUS", "true"),
        ("CANDLEFISH_ORCHESTRATOR_URL", "http://127.0.0.1:9,BACKEND"),
    ])
    .await;
    // Each is asked for its environments: some of that would meet the replica that is down.
    let sites = (0..6).map(|place| Site {
        slug: format!("site-{place}"),
        ..Site::default()
    });
    let sites = ListSitesResponse {
        sites: sites.collect(),
        next_page_token: String::new(),
    };
    stand.backend.will_answer("SiteService/ListSites", &sites);
    let page = stand.get("/", "").await.body;
    let page = page.as_str().unwrap();
    assert!(page.contains("<code>site-5</code>"), "{page}");
    assert!(!page.contains("Not known now"), "{page}");
    assert!(page.contains("1 of 2 up"), "{page}");
}

#[tokio::test]
async fn a_page_that_does_not_show_all_says_so() {
    let stand = Stand::start_with(&[("CANDLEFISH_OPEN_STATUS", "true")]).await;
    let more = || "more".to_owned();
    let sites = ListSitesResponse {
        next_page_token: more(),
        ..one_site()
    };
    let environments = ListEnvironmentsResponse {
        next_page_token: more(),
        ..held_and_stopped()
    };
    stand.backend.will_answer("SiteService/ListSites", &sites);
    stand
        .backend
        .will_answer("SiteService/ListEnvironments", &environments);
    let page = stand.get("/", "").await.body;
    let page = page.as_str().unwrap();
    for command in ["candlefish sites", "candlefish env list docs"] {
        let command = format!("<code>{command}</code>");
        assert!(page.contains(&command), "{command}: {page}");
    }
}

/// The calls for sites that reached the service, by the sites of who asked.
fn asked_for_sites(stand: &Stand) -> Vec<Vec<String>> {
    let calls = stand.backend.seen().into_iter();
    let calls = calls.filter(|call| call.path.ends_with(".SiteService/ListSites"));
    calls.map(|call| call.caller.sites).collect()
}

#[tokio::test]
async fn who_sends_a_token_sees_the_sites_that_it_may_see() {
    let stand = Stand::start().await;
    let viewer = stand.token("vera", "ROLE_VIEWER", &["docs"]).await;
    let shows = async |token: &str| {
        let answer = stand.get("/", token).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        let page = answer.body.as_str().unwrap();
        let hidden = page.matches("Shown to those who have a token").count();
        (page.contains("Our documentation"), hidden)
    };
    stand
        .backend
        .will_answer("SiteService/ListSites", &one_site());
    assert_eq!(shows("").await, (false, 3));
    assert!(stand.backend.seen().is_empty());
    let answer = stand.get("/", &viewer).await;
    assert_eq!(answer.header("cache-control"), "no-store");
    assert!(answer.body.as_str().unwrap().contains("Our documentation"));
    assert_eq!(asked_for_sites(&stand), [["docs"]]);
    // Nobody is shown what is kept for others.
    assert_eq!(shows("").await, (false, 3));
    assert_eq!(shows(&stand.admin).await, (false, 0));
    let asked = asked_for_sites(&stand);
    assert_eq!(asked, [vec!["docs".to_owned()], Vec::new()]);
}

#[tokio::test]
async fn a_token_that_does_not_work_is_refused_on_the_front_page_too() {
    let stand = Stand::start().await;
    for token in ["cft_x", &format!("{}b", stand.admin)] {
        let answer = stand.get("/", token).await;
        answer.is_problem(401);
        assert!(answer.header("www-authenticate").starts_with("Bearer"));
    }
    // A login at a proxy before us is no token.
    let basic = stand
        .ask(Method::GET, "/", "")
        .basic_auth("ada", Some("secret"));
    assert_eq!(stand.send(basic).await.status, 200);
    assert!(stand.backend.seen().is_empty());
}

fn held_and_stopped() -> ListEnvironmentsResponse {
    let at = Some(Timestamp {
        seconds: 1_800_000_000,
        nanos: 0,
    });
    let hold = Hold {
        since: at,
        by: "grace".to_owned(),
        reason: "a <b>bad</b> release".to_owned(),
        ..Hold::default()
    };
    let stop = |site: &str, reason: &str| Stop {
        site: site.to_owned(),
        by: "ada".to_owned(),
        reason: reason.to_owned(),
        until: at,
        ..Stop::default()
    };
    let held = Environment {
        slug: "production".to_owned(),
        hold: Some(hold),
        ..Environment::default()
    };
    let stopped = Environment {
        slug: "staging".to_owned(),
        stops: vec![stop("docs", "an <i>audit</i>"), stop("", "an outage")],
        ..Environment::default()
    };
    ListEnvironmentsResponse {
        environments: vec![held, stopped],
        next_page_token: String::new(),
    }
}

#[tokio::test]
async fn what_is_held_or_stopped_is_shown_by_whom_until_when_and_why() {
    let stand = Stand::start_with(&[("CANDLEFISH_OPEN_STATUS", "true")]).await;
    let environments = held_and_stopped();
    stand
        .backend
        .will_answer("SiteService/ListSites", &one_site());
    stand
        .backend
        .will_answer("SiteService/ListEnvironments", &environments);
    let page = stand.get("/", "").await.body;
    let page = page.as_str().unwrap();
    let shown = |slug: &str| {
        let begins = format!("<strong>{slug}</strong>");
        let (_, rest) = page.split_once(&begins).unwrap();
        rest.split_once("</li>").unwrap().0
    };
    let held = [
        ">held<",
        "Held by grace",
        ">since 2027-01-15 08:00 UTC<",
        "a &lt;b&gt;bad&lt;/b&gt; release",
        "<code>candlefish hold lift docs/production --reason …</code>",
    ];
    let stopped = [
        ">stopped<",
        "Its site is stopped by ada",
        "an &lt;i&gt;audit&lt;/i&gt;",
        "Everything is stopped by ada",
        "an outage",
        "<code>candlefish stop lift docs --reason …</code>",
        "<code>candlefish stop lift --reason …</code>",
        ">until 2027-01-15 08:00 UTC<",
    ];
    for words in held {
        assert!(shown("production").contains(words), "{words}: {page}");
        assert!(!shown("staging").contains(words), "{words}: {page}");
    }
    for words in stopped {
        assert!(shown("staging").contains(words), "{words}: {page}");
        assert!(!shown("production").contains(words), "{words}: {page}");
    }
}
