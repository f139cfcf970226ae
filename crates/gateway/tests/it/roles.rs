//! Every method of the table, with a token of every role, over REST and over gRPC.

use bytes::Bytes;
use candlefish_proto::{access::Role, deploy::CreateDeploymentRequest};
use prost::Message;
use serde_json::json;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use crate::{
    raw::{self, with_token},
    stand::Stand,
    table::rpcs,
};

const ROLES: [Role; 4] = [Role::Viewer, Role::Deployer, Role::Approver, Role::Admin];
const CREATE: &str = "/candlefish.deploy.v1.DeploymentService/CreateDeployment";

fn word(role: Role) -> String {
    role.as_str_name()
        .trim_start_matches("ROLE_")
        .to_lowercase()
}

#[tokio::test]
async fn a_role_that_is_too_low_is_refused_by_name_and_one_that_is_enough_is_not() {
    let stand = Stand::start().await;
    for role in ROLES {
        let name = format!("a-{}", word(role));
        let token = stand.token(&name, role.as_str_name(), &[]).await;
        for rpc in rpcs() {
            let before = stand.backend.seen().len();
            let mut request = stand.ask(rpc.verb.clone(), &rpc.url(), &token);
            if rpc.body {
                request = request.json(&json!({}));
            }
            let answer = request.send().await.unwrap();
            let status = answer.status();
            let grpc = raw::call(stand.channel(), &rpc.path, with_token(Bytes::new(), &token));
            // A stream of events may have nothing to say.
            let grpc = tokio::time::timeout(std::time::Duration::from_millis(500), grpc).await;
            let refusal = grpc.ok().and_then(Result::err);
            let grpc = refusal.as_ref().map_or(Code::Ok, Status::code);
            if role < rpc.role {
                assert_eq!(status, 403, "{} as {role:?}", rpc.path);
                let problem: serde_json::Value = answer.json().await.unwrap();
                let detail = problem["detail"].as_str().unwrap();
                assert!(detail.contains(&word(rpc.role)), "{}: {detail}", rpc.path);
                assert_eq!(problem["metadata"]["needs"], rpc.role.as_str_name());
                assert_eq!(grpc, Code::PermissionDenied, "{} as {role:?}", rpc.path);
                let refusal = refusal.unwrap();
                let words = refusal.message();
                assert!(words.contains(&word(rpc.role)), "{}: {words}", rpc.path);
                let info = refusal.get_details_error_info().unwrap();
                assert_eq!(info.metadata["needs"], rpc.role.as_str_name());
                assert_eq!(stand.backend.seen().len(), before, "{}", rpc.path);
            } else {
                assert!(
                    ![401, 403].contains(&status.as_u16()),
                    "{} as {role:?}",
                    rpc.path
                );
                assert!(
                    !status.is_server_error(),
                    "{} as {role:?}: {status}",
                    rpc.path
                );
                let refused = [
                    Code::PermissionDenied,
                    Code::Unauthenticated,
                    Code::Internal,
                ];
                assert!(
                    !refused.contains(&grpc),
                    "{} as {role:?}: {grpc:?}",
                    rpc.path
                );
            }
        }
    }
}

#[tokio::test]
async fn a_field_that_needs_a_higher_role_is_named() {
    let stand = Stand::start().await;
    let deployer = stand.token("dora", "ROLE_DEPLOYER", &[]).await;
    let approver = stand.token("abe", "ROLE_APPROVER", &[]).await;
    let body = json!({ "site": "docs", "lift_hold": "all is well" });
    let answer = stand.post("/v1/deployments", &deployer, &body).await;
    answer.is_problem(403);
    assert_eq!(answer.fields(), ["lift_hold"]);
    assert!(answer.body.to_string().contains("approver"));
    let message = CreateDeploymentRequest {
        site: "docs".to_owned(),
        lift_hold: "all is well".to_owned(),
        ..CreateDeploymentRequest::default()
    };
    let message = Bytes::from(message.encode_to_vec());
    let call = |token: &str| raw::call(stand.channel(), CREATE, with_token(message.clone(), token));
    let refusal = call(&deployer).await.unwrap_err();
    assert_eq!(refusal.code(), Code::PermissionDenied);
    let bad = refusal.get_details_bad_request().unwrap().field_violations;
    assert_eq!(bad[0].field, "lift_hold");
    assert!(bad[0].description.contains("approver"), "{refusal:?}");
    assert!(stand.backend.seen().is_empty());
    call(&approver).await.unwrap();
    let answer = stand.post("/v1/deployments", &approver, &body).await;
    assert!(answer.status.is_success(), "{answer:?}");
    assert_eq!(stand.backend.seen().len(), 2);
    // Unset is as good as not sent.
    let body = json!({ "site": "docs", "lift_hold": "" });
    let answer = stand.post("/v1/deployments", &deployer, &body).await;
    assert!(answer.status.is_success(), "{answer:?}");
}
