use proptest::prelude::*;
use prost_reflect::DescriptorPool;
use serde_json::{Value as Json, json};

use super::*;

mod standard;

fn message(name: &str) -> MessageDescriptor {
    let pool = DescriptorPool::decode(candlefish_proto::DESCRIPTORS).unwrap();
    pool.get_message_by_name(name).unwrap()
}

fn deploy(name: &str) -> MessageDescriptor {
    message(&format!("candlefish.deploy.v1.{name}"))
}

fn body(name: &str, text: &str) -> Result<Json, Vec<(String, String)>> {
    let input = Input {
        path: &[],
        query: "",
        body: Some(text.as_bytes()),
    };
    shown(read(&deploy(name), &input))
}

fn query(name: &str, text: &str) -> Result<Json, Vec<(String, String)>> {
    let input = Input {
        path: &[],
        query: text,
        body: None,
    };
    shown(read(&deploy(name), &input))
}

fn shown(read: Result<DynamicMessage, Half>) -> Result<Json, Vec<(String, String)>> {
    read.map(|message| serde_json::from_slice(&render(&message)).unwrap())
        .map_err(|half| {
            let faults = half.faults.into_iter();
            faults.map(|f| (f.field, f.message)).collect()
        })
}

fn fields(read: Result<Json, Vec<(String, String)>>) -> Vec<String> {
    read.unwrap_err()
        .into_iter()
        .map(|(field, _)| field)
        .collect()
}

#[test]
fn a_good_body_comes_back_as_it_was_written() {
    let given = json!({
        "site": "docs", "environment": "production", "release_id": "rel_1",
        "strategy": {"canary": {"weights": [10, 50], "interval": "30s", "bake": "1.500s"}},
        "reason": "because \"so\" – ü", "lift_hold": "x"
    });
    assert_eq!(
        body("CreateDeploymentRequest", &given.to_string()),
        Ok(given)
    );
    let policy = json!({
        "site": "docs", "environment": "production",
        "policy": {"order": "ORDER_QUEUE", "settle": "2s", "min_edges": 2,
            "strategy": {"rolling": {"batch": 3}}}
    });
    assert_eq!(
        body("UpdateEnvironmentRequest", &policy.to_string()),
        Ok(policy)
    );
    let release = json!({"site": "docs", "parents": ["a", "b"], "ancestors": [],
        "committed_at": "2026-11-20T15:00:02Z", "dirty": true, "manifest_size": 7});
    assert_eq!(
        body("CreateReleaseRequest", &release.to_string()),
        Ok(release)
    );
}

#[test]
fn every_bad_field_of_a_body_is_named_at_once() {
    let text = r#"{"site": 7, "environment": null, "releaseId": "rel_1", "nonsense": 1, "preview": "yes",
        "strategy": {"canary": {"weights": [10, "x", 1.5, 99999999999], "interval": "soon", "bake": 3}},
        "reason": "a", "reason": "b", "lift_hold": "nul \u0000"}"#;
    assert_eq!(
        fields(body("CreateDeploymentRequest", text)),
        [
            "site",
            "releaseId",
            "nonsense",
            "preview",
            "strategy.canary.weights[1]",
            "strategy.canary.weights[2]",
            "strategy.canary.weights[3]",
            "strategy.canary.interval",
            "strategy.canary.bake",
            "reason",
            "lift_hold",
        ]
    );
}

