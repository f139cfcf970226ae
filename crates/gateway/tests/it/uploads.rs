//! Blobs, passed through to whoever signed their address.

use std::sync::{Arc, Mutex};

use axum::{Router, routing::put};
use bytes::Bytes;
use candlefish_runtime::{
    listen,
    tasks::{Policy, Tasks},
};
use http::{HeaderMap, StatusCode, Uri};
use http_body_util::BodyExt;
use reqwest::Method;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tonic::service::Routes;

use crate::stand::Stand;

const ADDRESS: &str = "/blobs/abc?size=3&expires=7&signature=s%2F1";

/// What arrived behind the gateway.
#[derive(Debug, Clone)]
struct Arrived {
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
}

type Seen = Arc<Mutex<Vec<Arrived>>>;

async fn receiver(status: StatusCode, tasks: &Tasks) -> (String, Seen) {
    let seen = Seen::default();
    let kept = Arc::clone(&seen);
    let receive = move |request: http::Request<axum::body::Body>| {
        let kept = Arc::clone(&kept);
        async move {
            let (parts, body) = request.into_parts();
            let body = body.collect().await.unwrap().to_bytes();
            let (uri, headers) = (parts.uri, parts.headers);
            kept.lock().unwrap().push(Arrived { uri, headers, body });
            let kind = [("content-type", "application/problem+json")];
            (status, kind, "{\"said\":\"so\"}")
        }
    };
    let router = Router::new().route("/blobs/{digest}", put(receive));
    let listener = listen::bind("127.0.0.1:0").await.unwrap();
    let address = listen::local_addr(&listener).unwrap();
    let serving = listen::serve(listener, Routes::from(router), tasks.stopping());
    drop(tasks.try_spawn("receiver", Policy::Ignore, serving));
    (format!("http://{address}"), seen)
}

#[tokio::test]
async fn an_upload_flows_through_whole_without_a_token() {
    let tasks = Tasks::new();
    let (url, seen) = receiver(StatusCode::CREATED, &tasks).await;
    let stand = Stand::start_with(&[("CANDLEFISH_ORCHESTRATOR_URL", &url)]).await;
    // More than any call may have.
    let content = Bytes::from(vec![7; 9 * 1024 * 1024]);
    for _ in 0..2 {
        let request = stand
            .ask(Method::PUT, ADDRESS, &stand.admin)
            .header("candlefish-identity", "made up")
            .body(content.clone());
        let answer = stand.send(request).await;
        assert_eq!(answer.status, 201, "{answer:?}");
        assert!(!answer.header("x-request-id").is_empty());
    }
    let answer = stand
        .send(stand.ask(Method::PUT, ADDRESS, "").body("abc"))
        .await;
    assert_eq!(answer.status, 201, "{answer:?}");
    let seen = seen.lock().unwrap().clone();
    assert_eq!(seen.len(), 3);
    for arrived in &seen {
        assert_eq!(arrived.uri.to_string(), ADDRESS);
        assert!(
            !arrived.headers.contains_key("authorization"),
            "{arrived:?}"
        );
        assert!(
            !arrived.headers.contains_key("candlefish-identity"),
            "{arrived:?}"
        );
    }
    assert_eq!(seen[0].body, content);
    assert_eq!(seen[2].headers["content-length"], "3");
}

#[tokio::test]
async fn a_refused_upload_is_answered_as_it_was_refused() {
    let tasks = Tasks::new();
    let (url, _seen) = receiver(StatusCode::FORBIDDEN, &tasks).await;
    let stand = Stand::start_with(&[("CANDLEFISH_ORCHESTRATOR_URL", &url)]).await;
    let answer = stand
        .send(stand.ask(Method::PUT, ADDRESS, "").body("abc"))
        .await;
    assert_eq!(answer.status, 403, "{answer:?}");
    assert_eq!(answer.body["said"], "so");
    // Which only the gateway knows.
    let named = answer.header("x-request-id");
    assert!(named.starts_with("req_"), "{answer:?}");
    assert_eq!(answer.body["request_id"], named);
    let get = stand.get(ADDRESS, "").await;
    assert_eq!(get.is_problem(405).header("allow"), "PUT");
}

#[tokio::test]
async fn an_upload_passes_over_a_replica_that_is_down() {
    let tasks = Tasks::new();
    let (url, seen) = receiver(StatusCode::CREATED, &tasks).await;
    let urls = format!("http://127.0.0.1:9,{url}");
    let stand = Stand::start_with(&[("CANDLEFISH_ORCHESTRATOR_URL", &urls)]).await;
    let answer = stand
        .send(stand.ask(Method::PUT, ADDRESS, "").body("abc"))
        .await;
    assert_eq!(answer.status, 201, "{answer:?}");
    assert_eq!(seen.lock().unwrap().len(), 1);

    let nobody = "http://127.0.0.1:9";
    let stand = Stand::start_with(&[("CANDLEFISH_ORCHESTRATOR_URL", nobody)]).await;
    let answer = stand
        .send(stand.ask(Method::PUT, ADDRESS, "").body("abc"))
        .await;
    assert_eq!(answer.is_problem(503).header("retry-after"), "1");
}

#[tokio::test]
async fn nothing_but_uploads_is_passed_through() {
    let stand = Stand::start().await;
    let address = stand.api.trim_start_matches("http://");
    for path in [
        "/blobs/../other",
        "/blobs/%2e%2e/other",
        "/blobs/a/../../other?x=1",
    ] {
        // A client that takes nothing out of an address by itself.
        let mut client = TcpStream::connect(address).await.unwrap();
        let head = format!(
            "PUT {path} HTTP/1.1\r\nhost: {address}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
        );
        client.write_all(head.as_bytes()).await.unwrap();
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 404"), "{path}: {answer}");
        assert!(answer.contains("path-unknown"), "{path}: {answer}");
    }
}
