//! Who calls: a token, and nothing else that a caller sends.

use std::time::Duration;

use bytes::Bytes;
use candlefish_proto::deploy::{
    Deployment, WatchDeploymentRequest, deployment_service_client::DeploymentServiceClient,
};
use candlefish_runtime::identity::{Caller, Kind, Role, Signer};
use candlefish_testkit::{OFFSET_CLOCK, poll_until};
use prost::Message;
use reqwest::Method;
use serde_json::json;
use sqlx::Executor;
use tonic::{Code, metadata::MetadataValue};

use crate::{
    keys,
    raw::{self, with_token},
    sse::Events,
    stand::{Answered, SOON, Stand},
};

const GET_SITE: &str = "/candlefish.deploy.v1.SiteService/GetSite";

#[tokio::test]
async fn without_a_token_that_works_nothing_answers() {
    let stand = Stand::start().await;
    let expired = json!({ "role": "ROLE_ADMIN", "expires_at": "2020-01-01T00:00:00Z" });
    let refused = {
        let machine = json!({ "name": "late", "kind": "KIND_MACHINE" });
        stand.post("/v1/principals", &stand.admin, &machine).await;
        let mut fields = expired;
        fields["principal"] = "late".into();
        fields["name"] = "test".into();
        stand.post("/v1/tokens", &stand.admin, &fields).await
    };
    // A token that is over before it begins cannot be made.
    refused.is_problem(400);
    assert_eq!(refused.fields(), ["expires_at"]);
    let made = stand
        .made_token("gone", json!({ "role": "ROLE_ADMIN" }))
        .await;
    let revoked = made["secret"].as_str().unwrap();
    assert_eq!(stand.get("/v1/sites", revoked).await.status, 200);
    let id = made["token"]["id"].as_str().unwrap();
    let path = format!("/v1/tokens/{id}:revoke");
    assert_eq!(
        stand.post(&path, &stand.admin, &json!({})).await.status,
        200
    );
    let mut other = stand.admin.clone();
    other.pop();
    let before = stand.backend.seen().len();
    for token in [
        "",
        "nonsense",
        "cft_x",
        &other,
        &format!("{}b", stand.admin),
        revoked,
    ] {
        let answer = stand.get("/v1/sites", token).await;
        answer.is_problem(401);
        assert!(
            answer.header("www-authenticate").starts_with("Bearer"),
            "{answer:?}"
        );
        let request = with_token(Bytes::new(), token);
        let status = raw::call(stand.channel(), GET_SITE, request)
            .await
            .unwrap_err();
        assert_eq!(status.code(), Code::Unauthenticated, "{token}");
    }
    let basic = stand
        .ask(Method::GET, "/v1/sites", "")
        .basic_auth("ada", Some(&stand.admin));
    stand.send(basic).await.is_problem(401);
    assert_eq!(stand.backend.seen().len(), before);
}

#[tokio::test]
async fn a_token_works_until_it_expires_by_the_database_s_clock() {
    // Remembered for no longer than it takes to ask again.
    let stand = Stand::start_with(&[("CANDLEFISH_REMEMBER_TOKENS_MS", "1")]).await;
    let pool = stand.database.pool();
    pool.execute(sqlx::raw_sql(OFFSET_CLOCK)).await.unwrap();
    let in_an_hour: String = sqlx::query_scalar(
        r#"SELECT to_char(clock() AT TIME ZONE 'UTC' + interval '1 hour', 'YYYY-MM-DD"T"HH24:MI:SS"Z"')"#,
    )
    .fetch_one(&pool)
    .await
    .unwrap();
    let fields = json!({ "role": "ROLE_VIEWER", "expires_at": in_an_hour });
    let made = stand.made_token("passing", fields).await;
    let secret = made["secret"].as_str().unwrap();
    stand.database.advance(Duration::from_mins(58)).await;
    assert_eq!(stand.get("/v1/sites", secret).await.status, 200);
    stand.database.advance(Duration::from_mins(3)).await;
    poll_until(SOON, "the token to be over", async || {
        let answer = stand.get("/v1/sites", secret).await;
        if answer.body["reason"] == "token-expired" {
            answer.is_problem(401);
            Ok(())
        } else {
            Err(answer)
        }
    })
    .await;
}

