//! Methods as operations.

use std::collections::BTreeMap;

use prost_reflect::FieldDescriptor;
use serde_json::{Map, Value, json};

use super::{answer, example, needs, query_fields, sample, schema::Schemas, set, tag};
use crate::{
    auth::role_name,
    contract::{Contract, Method, Route},
};

/// Makes operations.
pub(super) struct Operations<'a> {
    contract: &'a Contract,
    schemas: &'a Schemas<'a>,
    base_url: &'a str,
}

impl<'a> Operations<'a> {
    pub(super) const fn new(
        contract: &'a Contract,
        schemas: &'a Schemas<'a>,
        base_url: &'a str,
    ) -> Self {
        Self {
            contract,
            schemas,
            base_url,
        }
    }

    /// Each route as (path, verb, operation).
    pub(super) fn all(&self) -> Vec<(String, String, Value)> {
        let mut names: BTreeMap<&str, usize> = BTreeMap::new();
        for method in self.contract.methods() {
            *names.entry(&method.name).or_default() += 1;
        }
        let mut all = Vec::new();
        for method in self.contract.methods() {
            let alone = names.get(method.name.as_str()) == Some(&1);
            for (place, route) in method.routes.iter().enumerate() {
                let mut id = method.name.clone();
                if !alone {
                    id = format!("{}_{id}", tag(&method.service));
                }
                if place > 0 {
                    id = format!("{id}_{}", place + 1);
                }
                let verb = route.verb.as_str().to_ascii_lowercase();
                all.push((
                    route.template.to_string(),
                    verb,
                    self.one(method, route, &id),
                ));
            }
        }
        all
    }

    fn one(&self, method: &Method, route: &Route, id: &str) -> Value {
        let (summary, rest) = split(&method.comment);
        let description = format!("{rest} {}", needs(method.role));
        let mut operation = json!({
            "operationId": id,
            "tags": [tag(&method.service)],
            "summary": summary,
            "description": description.trim(),
            "parameters": self.parameters(method, route),
            "responses": self.responses(method, route),
            "x-required-role": role_name(method.role),
            "x-codeSamples": [{
                "lang": "Shell",
                "label": "curl",
                "source": sample::curl(self.contract, method, route, self.base_url),
            }],
        });
        if route.body {
            let mut content = json!({ "schema": self.schemas.refer(&method.input) });
            if let Some(body) = example::body(&method.name) {
                set(&mut content, "example", body);
            }
            let body = json!({ "required": true, "content": { "application/json": content } });
            set(&mut operation, "requestBody", body);
        }
        operation
    }

    fn parameters(&self, method: &Method, route: &Route) -> Vec<Value> {
        let mut parameters = Vec::new();
        let bound: Vec<&str> = route.template.fields().collect();
        for name in &bound {
            if let Some(field) = method.input.get_field_by_name(name) {
                let mut parameter = self.parameter(name, "path", &field);
                set(&mut parameter, "required", true);
                parameters.push(parameter);
            }
        }
        if !route.body {
            for (name, field) in query_fields(&method.input, &bound) {
                parameters.push(self.parameter(&name, "query", &field));
            }
        }
        if !method.is_safe() {
            for name in ["Idempotency-Key", "Candlefish-Validate-Only"] {
                let shared = format!("#/components/parameters/{name}");
                parameters.push(json!({ "$ref": shared }));
            }
        }
        if method.stream_ids.is_some() {
            parameters.push(json!({ "$ref": "#/components/parameters/Last-Event-ID" }));
        }
        parameters
    }

    fn parameter(&self, name: &str, place: &str, field: &FieldDescriptor) -> Value {
        let mut schema = self.schemas.field(field);
        let mut parameter = json!({ "name": name, "in": place });
        let description = schema.as_object_mut().and_then(|s| s.remove("description"));
        if let Some(description) = description {
            set(&mut parameter, "description", description);
        }
        if field.is_list() {
            set(&mut parameter, "explode", true);
        }
        set(&mut parameter, "schema", schema);
        parameter
    }

    fn responses(&self, method: &Method, route: &Route) -> Value {
        let mut responses = Map::new();
        if method.creates.is_some() {
            responses.insert("201".to_owned(), self.good(method, true));
        }
        // What exists already, or is only rehearsed, is answered without having been made.
        responses.insert("200".to_owned(), self.good(method, false));
        let mut problems = vec![400, 401, 403, 429, 503, 504];
        if route.template.fields().next().is_some() {
            problems.push(404);
        }
        if route.body {
            problems.extend([413, 415]);
        }
        if method.streams {
            let words = "The stream is over and has nothing to tell: do not connect again.";
            let headers = json!({ "X-Request-Id": answer::header("X-Request-Id") });
            let over = json!({ "description": words, "headers": headers });
            responses.insert("204".to_owned(), over);
        }
        if !method.is_safe() {
            problems.extend([409, 422]);
        } else if method.streams {
            problems.push(409);
        }
        for status in problems {
            responses.insert(status.to_string(), answer::refer(status));
        }
        responses.insert("default".to_owned(), answer::other());
        super::sorted(responses)
    }

    fn good(&self, method: &Method, made: bool) -> Value {
        let message = self.schemas.refer(&method.output);
        let mut headers = json!({ "X-Request-Id": answer::header("X-Request-Id") });
        if method.streams {
            let words = "Server-sent events: `data` is the JSON of one message \
                         (`x-event-schema`), `id` where to go on.";
            return json!({
                "description": words,
                "headers": headers,
                "content": { "text/event-stream": {
                    "schema": { "type": "string" },
                    "x-event-schema": message,
                } },
            });
        }
        if !method.is_safe() {
            set(
                &mut headers,
                "Idempotent-Replayed",
                answer::header("Idempotent-Replayed"),
            );
            if !made {
                let name = "Candlefish-Validated-Only";
                set(&mut headers, name, answer::header(name));
            }
        }
        let mut about = super::schema::about(&method.output);
        if made {
            set(&mut headers, "Location", answer::header("Location"));
            "It was made.".clone_into(&mut about);
        }
        json!({
            "description": about,
            "headers": headers,
            "content": { "application/json": { "schema": message } },
        })
    }
}

/// The first sentence, and the rest.
pub(super) fn split(comment: &str) -> (&str, &str) {
    match comment.split_once(". ") {
        Some((first, rest)) => (first, rest),
        None => (comment.strip_suffix('.').unwrap_or(comment), ""),
    }
}

/// Header parameters that many operations take.
pub(super) fn shared_parameters() -> Value {
    json!({
        "Idempotency-Key": {
            "name": "Idempotency-Key",
            "in": "header",
            "description": "Makes a repeat harmless: the same key with the same message answers the same for 24 hours.",
            "schema": { "type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[!-~]+$" },
        },
        "Candlefish-Validate-Only": {
            "name": "Candlefish-Validate-Only",
            "in": "header",
            "description": "`true` rehearses the call: it is checked and carried out, and taken back. Answers and refusals say so with `Candlefish-Validated-Only: true`.",
            "schema": { "type": "string", "enum": ["true", "false"] },
        },
        "Last-Event-ID": {
            "name": "Last-Event-ID",
            "in": "header",
            "description": "The `id` of the last event that was seen: the stream goes on after it.",
            "schema": { "type": "string" },
        },
    })
}
