//! What bodies may hold of the gateway while they come: a place, and a share of what all may weigh.

use bytes::Bytes;
use candlefish_testkit::wait_until;
use futures_util::{StreamExt, future::select_all, stream};
use reqwest::{Method, RequestBuilder, Response};
use serde_json::json;

use crate::stand::{SOON, Stand};

const MOST_BYTES: usize = 4 * 1024 * 1024;
const CREATE: &str = "/candlefish.access.v1.AccessService/CreatePrincipal";

/// A call whose body begins so and never ends.
fn endless(stand: &Stand, path: &str, kind: &str, begins: Bytes) -> RequestBuilder {
    let begins = stream::iter([Ok::<_, std::io::Error>(begins)]);
    let body = reqwest::Body::wrap_stream(begins.chain(stream::pending()));
    let request = stand.ask(Method::POST, path, &stand.admin);
    request.header("content-type", kind).body(body)
}

/// Over REST or over gRPC.
fn is_refused(answer: &Response) -> bool {
    let code = answer.headers().get("grpc-status");
    answer.status() == 503 || code.is_some_and(|code| code == "14")
}

#[tokio::test]
async fn a_call_has_its_place_before_its_body_has_come() {
    let stand = Stand::start_with(&[("CANDLEFISH_CALLS", "1")]).await;
    let is_full = async || {
        let answer = stand.get("/v1/whoami", &stand.admin).await;
        if answer.status == 200 {
            return false;
        }
        assert_eq!(answer.is_problem(503).body["reason"], "busy");
        assert_eq!(answer.header("retry-after"), "1");
        true
    };
    let surfaces = [
        ("/v1/principals", "application/json"),
        (CREATE, "application/grpc"),
    ];
    for (path, kind) in surfaces {
        // One that comes while we look is refused: we have the place.
        let holding = async {
            let begins = Bytes::from_static(b"{");
            let send = || endless(&stand, path, kind, begins.clone()).send();
            while is_refused(&send().await.unwrap()) {}
        };
        tokio::select! {
            () = holding => panic!("a body without an end is answered: {path}"),
            () = wait_until(SOON, "the place to be taken", async || is_full().await) => {}
        }
        // Its caller is gone.
        let is_free = async || !is_full().await;
        wait_until(SOON, "the place to be free", is_free).await;
    }
}

#[tokio::test]
async fn large_bodies_that_do_not_end_keep_large_ones_out_and_no_others() {
    let stand = Stand::start().await;
    let begins = Bytes::from(vec![b' '; MOST_BYTES - 1024]);
    // Seventeen are more than may be in hand, and more may still be on their way.
    let sending = (0..20).map(|_| {
        let request = endless(&stand, "/v1/principals", "application/json", begins.clone());
        Box::pin(stand.send(request))
    });
    let (full, _which, others) = select_all(sending).await;
    assert_eq!(full.is_problem(503).body["reason"], "busy");
    assert_eq!(full.header("retry-after"), "1");
    let machine = json!({ "name": "ci", "kind": "KIND_MACHINE" });
    let made = stand.post("/v1/principals", &stand.admin, &machine).await;
    assert_eq!(made.status, 201, "{made:?}");
    // What they held is given back with them.
    drop(others);
    let large = format!("{{\"name\": \"{}\"}}", "a".repeat(MOST_BYTES - 1024));
    let is_read = async || {
        let request = stand.ask(Method::POST, "/v1/principals", &stand.admin);
        let request = request.header("content-type", "application/json");
        stand.send(request.body(large.clone())).await.status == 400
    };
    wait_until(SOON, "a large body to be read", is_read).await;
}
