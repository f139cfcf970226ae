//! What the contract cannot say: an operation that takes raw bytes and no token.

use serde_json::{Value, json};

use super::answer;
use crate::delivery::github;

/// The tag of operations that other people's services call.
pub(super) const TAG: &str = "Webhook";

/// The tag, described.
pub(super) fn tag() -> Value {
    json!({
        "name": TAG,
        "description": "What other services tell us. Nobody calls these by hand.",
    })
}

/// (path, verb, operation) of GitHub's webhook.
pub(super) fn github() -> (String, String, Value) {
    let signature =
        "`sha256=` and the HMAC-SHA256 of the raw body, in hex, under the webhook's secret.";
    let operation = json!({
        "operationId": "ReceiveGitHubDelivery",
        "tags": [TAG],
        "summary": "Takes a delivery of a GitHub webhook",
        "description": "Stores the delivery as it is, and answers once it is durable. What became of it is told by \
            `GET /v1/triggers?delivery_id=`. A repeat, by its id or by its body, is answered the same for 30 days and \
            stored once.",
        "security": [],
        "parameters": [
            header(github::EVENT, "What happened, in GitHub's word: `push`."),
            header(github::DELIVERY, "GitHub's id of the delivery; a redelivery has the same."),
            header(github::SIGNATURE, signature),
        ],
        "requestBody": {
            "required": true,
            "description": format!("At most {} bytes.", github::MOST_BYTES),
            "content": { "application/json": { "schema": { "type": "object" } } },
        },
        "responses": {
            "202": {
                "description": "It is stored.",
                "headers": { "X-Request-Id": answer::header("X-Request-Id") },
                "content": { "application/json": { "schema": accepted() } },
            },
            "400": answer::refer(400),
            "401": answer::refer(401),
            "409": answer::refer(409),
            "413": answer::refer(413),
            "415": answer::refer(415),
            "503": answer::refer(503),
            "default": answer::other(),
        },
    });
    (github::PATH.to_owned(), "post".to_owned(), operation)
}

fn header(name: &str, description: &str) -> Value {
    json!({
        "name": name,
        "in": "header",
        "required": true,
        "description": description,
        "schema": { "type": "string" },
    })
}

fn accepted() -> Value {
    json!({
        "type": "object",
        "required": ["delivery_id", "known", "message"],
        "properties": {
            "delivery_id": {
                "type": "string",
                "description": "`dlv_` and 26 characters; `GET /v1/triggers` takes it.",
            },
            "known": { "type": "boolean", "description": "It was stored before." },
            "message": { "type": "string", "description": "What happened, in words." },
        },
    })
}
