//! Two releases on one host.

use std::{collections::HashMap, sync::Arc};

use candlefish_manifest::digest_of;
use candlefish_proto::deploy::Route;
use candlefish_testkit::wait_until;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::{
    orchestrator::Orchestrator,
    sandbox::{Edge, HOST, Release, SOON, Sandbox, route},
    visitor::Visitor,
};

async fn two() -> (Sandbox, Edge, Visitor, Release, Release) {
    let (sandbox, edge, visitor, old) =
        Sandbox::serving(&[("index.html", "old"), ("x.css", "old")]).await;
    let new = sandbox
        .release(&[("index.html", "new"), ("new.html", "new page")])
        .await;
    (sandbox, edge, visitor, old, new)
}

#[tokio::test]
async fn visitors_are_shared_out_and_stay_where_they_are() {
    let (sandbox, edge, visitor, old, new) = two().await;
    sandbox
        .apply(&edge, route(2, &[(&old, 70), (&new, 30)]))
        .await;
    let mut visitors = HashMap::new();
    for _ in 0..300 {
        let answer = visitor.get("/").await;
        let cookie = answer.cookie().expect("a split sets a cookie");
        assert_eq!(
            answer.header("cache-control"),
            "private, max-age=0, must-revalidate"
        );
        visitors.insert(cookie, answer.text().to_owned());
    }
    let mut news = 0;
    for _ in 0..300 {
        news += usize::from(visitor.get("/").await.text() == "new");
    }
    assert!((45..=140).contains(&news), "{news} of 300 at 30 %");
    for (cookie, text) in &visitors {
        let kept = ("cookie", cookie.as_str());
        let again = visitor.get_with("/", &[kept]).await;
        // Each page sets it anew, or a split that lasts would outlive it.
        let expected = (text.as_str(), Some(cookie.clone()));
        assert_eq!((again.text(), again.cookie()), expected);
        assert!(again.header("cache-control").starts_with("private"));
        let known = ("if-none-match", again.header("etag"));
        let unchanged = visitor.get_with("/", &[kept, known]).await;
        assert_eq!((unchanged.status, unchanged.cookie()), (304, expected.1));
        let asset = visitor.get_with("/x.css", &[kept]).await;
        assert_eq!((asset.text(), asset.cookie()), ("old", None));
    }
    sandbox
        .apply(&edge, route(3, &[(&old, 40), (&new, 60)]))
        .await;
    let mut moved = 0;
    for (cookie, text) in &visitors {
        let again = visitor.get_with("/", &[("cookie", cookie)]).await;
        assert!(text == "old" || again.text() == "new", "{cookie} went back");
        moved += usize::from(text != again.text());
    }
    assert!(moved > 0, "a larger share moves visitors");
    sandbox.apply(&edge, route(4, &[(&new, 100)])).await;
    assert_eq!(visitor.get("/").await.cookie(), None);
}

#[tokio::test]
async fn visitors_go_back_only_when_traffic_is_sent_back() {
    let (sandbox, edge, visitor, old, new) = two().await;
    sandbox
        .apply(&edge, route(2, &[(&old, 1), (&new, 99)]))
        .await;
    let mut answer = visitor.get("/").await;
    while answer.text() == "old" {
        answer = visitor.get("/").await;
    }
    let cookie = answer.cookie().unwrap();
    sandbox
        .apply(&edge, route(3, &[(&old, 99), (&new, 1)]))
        .await;
    for _ in 0..50 {
        assert_eq!(
            visitor.get_with("/", &[("cookie", &cookie)]).await.text(),
            "new"
        );
    }
    let mut back = route(4, &[(&old, 99), (&new, 1)]);
    back.generation = 1;
    sandbox.apply(&edge, back).await;
    let mut olds = 0;
    for _ in 0..50 {
        olds += usize::from(visitor.get_with("/", &[("cookie", &cookie)]).await.text() == "old");
    }
    assert!(olds > 30, "{olds} of 50 went back");
}

#[tokio::test]
async fn the_release_that_a_visitor_has_says_where_its_pages_are() {
    let (sandbox, edge, visitor, old) =
        Sandbox::serving(&[("index.html", "old"), ("guide/index.html", "old")]).await;
    let new = sandbox
        .release(&[("index.html", "new"), ("guide.html", "new")])
        .await;
    sandbox
        .apply(&edge, route(2, &[(&old, 50), (&new, 50)]))
        .await;
    let mut cookies = HashMap::new();
    while cookies.len() < 2 {
        let answer = visitor.get("/").await;
        cookies.insert(answer.text().to_owned(), answer.cookie().unwrap());
    }
    for (has, from, to, release) in [
        ("old", "/guide", "/guide/", &old),
        ("new", "/guide/", "/guide", &new),
    ] {
        let kept = [("cookie", cookies[has].as_str())];
        let moved = visitor.get_with(from, &kept).await;
        assert_eq!((moved.status, moved.header("location")), (301, to), "{has}");
        assert_eq!(moved.header("candlefish-release"), release.id);
        assert_eq!(
            moved.header("cache-control"),
            "private, max-age=0, must-revalidate"
        );
        let page = visitor.get_with(to, &kept).await;
        assert_eq!((page.status, page.text()), (200, has));
    }
    let fresh = visitor.get("/guide").await;
    let cookie = fresh
        .cookie()
        .expect("who is sent on stays with the release");
    let kept = [("cookie", cookie.as_str())];
    let location = match fresh.status {
        301 => fresh.header("location"),
        _ => "/guide",
    };
    let page = visitor.get_with(location, &kept).await;
    assert_eq!(
        page.header("candlefish-release"),
        fresh.header("candlefish-release")
    );
}

