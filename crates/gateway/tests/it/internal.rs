//! The port for our own processes: the deploy-orchestrator reads deliveries and events there, and
//! nobody else does.

use std::path::Path;

use bytes::Bytes;
use candlefish_proto::{
    delivery::{
        FetchDeliveryRequest, ListDeliveriesRequest, delivery_service_client::DeliveryServiceClient,
    },
    event::{HeadRequest, ReplayRequest, feed_service_client::FeedServiceClient},
};
use candlefish_runtime::{
    config::Env,
    identity::{Caller, IDENTITY, Signer},
};
use candlefish_testkit::{github, poll_until};
use prost_reflect::DescriptorPool;
use reqwest::Method;
use tonic::{Code, Request, Status, transport::Channel};
use tonic_types::StatusExt as _;

use crate::{
    keys,
    raw::{self, with_token},
    stand::{SOON, Stand},
};

const SECRET: &str = "It's a Secret to Everybody";
const ORCHESTRATOR: &str = "deploy-orchestrator";
const MOST_BYTES: usize = 25 * 1024 * 1024;
/// Longer than the test runs on any machine, in seconds.
const LONG: u64 = 3_600;

async fn start() -> Stand {
    Stand::start_with(&[("CANDLEFISH_GITHUB_WEBHOOK_SECRET", SECRET)]).await
}

fn channel(stand: &Stand) -> Channel {
    let endpoint = Channel::from_shared(stand.internal.clone()).unwrap();
    endpoint.connect_lazy()
}

pub(crate) fn client(stand: &Stand) -> DeliveryServiceClient<Channel> {
    DeliveryServiceClient::new(channel(stand)).max_decoding_message_size(2 * MOST_BYTES)
}

pub(crate) fn asked<T>(stand: &Stand, message: T) -> Request<T> {
    let token = identity(stand.keys.path(), ORCHESTRATOR);
    let mut request = Request::new(message);
    let metadata = request.metadata_mut();
    metadata.insert(IDENTITY, token.parse().unwrap());
    request
}

/// Delivers a body; answers its id.
async fn deliver(stand: &Stand, id: &str, body: Vec<u8>) -> String {
    let request = stand
        .ask(Method::POST, "/v1/webhooks/github", "")
        .header("content-type", "application/json")
        .header("X-GitHub-Event", "push")
        .header("X-GitHub-Delivery", id)
        .header("X-Hub-Signature-256", github::sign(SECRET, &body))
        .body(body);
    let answer = stand.send(request).await;
    assert_eq!(answer.status, 202, "{answer:?}");
    answer.body["delivery_id"].as_str().unwrap().to_owned()
}

fn fetch(id: &str) -> FetchDeliveryRequest {
    FetchDeliveryRequest { id: id.to_owned() }
}

#[tokio::test]
async fn a_delivery_is_fetched_byte_for_byte() {
    let stand = start().await;
    let bodies = [
        github::push().body.to_string().into_bytes(),
        b"\xff{ no JSON".to_vec(),
        vec![b' '; MOST_BYTES],
    ];
    for (turn, body) in bodies.into_iter().enumerate() {
        let id = deliver(&stand, &format!("guid-{turn}"), body.clone()).await;
        let answer = client(&stand)
            .fetch_delivery(asked(&stand, fetch(&id)))
            .await
            .unwrap()
            .into_inner();
        assert!(answer.body == body, "the body of {id} is another");
        let delivery = answer.delivery.unwrap();
        assert_eq!(delivery.id, id);
        assert_eq!(delivery.source_id, format!("guid-{turn}"));
        assert_eq!(
            (delivery.source.as_str(), delivery.event.as_str()),
            ("github", "push")
        );
        assert_eq!(usize::try_from(delivery.size).unwrap(), body.len());
        assert!(delivery.received_at.is_some());
    }
    let nobody = fetch("dlv_00000000000000000000000000");
    let refused = client(&stand).fetch_delivery(asked(&stand, nobody)).await;
    assert_eq!(refused.unwrap_err().code(), Code::NotFound);
    let nonsense = asked(&stand, fetch("guid-1"));
    let refused = client(&stand).fetch_delivery(nonsense).await;
    assert_eq!(refused.unwrap_err().code(), Code::InvalidArgument);
}

