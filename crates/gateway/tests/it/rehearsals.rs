//! Calls that are only rehearsed: where they go, what comes back, and what the gateway does itself.

use bytes::Bytes;
use candlefish_proto::deploy::{
    CancelDeploymentRequest, Deployment, deployment_service_client::DeploymentServiceClient,
};
use candlefish_runtime::refusal::{Code as RefusalCode, Refusal};
use candlefish_testkit::wait_until;
use http::{HeaderMap, HeaderValue};
use prost::Message;
use reqwest::Method;
use serde_json::json;
use tokio::sync::oneshot;
use tonic::{Code, Status};
use tonic_types::StatusExt;

use crate::{
    backend::Answer,
    raw::with_token,
    stand::{Answered, SOON, Stand},
};

const ASKED: &str = "candlefish-validate-only";
const MARK: &str = "candlefish-validated-only";
const CANCEL: &str = "DeploymentService/CancelDeployment";

fn deployment() -> Deployment {
    Deployment {
        id: "dep_1".to_owned(),
        ..Deployment::default()
    }
}

/// As of an orchestrator that took the call back.
fn rehearsed() -> Answer {
    let mut headers = HeaderMap::new();
    headers.insert(MARK, HeaderValue::from_static("true"));
    Answer::Message(deployment().encode_to_vec(), headers)
}

/// A call over REST with this value of the header.
async fn ask(stand: &Stand, path: &str, value: &str, body: serde_json::Value) -> Answered {
    let request = stand.ask(Method::POST, path, &stand.admin);
    stand.send(request.header(ASKED, value).json(&body)).await
}

#[tokio::test]
async fn a_rehearsal_goes_where_nothing_is_committed_and_says_so() {
    let stand = Stand::start().await;
    let create = "DeploymentService/CreateDeployment";
    stand.backend.will(create, rehearsed());
    let answer = ask(&stand, "/v1/deployments", "true", json!({})).await;
    // Not 201: nothing was made that could be read anywhere.
    assert_eq!((answer.status.as_u16(), answer.header(MARK)), (200, "true"));
    assert_eq!(answer.header("location"), "");
    assert_eq!(answer.body["id"], "dep_1");
    let path = stand.backend.last().path;
    assert_eq!(path, format!("/rehearsed/candlefish.deploy.v1.{create}"));

    stand.backend.will(CANCEL, rehearsed());
    let mut client = DeploymentServiceClient::new(stand.channel());
    let mut request = with_token(CancelDeploymentRequest::default(), &stand.admin);
    let yes = "true".parse().unwrap();
    request.metadata_mut().insert(ASKED, yes);
    let answer = client.cancel_deployment(request).await.unwrap();
    assert_eq!(answer.metadata().get(MARK).unwrap(), "true");
    assert_eq!(answer.into_inner(), deployment());
    let path = stand.backend.last().path;
    assert_eq!(path, format!("/rehearsed/candlefish.deploy.v1.{CANCEL}"));

    stand.backend.will_answer(create, &deployment());
    let answer = ask(&stand, "/v1/deployments", "false", json!({})).await;
    assert_eq!((answer.status.as_u16(), answer.header(MARK)), (201, ""));
    let path = stand.backend.last().path;
    assert_eq!(path, format!("/candlefish.deploy.v1.{create}"));
}

#[tokio::test]
async fn what_is_neither_yes_nor_no_is_refused_by_the_headers_name() {
    let stand = Stand::start().await;
    let answer = ask(&stand, "/v1/deployments", "1", json!({})).await;
    answer.is_problem(400);
    assert_eq!(answer.fields(), [ASKED]);
    assert_eq!(answer.header(MARK), "");
    let mut client = DeploymentServiceClient::new(stand.channel());
    let mut request = with_token(CancelDeploymentRequest::default(), &stand.admin);
    let no = "nonsense".parse().unwrap();
    request.metadata_mut().insert(ASKED, no);
    let status = client.cancel_deployment(request).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    let details = status.get_error_details();
    let named = &details.bad_request().unwrap().field_violations[0].field;
    assert_eq!(named, ASKED);
    assert!(stand.backend.seen().is_empty());

    // What only reads changes nothing anyway.
    let reads = stand.ask(Method::GET, "/v1/sites", &stand.admin);
    let answer = stand.send(reads.header(ASKED, "1")).await;
    assert_eq!((answer.status.as_u16(), answer.header(MARK)), (200, ""));
    let path = stand.backend.last().path;
    assert_eq!(path, "/candlefish.deploy.v1.SiteService/ListSites");
}

#[tokio::test]
async fn an_answer_without_the_mark_is_of_one_who_knows_no_rehearsals() {
    let stand = Stand::start().await;
    let not_there = Status::permission_denied("gateway may not call this");
    for answer in [
        Answer::Refusal(not_there.clone()),
        Answer::Refusal(Status::unimplemented("")),
        Answer::Message(deployment().encode_to_vec(), HeaderMap::new()),
    ] {
        stand.backend.will(CANCEL, answer);
        let answer = ask(&stand, "/v1/deployments/dep_1:cancel", "true", json!({})).await;
        answer.is_problem(501);
        assert_eq!(answer.body["reason"], "not-rehearsed", "{answer:?}");
        assert_eq!(answer.header(MARK), "true");
    }
    // A refusal by whoever rehearsed it is that of the real call.
    let mut refused = not_there;
    let mark = "true".parse().unwrap();
    refused.metadata_mut().insert(MARK, mark);
    let over = Refusal::new(RefusalCode::FailedPrecondition, "is-terminal", "has ended");
    for (refusal, code) in [(refused, 403), (over.into(), 409)] {
        stand.backend.will(CANCEL, Answer::Refusal(refusal));
        let answer = ask(&stand, "/v1/deployments/dep_1:cancel", "true", json!({})).await;
        answer.is_problem(code);
        assert_eq!(answer.header(MARK), "true");
    }
}

