//! GitHub's own description of its API, and whether calls and answers keep to it.

mod unnamed;

use std::collections::HashMap;

use jsonschema::Validator;
use serde_json::{Map, Value, json};

/// Some operations of GitHub's description (see the README beside it).
const DESCRIPTION: &str = include_str!("api.json");

/// Answers that calls may get whose description does not have them: the status, and what their paths
/// begin with. GitHub's guide tells of them once for all calls, and their body is that of the others.
const UNDESCRIBED: [(u16, &str); 5] = [
    // Whose token is not good may ask nothing.
    (401, "/"),
    // A right is missing, or too much was written at once: any call may be told so.
    (403, "/"),
    // Of a repository that one may not see nothing is there, whatever is asked.
    (404, "/repos/"),
    // Too much was asked, whatever it was.
    (429, "/"),
    // GitHub failed.
    (500, "/"),
];

/// The description, read; what is compiled once is kept.
pub(super) struct Contract {
    document: Value,
    compiled: HashMap<String, Validator>,
}

/// An operation that a call found.
#[derive(Debug, Clone)]
pub(super) struct Operation {
    /// GitHub's name for it: `repos/create-deployment`.
    pub(super) id: String,
    /// What the path said, by name.
    pub(super) parameters: HashMap<String, String>,
    /// An App calls, by itself or as its installation.
    pub(super) is_by_app: bool,
    /// Where it stands in the description.
    pointer: String,
}

impl Contract {
    /// Reads the description.
    pub(super) fn read() -> Self {
        Self {
            document: serde_json::from_str(DESCRIPTION).unwrap(),
            compiled: HashMap::new(),
        }
    }

    /// The operation of a call; none that GitHub does not have.
    pub(super) fn find(&self, method: &str, path: &str) -> Result<Operation, String> {
        let method = method.to_lowercase();
        let paths = self.document["paths"].as_object().unwrap();
        let found = paths.iter().find_map(|(template, item)| {
            let operation = item.get(&method)?;
            let parameters = matched(template, path)?;
            Some(Operation {
                id: operation["operationId"].as_str().unwrap().to_owned(),
                parameters,
                is_by_app: false,
                pointer: format!("/paths/{}/{method}", escaped(template)),
            })
        });
        found.ok_or_else(|| format!("no operation {method} {path} is described"))
    }

    /// What is wrong with a request; nothing when it keeps to the description, and says nothing that this
    /// does not name.
    pub(super) fn faults_of_request(
        &mut self,
        operation: &Operation,
        query: &[(String, String)],
        body: &[u8],
    ) -> Vec<String> {
        let described = self.at(&operation.pointer).clone();
        let known: Vec<Value> = described["parameters"]
            .as_array()
            .into_iter()
            .flatten()
            .map(|one| self.resolved(one))
            .collect();
        let mut faults = Vec::new();
        for (name, value) in query {
            let parameter = known
                .iter()
                .find(|one| one["in"] == "query" && one["name"] == name.as_str());
            match parameter {
                None => faults.push(format!("{}: no query {name} is described", operation.id)),
                Some(one) => {
                    let key = format!("{} query {name}", operation.id);
                    let value = typed(&one["schema"], value);
                    faults.extend(self.faults(&key, &one["schema"], &value));
                }
            }
        }
        for one in known.iter().filter(|one| one["in"] == "path") {
            let name = one["name"].as_str().unwrap();
            let value = operation.parameters.get(name).map(String::as_str);
            let value = typed(&one["schema"], value.unwrap_or_default());
            let key = format!("{} path {name}", operation.id);
            faults.extend(self.faults(&key, &one["schema"], &value));
        }
        let schema = &described["requestBody"]["content"]["application/json"]["schema"];
        let key = format!("{} request", operation.id);
        match (schema.is_null(), body.is_empty()) {
            (_, true) if described["requestBody"]["required"] != true => {}
            (true, false) => faults.push(format!("{key}: no body is described")),
            (true, true) => {}
            (false, _) => match serde_json::from_slice::<Value>(body) {
                Ok(body) => {
                    faults.extend(self.faults(&key, schema, &body));
                    let unnamed = unnamed::fields(&self.document, schema, &body);
                    let words = |field: String| format!("{key}: no field {field} is described");
                    faults.extend(unnamed.into_iter().map(words));
                }
                Err(error) => faults.push(format!("{key}: {error}")),
            },
        }
        faults
    }

