//! What an edge tells: who it is, and its traffic.

use candlefish_proto::deploy::{Route, TrafficCounters, TrafficSample};
use candlefish_runtime::listen::MAX_MESSAGE_BYTES;
use candlefish_testkit::{nats_url, poll_until, wait_until};
use futures_util::StreamExt as _;
use prost::Message as _;

use crate::{
    orchestrator::Orchestrator,
    sandbox::{HOST, SOON, Sandbox, route},
};

fn generate(folder: &std::path::Path) {
    use aws_lc_rs::{
        rand::SystemRandom,
        signature::{Ed25519KeyPair, KeyPair as _},
    };
    use base64::{Engine as _, engine::general_purpose::STANDARD};

    let document = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
    let pair = Ed25519KeyPair::from_pkcs8(document.as_ref()).unwrap();
    // SubjectPublicKeyInfo of Ed25519: a fixed head and the 32 bytes.
    let mut public = b"\x30\x2a\x30\x05\x06\x03\x2b\x65\x70\x03\x21\x00".to_vec();
    public.extend_from_slice(pair.public_key().as_ref());
    for (name, kind, bytes) in [
        ("edge.pem", "PRIVATE KEY", document.as_ref()),
        ("edge.pub.pem", "PUBLIC KEY", &public),
    ] {
        let text = STANDARD.encode(bytes);
        let pem = format!("-----BEGIN {kind}-----\n{text}\n-----END {kind}-----\n");
        std::fs::write(folder.join(name), pem).unwrap();
    }
}

#[tokio::test]
async fn an_edge_proves_who_it_is() {
    let mut sandbox = Sandbox::new().await;
    let keys = tempfile::tempdir().unwrap();
    generate(keys.path());
    let strict = Orchestrator::start(Some(keys.path())).await;
    sandbox
        .settings
        .push(("CANDLEFISH_ORCHESTRATOR_URL", strict.url()));
    let stranger = sandbox.edge("stranger").await;
    let key = keys.path().join("edge.pem").display().to_string();
    sandbox.settings.push(("CANDLEFISH_IDENTITY_KEY", key));
    let edge = sandbox.edge("edge-1").await;
    wait_until(SOON, "the edge to be heard", async || {
        strict.heard("edge-1").messages > 0
    })
    .await;
    wait_until(SOON, "the edge to be ready", async || {
        edge.readiness.waiting().is_empty()
    })
    .await;
    assert_eq!(strict.heard("stranger").messages, 0);
    assert!(!stranger.readiness.waiting().is_empty());
}

#[tokio::test]
async fn an_edge_that_holds_more_than_a_message_takes_tells_all_of_it() {
    let sandbox = Sandbox::new().await;
    let edge = sandbox.edge("edge-1").await;
    // Names as long as they may be: fewer of them do.
    let count = MAX_MESSAGE_BYTES / 250 + 1;
    let gone = (0..count).map(|number| Route {
        host: format!("{number:0>250}"),
        epoch: 1,
        version: 1,
        ..Route::default()
    });
    sandbox.orchestrator.send(gone);
    wait_until(SOON, "all routes to be held", async || {
        sandbox.heard(&edge).held.len() == count
    })
    .await;
    let before = sandbox.heard(&edge).streams;
    edge.kill().await;
    let again = sandbox.edge("edge-1").await;
    wait_until(SOON, "all to be told on a new stream", async || {
        let heard = sandbox.heard(&again);
        heard.streams > before && heard.held.len() == count
    })
    .await;
}

#[tokio::test]
async fn traffic_is_told_by_release_and_outcome() {
    let nats = async_nats::connect(nats_url()).await.unwrap();
    let mut samples = nats.subscribe("telemetry.edge.traffic").await.unwrap();
    let mut sandbox = Sandbox::new().await;
    sandbox.settings.push(("CANDLEFISH_NATS_URL", nats_url()));
    let id = format!("edge-traffic-{}", std::process::id());
    let edge = sandbox.edge(&id).await;
    let old = sandbox
        .release(&[("index.html", "old"), ("only-old.html", "x")])
        .await;
    let new = sandbox.release(&[("index.html", "new")]).await;
    sandbox
        .apply(&edge, route(1, &[(&old, 1), (&new, 99)]))
        .await;
    let visitor = edge.visitor(HOST);
    let mut answer = visitor.get("/").await;
    let mut olds = 0;
    while answer.text() == "old" {
        olds += 1;
        answer = visitor.get("/").await;
    }
    let cookie = answer.cookie().unwrap();
    let with = [("cookie", cookie.as_str())];
    for _ in 0..2 {
        assert_eq!(visitor.get_with("/only-old", &with).await.status, 404);
    }
    assert_eq!(visitor.get_with("/nowhere", &with).await.status, 404);
    assert_eq!(visitor.get_with("/%zz", &with).await.status, 400);
    let probe = [with[0], ("candlefish-probe", "1")];
    assert_eq!(visitor.get_with("/", &probe).await.status, 200);
    let mut last = (String::new(), 0);
    let counters: TrafficCounters = poll_until(SOON, "the counters", async || {
        let message = samples.next().await.unwrap();
        let sample = TrafficSample::decode(message.payload).unwrap();
        if sample.edge != id {
            return Err(TrafficCounters::default());
        }
        assert!(last.0.is_empty() || last.0 == sample.boot && last.1 < sample.seq);
        last = (sample.boot.clone(), sample.seq);
        let of = |release: &str| {
            let found = sample.counters.iter().find(|c| c.release_id == release);
            found.cloned().unwrap_or_default()
        };
        if of(&new.id).requests == 5 && of(&old.id).requests == olds {
            Ok(of(&new.id))
        } else {
            Err(of(&new.id))
        }
    })
    .await;
    assert_eq!(counters.host, HOST);
    assert_eq!(
        (
            counters.lost_paths,
            counters.client_errors,
            counters.server_errors
        ),
        (2, 2, 0)
    );
    assert_eq!(counters.latency.iter().sum::<i64>(), 5);
    assert_eq!(counters.latency.len(), 11);
}

#[tokio::test]
async fn an_edge_serves_without_nats() {
    let mut sandbox = Sandbox::new().await;
    sandbox
        .settings
        .push(("CANDLEFISH_NATS_URL", "nats://127.0.0.1:9".to_owned()));
    let edge = sandbox.edge("edge-1").await;
    let release = sandbox.release(&[("index.html", "home")]).await;
    sandbox.apply(&edge, route(1, &[(&release, 100)])).await;
    assert_eq!(edge.visitor(HOST).get("/").await.text(), "home");
}
