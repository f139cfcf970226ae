//! gRPC and gRPC-Web: what comes in goes on as it is.

use bytes::Bytes;
use candlefish_proto::deploy::{
    CancelDeploymentRequest, Deployment, GetDeploymentRequest, WatchDeploymentRequest,
    deployment_service_client::DeploymentServiceClient,
};
use candlefish_runtime::refusal::{Code as RefusalCode, Refusal};
use candlefish_testkit::wait_until;
use http::HeaderMap;
use prost::Message;
use reqwest::Method;
use tokio::sync::oneshot;
use tonic::{Code, Status, Streaming, transport::Channel};
use tonic_types::StatusExt;

use crate::{
    backend::{Answer, frame},
    raw::{self, with_token},
    stand::{SOON, Stand},
};

fn deployment(version: i32) -> Deployment {
    Deployment {
        id: "dep_1".to_owned(),
        site: "docs".to_owned(),
        version,
        ..Deployment::default()
    }
}

/// A caller that watches a deployment, of which it was told once.
async fn watching(stand: &Stand) -> (DeploymentServiceClient<Channel>, Streaming<Deployment>) {
    let mut client = DeploymentServiceClient::new(stand.channel());
    let request = with_token(WatchDeploymentRequest::default(), &stand.admin);
    let mut stream = client.watch_deployment(request).await.unwrap().into_inner();
    stream.message().await.unwrap().unwrap();
    (client, stream)
}

#[tokio::test]
async fn a_call_and_its_answer_pass_through() {
    let stand = Stand::start().await;
    stand
        .backend
        .will_answer("DeploymentService/GetDeployment", &deployment(3));
    let mut client = DeploymentServiceClient::new(stand.channel());
    let asked = GetDeploymentRequest {
        id: "dep_1".to_owned(),
    };
    let request = with_token(asked.clone(), &stand.admin);
    let answer = client.get_deployment(request).await.unwrap();
    assert!(answer.metadata().get("candlefish-request-id").is_some());
    assert_eq!(answer.into_inner(), deployment(3));
    let seen = stand.backend.last();
    assert_eq!(
        seen.path,
        "/candlefish.deploy.v1.DeploymentService/GetDeployment"
    );
    assert_eq!(GetDeploymentRequest::decode(seen.message).unwrap(), asked);
}

#[tokio::test]
async fn bytes_that_the_gateway_does_not_know_pass_untouched() {
    let stand = Stand::start().await;
    // Field 999, a text: from a newer client, and back from a newer service.
    let message = Bytes::from_static(b"\x0a\x05dep_1\xba\x3e\x05newer");
    let answer = Answer::Message(message.to_vec(), HeaderMap::new());
    stand
        .backend
        .will("DeploymentService/GetDeployment", answer);
    let path = "/candlefish.deploy.v1.DeploymentService/GetDeployment";
    let request = with_token(message.clone(), &stand.admin);
    let back = raw::call(stand.channel(), path, request).await.unwrap();
    assert_eq!(back, message);
    assert_eq!(stand.backend.last().message, message);
}

#[tokio::test]
async fn a_refusal_keeps_its_code_and_its_details() {
    let stand = Stand::start().await;
    let refusal = Refusal::new(
        RefusalCode::FailedPrecondition,
        "is-terminal",
        "it has ended",
    )
    .field("id", "has ended")
    .metadata("state", "STATE_FAILED");
    let answer = Answer::Refusal(refusal.into());
    stand
        .backend
        .will("DeploymentService/CancelDeployment", answer);
    let mut client = DeploymentServiceClient::new(stand.channel());
    let request = with_token(CancelDeploymentRequest::default(), &stand.admin);
    let status = client.cancel_deployment(request).await.unwrap_err();
    assert_eq!(status.code(), Code::FailedPrecondition);
    assert_eq!(status.message(), "it has ended");
    let details = status.get_error_details();
    assert_eq!(details.error_info().unwrap().reason, "is-terminal");
    assert_eq!(
        details.bad_request().unwrap().field_violations[0].field,
        "id"
    );
}

