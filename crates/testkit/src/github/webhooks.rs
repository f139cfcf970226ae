//! GitHub's schemas of its webhooks, and whether deliveries keep to them.

use std::{
    collections::HashMap,
    sync::{Mutex, OnceLock, PoisonError},
};

use jsonschema::Validator;
use serde_json::{Value, json};

/// The schemas of some events (see the README beside it), by event and action.
const SCHEMAS: &str = include_str!("webhooks.json");
/// What a repository has since one of the published examples was: by the schemas it has to.
const SINCE: [&str; 5] = [
    "custom_properties",
    "is_template",
    "topics",
    "visibility",
    "web_commit_signoff_required",
];

/// The schemas, read.
struct Schemas {
    definitions: Value,
    compiled: HashMap<String, Validator>,
}

/// What is wrong with the body of an event; nothing of what GitHub may send.
pub(super) fn faults(event: &str, body: &Value) -> Vec<String> {
    // Read once: some tests deliver again and again.
    static READ: OnceLock<Mutex<Schemas>> = OnceLock::new();
    let schemas = READ.get_or_init(|| Mutex::new(Schemas::read()));
    let mut schemas = schemas.lock().unwrap_or_else(PoisonError::into_inner);
    schemas.faults(event, body)
}

impl Schemas {
    fn read() -> Self {
        let mut document: Value = serde_json::from_str(SCHEMAS).unwrap();
        let mut definitions = document["definitions"].take();
        let required = definitions["repository"]["required"].as_array_mut();
        required
            .unwrap()
            .retain(|name| !SINCE.iter().any(|since| name == since));
        Self {
            definitions,
            compiled: HashMap::new(),
        }
    }

    fn faults(&mut self, event: &str, body: &Value) -> Vec<String> {
        let action = body["action"].as_str().unwrap_or("event");
        let name = format!("{event}${action}");
        if self.definitions.get(&name).is_none() {
            return vec![format!("{name}: no such webhook is described")];
        }
        if !self.compiled.contains_key(&name) {
            let schema = json!({
                "definitions": self.definitions,
                "allOf": [{"$ref": format!("#/definitions/{name}")}],
            });
            let options = jsonschema::draft7::options().should_validate_formats(false);
            let compiled = options.build(&schema).unwrap();
            self.compiled.insert(name.clone(), compiled);
        }
        let errors = self.compiled[&name].iter_errors(body);
        errors
            .map(|error| format!("{name}: {error} at {:?}", error.instance_path().to_string()))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::github::{Example, PullRequest, Push, all, push};

    const A: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
    const B: &str = "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb";
    const NONE: &str = "0000000000000000000000000000000000000000";

    fn pull(action: &str, before: &str) -> Example {
        PullRequest {
            repository: "example/docs",
            number: 12,
            action,
            before,
            head: B,
            updated_at: 61,
        }
        .example()
    }

    #[test]
    fn what_is_published_and_what_is_made_of_it_keeps_to_the_schemas() {
        let pushes = [NONE, A].map(|before| {
            Push {
                repository: "example/docs",
                branch: "main",
                before,
                commits: &[A, B],
                changes: &["docs/a.md"],
                pushed_at: 1_790_000_000,
            }
            .example()
        });
        let pulls = ["opened", "reopened", "ready_for_review", "locked", "closed"];
        let pulls = pulls.map(|action| pull(action, ""));
        let mut merged = pull("closed", "");
        merged.body["pull_request"]["merged"] = true.into();
        let mut examples = all();
        examples.extend(pushes);
        examples.extend(pulls);
        examples.extend([pull("synchronize", A), merged]);
        for example in examples {
            let faults = example.faults();
            assert_eq!(faults, Vec::<String>::new(), "{}", example.event);
        }
    }

    #[test]
    fn what_github_does_not_send_is_found() {
        let without = |field: &str| {
            let mut example = push();
            example.body.as_object_mut().unwrap().remove(field);
            example
        };
        let with = |field: &str, value: Value| {
            let mut example = push();
            example.body[field] = value;
            example
        };
        let mut open = pull("closed", "");
        open.body["pull_request"]["closed_at"] = Value::Null;
        for example in [
            without("repository"),
            with("padding", json!("x")),
            with("after", json!(1)),
            with("head_commit", json!({"id": A})),
            open,
            pull("synchronize", ""),
            pull("opened", A),
            pull("labeled", ""),
            pull("painted", ""),
        ] {
            assert!(!example.faults().is_empty(), "{}", example.body);
        }
    }
}