#[tokio::test]
async fn a_rolling_route_is_switched_edge_by_edge() {
    let (sandbox, first, visitor, old, new) = two().await;
    let second = sandbox.edge("edge-2").await;
    let mut rolling = route(2, &[(&old, 100), (&new, 0)]);
    rolling.rolling = true;
    rolling.rolled_edges = vec!["edge-2".to_owned()];
    sandbox.apply(&first, rolling.clone()).await;
    sandbox.apply(&second, rolling).await;
    let other = second.visitor(HOST);
    for _ in 0..20 {
        assert_eq!(visitor.get("/").await.text(), "old");
        assert_eq!(visitor.get("/").await.cookie(), None);
    }
    let seen = other.get("/").await;
    assert_eq!(seen.text(), "new");
    let cookie = seen.cookie().unwrap();
    let moved = visitor.get_with("/", &[("cookie", &cookie)]).await;
    assert_eq!(
        moved.text(),
        "new",
        "who saw the new release keeps it on the other edge"
    );
    // The first edges confirmed it: an edge that nobody counted serves the new release.
    let mut confirmed = route(3, &[(&old, 0), (&new, 100)]);
    confirmed.rolling = true;
    confirmed.rolled_edges = vec!["edge-3".to_owned()];
    confirmed.waiting_edges = vec!["edge-1".to_owned()];
    sandbox.apply(&first, confirmed.clone()).await;
    sandbox.apply(&second, confirmed).await;
    assert_eq!(visitor.get("/").await.text(), "old");
    assert_eq!(other.get("/").await.text(), "new");
    let mut returned = route(4, &[(&old, 100)]);
    returned.generation = 1;
    sandbox.apply(&first, returned).await;
    assert_eq!(
        visitor.get_with("/", &[("cookie", &cookie)]).await.text(),
        "old"
    );
}

/// What edges are told before the new release has visitors: it is given to those who have it already.
fn announced(version: i64, old: &Release, new: &Release) -> Route {
    Route {
        rolling: true,
        generation: 1,
        ..route(version, &[(old, 100), (new, 0)])
    }
}

#[tokio::test]
async fn a_visitor_keeps_the_new_release_on_an_edge_that_lags_at_a_switch() {
    let (mut sandbox, first, visitor, old, new) = two().await;
    // The other edge hears of routes elsewhere, and lags as the test likes.
    let slow = Orchestrator::start(None).await;
    let url = ("CANDLEFISH_ORCHESTRATOR_URL", slow.url());
    sandbox.settings.push(url);
    let second = sandbox.edge("edge-2").await;
    let other = second.visitor(HOST);
    let follows = async |route: Route| {
        let version = (route.epoch, route.version);
        slow.send([route]);
        wait_until(SOON, "the other edge to follow", async || {
            slow.heard("edge-2").held.get(HOST) == Some(&version)
        })
        .await;
    };
    sandbox.apply(&first, announced(2, &old, &new)).await;
    follows(announced(2, &old, &new)).await;
    for edge in [&visitor, &other] {
        let answer = edge.get("/").await;
        assert_eq!((answer.text(), answer.cookie()), ("old", None));
    }
    let at = |version: i64, generation: i32, releases: &[(&Release, i32)]| Route {
        generation,
        ..route(version, releases)
    };
    let switched = at(3, 1, &[(&old, 0), (&new, 100)]);
    sandbox.apply(&first, switched.clone()).await;
    let seen = visitor.get("/").await;
    assert_eq!(seen.text(), "new");
    assert_eq!(
        seen.header("cache-control"),
        "private, max-age=0, must-revalidate"
    );
    let cookie = seen.cookie().expect("who got the new release keeps it");
    let kept = [("cookie", cookie.as_str())];
    // Whoever did not see it gets what this edge has, and nothing to remember.
    let fresh = other.get("/").await;
    assert_eq!((fresh.text(), fresh.cookie()), ("old", None));
    assert_eq!(other.get_with("/", &kept).await.text(), "new");
    assert_eq!(other.get_with("/new", &kept).await.text(), "new page");
    follows(switched).await;
    assert_eq!(other.get("/").await.text(), "new");
    // All have followed: pages are as cacheable as ever, here a moment before there.
    sandbox.apply(&first, at(4, 1, &[(&new, 100)])).await;
    let settled = visitor.get("/").await;
    assert_eq!((settled.text(), settled.cookie()), ("new", None));
    assert_eq!(
        settled.header("cache-control"),
        "public, max-age=0, must-revalidate"
    );
    // A rollback takes everybody along.
    follows(at(5, 2, &[(&old, 100)])).await;
    assert_eq!(other.get_with("/", &kept).await.text(), "old");
}

