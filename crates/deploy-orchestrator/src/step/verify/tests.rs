use std::collections::BTreeSet;

use axum::Router;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;

/// A release of these files; each says its own path.
fn release(paths: &[&str]) -> Manifest {
    let entries = paths.iter().map(|path| Entry {
        path: (*path).to_owned(),
        digest: digest_of(path.as_bytes()),
        size: u64::try_from(path.len()).unwrap(),
        content_type: "text/html".to_owned(),
    });
    Manifest::build(entries.collect(), &Limits::default()).unwrap()
}

/// A release of a first page and of others, so many in all.
fn pages(count: usize) -> Manifest {
    let others: Vec<String> = (1..count).map(|number| format!("{number}.html")).collect();
    let mut paths: Vec<&str> = others.iter().map(String::as_str).collect();
    paths.push("index.html");
    release(&paths)
}

/// The files of a sample, without the first page by its short address.
fn files(sample: &[Wanted]) -> BTreeSet<&str> {
    sample.iter().skip(1).map(|one| one.path.as_str()).collect()
}

#[test]
fn only_a_store_that_is_away_is_waited_for() {
    let release = candlefish_ids::ReleaseId::new();
    let away = candlefish_blobs::Error::NoBucket {
        bucket: "candlefish".to_owned(),
    };
    assert!(matches!(unread(release, &away), Trouble::Store { .. }));
    let lost = candlefish_blobs::Error::NotFound {
        digest: digest_of(b"a manifest"),
    };
    assert!(matches!(unread(release, &lost), Trouble::Manifest { .. }));
}

#[test]
fn the_first_page_is_in_every_sample_by_its_short_address() {
    for count in [1, 2, 500] {
        let release = pages(count);
        for (limit, seed) in [(1, 0), (20, 7), (200, u128::MAX)] {
            let sample = sample(&release, limit, seed);
            assert_eq!(sample[0].path, "");
            assert_eq!(sample[0].digest, digest_of(b"index.html"));
        }
    }
}

#[test]
fn what_matches_is_counted_without_the_short_address() {
    assert_eq!(matched(2, 0, 1), "1 of 1 file matches");
    assert_eq!(matched(201, 0, 500), "200 of 500 files match");
    assert_eq!(matched(1_125, 0, 1_124), "1,124 of 1,124 files match");
}

#[test]
fn what_redirects_is_told_apart_from_what_matches() {
    assert_eq!(matched(2, 1, 1), "0 of 1 file matches, 1 redirects");
    assert_eq!(matched(201, 3, 500), "197 of 500 files match, 3 redirect");
}

#[test]
fn without_a_first_page_no_answer_is_right() {
    let sample = sample(&release(&["about.html"]), ALL_UP_TO, 0);
    assert_eq!((sample.len(), &*sample[0].path), (2, ""));
    assert_eq!(sample[0].digest, digest_of(b""));
}

#[test]
fn a_sample_has_its_size_and_no_file_twice() {
    for (count, limit, size) in [
        (1, 200, 1),
        (200, 200, 200),
        (201, 200, 200),
        (500, 200, 200),
        (500, 20, 20),
        (1_999, 200, 200),
    ] {
        let release = pages(count);
        for seed in [0, 1, 499, 500, 1_008, 1_009, u128::MAX] {
            let sample = sample(&release, limit, seed);
            let what = format!("{limit} of {count} by {seed}");
            assert_eq!(sample.len(), size + 1, "{what}");
            assert_eq!(files(&sample).len(), size, "{what}");
            for one in &sample[1..] {
                assert_eq!(one.digest, digest_of(one.path.as_bytes()), "{what}");
            }
        }
    }
}

#[test]
fn another_seed_is_another_sample_and_all_seeds_see_every_file() {
    for (count, limit) in [(500, ALL_UP_TO), (500, SECOND_LOOK), (5_000, ALL_UP_TO)] {
        let release = pages(count);
        let first = sample(&release, limit, 0);
        assert_eq!(sample(&release, limit, 0), first);
        assert_ne!(files(&sample(&release, limit, 1)), files(&first));
        let mut seen = BTreeSet::new();
        for seed in 0..1_009 {
            let sample = sample(&release, limit, seed);
            seen.extend(sample.into_iter().skip(1).map(|one| one.path));
        }
        assert_eq!(seen.len(), count, "{limit} of {count}");
    }
}

#[test]
fn the_rules_are_no_pages_and_tell_of_redirects() {
    let ruled = release(&["_headers", "_redirects", "index.html"]);
    let sample = sample(&ruled, ALL_UP_TO, 0);
    assert_eq!(files(&sample), BTreeSet::from(["index.html"]));
    assert!(has_redirects(&ruled));
    assert!(!has_redirects(&release(&["_headers", "index.html"])));
    assert!(!has_redirects(&release(&["docs/_redirects", "index.html"])));
}

const PAGE: &str = "the page";
/// Longer than any of these takes.
const SILENCE: Duration = Duration::from_secs(40);