#[tokio::test]
async fn a_stream_passes_message_by_message() {
    let stand = Stand::start().await;
    let feed = stand
        .backend
        .will_stream("DeploymentService/WatchDeployment");
    let mut client = DeploymentServiceClient::new(stand.channel());
    let asked = WatchDeploymentRequest {
        id: "dep_1".to_owned(),
        after_version: 1,
    };
    feed.send(Ok(deployment(2).encode_to_vec())).await.unwrap();
    let request = with_token(asked, &stand.admin);
    let mut stream = client.watch_deployment(request).await.unwrap().into_inner();
    for version in 2..5 {
        // The next is only sent once this one has come.
        let next = tokio::time::timeout(SOON, stream.message()).await.unwrap();
        assert_eq!(next.unwrap().unwrap().version, version);
        feed.send(Ok(deployment(version + 1).encode_to_vec()))
            .await
            .unwrap();
    }
    stream.message().await.unwrap().unwrap();
    feed.send(Err(Status::aborted("enough"))).await.unwrap();
    assert_eq!(stream.message().await.unwrap_err().code(), Code::Aborted);
}

#[tokio::test]
async fn a_service_that_dies_in_the_middle_of_its_answer_is_unavailable() {
    let stand = Stand::start().await;
    let (kill, killed) = oneshot::channel();
    // Half of a frame's head.
    let death = Answer::Death(Bytes::from_static(&[0, 0]), killed);
    stand
        .backend
        .will("DeploymentService/CancelDeployment", death);
    let mut client = DeploymentServiceClient::new(stand.channel());
    let asked = CancelDeploymentRequest::default();
    let asking = client.cancel_deployment(with_token(asked, &stand.admin));
    let dying = async {
        wait_until(SOON, "the call", async || !stand.backend.seen().is_empty()).await;
        kill.send(()).unwrap();
    };
    let (died, ()) = tokio::join!(asking, dying);
    let status = died.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable, "{status:?}");
    assert!(
        status.message().contains("repeat it with the same"),
        "{status:?}"
    );
    assert_eq!(stand.backend.seen().len(), 1, "it may have taken effect");
}

#[tokio::test]
async fn a_service_that_dies_in_the_middle_of_a_stream_is_unavailable() {
    let stand = Stand::start().await;
    let (kill, killed) = oneshot::channel();
    let death = Answer::Death(frame(&deployment(1).encode_to_vec()), killed);
    stand
        .backend
        .will("DeploymentService/WatchDeployment", death);
    let (_client, mut stream) = watching(&stand).await;
    kill.send(()).unwrap();
    let status = stream.message().await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable, "{status:?}");
    assert!(status.message().contains("begin it again"), "{status:?}");
}

#[tokio::test]
async fn a_gateway_that_stops_ends_its_streams_in_words() {
    let stand = Stand::start().await;
    let feed = stand
        .backend
        .will_stream("DeploymentService/WatchDeployment");
    feed.send(Ok(deployment(1).encode_to_vec())).await.unwrap();
    let (_client, mut stream) = watching(&stand).await;
    stand.stop();
    let end = tokio::time::timeout(SOON, stream.message()).await.unwrap();
    let status = end.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable, "{status:?}");
    assert!(
        status.message().contains("begin the stream again"),
        "{status:?}"
    );
    // Until here the service behind would have gone on.
    drop(feed);
}

#[tokio::test]
async fn a_caller_that_goes_ends_the_stream_behind_the_gateway() {
    let stand = Stand::start().await;
    let feed = stand
        .backend
        .will_stream("DeploymentService/WatchDeployment");
    feed.send(Ok(deployment(1).encode_to_vec())).await.unwrap();
    let caller = watching(&stand).await;
    drop(caller);
    tokio::time::timeout(SOON, feed.closed()).await.unwrap();
}

#[tokio::test]
async fn methods_that_are_not_public_are_not_there() {
    let stand = Stand::start().await;
    for path in [
        "/candlefish.event.v1.FeedService/Head",
        "/candlefish.event.v1.FeedService/Replay",
        "/candlefish.deploy.v1.EdgeService/WatchRoutes",
        "/candlefish.deploy.v1.SiteService/NoSuchMethod",
        "/no.such.Service/Method",
    ] {
        let request = with_token(Bytes::new(), &stand.admin);
        let status = raw::call(stand.channel(), path, request).await.unwrap_err();
        assert_eq!(status.code(), Code::Unimplemented, "{path}");
    }
    assert!(stand.backend.seen().is_empty());
}