#[tokio::test]
async fn of_a_token_its_hash_alone_is_kept() {
    let stand = Stand::start().await;
    let machine = json!({ "name": "ci", "kind": "KIND_MACHINE" });
    let made = stand.post("/v1/principals", &stand.admin, &machine).await;
    assert_eq!(made.status, 201, "{made:?}");
    let fields = json!({ "principal": "ci", "name": "test", "role": "ROLE_VIEWER" });
    let request = stand.ask(Method::POST, "/v1/tokens", &stand.admin);
    // With a key: an answer is kept for the repeat.
    let request = request.header("idempotency-key", "one").json(&fields);
    let made = stand.send(request).await;
    assert_eq!(made.status, 201, "{made:?}");
    let secret = made.body["secret"].as_str().unwrap();
    let pool = stand.database.pool();
    let kept: i64 = sqlx::query_scalar(
        "SELECT count(*) FROM token WHERE hash = sha256(convert_to($1, 'UTF8'))",
    )
    .bind(secret)
    .fetch_one(&pool)
    .await
    .unwrap();
    assert_eq!(kept, 1);
    let rows: Vec<String> = sqlx::query_scalar(
        "SELECT t::text FROM token t UNION ALL SELECT p::text FROM principal p
         UNION ALL SELECT i::text FROM idempotency i UNION ALL SELECT o::text FROM outbox o",
    )
    .fetch_all(&pool)
    .await
    .unwrap();
    assert!(rows.len() >= 5, "{rows:?}");
    // As text, and as the hex digits of bytes.
    let bytes: Vec<String> = secret.bytes().map(|byte| format!("{byte:02x}")).collect();
    let bytes = bytes.concat();
    for row in rows {
        assert!(!row.contains(secret) && !row.contains(&bytes), "{row}");
    }
}

#[tokio::test]
async fn a_service_hears_who_calls_with_role_and_sites() {
    let stand = Stand::start().await;
    let token = stand
        .token("ci-docs", "ROLE_DEPLOYER", &["docs", "shop"])
        .await;
    stand.get("/v1/sites", &token).await;
    let caller = stand.backend.last().caller;
    assert_eq!(caller.principal, "ci-docs");
    assert_eq!((caller.kind, caller.role), (Kind::Machine, Role::Deployer));
    assert_eq!(caller.sites, ["docs", "shop"]);
    assert_eq!(caller.issuer, "gateway");
}

#[tokio::test]
async fn nothing_that_a_caller_says_about_itself_goes_through() {
    let stand = Stand::start().await;
    let token = stand.token("eve", "ROLE_VIEWER", &["docs"]).await;
    // Even signed with the very key of this gateway, what comes from outside is not passed on.
    let admin = Caller {
        principal: "root".to_owned(),
        kind: Kind::Person,
        role: Role::Admin,
        sites: Vec::new(),
        request_id: String::new(),
        issuer: "gateway".to_owned(),
    };
    let rogue = keys::generate(stand.keys.path(), "rogue");
    let own = stand.keys.path().join("gateway.pem");
    for key in [rogue, own] {
        let signer = Signer::from_pem_file("gateway", key).unwrap();
        let forged = signer.token("deploy-orchestrator", &admin).unwrap();
        let made_up = [
            ("candlefish-identity", forged.as_str()),
            ("candlefish-request-id", "req_mine"),
            ("candlefish-role", "admin"),
            ("x-forwarded-user", "root"),
        ];
        let mut request = stand.ask(Method::GET, "/v1/sites/docs", &token);
        let mut call = with_token(Bytes::new(), &token);
        for (name, value) in made_up {
            request = request.header(name, value);
            let value = MetadataValue::try_from(value).unwrap();
            call.metadata_mut().insert(name, value);
        }
        let answer = stand.send(request).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        let over_rest = stand.backend.last();
        raw::call(stand.channel(), GET_SITE, call).await.unwrap();
        for seen in [over_rest, stand.backend.last()] {
            assert_eq!(
                (seen.caller.principal.as_str(), seen.caller.role),
                ("eve", Role::Viewer)
            );
            assert_ne!(seen.caller.request_id, "req_mine");
            assert_ne!(seen.headers["candlefish-identity"], forged.as_str());
            for name in ["candlefish-role", "x-forwarded-user", "authorization"] {
                assert!(!seen.headers.contains_key(name), "{name}");
            }
        }
    }
}

