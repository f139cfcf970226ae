//! Fields of a body that its schema does not name. GitHub's schemas leave their objects open, so that a
//! validator takes whatever is there; and GitHub passes over what it does not know, so that nobody would miss
//! a field that is misspelt.

use serde_json::{Map, Value};

const COMBINED: [&str; 3] = ["allOf", "anyOf", "oneOf"];

/// The fields of a body that none of its schemas in the document names, each as a JSON pointer. An object
/// has any where its schema says so, or names none.
pub(super) fn fields(document: &Value, schema: &Value, body: &Value) -> Vec<String> {
    let mut found = Vec::new();
    look(document, &[schema], body, "", &mut found);
    found
}

fn look(document: &Value, schemas: &[&Value], value: &Value, place: &str, found: &mut Vec<String>) {
    let schemas = all_of(document, schemas);
    match value {
        Value::Object(fields) => look_into(document, &schemas, fields, place, found),
        Value::Array(items) => {
            let described: Vec<&Value> =
                schemas.iter().filter_map(|one| one.get("items")).collect();
            for (number, item) in items.iter().enumerate() {
                let place = format!("{place}/{number}");
                look(document, &described, item, &place, found);
            }
        }
        _ => {}
    }
}

fn look_into(
    document: &Value,
    schemas: &[&Value],
    fields: &Map<String, Value>,
    place: &str,
    found: &mut Vec<String>,
) {
    let names_some = schemas.iter().any(|one| one.get("properties").is_some());
    let is_open = !names_some || schemas.iter().any(|one| takes_any(one));
    for (name, value) in fields {
        let place = format!("{place}/{name}");
        let named = schemas
            .iter()
            .filter_map(|one| one.get("properties")?.get(name));
        let mut described: Vec<&Value> = named.collect();
        if described.is_empty() {
            let others = schemas
                .iter()
                .filter_map(|one| one.get("additionalProperties"));
            described.extend(others.filter(|one| one.is_object()));
        }
        if described.is_empty() && !is_open {
            found.push(place);
        } else {
            look(document, &described, value, &place, found);
        }
    }
}

/// Whether a schema takes fields of any name: it says so, or is that of an object of which it says nothing.
fn takes_any(schema: &Value) -> bool {
    let is_object = match &schema["type"] {
        Value::Array(types) => types.iter().any(|one| one == "object"),
        one => one == "object",
    };
    if let Some(said) = schema.get("additionalProperties") {
        return *said == true;
    }
    let mut says = COMBINED.iter().chain(&["$ref", "properties"]);
    is_object && says.all(|word| schema.get(word).is_none())
}

/// The schemas, what they refer to and what they are combined of: whatever one of them names is named.
fn all_of<'a>(document: &'a Value, schemas: &[&'a Value]) -> Vec<&'a Value> {
    let mut all = Vec::new();
    let mut left = schemas.to_vec();
    while let Some(one) = left.pop() {
        all.push(one);
        let reference = one.get("$ref").and_then(Value::as_str);
        left.extend(reference.and_then(|to| document.pointer(to.trim_start_matches('#'))));
        for word in COMBINED {
            let members = one.get(word).and_then(Value::as_array);
            left.extend(members.into_iter().flatten());
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_no_schema_names_is_found_at_any_depth() {
        let document = json!({"components": {"schemas": {"app": {
            "type": "object", "properties": {"name": {"type": "string"}}
        }}}});
        let schema = json!({
            "type": "object",
            "properties": {
                "app": {"$ref": "#/components/schemas/app"},
                "apps": {"type": "array", "items": {"$ref": "#/components/schemas/app"}},
                "any": {"oneOf": [
                    {"type": "object", "additionalProperties": true}, {"type": "string"}
                ]},
                "free": {"type": ["object", "null"]},
                "rights": {
                    "type": "object",
                    "properties": {"owner": {"type": "string"}},
                    "additionalProperties": {"$ref": "#/components/schemas/app"}
                },
                "both": {"allOf": [
                    {"$ref": "#/components/schemas/app"},
                    {"properties": {"age": {"type": "integer"}}, "required": ["age"]}
                ]},
                "closed": {
                    "type": "object", "properties": {"a": {}}, "additionalProperties": false
                },
            },
            "anyOf": [{"required": ["app"]}, {"required": ["apps"]}]
        });
        for (body, expected) in [
            (
                json!({"app": {"name": "a"}, "apps": [{"name": "b"}]}),
                vec![],
            ),
            (json!({"ap": {}}), vec!["/ap"]),
            (json!({"app": {"nam": "a"}}), vec!["/app/nam"]),
            (
                json!({"apps": [{"name": "a"}, {"nam": "b"}]}),
                vec!["/apps/1/nam"],
            ),
            (json!({"any": {"x": {"y": 1}}, "free": {"x": 1}}), vec![]),
            (
                json!({"rights": {"owner": "a", "x": {"name": "b"}}}),
                vec![],
            ),
            (
                json!({"rights": {"x": {"nam": "b"}}}),
                vec!["/rights/x/nam"],
            ),
            (json!({"both": {"name": "a", "age": 1}}), vec![]),
            (json!({"both": {"name": "a", "ag": 1}}), vec!["/both/ag"]),
            (json!({"closed": {"b": 1}}), vec!["/closed/b"]),
            (json!(["app"]), vec![]),
            (json!(null), vec![]),
        ] {
            assert_eq!(fields(&document, &schema, &body), expected, "{body}");
        }
    }
}