/// What a look comes to: how many files redirect, or the fault.
type Found = Result<Result<usize, Fault>, Trouble>;

/// What a look at [`PAGE`] comes to on an edge that answers so.
async fn looked_at(answer: (StatusCode, &'static str), redirects: bool) -> Found {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let router = Router::new().fallback(move || async move { answer });
    let serving = async { axum::serve(listener, router).await };
    tokio::select! {
        found = look_at(&address, SILENCE, redirects) => found,
        ended = serving => panic!("{ended:?}"),
    }
}

/// Looks at [`PAGE`], and gives the edge up when it is silent for so long.
async fn look_at(address: &str, silence: Duration, redirects: bool) -> Found {
    let look = Look {
        http: &visitor(silence).unwrap(),
        edge: "edge-1",
        address,
        host: "docs.localhost",
        redirects,
    };
    let wanted = [Wanted {
        path: "a.html".to_owned(),
        digest: digest_of(PAGE.as_bytes()),
    }];
    look.fetch_all(&wanted).await
}

/// What a look comes to on an edge that sends so many bytes of [`PAGE`], each after a while, and then
/// nothing more, without an end.
async fn trickled(pieces: usize, apart: Duration, silence: Duration) -> Found {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let serving = async {
        let (mut line, _peer) = listener.accept().await.unwrap();
        // What answers before it was asked is no server.
        assert!(line.read(&mut [0; 4096]).await.unwrap() > 0);
        let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", PAGE.len());
        line.write_all(head.as_bytes()).await.unwrap();
        let mut ticks = tokio::time::interval(apart);
        for piece in PAGE.as_bytes().chunks(1).take(pieces) {
            ticks.tick().await;
            line.write_all(piece).await.unwrap();
        }
        std::future::pending::<()>().await;
    };
    tokio::select! {
        found = look_at(&address, silence, false) => found,
        () = serving => panic!("it serves for ever"),
    }
}

#[tokio::test]
async fn a_page_may_take_longer_than_an_edge_may_be_silent() {
    let (apart, silence) = (Duration::from_millis(200), Duration::from_secs(1));
    let begun = tokio::time::Instant::now();
    let found = trickled(PAGE.len(), apart, silence).await;
    assert_eq!(found.unwrap(), Ok(0));
    assert!(begun.elapsed() > silence);
}

#[tokio::test]
async fn an_edge_that_stalls_within_a_page_is_given_up() {
    let silence = Duration::from_millis(300);
    let trouble = trickled(2, Duration::from_millis(1), silence).await;
    let trouble = trouble.unwrap_err();
    assert!(matches!(trouble, Trouble::Edge { .. }), "{trouble}");
}

#[tokio::test]
async fn a_redirect_is_a_fault_unless_the_release_has_rules_of_redirects() {
    for status in [
        StatusCode::MOVED_PERMANENTLY,
        StatusCode::FOUND,
        StatusCode::PERMANENT_REDIRECT,
    ] {
        let ruled = looked_at((status, ""), true).await.unwrap();
        assert_eq!(ruled, Ok(1), "{status}");
        let fault = looked_at((status, ""), false).await.unwrap();
        let words = format!("/a.html answered {status} on edge-1");
        assert_eq!(fault, Err(Fault(words)));
    }
}

#[tokio::test]
async fn a_page_that_is_not_the_releases_is_its_fault_rules_or_not() {
    for redirects in [false, true] {
        let right = looked_at((StatusCode::OK, PAGE), redirects).await;
        assert_eq!(right.unwrap(), Ok(0));
        for (answer, words) in [
            ((StatusCode::OK, "another page"), "answered other content"),
            ((StatusCode::OK, ""), "answered other content"),
            ((StatusCode::NOT_FOUND, PAGE), "answered 404"),
            ((StatusCode::FORBIDDEN, PAGE), "answered 403"),
            ((StatusCode::INTERNAL_SERVER_ERROR, PAGE), "answered 500"),
        ] {
            let fault = looked_at(answer, redirects).await.unwrap();
            let fault = fault.unwrap_err().0;
            assert!(fault.contains(words), "{answer:?}: {fault}");
        }
    }
}

#[tokio::test]
async fn an_edge_that_does_not_serve_now_is_its_own_fault() {
    for status in [
        StatusCode::MISDIRECTED_REQUEST,
        StatusCode::SERVICE_UNAVAILABLE,
    ] {
        let trouble = looked_at((status, PAGE), true).await.unwrap_err();
        assert!(matches!(trouble, Trouble::Edge { .. }), "{trouble}");
    }
}

#[test]
fn edges_are_fetched_from_through_no_proxy() {
    // A client that would ask the environment for one says so.
    let goes = |client: &reqwest::Client| format!("{client:?}").contains("proxies");
    assert!(goes(&reqwest::Client::new()));
    assert!(!goes(&visitor(Duration::from_secs(1)).unwrap()));
}
