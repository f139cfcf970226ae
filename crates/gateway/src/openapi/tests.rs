use std::collections::BTreeSet;

use super::*;
use crate::transcode::{self, Input};

const BASE: &str = "http://127.0.0.1:8090";

fn contract() -> Contract {
    Contract::read(candlefish_proto::DESCRIPTORS).unwrap()
}

fn walk<'v>(value: &'v Value, at: &str, look: &mut impl FnMut(&str, &'v Value)) {
    look(at, value);
    match value {
        Value::Object(fields) => {
            for (name, inner) in fields {
                walk(inner, &format!("{at}/{name}"), look);
            }
        }
        Value::Array(items) => {
            for (place, inner) in items.iter().enumerate() {
                walk(inner, &format!("{at}/{place}"), look);
            }
        }
        _ => {}
    }
}

fn operations(document: &Value) -> Vec<(String, String, &Value)> {
    let mut all = Vec::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (verb, operation) in item.as_object().unwrap() {
            all.push((path.clone(), verb.clone(), operation));
        }
    }
    all
}

#[test]
fn every_route_of_every_public_method_is_an_operation() {
    let contract = contract();
    let document = document(&contract, BASE);
    let mut routes = 0;
    for method in contract.methods() {
        for route in &method.routes {
            routes += 1;
            let verb = route.verb.as_str().to_ascii_lowercase();
            let operation = &document["paths"][route.template.to_string()][&verb];
            assert_eq!(
                operation["tags"][0],
                tag(&method.service),
                "{}",
                method.path
            );
            assert_eq!(operation["x-required-role"], role_name(method.role));
            assert_eq!(operation.get("requestBody").is_some(), route.body);
        }
    }
    // The one route that takes no message of the contract is described by hand.
    let webhook = &document["paths"]["/v1/webhooks/github"]["post"];
    assert_eq!(webhook["security"], Value::Array(Vec::new()));
    assert_eq!(operations(&document).len(), routes + 1);
}

#[test]
fn operations_have_names_of_their_own_and_all_their_parameters() {
    let document = document(&contract(), BASE);
    let mut ids = BTreeSet::new();
    for (path, verb, operation) in operations(&document) {
        let id = operation["operationId"].as_str().unwrap();
        assert!(ids.insert(id), "{id} twice");
        let mut named = BTreeSet::new();
        for parameter in operation["parameters"].as_array().unwrap() {
            let Some(name) = parameter.get("name") else {
                continue;
            };
            let place = &parameter["in"];
            assert!(
                named.insert((place.to_string(), name.to_string())),
                "{id} {name} twice"
            );
            assert!(parameter["schema"].is_object(), "{id} {name}");
            assert!(
                parameter.get("description").is_some(),
                "{id} {name} says nothing"
            );
            assert_eq!(
                place == "path" || place == "header",
                parameter["required"] == true,
                "{id} {name}"
            );
        }
        let in_path = path.matches('{').count();
        let paths = named.iter().filter(|(place, _)| place.contains("path"));
        assert_eq!(paths.count(), in_path, "{id}");
        let responses = operation["responses"].as_object().unwrap();
        assert!(
            responses.keys().any(|status| status.starts_with('2')),
            "{id}"
        );
        assert!(responses.contains_key("default"), "{id}");
        let repeats = verb != "get" && !path.starts_with("/v1/webhooks/");
        assert_eq!(responses.contains_key("422"), repeats, "{id}");
        let parameters = operation["parameters"].as_array().unwrap();
        let rehearses = json!({ "$ref": "#/components/parameters/Candlefish-Validate-Only" });
        assert_eq!(parameters.contains(&rehearses), repeats, "{id}");
    }
}

#[test]
fn every_reference_resolves_and_every_schema_is_used() {
    let document = document(&contract(), BASE);
    let mut used = BTreeSet::new();
    walk(&document, "", &mut |at, value| {
        if let Some(target) = value.get("$ref").and_then(Value::as_str) {
            let pointer = target.strip_prefix('#').unwrap();
            assert!(document.pointer(pointer).is_some(), "{at}: {target}");
            used.insert(pointer.to_owned());
        }
    });
    for name in document["components"]["schemas"]
        .as_object()
        .unwrap()
        .keys()
    {
        let pointer = format!("/components/schemas/{name}");
        assert!(
            used.contains(&pointer),
            "{name} is described and never used"
        );
    }
}

#[test]
fn every_schema_and_every_field_says_what_it_is() {
    let document = document(&contract(), BASE);
    for (name, schema) in document["components"]["schemas"].as_object().unwrap() {
        assert!(
            !schema["description"].as_str().unwrap().is_empty(),
            "{name}"
        );
        for (field, schema) in schema["properties"].as_object().into_iter().flatten() {
            assert!(schema.get("description").is_some(), "{name}.{field}");
        }
    }
}