/// The fields that a refusal names, of a call that is the caller's fault.
fn named<T: std::fmt::Debug>(answer: Result<T, Status>, code: Code) -> Vec<String> {
    let refused = answer.unwrap_err();
    assert_eq!(refused.code(), code, "{refused:?}");
    let details = refused.get_details_bad_request().unwrap();
    let violations = details.field_violations.into_iter();
    violations.map(|one| one.field).collect()
}

#[tokio::test]
async fn what_no_field_takes_is_refused_by_the_fields_name_and_moves_nothing() {
    let stand = start().await;
    let mut feed = FeedServiceClient::new(channel(&stand));
    let before = feed.head(asked(&stand, HeadRequest {})).await.unwrap();
    let before = before.into_inner();
    let replay = |epoch: i32, from_seq: i64, limit: i32| ReplayRequest {
        epoch,
        from_seq,
        limit,
    };
    let made_up = feed.replay(asked(&stand, replay(i32::MAX, 1, 1))).await;
    assert_eq!(named(made_up, Code::InvalidArgument), ["epoch"]);
    // Of an epoch before there is nothing, and as many as there are of so many.
    for (epoch, from_seq, limit) in [
        (i32::MIN, 1, 1),
        (-1, i64::MIN, i32::MIN),
        (0, i64::MAX, i32::MAX),
        (before.epoch, i64::MIN, i32::MAX),
    ] {
        let replayed = feed.replay(asked(&stand, replay(epoch, from_seq, limit)));
        let replayed = replayed.await.unwrap().into_inner();
        assert_eq!(replayed.epoch, before.epoch, "{epoch} {from_seq} {limit}");
    }
    let long = "d".repeat(100_000);
    for id in [
        "",
        "guid-1",
        "dlv_",
        "rel_00000000000000000000000000",
        &long,
    ] {
        let refused = client(&stand)
            .fetch_delivery(asked(&stand, fetch(id)))
            .await;
        assert_eq!(named(refused, Code::InvalidArgument), ["id"]);
        if id.is_empty() {
            continue;
        }
        let page = ListDeliveriesRequest {
            after_id: id.to_owned(),
            limit: 2,
        };
        let refused = client(&stand).list_deliveries(asked(&stand, page)).await;
        assert_eq!(named(refused, Code::InvalidArgument), ["after_id"]);
    }
    let nobody = fetch("dlv_00000000000000000000000000");
    let refused = client(&stand).fetch_delivery(asked(&stand, nobody)).await;
    assert_eq!(named(refused, Code::NotFound), ["id"]);
    for limit in [i32::MIN, -1, i32::MAX] {
        let page = ListDeliveriesRequest {
            after_id: String::new(),
            limit,
        };
        let page = client(&stand).list_deliveries(asked(&stand, page)).await;
        assert!(page.unwrap().into_inner().deliveries.is_empty());
    }
    let after = feed.head(asked(&stand, HeadRequest {})).await.unwrap();
    assert_eq!(after.into_inner().epoch, before.epoch);
}

#[tokio::test]
async fn a_delivery_tells_the_trace_of_the_call_that_brought_it() {
    let stand = start().await;
    let id = deliver(&stand, "guid", b"{}".to_vec()).await;
    let call = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    // A process of its own has spans; here there are none.
    let kept = sqlx::query("UPDATE delivery SET traceparent = $1").bind(call);
    kept.execute(&stand.database.pool()).await.unwrap();
    let mut client = client(&stand);
    let fetched = client.fetch_delivery(asked(&stand, fetch(&id))).await;
    let fetched = fetched.unwrap().into_inner().delivery.unwrap();
    let page = asked(&stand, ListDeliveriesRequest::default());
    let listed = client.list_deliveries(page).await.unwrap().into_inner();
    for told in [&fetched, &listed.deliveries[0]] {
        assert_eq!((&told.id, told.traceparent.as_str()), (&id, call));
    }
}

#[tokio::test]
async fn deliveries_are_listed_without_bodies_page_by_page() {
    let stand = start().await;
    let mut expected = Vec::new();
    for turn in 0..5 {
        let body = format!("{{\"turn\":{turn}}}").into_bytes();
        expected.push(deliver(&stand, &format!("guid-{turn}"), body).await);
    }
    let mut found = Vec::new();
    loop {
        let page = ListDeliveriesRequest {
            after_id: found.last().cloned().unwrap_or_default(),
            limit: 2,
        };
        let page = client(&stand).list_deliveries(asked(&stand, page)).await;
        let page = page.unwrap().into_inner().deliveries;
        if page.is_empty() {
            break;
        }
        assert!(page.len() <= 2);
        found.extend(page.into_iter().map(|one| one.id));
    }
    assert_eq!(found, expected);
}

