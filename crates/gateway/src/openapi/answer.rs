//! What answers: problems, and the headers that come with an answer.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use crate::problem::{self, kinds};

/// The schema of a problem.
pub(super) fn problem() -> Value {
    let codes: Vec<&str> = kinds::ALL.iter().map(|kind| kind.code).collect();
    json!({
        "type": "object",
        "description": "What went wrong (RFC 9457).",
        "required": ["type", "title", "status", "code"],
        "properties": {
            "type": { "type": "string", "format": "uri-reference", "description": "A page about this kind of problem, below the API's own address." },
            "title": { "type": "string", "description": "The kind of problem, or how many faults the request has." },
            "status": { "type": "integer", "minimum": 400, "maximum": 599, "description": "The HTTP status." },
            "code": { "type": "string", "enum": codes, "description": "The kind of problem, for programs." },
            "reason": { "type": "string", "description": "A stable word for exactly this refusal, such as `role-too-low`." },
            "detail": { "type": "string", "description": "What happened to this request, in words." },
            "request_id": { "type": "string", "description": "Names the request in the platform's logs." },
            "errors": {
                "type": "array",
                "description": "Every bad field.",
                "items": {
                    "type": "object",
                    "required": ["field", "message"],
                    "properties": {
                        "field": { "type": "string", "description": "Its path in the request, such as `strategy.canary.weights[1]`; empty for the body as a whole." },
                        "message": { "type": "string", "description": "What is wrong with it." },
                    },
                },
            },
            "metadata": { "type": "object", "additionalProperties": { "type": "string" }, "description": "Values for programs, such as the id that exists already." },
        },
    })
}

/// One response for each HTTP status of a problem, by component name.
pub(super) fn problems() -> Value {
    let mut by_status: BTreeMap<u16, Vec<&kinds::Kind>> = BTreeMap::new();
    for kind in kinds::ALL {
        by_status
            .entry(kind.status.as_u16())
            .or_default()
            .push(kind);
    }
    let mut all = Map::new();
    for (status, kinds) in by_status {
        let lines: Vec<String> = kinds
            .iter()
            .map(|kind| format!("`{}`: {}", kind.code, kind.about))
            .collect();
        all.insert(name(status), response(&lines.join("\n\n"), status));
    }
    all.insert("ProblemOther".to_owned(), response("Any other problem.", 0));
    Value::Object(all)
}

fn response(description: &str, status: u16) -> Value {
    let rehearsed = "Candlefish-Validated-Only";
    let mut headers = json!({
        "X-Request-Id": header("X-Request-Id"),
        rehearsed: header(rehearsed),
    });
    if matches!(status, 429 | 503) {
        super::set(&mut headers, "Retry-After", header("Retry-After"));
    }
    json!({
        "description": description,
        "headers": headers,
        "content": { problem::MEDIA_TYPE: { "schema": { "$ref": "#/components/schemas/Problem" } } },
    })
}

fn name(status: u16) -> String {
    format!("Problem{status}")
}

/// A reference to the problem response of a status.
pub(super) fn refer(status: u16) -> Value {
    json!({ "$ref": format!("#/components/responses/{}", name(status)) })
}

/// A reference to the response for everything that is not named.
pub(super) fn other() -> Value {
    json!({ "$ref": "#/components/responses/ProblemOther" })
}

/// A reference to a shared header.
pub(super) fn header(name: &str) -> Value {
    json!({ "$ref": format!("#/components/headers/{name}") })
}

/// The shared headers.
pub(super) fn headers() -> Value {
    json!({
        "X-Request-Id": { "description": "Names the request in the platform's logs.", "schema": { "type": "string" } },
        "Location": { "description": "Where the new resource is read.", "schema": { "type": "string", "format": "uri-reference" } },
        "Idempotent-Replayed": { "description": "`true` when the answer is that of an earlier call with the same idempotency key.", "schema": { "type": "string", "enum": ["true"] } },
        "Candlefish-Validated-Only": { "description": "`true` when the call was only rehearsed: nothing was done, and ids in the answer are of nothing, unless it is that of an earlier call (`Idempotent-Replayed`).", "schema": { "type": "string", "enum": ["true"] } },
        "Retry-After": { "description": "Seconds after which the same call may succeed.", "schema": { "type": "integer", "minimum": 1 } },
    })
}
