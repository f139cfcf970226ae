//! Who may call: every method of the internal port, over the real listener.

use std::collections::BTreeSet;

use candlefish_runtime::{
    identity::{Caller, IDENTITY, Kind, Role},
    listen::{JUDGED, REHEARSED},
};
use http_body_util::{BodyExt as _, Full};
use prost::Message as _;
use tonic::{client::GrpcService as _, transport::Channel};

use crate::{keys::Keys, sandbox::Sandbox};

/// Every method that `proto/` gives to this process.
fn methods() -> BTreeSet<String> {
    let set = prost_types::FileDescriptorSet::decode(candlefish_proto::DESCRIPTORS).unwrap();
    let mut methods = BTreeSet::new();
    for file in &set.file {
        for service in &file.service {
            let name = format!("{}.{}", file.package(), service.name());
            // The gateway's own.
            let own = [".access.", ".delivery."];
            if own.iter().any(|one| file.package().contains(one)) || name.ends_with(".EventService")
            {
                continue;
            }
            for method in &service.method {
                methods.insert(format!("/{name}/{}", method.name()));
            }
        }
    }
    methods
}

/// Calls with an empty message; answers the code and the words.
async fn call(channel: &Channel, method: &str, token: Option<&str>) -> (String, String) {
    // An empty message: one byte "not compressed" and four of length.
    let body = Full::new(bytes::Bytes::from_static(&[0; 5]));
    let body = tonic::body::Body::new(body.map_err(|never| match never {}));
    let mut request = http::Request::post(format!("http://orchestrator{method}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers");
    if let Some(token) = token {
        request = request.header(IDENTITY, token);
    }
    let mut channel = channel.clone();
    std::future::poll_fn(|context| channel.poll_ready(context))
        .await
        .unwrap();
    let answer = channel.call(request.body(body).unwrap()).await.unwrap();
    let (head, body) = answer.into_parts();
    let mut headers = head.headers;
    if !headers.contains_key("grpc-status") {
        let collected = body.collect().await.unwrap();
        headers.extend(collected.trailers().cloned().unwrap_or_default());
    }
    let word = |name: &str| {
        let value = headers.get(name).map(|value| value.to_str().unwrap());
        value.unwrap_or_default().to_owned()
    };
    (
        word("grpc-status"),
        word("grpc-message").replace("%20", " "),
    )
}

const UNAUTHENTICATED: &str = "16";
const PERMISSION_DENIED: &str = "7";

fn person() -> Caller {
    Caller {
        principal: "erin".to_owned(),
        kind: Kind::Person,
        role: Role::Admin,
        sites: Vec::new(),
        request_id: String::new(),
        issuer: String::new(),
    }
}

/// A token as the gateway would sign it, of a moment of its own.
fn token_of(keys: &Keys, audience: &str, issued_ago: u64, lives: u64) -> String {
    let now = jsonwebtoken::get_current_timestamp() - issued_ago;
    let claims = serde_json::json!({
        "iss": "gateway", "aud": audience, "sub": "erin", "iat": now, "nbf": now,
        "exp": now + lives, "jti": "one", "kind": "person", "role": "admin", "sites": [],
    });
    let pem = std::fs::read(keys.private("gateway")).unwrap();
    let key = jsonwebtoken::EncodingKey::from_ed_pem(&pem).unwrap();
    let head = jsonwebtoken::Header::new(jsonwebtoken::Algorithm::EdDSA);
    jsonwebtoken::encode(&head, &claims, &key).unwrap()
}

#[tokio::test]
async fn every_method_refuses_who_does_not_prove_itself() {
    let sandbox = Sandbox::new().await;
    let orchestrator = sandbox.start().await;
    let channel = Channel::from_shared(format!("http://{}", orchestrator.running.address))
        .unwrap()
        .connect_lazy();
    let strangers = Keys::of(&["gateway", "health-monitor"]);
    let us = "deploy-orchestrator";
    let forged = strangers.signer("gateway").token(us, &person()).unwrap();
    let unknown = strangers
        .signer("health-monitor")
        .token(us, &person())
        .unwrap();
    let true_one = sandbox.keys.signer("gateway").token(us, &person()).unwrap();
    let misaddressed = sandbox
        .keys
        .signer("gateway")
        .token("alert-evaluator", &person());
    let misaddressed = misaddressed.unwrap();
    let expired = token_of(&sandbox.keys, us, 60, 30);
    let early = token_of(&sandbox.keys, us, 0, 30);
    let methods = methods();
    assert!(methods.len() > 25, "{methods:?}");
    for method in &methods {
        for (token, words) in [
            (None, "carries no identity"),
            (Some(""), "not signed by a process that is known"),
            (Some("nonsense"), "not signed by a process that is known"),
            (Some(&*forged), "not signed by a process that is known"),
            (Some(&*unknown), "not signed by a process that is known"),
            (
                Some(&true_one[..true_one.len() - 4]),
                "not signed by a process that is known",
            ),
            (Some(&*misaddressed), "meant for another process"),
            (Some(&*expired), "expired"),
        ] {
            let (code, said) = call(&channel, method, token).await;
            assert_eq!(code, UNAUTHENTICATED, "{method} {token:?}: {said}");
            assert!(said.contains(words), "{method} {token:?}: {said}");
        }
    }
    // The same call with a true token is let in: what was refused above was the token.
    let get = "/candlefish.deploy.v1.EdgeService/ListEdges";
    assert_eq!(call(&channel, get, Some(&early)).await.0, "0");
}

#[tokio::test]
async fn a_process_does_its_own_part_alone() {
    let sandbox = Sandbox::new().await;
    let orchestrator = sandbox.start().await;
    let channel = Channel::from_shared(format!("http://{}", orchestrator.running.address))
        .unwrap()
        .connect_lazy();
    let us = "deploy-orchestrator";
    let gateway = sandbox.keys.signer("gateway").token(us, &person()).unwrap();
    let edge = sandbox
        .keys
        .signer("edge")
        .token(us, &Caller::process("edge"))
        .unwrap();
    let watch_routes = "/candlefish.deploy.v1.EdgeService/WatchRoutes";
    for method in methods() {
        let (theirs, others) = if method == watch_routes {
            (&edge, &gateway)
        } else {
            (&gateway, &edge)
        };
        let (code, said) = call(&channel, &method, Some(others)).await;
        assert_eq!(code, PERMISSION_DENIED, "{method}: {said}");
        assert!(said.contains("may not call"), "{method}: {said}");
        let (code, said) = call(&channel, &method, Some(theirs)).await;
        assert!(
            code != PERMISSION_DENIED && code != UNAUTHENTICATED,
            "{method}: {said}"
        );
    }
}

#[tokio::test]
async fn what_is_only_judged_or_rehearsed_is_for_the_gateway_alone() {
    /// In seconds; longer than the test runs.
    const LONG: u64 = 3_600;

    let sandbox = Sandbox::new().await;
    let orchestrator = sandbox.start().await;
    let channel = Channel::from_shared(format!("http://{}", orchestrator.running.address))
        .unwrap()
        .connect_lazy();
    let us = "deploy-orchestrator";
    let strangers = Keys::of(&["gateway"]);
    let forged = token_of(&strangers, us, 0, LONG);
    let misaddressed = token_of(&sandbox.keys, "alert-evaluator", 0, LONG);
    let expired = token_of(&sandbox.keys, us, 60, 30);
    let edge = sandbox
        .keys
        .signer("edge")
        .token(us, &Caller::process("edge"))
        .unwrap();
    let gateway = token_of(&sandbox.keys, us, 0, LONG);
    let unknown = "not signed by a process that is known";
    let watch_routes = "/candlefish.deploy.v1.EdgeService/WatchRoutes";
    // Whoever reads the feed reads the real one.
    let methods = methods().into_iter();
    let methods: Vec<String> = methods.filter(|one| !one.contains("FeedService")).collect();
    assert!(methods.len() > 25, "{methods:?}");
    for root in [JUDGED, REHEARSED] {
        for method in &methods {
            let path = format!("{root}{method}");
            for (token, words) in [
                (None, "carries no identity"),
                (Some("nonsense"), unknown),
                (Some(&*forged), unknown),
                (Some(&*edge), unknown),
                (Some(&*misaddressed), "meant for another process"),
                (Some(&*expired), "expired"),
            ] {
                let (code, said) = call(&channel, &path, token).await;
                assert_eq!(code, UNAUTHENTICATED, "{path} {token:?}: {said}");
                assert!(said.contains(words), "{path} {token:?}: {said}");
            }
            let (code, said) = call(&channel, &path, Some(&gateway)).await;
            if method == watch_routes {
                assert_eq!(code, PERMISSION_DENIED, "{path}: {said}");
            } else {
                let is_in = code != PERMISSION_DENIED && code != UNAUTHENTICATED;
                assert!(is_in, "{path}: {said}");
            }
        }
    }
}
