//! The hottest read: one deployment, over REST, as fast as it goes.

use e2e::{Content, Sandbox, api::Commit};

use crate::{Row, wrk};

pub(super) async fn run(sandbox: &Sandbox) -> Vec<Row> {
    let api = &sandbox.api;
    let release = api
        .release("docs", &Content::site("hot"), &Commit::default())
        .await
        .unwrap();
    let deployment = api.deploy("docs", "staging", &release, None).await.unwrap();
    api.succeeds(&deployment.id).await.unwrap();
    let url = format!(
        "{}/v1/deployments/{}",
        sandbox.stack.gateway_url(),
        deployment.id
    );
    let headers = [format!(
        "Authorization: Bearer {}",
        sandbox.stack.admin_token()
    )];
    let saturated = wrk::run(&url, 64, 8, &headers);
    let gentle = wrk::run(&url, 4, 5, &headers);
    vec![
        Row {
            path: "hot `GET /v1/deployments/{id}`, 64 connections",
            target: "> 25,000/s",
            measured: format!(
                "{:.0}/s, p50 {}, p99 {}, {} errors",
                saturated.per_second, saturated.p50, saturated.p99, saturated.errors
            ),
        },
        Row {
            path: "hot `GET /v1/deployments/{id}`, 4 connections",
            target: "p99 < 5 ms at 10,000/s",
            measured: format!(
                "{:.0}/s, p99 {}, {} errors",
                gentle.per_second, gentle.p99, gentle.errors
            ),
        },
    ]
}