    /// What is wrong with an answer. One that is not described for its call is one of [`UNDESCRIBED`], in the
    /// words of an error.
    pub(super) fn faults_of_answer(
        &mut self,
        operation: &Operation,
        status: u16,
        body: &Value,
    ) -> Vec<String> {
        let key = format!("{} answer {status}", operation.id);
        let pointer = format!("{}/responses/{status}", operation.pointer);
        let Some(described) = self.document.pointer(&pointer).cloned() else {
            let is_known = UNDESCRIBED.iter().any(|(one, below)| {
                let below = format!("/paths/{}", escaped(below));
                *one == status && operation.pointer.starts_with(&below)
            });
            if !is_known {
                return vec![format!("{key}: no such answer is described")];
            }
            let error = "#/components/schemas/basic-error";
            let schema = json!({"$ref": error, "required": ["message"]});
            return self.faults(&key, &schema, body);
        };
        let described = self.resolved(&described);
        let schema = &described["content"]["application/json"]["schema"];
        if schema.is_null() {
            return Vec::new();
        }
        self.faults(&key, schema, body)
    }

    fn faults(&mut self, key: &str, schema: &Value, value: &Value) -> Vec<String> {
        if !self.compiled.contains_key(key) {
            let mut root = Map::new();
            root.insert("components".to_owned(), self.document["components"].clone());
            root.insert("allOf".to_owned(), json!([schema]));
            let compiled = jsonschema::validator_for(&Value::Object(root));
            self.compiled.insert(key.to_owned(), compiled.unwrap());
        }
        let errors = self.compiled[key].iter_errors(value);
        errors
            .map(|error| format!("{key}: {error} at {:?}", error.instance_path().to_string()))
            .collect()
    }

    fn at(&self, pointer: &str) -> &Value {
        self.document.pointer(pointer).unwrap()
    }

    fn resolved(&self, value: &Value) -> Value {
        let reference = value.get("$ref").and_then(Value::as_str);
        reference.map_or_else(
            || value.clone(),
            |reference| self.at(reference.trim_start_matches('#')).clone(),
        )
    }
}

/// A parameter as its schema means it.
fn typed(schema: &Value, text: &str) -> Value {
    let number = schema["type"] == "integer";
    let parsed = number.then(|| text.parse::<i64>().ok()).flatten();
    parsed.map_or_else(|| json!(text), |number| json!(number))
}

fn escaped(template: &str) -> String {
    template.replace('~', "~0").replace('/', "~1")
}

