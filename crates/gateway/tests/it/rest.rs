//! REST: JSON to calls and back, and what goes wrong as problems.

use candlefish_proto::deploy::{
    CreateDeploymentRequest, Deployment, ListDeploymentsRequest, ListSitesResponse, Rollback, Site,
    deployment::State,
};
use candlefish_runtime::{
    metrics::{self, REQUESTS},
    refusal::{Code, Refusal},
};
use candlefish_testkit::poll_until;
use http::{HeaderMap, HeaderValue};
use prost::Message;
use reqwest::Method;
use serde_json::json;
use tokio::net::TcpListener;
use tonic::Status;

use crate::{
    backend::Answer,
    stand::{SOON, Stand},
};

#[tokio::test]
async fn json_becomes_a_message_and_a_message_json() {
    let stand = Stand::start().await;
    let made = Deployment {
        id: "dep_1".to_owned(),
        site: "docs".to_owned(),
        state: State::Pending.into(),
        ..Deployment::default()
    };
    stand
        .backend
        .will_answer("DeploymentService/CreateDeployment", &made);
    let body = json!({
        "site": "docs", "environment": "production", "release_id": "rel_1",
        "strategy": { "canary": { "weights": [10, 50], "interval": "30s" } },
    });
    let answer = stand.post("/v1/deployments", &stand.admin, &body).await;
    assert_eq!(answer.status, 201, "{answer:?}");
    assert_eq!(answer.header("location"), "/v1/deployments/dep_1");
    assert_eq!(answer.header("content-type"), "application/json");
    assert_eq!(answer.body["state"], "STATE_PENDING");
    let seen = stand.backend.last();
    let asked = CreateDeploymentRequest::decode(seen.message).unwrap();
    assert_eq!(
        (asked.site.as_str(), asked.release_id.as_str()),
        ("docs", "rel_1")
    );
    assert_eq!(seen.caller.request_id, answer.header("x-request-id"));
}

#[tokio::test]
async fn a_query_becomes_a_message() {
    let stand = Stand::start().await;
    let path = "/v1/deployments?site=docs&state=STATE_RUNNING&page_size=7";
    let answer = stand.get(path, &stand.admin).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(answer.body, json!({ "deployments": [] }));
    let asked = ListDeploymentsRequest::decode(stand.backend.last().message).unwrap();
    let expected = ListDeploymentsRequest {
        site: "docs".to_owned(),
        state: State::Running.into(),
        page_size: 7,
        ..ListDeploymentsRequest::default()
    };
    assert_eq!(asked, expected);
}

#[tokio::test]
async fn what_was_made_before_says_so() {
    let stand = Stand::start().await;
    let made = Deployment {
        id: "dep_1".to_owned(),
        ..Deployment::default()
    };
    let mut headers = HeaderMap::new();
    headers.insert("idempotent-replayed", HeaderValue::from_static("true"));
    let answer = Answer::Message(made.encode_to_vec(), headers);
    stand
        .backend
        .will("DeploymentService/CreateDeployment", answer);
    let request = stand.ask(Method::POST, "/v1/deployments", &stand.admin);
    let request = request.header("idempotency-key", "k1").json(&json!({}));
    let answer = stand.send(request).await;
    assert_eq!(
        (answer.status.as_u16(), answer.header("idempotent-replayed")),
        (201, "true")
    );
    assert_eq!(stand.backend.last().headers["idempotency-key"], "k1");

    let already = Rollback {
        deployment: Some(made),
        already: true,
        ..Rollback::default()
    };
    stand
        .backend
        .will_answer("DeploymentService/CreateRollback", &already);
    let answer = stand.post("/v1/rollbacks", &stand.admin, &json!({})).await;
    assert_eq!(answer.status, 200, "{answer:?}");
}