#[tokio::test]
async fn what_belongs_to_the_call_goes_through() {
    let stand = Stand::start().await;
    let trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let request = stand
        .ask(Method::POST, "/v1/deployments", &stand.admin)
        .header("idempotency-key", "once")
        .header("traceparent", trace)
        .json(&json!({}));
    stand.send(request).await;
    let headers = stand.backend.last().headers;
    assert_eq!(headers["idempotency-key"], "once");
    let passed = headers["traceparent"].to_str().unwrap();
    assert!(
        passed.contains("4bf92f3577b34da6a3ce929d0e0e4736"),
        "{passed}"
    );
}

#[tokio::test]
async fn the_port_behind_refuses_whoever_is_not_the_gateway() {
    let stand = Stand::start().await;
    let tasks = candlefish_runtime::tasks::Tasks::new();
    let behind = stand.backend.serve(stand.keys.path(), &tasks).await;
    let channel = tonic::transport::Channel::from_shared(behind)
        .unwrap()
        .connect_lazy();
    let status = raw::call(
        channel.clone(),
        GET_SITE,
        with_token(Bytes::new(), &stand.admin),
    )
    .await;
    assert_eq!(status.unwrap_err().code(), Code::Unauthenticated);
    let mut forged = with_token(Bytes::new(), "");
    let rogue = keys::generate(stand.keys.path(), "rogue");
    let signer = Signer::from_pem_file("gateway", rogue).unwrap();
    let token = signer
        .token("deploy-orchestrator", &Caller::process("gateway"))
        .unwrap();
    forged
        .metadata_mut()
        .insert("candlefish-identity", token.parse().unwrap());
    let status = raw::call(channel, GET_SITE, forged).await.unwrap_err();
    assert_eq!(status.code(), Code::Unauthenticated);
    assert!(stand.backend.seen().is_empty());
}

/// Asks for one more token of the principal `lead`, an admin's.
async fn make(stand: &Stand, token: &str, sites: &[&str]) -> Answered {
    let fields = json!({
        "principal": "lead", "name": "made", "role": "ROLE_ADMIN", "sites": sites,
    });
    stand.post("/v1/tokens", token, &fields).await
}

/// The id of a token that was just made.
fn id_of(made: &Answered) -> &str {
    made.body["token"]["id"].as_str().unwrap()
}

async fn revoke(stand: &Stand, token: &str, id: &str) -> Answered {
    let path = format!("/v1/tokens/{id}:revoke");
    stand.post(&path, token, &json!({})).await
}

#[tokio::test]
async fn a_token_for_some_sites_makes_none_for_more() {
    let stand = Stand::start().await;
    let limited = stand.token("lead", "ROLE_ADMIN", &["docs", "blog"]).await;
    let table: [(&[&str], &[&str]); 3] = [
        (&[], &["sites"]),
        (&["docs", "shop"], &["sites[1]"]),
        (&["shop", "docs", "wiki"], &["sites[0]", "sites[2]"]),
    ];
    for (sites, fields) in table {
        let answer = make(&stand, &limited, sites).await;
        assert_eq!(answer.is_problem(403).body["reason"], "outside-sites");
        assert_eq!(answer.fields(), fields, "{sites:?}");
    }
    // Where the form is wrong too, all of it is named at once.
    let answer = make(&stand, &limited, &["shop", "docs", "*"]).await;
    answer.is_problem(400);
    assert_eq!(answer.fields(), ["sites[2]", "sites[0]"]);
    let principal = json!({ "name": "friend", "kind": "KIND_MACHINE" });
    let answer = stand.post("/v1/principals", &limited, &principal).await;
    assert_eq!(answer.is_problem(403).body["reason"], "outside-sites");
    assert_eq!(stand.get("/v1/principals", &limited).await.status, 200);

    let made = make(&stand, &limited, &["docs"]).await;
    assert_eq!(made.status, 201, "{made:?}");
    let narrow = made.body["secret"].as_str().unwrap();
    let answer = make(&stand, narrow, &["docs", "blog"]).await;
    assert_eq!(answer.is_problem(403).fields(), ["sites[1]"]);
    assert_eq!(make(&stand, narrow, &["docs"]).await.status, 201);
}