#[tokio::test]
async fn a_refusal_of_a_rehearsal_is_marked_whoever_refuses() {
    let stand = Stand::start().await;
    // By the gateway, before and after the service was asked, and by the service: over REST,
    let unknown = json!({ "nonsense": 1 });
    let answer = ask(&stand, "/v1/deployments", "true", unknown).await;
    answer.is_problem(400);
    assert_eq!(answer.header(MARK), "true");
    // and over gRPC.
    let mut client = DeploymentServiceClient::new(stand.channel());
    let over = Refusal::new(RefusalCode::FailedPrecondition, "is-terminal", "has ended");
    for (answer, code) in [
        (Answer::Refusal(over.into()), Code::FailedPrecondition),
        (
            Answer::Message(deployment().encode_to_vec(), HeaderMap::new()),
            Code::Unimplemented,
        ),
    ] {
        stand.backend.will(CANCEL, answer);
        let mut request = with_token(CancelDeploymentRequest::default(), &stand.admin);
        let yes = "true".parse().unwrap();
        request.metadata_mut().insert(ASKED, yes);
        let status = client.cancel_deployment(request).await.unwrap_err();
        assert_eq!(status.code(), code, "{status:?}");
        assert_eq!(status.metadata().get(MARK).unwrap(), "true");
    }
    // Who is not let in rehearses nothing.
    let request = stand.ask(Method::POST, "/v1/deployments", "");
    let answer = stand.send(request.header(ASKED, "true")).await;
    answer.is_problem(401);
    assert_eq!(answer.header(MARK), "");
}

#[tokio::test]
async fn a_rehearsal_whose_answer_breaks_off_says_that_nothing_was_carried_out() {
    let stand = Stand::start().await;
    let (kill, killed) = oneshot::channel();
    // Half of a frame's head.
    let death = Answer::Death(Bytes::from_static(&[0, 0]), killed);
    stand.backend.will(CANCEL, death);
    let asking = ask(&stand, "/v1/deployments/dep_1:cancel", "true", json!({}));
    let dying = async {
        wait_until(SOON, "the call", async || !stand.backend.seen().is_empty()).await;
        kill.send(()).unwrap();
    };
    let (answer, ()) = tokio::join!(asking, dying);
    answer.is_problem(503);
    assert_eq!(answer.header(MARK), "true");
    let words = answer.body["detail"].as_str().unwrap();
    assert!(words.contains("nothing was carried out"), "{answer:?}");
    assert!(!words.contains("idempotency"), "{answer:?}");
}

#[tokio::test]
async fn what_the_gateway_does_itself_is_taken_back() {
    let stand = Stand::start().await;
    let machine = json!({ "name": "ci", "kind": "KIND_MACHINE" });
    // Twice: the first one made nothing.
    for _ in 0..2 {
        let answer = ask(&stand, "/v1/principals", "true", machine.clone()).await;
        assert_eq!((answer.status.as_u16(), answer.header(MARK)), (200, "true"));
        assert_eq!(answer.body["name"], "ci");
    }
    let made = stand
        .made_token("ci", json!({ "role": "ROLE_VIEWER" }))
        .await;
    let taken = ask(&stand, "/v1/principals", "true", machine).await;
    taken.is_problem(409);
    assert_eq!(taken.header(MARK), "true");

    let tokens = async || stand.get("/v1/tokens", &stand.admin).await.body;
    let before = tokens().await;
    let wanted = json!({ "principal": "ci", "name": "other", "role": "ROLE_ADMIN" });
    let answer = ask(&stand, "/v1/tokens", "true", wanted).await;
    assert_eq!((answer.status.as_u16(), answer.header(MARK)), (200, "true"));
    assert_eq!(answer.body["token"]["name"], "other");
    assert!(answer.body.get("secret").is_none(), "{answer:?}");

    let id = made["token"]["id"].as_str().unwrap();
    let answer = ask(
        &stand,
        &format!("/v1/tokens/{id}:revoke"),
        "true",
        json!({}),
    )
    .await;
    assert_eq!((answer.status.as_u16(), answer.header(MARK)), (200, "true"));
    assert!(answer.body["revoked_at"].is_string(), "{answer:?}");
    assert_eq!(tokens().await, before);
    let secret = made["secret"].as_str().unwrap();
    assert_eq!(stand.get("/v1/whoami", secret).await.status, 200);
}

#[tokio::test]
async fn an_upload_has_no_rehearsal() {
    let stand = Stand::start().await;
    let upload = stand.ask(Method::PUT, "/blobs/abc?size=3", "");
    let answer = stand.send(upload.header(ASKED, "true").body("abc")).await;
    answer.is_problem(501);
    assert_eq!(answer.header(MARK), "true");
    assert!(stand.backend.seen().is_empty());
}