/// What a path says of a template's names.
fn matched(template: &str, path: &str) -> Option<HashMap<String, String>> {
    let (wanted, given): (Vec<_>, Vec<_>) =
        (template.split('/').collect(), path.split('/').collect());
    if wanted.len() != given.len() {
        return None;
    }
    let mut parameters = HashMap::new();
    for (wanted, given) in wanted.into_iter().zip(given) {
        // One segment may hold two names: `{base}...{head}`.
        let (wanted, given) = match wanted.split_once("...") {
            Some(two) => (vec![two.0, two.1], given.split_once("...")?),
            None => (vec![wanted], (given, "")),
        };
        for (wanted, given) in wanted.into_iter().zip([given.0, given.1]) {
            match wanted
                .strip_prefix('{')
                .and_then(|one| one.strip_suffix('}'))
            {
                Some(name) => drop(parameters.insert(name.to_owned(), given.to_owned())),
                None if wanted == given => {}
                None => return None,
            }
        }
    }
    Some(parameters)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_github_would_refuse_is_found() {
        let mut contract = Contract::read();
        let create = contract.find("POST", "/repos/a/b/deployments").unwrap();
        assert_eq!(create.id, "repos/create-deployment");
        let mut faults = |body: Value| {
            contract
                .faults_of_request(&create, &[], body.to_string().as_bytes())
                .len()
        };
        assert_eq!(faults(json!({"ref": "main", "payload": {"a": 1}})), 0);
        assert_eq!(faults(json!({"payload": {}})), 1);
        assert_eq!(faults(json!({"ref": "main", "auto_merge": "no"})), 1);
        assert_eq!(faults(json!({"ref": "main", "automerge": false})), 1);
        assert_eq!(contract.faults_of_request(&create, &[], b"").len(), 1);
        assert!(contract.find("POST", "/repos/a/b/merges").is_err());
        let list = contract.find("GET", "/repos/a/b/deployments").unwrap();
        let query = |name: &str, value: &str| vec![(name.to_owned(), value.to_owned())];
        assert!(
            contract
                .faults_of_request(&list, &query("sha", "1"), b"")
                .is_empty()
        );
        assert_eq!(
            contract
                .faults_of_request(&list, &query("page", "x"), b"")
                .len(),
            1
        );
        assert_eq!(
            contract
                .faults_of_request(&list, &query("word", "x"), b"")
                .len(),
            1
        );
    }

    #[test]
    fn a_field_that_github_does_not_know_is_found_also_within_another() {
        let mut contract = Contract::read();
        for (method, path, body, unknown) in [
            (
                "POST",
                "/repos/a/b/deployments/1/statuses",
                json!({"state": "success", "enviroment_url": "https://a.example"}),
                "/enviroment_url",
            ),
            (
                "PATCH",
                "/repos/a/b/issues/comments/1",
                json!({"body": "a", "text": "b"}),
                "/text",
            ),
            (
                "POST",
                "/app/installations/7/access_tokens",
                json!({"permissions": {"contents": "read", "deployment": "write"}}),
                "/permissions/deployment",
            ),
        ] {
            let operation = contract.find(method, path).unwrap();
            let body = body.to_string();
            let faults = contract.faults_of_request(&operation, &[], body.as_bytes());
            let words = format!("{} request: no field {unknown} is described", operation.id);
            assert_eq!(faults, [words], "{body}");
        }
    }

    #[test]
    fn an_answer_that_github_does_not_give_is_found() {
        let mut contract = Contract::read();
        let status = "/repos/a/b/deployments/1/statuses";
        let status = contract.find("POST", status).unwrap();
        assert!(
            !contract
                .faults_of_answer(&status, 201, &json!({"id": 1}))
                .is_empty()
        );
        assert_eq!(contract.faults_of_answer(&status, 418, &json!({})).len(), 1);
    }

    #[test]
    fn failures_and_refusals_are_held_against_the_description_or_are_known_to_be_missing_there() {
        let mut contract = Contract::read();
        let error = json!({"message": "no", "documentation_url": "x", "status": "1"});
        let (empty, odd) = (json!({}), json!({"message": 1}));
        let (branch, hook) = ("/repos/a/b/branches/main", "/app/hook/config");
        let post = "/repos/a/b/deployments";
        for (method, path, status, body, is_right) in [
            // Described.
            ("GET", branch, 404, &error, true),
            ("GET", branch, 404, &odd, false),
            ("POST", post, 422, &error, true),
            ("POST", post, 422, &empty, false),
            // Not described, and given all the same.
            ("GET", branch, 500, &error, true),
            ("GET", branch, 500, &empty, false),
            ("GET", branch, 403, &odd, false),
            ("GET", hook, 401, &error, true),
            ("POST", post, 404, &error, true),
            ("POST", post, 429, &error, true),
            // Neither.
            ("GET", hook, 404, &error, false),
            ("GET", branch, 422, &error, false),
            ("GET", branch, 502, &error, false),
        ] {
            let operation = contract.find(method, path).unwrap();
            let found = contract.faults_of_answer(&operation, status, body);
            assert_eq!(
                found.is_empty(),
                is_right,
                "{method} {path} {status}: {found:?}"
            );
        }
    }
}