#[tokio::test]
async fn a_refusal_is_a_problem_with_all_its_details() {
    let stand = Stand::start().await;
    let refusal = Refusal::new(Code::InvalidArgument, "bad-strategy", "cannot be planned")
        .field("strategy.canary.weights[1]", "must rise: 50 comes after 60")
        .field("environment", "docs has no \"prod\"");
    stand.backend.will(
        "DeploymentService/CreateDeployment",
        Answer::Refusal(refusal.into()),
    );
    let answer = stand
        .post("/v1/deployments", &stand.admin, &json!({}))
        .await;
    answer.is_problem(400);
    assert_eq!(
        answer.fields(),
        ["strategy.canary.weights[1]", "environment"]
    );
    assert_eq!(answer.body["reason"], "bad-strategy");
    assert_eq!(answer.body["type"], "/problems/invalid-argument");

    let table = [
        (Status::not_found("no"), 404),
        (Status::already_exists("there"), 409),
        (Status::failed_precondition("held"), 409),
        (Status::permission_denied("no"), 403),
        (Status::resource_exhausted("full"), 429),
        (Status::unavailable("later"), 503),
        (Status::internal("hunter2"), 500),
    ];
    for (status, http) in table {
        stand
            .backend
            .will("SiteService/GetSite", Answer::Refusal(status));
        let answer = stand.get("/v1/sites/docs", &stand.admin).await;
        answer.is_problem(http);
    }
}

#[tokio::test]
async fn paths_and_methods_that_are_not_there_say_what_is() {
    let stand = Stand::start().await;
    stand.get("/v1/nothing", &stand.admin).await.is_problem(404);
    let answer = stand
        .send(stand.ask(Method::DELETE, "/v1/sites", &stand.admin))
        .await;
    answer.is_problem(405);
    assert_eq!(answer.header("allow"), "GET, POST");
    let answer = stand
        .post("/v1/deployments/dep_1:cancle", &stand.admin, &json!({}))
        .await;
    answer.is_problem(404);
    let detail = answer.body["detail"].as_str().unwrap();
    assert!(detail.contains(":cancel"), "{detail}");
    assert!(stand.backend.seen().is_empty());
}

#[tokio::test]
async fn a_service_that_cannot_be_reached_is_503_and_says_when_to_repeat() {
    let stand = Stand::start_with(&[("CANDLEFISH_ORCHESTRATOR_URL", "http://127.0.0.1:9")]).await;
    let answer = stand.get("/v1/sites", &stand.admin).await;
    answer.is_problem(503);
    assert!(!answer.header("retry-after").is_empty());
    // What the gateway answers by itself goes on.
    assert_eq!(stand.get("/v1/whoami", &stand.admin).await.status, 200);
}

#[tokio::test]
async fn a_replica_that_is_down_costs_nothing() {
    let stand = Stand::start().await;
    let up = {
        let tasks = candlefish_runtime::tasks::Tasks::new();
        stand.backend.serve(stand.keys.path(), &tasks).await
    };
    let both = format!("http://127.0.0.1:9,{up}");
    let other = Stand::start_with(&[("CANDLEFISH_ORCHESTRATOR_URL", &both)]).await;
    // Its own keys are not those of the replica: what answers is that replica, refusing.
    // At the same time: each call must meet every replica, whoever else takes turns.
    let calls = (0..8).map(|_| other.get("/v1/sites", &other.admin));
    for answer in futures_util::future::join_all(calls).await {
        answer.is_problem(401);
    }
}

#[tokio::test]
async fn a_replica_that_is_frozen_holds_up_a_few_calls_and_then_none() {
    // Nobody accepts: the system takes the connections, as it does for a process that is frozen.
    let frozen = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let replicas = format!("http://{},BACKEND", frozen.local_addr().unwrap());
    let stand = Stand::start_with(&[("CANDLEFISH_ORCHESTRATOR_URL", &*replicas)]).await;
    let body = json!({});
    let make = || stand.post("/v1/deployments", &stand.admin, &body);
    // What changes something is not sent again, so it tells where it went. One call finds each of the two
    // connections to the frozen one silent.
    let mut failed = 0;
    while failed < 2 {
        let answer = make().await;
        failed += usize::from(answer.status == 503);
    }
    let answers = futures_util::future::join_all((0..16).map(|_| make())).await;
    for answer in answers {
        assert_eq!(answer.status, 201, "{answer:?}");
    }
}

#[tokio::test]
async fn a_call_that_takes_too_long_is_504() {
    let stand = Stand::start_with(&[("CANDLEFISH_CALL_TIMEOUT_MS", "200")]).await;
    stand.backend.will("SiteService/ListSites", Answer::Silence);
    stand.get("/v1/sites", &stand.admin).await.is_problem(504);
    stand
        .backend
        .will_answer("SiteService/ListSites", &ListSitesResponse::default());
    assert_eq!(stand.get("/v1/sites", &stand.admin).await.status, 200);
}

