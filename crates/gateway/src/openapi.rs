//! The API's description as an `OpenAPI` 3.1 document, made from the contract alone: every public
//! method with its parameters, bodies, answers and role, every message with the comments of
//! `proto/`. The same contract gives the same document.

use candlefish_proto::access::Role;
use prost_reflect::{DescriptorPool, FieldDescriptor, Kind, MessageDescriptor, ServiceDescriptor};
use serde_json::{Map, Value, json};

use crate::{auth::role_name, comments, contract::Contract};

mod answer;
pub(crate) mod example;
mod operation;
pub(crate) mod sample;
pub(crate) mod schema;
#[cfg(test)]
mod tests;
mod webhook;

/// How to use the API, for whoever reads the document alone.
pub(crate) const ABOUT: &str = "\
Candlefish takes a commit of a web site and makes it live: safely, quickly, visibly and reversibly.

**Who calls.** Every call carries `Authorization: Bearer cft_…`. Each operation names the lowest role \
that may make it (`x-required-role`): viewer, deployer, approver or admin; each may do what those \
before it may. What a token may not see answers 404.

**Repeating.** A call that changes something takes `Idempotency-Key`: the same key with the same \
message answers the same for 24 hours (`Idempotent-Replayed: true`), with another message 422.

**Trying.** With `Candlefish-Validate-Only: true` a call that changes something is checked and carried \
out as ever, and taken back: it answers or refuses as the real call would have just now, and ids in the \
answer are of nothing. Once the caller is let in, either has `Candlefish-Validated-Only: true`. A success \
without that header is of a gateway that does not know it, and the call was carried out; after a 5xx \
without it, it may have been. With an `Idempotency-Key` that is known the answer is that of the act that \
did happen, with its ids, and `Idempotent-Replayed: true` as well. `SealRelease` has no rehearsal, with a \
known key neither (501, `not-rehearsed`).

**Lists** come a page at a time: send `page_token` the `next_page_token` of the page before, until \
it is empty.

**Streams** are server-sent events. The `id` of each says where to go on: send it as \
`Last-Event-ID`, as browsers do by themselves. An `id` without `data` is no event, but the newest \
place to go on: it comes at the beginning, and while nothing is to be told. A stream ends with an \
event named `end`, or with one named `problem` that says why; without either the connection broke.

**Problems** are `application/problem+json` (RFC 9457) with `code`, `request_id` and all bad fields \
at once: those that cannot be read, such as a text for a number, and those that are not allowed. \
Fields at their default are left out of answers; unknown fields in requests are \
refused.";

/// The document, for an API that is reached at `base_url` (without a slash at the end).
pub(crate) fn document(contract: &Contract, base_url: &str) -> Value {
    let schemas = schema::Schemas::new(contract);
    let mut paths: Map<String, Value> = Map::new();
    let operations = operation::Operations::new(contract, &schemas, base_url);
    let by_hand = [webhook::github()];
    for (path, verb, operation) in operations.all().into_iter().chain(by_hand) {
        let item = paths
            .entry(path)
            .or_insert_with(|| Value::Object(Map::new()));
        if let Some(item) = item.as_object_mut() {
            item.insert(verb, operation);
        }
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Candlefish",
            "summary": "Makes a commit of a web site live, and brings it back.",
            "description": ABOUT,
            "version": env!("CARGO_PKG_VERSION"),
            "license": { "name": "Apache-2.0", "identifier": "Apache-2.0" },
        },
        "servers": [{ "url": base_url, "description": "This gateway." }],
        "security": [{ "bearer": [] }],
        "tags": tags(contract),
        "paths": sorted(paths),
        "components": {
            "securitySchemes": {
                "bearer": {
                    "type": "http",
                    "scheme": "bearer",
                    "bearerFormat": "cft_…",
                    "description": "A token of the API; an admin makes one with `POST /v1/tokens`.",
                }
            },
            "parameters": operation::shared_parameters(),
            "headers": answer::headers(),
            "responses": answer::problems(),
            "schemas": sorted(schemas.all()),
        },
    })
}

/// Every field that a query can name, those within a message by a dotted path, without those that
/// the path names.
pub(crate) fn query_fields(
    message: &MessageDescriptor,
    bound: &[&str],
) -> Vec<(String, FieldDescriptor)> {
    let mut found = Vec::new();
    let mut open = vec![(String::new(), message.clone())];
    while let Some((prefix, message)) = open.pop() {
        for field in message.fields() {
            let name = format!("{prefix}{}", field.name());
            if bound.contains(&name.as_str()) || field.is_map() {
                continue;
            }
            match field.kind() {
                Kind::Message(inner) if !inner.full_name().starts_with("google.protobuf.") => {
                    // A request that holds itself could not be written as a query anyway.
                    if !field.is_list() && prefix.len() < 64 {
                        open.push((format!("{name}."), inner));
                    }
                }
                _ => found.push((name, field)),
            }
        }
    }
    found
}

/// What people call a service: `Deployment` for `candlefish.deploy.v1.DeploymentService`.
pub(crate) fn tag(service: &str) -> &str {
    let name = service.rsplit('.').next().unwrap_or(service);
    name.strip_suffix("Service").unwrap_or(name)
}

/// The services with public methods, as declared.
pub(crate) fn services(contract: &Contract) -> Vec<ServiceDescriptor> {
    let mut services: Vec<ServiceDescriptor> = Vec::new();
    for method in contract.methods() {
        if services
            .iter()
            .all(|known| known.full_name() != method.service)
        {
            services.extend(find_service(contract.pool(), &method.service));
        }
    }
    services
}

fn find_service(pool: &DescriptorPool, name: &str) -> Option<ServiceDescriptor> {
    pool.services().find(|service| service.full_name() == name)
}

/// The comment of a service.
pub(crate) fn about_service(service: &ServiceDescriptor) -> String {
    comments::of(
        service.parent_file().file_descriptor_proto(),
        service.path(),
    )
}

fn tags(contract: &Contract) -> Value {
    services(contract)
        .iter()
        .map(|service| {
            json!({
                "name": tag(service.full_name()),
                "description": about_service(service),
            })
        })
        .chain([webhook::tag()])
        .collect()
}

/// What to say of a role that a method or a field needs.
fn needs(role: Role) -> String {
    format!("Needs the role {}.", role_name(role))
}

/// Adds to what `json!` made.
fn set(object: &mut Value, name: &str, value: impl Into<Value>) {
    if let Some(fields) = object.as_object_mut() {
        fields.insert(name.to_owned(), value.into());
    }
}

/// By name, whatever map the JSON library is built with.
fn sorted(map: Map<String, Value>) -> Value {
    let mut entries: Vec<(String, Value)> = map.into_iter().collect();
    entries.sort_by(|(one, _), (other, _)| one.cmp(other));
    Value::Object(entries.into_iter().collect())
}