#[test]
fn types_are_what_the_json_is() {
    let document = document(&contract(), BASE);
    let field = |schema: &str, field: &str| {
        let schema = &document["components"]["schemas"][schema]["properties"][field];
        let mut schema = schema.as_object().unwrap().clone();
        schema.remove("description");
        Value::Object(schema)
    };
    assert_eq!(
        field("Release", "file_count"),
        json!({"type": "integer", "format": "int32"})
    );
    assert_eq!(field("Release", "byte_count")["type"], "string");
    assert_eq!(field("Release", "byte_count")["format"], "int64");
    assert_eq!(
        field("Release", "created_at"),
        json!({"type": "string", "format": "date-time"})
    );
    assert_eq!(field("Canary", "interval")["pattern"], schema_pattern());
    assert_eq!(
        field("Deployment", "state")["$ref"],
        "#/components/schemas/Deployment.State"
    );
    assert_eq!(field("Canary", "weights")["items"]["type"], "integer");
    assert_eq!(
        field("MissingBlob", "headers")["additionalProperties"]["type"],
        "string"
    );
    assert_eq!(field("CreateTokenResponse", "secret")["format"], "password");
    assert_eq!(
        field("CreateDeploymentRequest", "lift_hold")["x-required-role"],
        "approver"
    );
    let update = &document["components"]["schemas"]["UpdateEnvironmentRequest"]["properties"];
    let policy = update["policy"]["description"].as_str().unwrap();
    assert!(policy.starts_with("Required unless "), "{policy}");
    let states = &document["components"]["schemas"]["Deployment.State"];
    assert!(
        states["enum"]
            .as_array()
            .unwrap()
            .contains(&json!("STATE_RUNNING"))
    );
    let body = &document["components"]["schemas"]["SetHoldRequest"]["properties"];
    assert_eq!(
        body.as_object().unwrap().keys().collect::<Vec<_>>(),
        ["reason"]
    );
}

fn schema_pattern() -> &'static str {
    r"^-?[0-9]+(\.[0-9]{1,9})?s$"
}

#[test]
fn streams_are_event_streams_and_makers_answer_201() {
    let document = document(&contract(), BASE);
    let watch = &document["paths"]["/v1/deployments/{id}:watch"]["get"];
    let content = &watch["responses"]["200"]["content"]["text/event-stream"];
    assert_eq!(
        content["x-event-schema"]["$ref"],
        "#/components/schemas/Deployment"
    );
    assert!(watch["responses"]["204"].is_object());
    let create = &document["paths"]["/v1/deployments"]["post"]["responses"];
    assert!(create["413"].is_object() && create["415"].is_object());
    assert!(create["201"]["headers"]["Location"].is_object());
    // A rehearsal makes nothing.
    let rehearsed = &create["200"]["headers"]["Candlefish-Validated-Only"];
    assert!(rehearsed.is_object());
    // A refusal of one says so too.
    let refused = &document["components"]["responses"]["Problem409"]["headers"];
    assert!(refused["Candlefish-Validated-Only"].is_object());
    assert!(create["200"]["headers"].get("Location").is_none());
    let rollback = &document["paths"]["/v1/rollbacks"]["post"]["responses"];
    assert!(rollback["200"].is_object() && rollback["201"].is_object());
}

#[test]
fn every_example_is_read_as_a_request() {
    for method in contract().methods() {
        for route in &method.routes {
            let path: Vec<(&str, String)> = route
                .template
                .fields()
                .map(|name| {
                    let known = example::path_field(&method.name, name);
                    (name, known.unwrap_or("id_1").to_owned())
                })
                .collect();
            let body = example::body(&method.name).map(|body| body.to_string());
            let input = Input {
                path: &path,
                query: example::query(&method.name).trim_start_matches('?'),
                body: body.as_ref().map(String::as_bytes),
            };
            let read = transcode::read(&method.input, &input);
            assert!(read.is_ok(), "{}: {:?}", method.name, read.err());
        }
    }
}

#[test]
fn curl_lines_make_the_call() {
    let contract = contract();
    let sample = |name: &str| {
        let method = contract.methods().iter().find(|m| m.name == name).unwrap();
        sample::curl(&contract, method, &method.routes[0], BASE)
    };
    insta::assert_snapshot!(sample("ListSites"), @r#"
    curl -H "Authorization: Bearer $CANDLEFISH_TOKEN" \
      'http://127.0.0.1:8090/v1/sites'
    "#);
    insta::assert_snapshot!(sample("WatchDeployment"), @r#"
    id=$(curl -s -H "Authorization: Bearer $CANDLEFISH_TOKEN" \
      'http://127.0.0.1:8090/v1/deployments?page_size=5' | grep -o 'dep_[0-9a-z]*' | head -n 1)
    curl -N -H "Authorization: Bearer $CANDLEFISH_TOKEN" \
      "http://127.0.0.1:8090/v1/deployments/${id}:watch"
    "#);
    insta::assert_snapshot!(sample("SetHold"), @r#"
    curl -X PUT -H "Authorization: Bearer $CANDLEFISH_TOKEN" \
      --json '{"reason":"A sale runs until tonight."}' \
      'http://127.0.0.1:8090/v1/sites/docs/environments/production/hold'
    "#);
    // The shell names a time to come: a date of ours would be over one day.
    insta::assert_snapshot!(sample("SetStop"), @r#"
    curl -H "Authorization: Bearer $CANDLEFISH_TOKEN" \
      --json '{"reason":"The registry is down.","site":"docs","until":"'$(date -u -v+2H +%FT%TZ 2>/dev/null || date -u -d +2hours +%FT%TZ)'"}' \
      'http://127.0.0.1:8090/v1/stops'
    "#);
    // Only a preview is closed.
    insta::assert_snapshot!(sample("CloseEnvironment"), @r#"
    curl -H "Authorization: Bearer $CANDLEFISH_TOKEN" \
      --json '{"reason":"The pull request is given up."}' \
      'http://127.0.0.1:8090/v1/sites/docs/environments/pr-7:close'
    "#);
    insta::assert_snapshot!(sample("RevokeToken"), @r#"
    id=tok_01k8qw3v7hf6b9t2m4n5p6q7r8 # the one you mean
    curl -H "Authorization: Bearer $CANDLEFISH_TOKEN" \
      --json '{}' \
      "http://127.0.0.1:8090/v1/tokens/${id}:revoke"
    "#);
}

#[test]
fn the_document_is_always_the_same() {
    let once = document(&contract(), BASE).to_string();
    assert_eq!(once, document(&contract(), BASE).to_string());
}
