//! `/readyz`: whether this replica should get calls. That is not whether every call succeeds.

use candlefish_testkit::{Database, Proxy, poll_until};
use reqwest::Method;
use serde_json::json;
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};

use crate::stand::{Answered, SOON, Stand};

async fn readiness(stand: &Stand) -> Answered {
    let url = format!("{}/readyz", stand.ops);
    stand.send(stand.http.request(Method::GET, url)).await
}

/// What gRPC health says of a service: 1 that it serves, 2 that it does not.
async fn health(stand: &Stand) -> i32 {
    let asked = HealthCheckRequest {
        service: "candlefish.deploy.v1.SiteService".to_owned(),
    };
    let said = HealthClient::new(stand.channel()).check(asked).await;
    said.unwrap().into_inner().status
}

async fn health_becomes(stand: &Stand, expected: i32) {
    poll_until(SOON, "what gRPC health says", async || {
        let said = health(stand).await;
        if said == expected { Ok(()) } else { Err(said) }
    })
    .await;
}

/// Its database is what a gateway needs for everything. Without orchestrators it still knows who
/// calls, keeps webhooks' deliveries and says what is missing, which a port without replicas would not.
#[tokio::test]
async fn a_gateway_is_ready_while_no_orchestrator_can_be_reached() {
    let stand = Stand::start_with(&[("CANDLEFISH_ORCHESTRATOR_URL", "http://127.0.0.1:9")]).await;
    let refused = stand.get("/v1/sites", &stand.admin).await;
    assert_eq!(
        refused.is_problem(503).body["reason"],
        "service-unavailable"
    );
    let ready = readiness(&stand).await;
    assert_eq!(ready.status, 200);
    assert_eq!(ready.body, json!({ "ready": true, "waiting": [] }));
}

#[tokio::test]
async fn a_gateway_whose_database_is_gone_says_so_until_it_is_back() {
    let database = Database::fresh(&[]).await;
    let server = database.options();
    let server = format!("{}:{}", server.get_host(), server.get_port());
    let network = Proxy::start(&server).await;
    let url = database
        .url()
        .replacen(&server, &network.addr().to_string(), 1);
    let stand = Stand::start_with(&[("CANDLEFISH_DATABASE_URL", &url)]).await;
    assert_eq!(readiness(&stand).await.status, 200);
    health_becomes(&stand, 1).await;
    network.cut();
    let gone = poll_until(SOON, "a gateway that is not ready", async || {
        let answer = readiness(&stand).await;
        if answer.status == 503 {
            Ok(answer)
        } else {
            Err(answer)
        }
    })
    .await;
    assert_eq!(gone.body["ready"], false);
    assert_eq!(gone.body["waiting"][0]["name"], "database");
    health_becomes(&stand, 2).await;
    network.mend();
    poll_until(SOON, "a gateway that is ready again", async || {
        let answer = readiness(&stand).await;
        if answer.status == 200 {
            Ok(())
        } else {
            Err(answer)
        }
    })
    .await;
    health_becomes(&stand, 1).await;
}
