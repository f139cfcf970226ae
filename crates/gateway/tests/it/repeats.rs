//! Calls that the gateway answers itself, repeated with their idempotency key.

use reqwest::Method;
use serde_json::{Value, json};

use crate::stand::{Answered, Stand};

async fn call(stand: &Stand, path: &str, key: &str, body: &Value) -> Answered {
    let request = stand.ask(Method::POST, path, &stand.admin);
    stand
        .send(request.header("idempotency-key", key).json(body))
        .await
}

#[tokio::test]
async fn a_principal_is_made_once_and_told_again() {
    let stand = Stand::start().await;
    let machine = json!({ "name": "ci", "kind": "KIND_MACHINE" });
    let first = call(&stand, "/v1/principals", "one", &machine).await;
    assert_eq!(first.status, 201, "{first:?}");
    assert_eq!(first.header("idempotent-replayed"), "");
    let again = call(&stand, "/v1/principals", "one", &machine).await;
    assert_eq!(again.status, 201, "{again:?}");
    assert_eq!(again.header("idempotent-replayed"), "true");
    assert_eq!(again.body, first.body);
    // With another key it is another call.
    let other = call(&stand, "/v1/principals", "two", &machine).await;
    assert_eq!(other.is_problem(409).body["reason"], "principal-exists");
}

#[tokio::test]
async fn a_key_belongs_to_one_message() {
    let stand = Stand::start().await;
    for (name, status) in [("ci", 201), ("other", 422)] {
        let machine = json!({ "name": name, "kind": "KIND_MACHINE" });
        let answer = call(&stand, "/v1/principals", "one", &machine).await;
        assert_eq!(answer.status, status, "{answer:?}");
        if status == 422 {
            let problem = answer.is_problem(422);
            assert_eq!(problem.body["reason"], "idempotency-key-reused");
        }
    }
    let listed = stand.get("/v1/principals", &stand.admin).await;
    assert!(!listed.body.to_string().contains("other"), "{listed:?}");
}

#[tokio::test]
async fn a_secret_is_shown_once_and_the_repeat_says_what_to_do() {
    let stand = Stand::start().await;
    let machine = json!({ "name": "ci", "kind": "KIND_MACHINE" });
    let made = stand.post("/v1/principals", &stand.admin, &machine).await;
    assert_eq!(made.status, 201, "{made:?}");
    let wanted = json!({ "principal": "ci", "name": "test", "role": "ROLE_VIEWER" });
    let made = call(&stand, "/v1/tokens", "one", &wanted).await;
    assert_eq!(made.status, 201, "{made:?}");
    let id = made.body["token"]["id"].as_str().unwrap();
    let secret = made.body["secret"].as_str().unwrap();

    let again = call(&stand, "/v1/tokens", "one", &wanted).await;
    again.is_problem(409);
    assert_eq!(again.body["reason"], "secret-shown-once");
    assert_eq!(again.body["metadata"]["id"], id);
    let words = again.body["detail"].as_str().unwrap();
    assert!(words.contains(&format!("revoke {id}")), "{words}");
    assert!(!again.body.to_string().contains(secret), "{again:?}");
    let path = "/v1/tokens?principal=ci";
    let listed = stand.get(path, &stand.admin).await;
    assert_eq!(listed.body["tokens"].as_array().unwrap().len(), 1);
}