#[tokio::test]
async fn browsers_call_by_grpc_web() {
    let stand = Stand::start().await;
    stand
        .backend
        .will_answer("DeploymentService/GetDeployment", &deployment(3));
    let path = "/candlefish.deploy.v1.DeploymentService/GetDeployment";
    let asked = GetDeploymentRequest {
        id: "dep_1".to_owned(),
    };
    let request = stand
        .ask(Method::POST, path, &stand.admin)
        .header("content-type", "application/grpc-web+proto")
        .body(frame(&asked.encode_to_vec()));
    let answer = request.send().await.unwrap();
    assert_eq!(answer.status(), 200);
    let body = answer.bytes().await.unwrap();
    let whole = frame(&deployment(3).encode_to_vec());
    assert_eq!(body.slice(..whole.len()), whole);
    let trailers = String::from_utf8_lossy(&body.slice(whole.len() + 5..)).to_lowercase();
    assert!(trailers.contains("grpc-status:0"), "{trailers}");
}

#[tokio::test]
async fn a_deadline_that_passes_is_exceeded_and_not_cancelled() {
    let stand = Stand::start().await;
    let path = "/candlefish.deploy.v1.DeploymentService/GetDeployment";
    // By the wire: the client's own library would give up first, and says that it cancelled.
    for patience in ["60m", "1n"] {
        stand
            .backend
            .will("DeploymentService/GetDeployment", Answer::Silence);
        let request = stand
            .ask(Method::POST, path, &stand.admin)
            .header("content-type", "application/grpc")
            .header("grpc-timeout", patience)
            .body(frame(b""));
        let answer = stand.send(request).await;
        assert_eq!(answer.header("grpc-status"), "4", "{answer:?}");
        assert!(answer.header("x-request-id").starts_with("req_"));
    }
    // No deadline hides that there is nothing.
    let request = stand
        .ask(Method::POST, "/no.such.Service/Method", &stand.admin)
        .header("content-type", "application/grpc")
        .header("grpc-timeout", "1n")
        .body(frame(b""));
    assert_eq!(stand.send(request).await.header("grpc-status"), "12");
}

#[tokio::test]
async fn health_and_reflection_answer_without_a_token() {
    use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};
    use tonic_reflection::pb::v1::{
        ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
        server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
    };
    let stand = Stand::start().await;
    let asked = HealthCheckRequest {
        service: "candlefish.deploy.v1.SiteService".to_owned(),
    };
    let health = HealthClient::new(stand.channel())
        .check(asked)
        .await
        .unwrap();
    assert!(health.metadata().get("x-request-id").is_some());
    assert_eq!(health.into_inner().status, 1);
    let list = ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::ListServices(String::new())),
    };
    let mut reflection = ServerReflectionClient::new(stand.channel());
    let asked = futures_util::stream::iter([list]);
    let answer = reflection.server_reflection_info(asked).await.unwrap();
    assert!(answer.metadata().get("x-request-id").is_some());
    let answer = answer.into_inner().message().await.unwrap().unwrap();
    let Some(MessageResponse::ListServicesResponse(list)) = answer.message_response else {
        panic!("{answer:?}");
    };
    let names: Vec<String> = list
        .service
        .into_iter()
        .map(|service| service.name)
        .collect();
    assert!(
        names.contains(&"candlefish.deploy.v1.SiteService".to_owned()),
        "{names:?}"
    );
    assert!(
        !names.contains(&"candlefish.event.v1.FeedService".to_owned()),
        "{names:?}"
    );
}

#[tokio::test]
async fn watchers_of_health_are_bounded_and_keep_no_probe_out() {
    use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};
    let stand = Stand::start().await;
    let mut health = HealthClient::new(stand.channel());
    let asked = HealthCheckRequest::default;
    let mut watching = Vec::new();
    let status = loop {
        match health.watch(asked()).await {
            Ok(stream) => watching.push(stream),
            Err(status) => break status,
        }
        assert!(watching.len() <= 64, "more than there are places");
    };
    assert_eq!(watching.len(), 64);
    assert_eq!(status.code(), Code::Unavailable, "{status:?}");
    let details = status.get_error_details();
    assert_eq!(details.error_info().unwrap().reason, "busy");
    health.check(asked()).await.unwrap();
    watching.clear();
    wait_until(SOON, "a place", async || {
        health.clone().watch(asked()).await.is_ok()
    })
    .await;
}