#[tokio::test]
async fn the_feed_tells_every_delivery_in_order() {
    let stand = start().await;
    let mut expected = Vec::new();
    for turn in 0..3 {
        let body = format!("{{\"turn\":{turn}}}").into_bytes();
        expected.push(deliver(&stand, &format!("guid-{turn}"), body).await);
    }
    let mut feed = FeedServiceClient::new(channel(&stand));
    let replay = poll_until(SOON, "three stamped events", async || {
        let head = feed.head(asked(&stand, HeadRequest {})).await.unwrap();
        let head = head.into_inner();
        assert_eq!(head.source, "gateway");
        if head.seq < 3 {
            return Err(head.seq);
        }
        let from = ReplayRequest {
            epoch: head.epoch,
            from_seq: 1,
            limit: 10,
        };
        Ok(feed.replay(asked(&stand, from)).await.unwrap().into_inner())
    })
    .await;
    let told: Vec<_> = replay.events.iter().map(|one| one.entity.clone()).collect();
    assert_eq!(told, expected);
    let kinds = replay.events.iter().map(|one| one.r#type.as_str());
    assert!(kinds.eq(["gateway.delivery.received.v1"; 3]));
}

/// Every method of the port, by the descriptors.
fn methods() -> Vec<String> {
    let pool = DescriptorPool::decode(candlefish_proto::DESCRIPTORS).unwrap();
    let mut methods = Vec::new();
    for service in pool.services() {
        let name = service.full_name();
        if name.starts_with("candlefish.delivery.") || name.ends_with(".FeedService") {
            methods.extend(
                service
                    .methods()
                    .map(|one| format!("/{name}/{}", one.name())),
            );
        }
    }
    assert!(methods.len() >= 4, "{methods:?}");
    methods
}

/// A token as the orchestrator would sign it, of a moment of its own: issued so many seconds ago, for
/// so many from then on.
fn token_of(stand: &Stand, audience: &str, issued_ago: u64, lives: u64) -> String {
    let now = jsonwebtoken::get_current_timestamp() - issued_ago;
    let claims = serde_json::json!({
        "iss": ORCHESTRATOR, "aud": audience, "sub": ORCHESTRATOR, "iat": now, "nbf": now,
        "exp": now + lives, "jti": "one", "kind": "process", "role": "", "sites": [],
    });
    let pem = stand.keys.path().join(format!("{ORCHESTRATOR}.pem"));
    let pem = std::fs::read(pem).unwrap();
    let key = jsonwebtoken::EncodingKey::from_ed_pem(&pem).unwrap();
    let head = jsonwebtoken::Header::new(jsonwebtoken::Algorithm::EdDSA);
    jsonwebtoken::encode(&head, &claims, &key).unwrap()
}

/// An empty message with an identity, when there is one.
fn identified(token: Option<&str>) -> Request<Bytes> {
    let mut request = Request::new(Bytes::new());
    if let Some(token) = token {
        let token = token.parse().unwrap();
        request.metadata_mut().insert(IDENTITY, token);
    }
    request
}

/// The identity that an issuer's key of this directory signs, for half a minute from now on.
fn identity(keys: &Path, issuer: &str) -> String {
    let signer = Signer::from_pem_file(issuer, keys.join(format!("{issuer}.pem"))).unwrap();
    signer.token("gateway", &Caller::process(issuer)).unwrap()
}

#[tokio::test]
async fn every_method_refuses_whoever_is_not_the_orchestrator() {
    let stand = start().await;
    let (ours, elsewhere) = (stand.keys.path(), tempfile::tempdir().unwrap());
    keys::generate(elsewhere.path(), ORCHESTRATOR);
    keys::generate(ours, "edge");
    let forged = identity(elsewhere.path(), ORCHESTRATOR);
    let (edge, itself) = (identity(ours, "edge"), identity(ours, "gateway"));
    let expired = token_of(&stand, "gateway", 60, 30);
    // Whether these are in time is not what is asked: an identity of half a minute could end meanwhile.
    let misaddressed = token_of(&stand, "health-monitor", 0, LONG);
    let genuine = token_of(&stand, "gateway", 0, LONG);
    let unknown = "not signed by a process that is known";
    let attempts = [
        (identified(None), "carries no identity"),
        (
            with_token(Bytes::new(), &stand.admin),
            "carries no identity",
        ),
        (identified(Some("")), unknown),
        (identified(Some("nonsense")), unknown),
        (identified(Some(&forged)), unknown),
        (identified(Some(&genuine[..genuine.len() - 4])), unknown),
        (identified(Some(&edge)), unknown),
        (identified(Some(&itself)), unknown),
        (identified(Some(&misaddressed)), "meant for another process"),
        (identified(Some(&expired)), "expired"),
    ];
    for method in methods() {
        for (request, words) in &attempts {
            let mut again = Request::new(Bytes::new());
            *again.metadata_mut() = request.metadata().clone();
            let refused = raw::call(channel(&stand), &method, again).await;
            let refused = refused.expect_err(&method);
            assert_eq!(refused.code(), Code::Unauthenticated, "{method}: {refused}");
            let said = refused.message();
            assert!(said.contains(words), "{method} {words}: {said}");
        }
        // The same call with a true token is let in: what was refused above was the token.
        let open = raw::call(channel(&stand), &method, identified(Some(&genuine))).await;
        let code = open.map_or_else(|status| status.code(), |_message| Code::Ok);
        let closed = [
            Code::Unauthenticated,
            Code::PermissionDenied,
            Code::Unimplemented,
        ];
        assert!(!closed.contains(&code), "{method}: {code:?}");
        // On the port that anyone may call it is not there, whoever asks.
        let outside = raw::call(stand.channel(), &method, identified(Some(&genuine))).await;
        let outside = outside.expect_err(&method);
        assert_eq!(outside.code(), Code::Unimplemented, "{method}: {outside}");
    }
}

#[tokio::test]
async fn a_secret_without_a_port_for_the_orchestrators_is_a_fault() {
    let needed = [
        ("CANDLEFISH_LISTEN", "127.0.0.1:1"),
        ("CANDLEFISH_OPS_LISTEN", "127.0.0.1:2"),
        ("CANDLEFISH_DATABASE_URL", "postgres://nowhere"),
        ("CANDLEFISH_NATS_URL", "nats://nowhere"),
        ("CANDLEFISH_IDENTITY_KEY", "/nowhere"),
        ("CANDLEFISH_ORCHESTRATOR_URL", "http://127.0.0.1:3"),
    ];
    let internal = ("CANDLEFISH_INTERNAL_LISTEN", "127.0.0.1:4");
    let trusted = ("CANDLEFISH_TRUSTED_KEYS", "/nowhere");
    let secret = ("CANDLEFISH_GITHUB_WEBHOOK_SECRET", SECRET);
    let previous = ("CANDLEFISH_GITHUB_WEBHOOK_SECRET_PREVIOUS", SECRET);
    let read = |more: &[(&str, &str)]| {
        let pairs = needed.iter().chain(more);
        let pairs = pairs.map(|(name, value)| (*name, (*value).to_owned()));
        let faults = gateway::Config::read(Env::from_pairs(pairs)).map(|config| config.describe());
        faults.map_err(|error| error.to_string())
    };
    let words = read(&[internal, trusted, secret, previous]).unwrap();
    assert!(words.contains("internal_listen 127.0.0.1:4"), "{words}");
    assert!(!words.contains(SECRET), "{words}");
    assert!(read(&[]).unwrap().contains("internal_listen none"));
    let faulty: [(&[_], _); 5] = [
        (&[secret], "CANDLEFISH_INTERNAL_LISTEN"),
        (&[internal], "CANDLEFISH_TRUSTED_KEYS"),
        (&[trusted], "CANDLEFISH_INTERNAL_LISTEN"),
        (&[previous], "CANDLEFISH_GITHUB_WEBHOOK_SECRET_PREVIOUS"),
        (
            &[
                internal,
                trusted,
                ("CANDLEFISH_GITHUB_WEBHOOK_SECRET", "short"),
            ],
            "CANDLEFISH_GITHUB_WEBHOOK_SECRET",
        ),
    ];
    for (more, named) in faulty {
        let words = read(more).unwrap_err();
        assert!(words.contains(named), "{more:?}: {words}");
    }
}