#[tokio::test]
async fn a_token_for_some_sites_knows_and_ends_none_that_reaches_further() {
    let stand = Stand::start().await;
    let limited = stand.token("lead", "ROLE_ADMIN", &["docs", "blog"]).await;
    let all = make(&stand, &stand.admin, &[]).await;
    let wider = make(&stand, &stand.admin, &["docs", "shop"]).await;
    let within = make(&stand, &stand.admin, &["blog"]).await;
    for path in ["/v1/tokens", "/v1/tokens?principal=lead"] {
        let listed = stand.get(path, &limited).await;
        let tokens = listed.body["tokens"].as_array().unwrap();
        let shown: Vec<_> = tokens.iter().map(|token| &token["sites"]).collect();
        assert_eq!(
            shown,
            [&json!(["blog"]), &json!(["docs", "blog"])],
            "{path}"
        );
    }
    for kept in [&all, &wider] {
        let answer = revoke(&stand, &limited, id_of(kept)).await;
        assert_eq!(answer.is_problem(404).body["reason"], "token-not-found");
        assert_eq!(answer.fields(), ["id"]);
        let secret = kept.body["secret"].as_str().unwrap();
        assert_eq!(stand.get("/v1/whoami", secret).await.status, 200);
    }
    let ended = revoke(&stand, &limited, id_of(&within)).await;
    assert_eq!(ended.status, 200, "{ended:?}");
    let secret = within.body["secret"].as_str().unwrap();
    stand.get("/v1/whoami", secret).await.is_problem(401);
}

/// Keys are a principal's, whichever of its tokens it calls with.
#[tokio::test]
async fn a_repeat_with_a_narrower_token_is_told_nothing_of_a_wider_one() {
    let stand = Stand::start().await;
    let limited = stand.token("lead", "ROLE_ADMIN", &["docs"]).await;
    let all = make(&stand, &stand.admin, &[]).await;
    let wider = make(&stand, &stand.admin, &["docs", "shop"]).await;
    let path = format!("/v1/tokens/{}:revoke", id_of(&wider));
    let secret = all.body["secret"].as_str().unwrap();
    for (token, status) in [(secret, 200), (secret, 200), (limited.as_str(), 404)] {
        let request = stand.ask(Method::POST, &path, token);
        let request = request.header("idempotency-key", "once").json(&json!({}));
        assert_eq!(stand.send(request).await.status, status);
    }
}

#[tokio::test]
async fn streams_end_soon_after_their_token() {
    let stand = Stand::start_with(&[("CANDLEFISH_REMEMBER_TOKENS_MS", "50")]).await;
    let made = stand
        .made_token("gone", json!({ "role": "ROLE_ADMIN" }))
        .await;
    let secret = made["secret"].as_str().unwrap();
    // One of a service behind the gateway, by gRPC; one of its own, by REST.
    let feed = stand
        .backend
        .will_stream("DeploymentService/WatchDeployment");
    let first = Deployment::default().encode_to_vec();
    feed.send(Ok(first)).await.unwrap();
    let mut client = DeploymentServiceClient::new(stand.channel());
    let request = with_token(WatchDeploymentRequest::default(), secret);
    let mut stream = client.watch_deployment(request).await.unwrap().into_inner();
    stream.message().await.unwrap().unwrap();
    let mut events = Events::open(&stand, "/v1/events", secret, "").await;
    let revoked = revoke(&stand, &stand.admin, made["token"]["id"].as_str().unwrap()).await;
    assert_eq!(revoked.status, 200, "{revoked:?}");
    let end = tokio::time::timeout(SOON, stream.message()).await.unwrap();
    assert_eq!(end.unwrap_err().code(), Code::Unauthenticated);
    let end = events.next().await.unwrap();
    assert_eq!(end.name, "problem");
    assert_eq!(end.data["reason"], "token-revoked");
    assert_eq!(events.next().await, None);
    // Until here the service behind would have gone on.
    drop(feed);
}