#[tokio::test]
async fn a_caller_that_gives_up_waiting_is_told_so_by_a_problem() {
    metrics::install();
    let stand = Stand::start().await;
    // The second has no time at all.
    for patience in ["60m", "1n"] {
        stand.backend.will("SiteService/GetSite", Answer::Silence);
        let request = stand.ask(Method::GET, "/v1/sites/docs", &stand.admin);
        let answer = stand.send(request.header("grpc-timeout", patience)).await;
        answer.is_problem(504);
        let words = answer.body["detail"].as_str().unwrap();
        assert!(words.contains("grpc-timeout"), "{answer:?}");
    }
    // As the call that it was, like any other answer.
    poll_until(SOON, "both to be counted", async || {
        let counted = counted("candlefish.deploy.v1.SiteService/GetSite");
        if counted.iter().any(|one| one == "\"504\"} 2") {
            Ok(())
        } else {
            Err(counted)
        }
    })
    .await;
    // What is none of the protocol's is as good as not sent.
    stand
        .backend
        .will_answer("SiteService/GetSite", &Site::default());
    let request = stand.ask(Method::GET, "/v1/sites/docs", &stand.admin);
    let answer = stand.send(request.header("grpc-timeout", "soon")).await;
    assert_eq!(answer.status, 200, "{answer:?}");
}

#[tokio::test]
async fn who_only_says_that_it_speaks_grpc_is_answered_as_everybody_and_mints_no_series() {
    metrics::install();
    let stand = Stand::start().await;
    let table = [
        (Method::GET, "application/grpc-web"),
        (Method::PUT, "application/grpc"),
        (Method::POST, "application/grpc-web+json"),
    ];
    for (verb, kind) in table {
        let request = stand.ask(verb, "/made-up-123", "");
        let answer = stand.send(request.header("content-type", kind)).await;
        answer.is_problem(404);
    }
    poll_until(SOON, "the calls to be counted", async || {
        let counted = counted("http");
        if counted == ["\"404\"} 3"] {
            Ok(())
        } else {
            Err(counted)
        }
    })
    .await;
    let told = metrics::install().render();
    assert!(!told.contains("made-up"), "{told}");
}

/// What is counted of a method, by code.
fn counted(method: &str) -> Vec<String> {
    let told = metrics::install().render();
    let begins = format!("{REQUESTS}{{method=\"{method}\",code=");
    let lines = told.lines();
    let lines = lines.filter_map(|line| line.strip_prefix(&begins));
    let mut all: Vec<String> = lines.map(str::to_owned).collect();
    all.sort();
    all
}

#[tokio::test]
async fn a_call_is_counted_once_and_under_its_method() {
    metrics::install();
    let stand = Stand::start().await;
    stand.get("/v1/whoami", &stand.admin).await;
    stand.get("/v1/whoami?nonsense=1", &stand.admin).await;
    stand.get("/v1/whoami", "").await;
    stand.get("/v1/tokens", &stand.admin).await;
    stand.get("/v1/tokens", &stand.admin).await;
    stand.get("/v1/sites/docs", &stand.admin).await;
    stand.get("/v1/nothing", &stand.admin).await;
    let access = "candlefish.access.v1.AccessService";
    let site = "candlefish.deploy.v1.SiteService/GetSite";
    let table: [(&str, &[&str]); 4] = [
        (
            &format!("{access}/WhoAmI"),
            &["\"200\"} 1", "\"400\"} 1", "\"401\"} 1"],
        ),
        (&format!("{access}/ListTokens"), &["\"200\"} 2"]),
        // The service behind, in this same process, counts its own call as gRPC.
        (site, &["\"200\"} 1", "\"Ok\"} 1"]),
        ("http", &["\"404\"} 1"]),
    ];
    for (method, expected) in table {
        poll_until(SOON, method, async || {
            let counted = counted(method);
            if counted == expected {
                Ok(())
            } else {
                Err(counted)
            }
        })
        .await;
    }
    let told = metrics::install().render();
    assert!(!told.contains("/v1/"), "a path is no label: {told}");
    let latency = format!("request_duration_seconds_count{{method=\"{access}/WhoAmI\"}} 3\n");
    assert!(told.contains(&latency), "{latency} is not in\n{told}");
}