#[tokio::test]
async fn an_undo_takes_those_along_who_kept_the_new_release() {
    let (sandbox, edge, visitor, old, new) = two().await;
    sandbox.apply(&edge, announced(2, &old, &new)).await;
    let switched = Route {
        generation: 1,
        ..route(3, &[(&old, 0), (&new, 100)])
    };
    sandbox.apply(&edge, switched).await;
    let cookie = visitor.get("/").await.cookie().unwrap();
    let undone = Route {
        generation: 2,
        ..route(4, &[(&old, 100)])
    };
    // The next attempt begins a generation of its own: nobody is kept by what they got in the first.
    let again = Route {
        generation: 3,
        ..announced(5, &old, &new)
    };
    for told in [undone, again] {
        sandbox.apply(&edge, told).await;
        let answer = visitor.get_with("/", &[("cookie", &cookie)]).await;
        assert_eq!(answer.text(), "old");
    }
}

#[tokio::test]
async fn an_edge_holds_an_announcement_once_it_has_the_release() {
    let (sandbox, edge, visitor, old, new) = two().await;
    let page = sandbox.store.local_path(&digest_of(b"new page")).unwrap();
    std::fs::remove_file(&page).unwrap();
    let told = announced(2, &old, &new);
    let version = (told.epoch, told.version);
    sandbox.orchestrator.send([told]);
    let mut marker = route(1, &[(&old, 100)]);
    marker.host = "marker.localhost".to_owned();
    sandbox.apply(&edge, marker).await;
    assert_eq!(sandbox.heard(&edge).held[HOST], (1, 1));
    assert_eq!(visitor.get("/").await.text(), "old");
    std::fs::write(&page, "new page").unwrap();
    wait_until(SOON, "the announcement to be held", async || {
        sandbox.heard(&edge).held.get(HOST) == Some(&version)
    })
    .await;
}

/// Counts the answers by release, and compares each with the release that it names.
async fn look_around(
    visitor: Visitor,
    marks: Arc<HashMap<String, &'static str>>,
    stop: CancellationToken,
) -> HashMap<&'static str, usize> {
    let mut seen = HashMap::new();
    for n in (0..20).cycle() {
        if stop.is_cancelled() {
            break;
        }
        let answer = visitor.get(&format!("/p{n}")).await;
        let mark = *marks.get(answer.header("candlefish-release")).unwrap();
        assert_eq!(answer.text(), format!("{mark} page {n}"));
        let digest = digest_of(&answer.body);
        assert_eq!(answer.header("etag"), format!("\"{digest}\""));
        *seen.entry(mark).or_default() += 1;
    }
    seen
}

#[tokio::test]
async fn a_switch_never_tears_an_answer() {
    let sandbox = Sandbox::new().await;
    let mut releases = Vec::new();
    let mut marks = HashMap::new();
    for mark in ["red", "blue"] {
        let pages = (0..20).map(|n| (format!("p{n}.html"), format!("{mark} page {n}")));
        let pages: Vec<(String, String)> = pages.collect();
        let files: Vec<_> = pages
            .iter()
            .map(|(p, t)| (p.as_str(), t.as_str()))
            .collect();
        let release = sandbox.release(&files).await;
        marks.insert(release.id.clone(), mark);
        releases.push(release);
    }
    let edge = sandbox.edge("edge-1").await;
    sandbox.apply(&edge, route(1, &[(&releases[0], 100)])).await;
    let (marks, stop) = (Arc::new(marks), CancellationToken::new());
    let mut visitors = JoinSet::new();
    for _ in 0..4 {
        visitors.spawn(look_around(
            edge.visitor(HOST),
            Arc::clone(&marks),
            stop.clone(),
        ));
    }
    for version in 2..60 {
        let release = &releases[usize::try_from(version % 2).unwrap()];
        sandbox
            .apply(&edge, route(version, &[(release, 100)]))
            .await;
    }
    stop.cancel();
    let seen = visitors.join_all().await;
    for mark in ["red", "blue"] {
        let count: usize = seen.iter().filter_map(|s| s.get(mark)).sum();
        assert!(count > 20, "{mark}: {seen:?}");
    }
}