#[test]
fn what_could_be_read_is_kept_and_what_could_not_is_not_missing() {
    let text =
        r#"{"site": "docs", "name": 5, "repository": "a/b", "previews": "yes", "nonsense": 1}"#;
    let input = Input {
        path: &[],
        query: "",
        body: Some(text.as_bytes()),
    };
    let half = read(&deploy("UpdateSiteRequest"), &input).unwrap_err();
    assert!(half.is_something());
    let named: Vec<&str> = half
        .faults
        .iter()
        .map(|fault| fault.field.as_str())
        .collect();
    assert_eq!(named, ["name", "previews", "nonsense"]);
    for name in ["site", "name", "repository", "previews"] {
        assert!(half.message.has_field_by_name(name), "{name}");
    }
    for (text, is_something) in [
        ("{", false),
        ("[]", false),
        (r#"{"": 1}"#, false),
        (r#"{"a": 1}"#, true),
    ] {
        let input = Input {
            path: &[],
            query: "",
            body: Some(text.as_bytes()),
        };
        let half = read(&deploy("UpdateSiteRequest"), &input).unwrap_err();
        assert_eq!(half.is_something(), is_something, "{text}");
    }
}

#[test]
fn faults_say_what_would_be_right() {
    let table = [
        (
            r#"{"releaseId": "x"}"#,
            "is unknown here; it is called \"release_id\"",
        ),
        (r#"{"preview": "yes"}"#, "must be true or false, not a text"),
        (r#"{"strategy": []}"#, "must be an object, not a list"),
        (
            r#"{"strategy": {"canary": {}, "rolling": {}}}"#,
            "does not go with \"canary\": give one of them",
        ),
        (
            r#"{"strategy": {"canary": {"interval": "2m"}}}"#,
            "must be seconds such as \"30s\" or \"1.5s\", not \"2m\"",
        ),
        ("[]", "the body must be an object, not a list"),
        (
            "{",
            "the body is no JSON: EOF while parsing an object at line 1 column 1",
        ),
        (
            "{} x",
            "the body is no JSON: trailing characters at line 1 column 4",
        ),
    ];
    for (text, message) in table {
        let faults = body("CreateDeploymentRequest", text).unwrap_err();
        assert_eq!(
            faults.last().map(|(_, message)| message.as_str()),
            Some(message),
            "{text}"
        );
    }
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table")]
fn values_at_the_edge_of_their_type_are_judged_right() {
    let policy = |field: &str, value: &str| {
        body(
            "UpdateEnvironmentRequest",
            &format!("{{\"policy\": {{\"{field}\": {value}}}}}"),
        )
    };
    for good in ["2147483647", "-2147483648", "\"12\"", "3.0", "1e3"] {
        assert!(policy("min_edges", good).is_ok(), "{good}");
    }
    for bad in [
        "2147483648",
        "1.5",
        "\"\"",
        "\"1x\"",
        "true",
        "[]",
        "\" 1\"",
        "1e400",
    ] {
        assert!(policy("min_edges", bad).is_err(), "{bad}");
    }
    for good in ["\"ORDER_QUEUE\"", "2", "\"ORDER_UNSPECIFIED\""] {
        assert!(policy("order", good).is_ok(), "{good}");
    }
    for bad in ["\"QUEUE\"", "9", "-1", "1.5", "true", "\"\""] {
        assert!(policy("order", bad).is_err(), "{bad}");
    }
    for good in [
        "\"0s\"",
        "\"-1.5s\"",
        "\"315576000000s\"",
        "\"0.000000001s\"",
    ] {
        assert!(policy("settle", good).is_ok(), "{good}");
    }
    for bad in [
        "\"s\"",
        "\"1\"",
        "\".5s\"",
        "\"1.s\"",
        "\"315576000001s\"",
        "\"0.0000000001s\"",
        "\"+1s\"",
        "1",
    ] {
        assert!(policy("settle", bad).is_err(), "{bad}");
    }
    let at = |text: &str| {
        body(
            "CreateReleaseRequest",
            &format!("{{\"committed_at\": {text}}}"),
        )
    };
    for good in [
        "\"2026-11-20T15:00:02Z\"",
        "\"2026-11-20T15:00:02.5+02:00\"",
        "\"1969-01-01T00:00:00.25Z\"",
    ] {
        assert!(at(good).is_ok(), "{good}");
    }
    for bad in [
        "\"2026-11-20\"",
        "\"2026-11-20T15:00:02\"",
        "\"now\"",
        "7",
        "\"2026-13-20T15:00:02Z\"",
        "\"-000001-01-01T00:00:00Z\"",
    ] {
        assert!(at(bad).is_err(), "{bad}");
    }
    assert_eq!(
        at("\"1969-01-01T00:00:00.25Z\"").unwrap()["committed_at"],
        json!("1969-01-01T00:00:00.250Z")
    );
}

#[test]
fn a_body_nested_too_deep_is_refused_and_not_followed() {
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    let faults = body("CreateDeploymentRequest", &deep).unwrap_err();
    assert!(
        faults[0].1.contains("more than 32 levels deep"),
        "{faults:?}"
    );
}

#[test]
fn a_body_of_too_many_values_is_refused_and_says_so() {
    let weights = |count: usize| {
        let ones = vec!["1"; count].join(",");
        let text = format!(r#"{{"strategy":{{"canary":{{"weights":[{ones}]}}}}}}"#);
        body("CreateDeploymentRequest", &text)
    };
    // With the list and what it lies in.
    assert!(weights(100_000 - 4).is_ok());
    let faults = weights(100_000 - 3).unwrap_err();
    assert_eq!(faults.len(), 1, "{faults:?}");
    assert!(
        faults[0].1.contains("more than 100000 values"),
        "{faults:?}"
    );
}

#[test]
fn of_many_faults_the_first_are_named() {
    let unknown: Vec<String> = (0..1_000).map(|one| format!("\"x{one}\":1")).collect();
    let text = format!("{{{}}}", unknown.join(","));
    let named = fields(body("CreateDeploymentRequest", &text));
    assert_eq!(named.len(), 50);
    assert_eq!((named[0].as_str(), named[49].as_str()), ("x0", "x49"));
}

#[test]
fn an_empty_body_is_an_empty_request() {
    assert_eq!(body("SealReleaseRequest", " \n"), Ok(json!({})));
}

#[test]
fn the_path_wins_over_a_body_that_says_the_same_and_refuses_one_that_does_not() {
    let path = [("id", "rel_1".to_owned())];
    let with = |text: &str| {
        let input = Input {
            path: &path,
            query: "",
            body: Some(text.as_bytes()),
        };
        shown(read(&deploy("SealReleaseRequest"), &input))
    };
    assert_eq!(with("{}"), Ok(json!({"id": "rel_1"})));
    assert_eq!(with(r#"{"id": "rel_1"}"#), Ok(json!({"id": "rel_1"})));
    assert_eq!(fields(with(r#"{"id": "rel_2"}"#)), ["id"]);
}

#[test]
fn query_parameters_reach_their_fields() {
    assert_eq!(
        query(
            "ListDeploymentsRequest",
            "site=docs&state=STATE_RUNNING&page_size=5&page_token=a%2Bb"
        ),
        Ok(json!({"site": "docs", "state": "STATE_RUNNING", "page_size": 5, "page_token": "a+b"}))
    );
    assert_eq!(
        query("ListEnvironmentsRequest", "include_previews=true"),
        Ok(json!({"include_previews": true}))
    );
    assert_eq!(
        query(
            "CreateDeploymentRequest",
            "strategy.canary.weights=10&strategy.canary.weights=50&strategy.canary.interval=3s"
        ),
        Ok(json!({"strategy": {"canary": {"weights": [10, 50], "interval": "3s"}}}))
    );
}

#[test]
fn every_bad_query_parameter_is_named_at_once() {
    let faults = query(
        "ListDeploymentsRequest",
        "site=a&site=b&state=RUNNING&page_size=many&pageToken=x&site.x=1&=1&nonsense",
    );
    assert_eq!(
        fields(faults),
        [
            "site",
            "state",
            "page_size",
            "pageToken",
            "site.x",
            "",
            "nonsense"
        ]
    );
    assert_eq!(
        fields(query("CreateDeploymentRequest", "strategy=x")),
        ["strategy"]
    );
}

#[test]
fn a_call_with_a_body_takes_no_query_parameters() {
    let input = Input {
        path: &[],
        query: "site=docs",
        body: Some(b"{}"),
    };
    assert_eq!(
        fields(shown(read(&deploy("CreateDeploymentRequest"), &input))),
        ["site"]
    );
}

#[test]
fn a_page_of_nothing_holds_a_list() {
    let empty = DynamicMessage::new(deploy("ListDeploymentsResponse"));
    assert_eq!(render(&empty), br#"{"deployments":[]}"#);
}

#[test]
fn answers_are_rendered_as_documented() {
    let given = json!({"blobs": [{"digest": "ab", "size": "9007199254740993", "headers": {"b": "2", "a": "1"}}]});
    let page = DynamicMessage::deserialize(deploy("ListMissingBlobsResponse"), given).unwrap();
    assert_eq!(
        String::from_utf8(render(&page)).unwrap(),
        r#"{"blobs":[{"digest":"ab","size":"9007199254740993","headers":{"a":"1","b":"2"}}]}"#
    );
}

#[test]
fn an_event_shows_the_body_within_and_survives_one_it_does_not_know() {
    let any = |url: &str, bytes: Vec<u8>| {
        let mut envelope = candlefish_proto::event::Envelope {
            id: "evt_1".to_owned(),
            seq: 7,
            ..Default::default()
        };
        envelope.body = Some(prost_types::Any {
            type_url: url.to_owned(),
            value: bytes,
        });
        let mut message = DynamicMessage::new(message("candlefish.event.v1.Envelope"));
        message.transcode_from(&envelope).unwrap();
        String::from_utf8(render(&message)).unwrap()
    };
    let site = candlefish_proto::deploy::SiteChanged {
        site: Some(candlefish_proto::deploy::Site {
            slug: "docs".to_owned(),
            ..Default::default()
        }),
    };
    let bytes = prost::Message::encode_to_vec(&site);
    assert_eq!(
        any(
            "type.googleapis.com/candlefish.deploy.v1.SiteChanged",
            bytes
        ),
        r#"{"id":"evt_1","seq":"7","body":{"@type":"type.googleapis.com/candlefish.deploy.v1.SiteChanged","site":{"slug":"docs"}}}"#
    );
    assert_eq!(
        any("type.googleapis.com/some.Other", vec![1, 2, 3]),
        r#"{"id":"evt_1","seq":"7","body":{"@type":"type.googleapis.com/some.Other"}}"#
    );
}

#[test]
fn an_enum_value_from_a_newer_service_is_shown_as_its_number() {
    let newer = candlefish_proto::deploy::Deployment {
        state: 99,
        ..Default::default()
    };
    let mut message = DynamicMessage::new(deploy("Deployment"));
    message.transcode_from(&newer).unwrap();
    let text = String::from_utf8(render(&message)).unwrap();
    assert!(text.contains("\"state\":99"), "{text}");
}

fn any_json() -> impl Strategy<Value = Json> {
    let leaf = prop_oneof![
        Just(Json::Null),
        any::<bool>().prop_map(Json::from),
        any::<i64>().prop_map(Json::from),
        any::<f64>().prop_map(Json::from),
        "\\PC{0,12}".prop_map(Json::from),
        "[0-9.]{0,12}s?".prop_map(Json::from),
    ];
    let name = prop_oneof![
        "(site|strategy|canary|weights|interval|policy|hosts|settle|order|preview|kind)",
        "\\PC{0,6}"
    ];
    leaf.prop_recursive(4, 32, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Json::from),
            prop::collection::vec((name.clone(), inner), 0..5)
                .prop_map(|fields| Json::Object(fields.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn no_body_makes_it_panic(text in "\\PC{0,80}") {
        let _unused = body("CreateDeploymentRequest", &text).is_ok();
    }

    #[test]
    fn no_json_makes_it_panic_and_what_is_read_can_be_written(json in any_json()) {
        for name in ["CreateDeploymentRequest", "UpdateEnvironmentRequest", "CreateReleaseRequest"] {
            if let Ok(read) = body(name, &json.to_string()) {
                prop_assert_eq!(body(name, &read.to_string()), Ok(read));
            }
        }
    }

    #[test]
    fn no_query_makes_it_panic(text in "\\PC{0,80}", site in "[a-z.=&%+]{0,40}") {
        let _one = query("ListDeploymentsRequest", &text).is_ok();
        let _two = query("CreateDeploymentRequest", &site).is_ok();
    }
}
