//! Bad input for every method and every field, made from the descriptors: always a 4xx that names
//! the field, never a 5xx; nothing of it reaches the service behind, and nothing is written here.

use bytes::Bytes;
use candlefish_proto::access;
use prost::Message as _;
use prost_reflect::{DynamicMessage, FieldDescriptor, Kind, MessageDescriptor};
use reqwest::Method;
use serde_json::{Value, json};
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use crate::{
    backend::frame,
    raw::{self, with_token},
    stand::{Answered, SOON, Stand},
    table::{Rpc, rpcs},
};

/// The gateway's own calls that cannot do without some fields, by path; all others answer an empty
/// message.
const NEEDED: [(&str, &[&str]); 3] = [
    (
        "/candlefish.access.v1.AccessService/CreatePrincipal",
        &["kind", "name"],
    ),
    (
        "/candlefish.access.v1.AccessService/CreateToken",
        &["name", "principal", "role"],
    ),
    ("/candlefish.access.v1.AccessService/RevokeToken", &["id"]),
];

/// What is wrong for a field, as JSON.
fn wrong(field: &FieldDescriptor) -> Vec<Value> {
    if field.is_map() {
        return vec![json!("text"), json!([]), json!({ "key": 5 })];
    }
    if field.is_list() {
        let mut all = vec![json!("text"), json!(5), json!({})];
        all.extend(wrong_one(&field.kind()).into_iter().map(|one| json!([one])));
        return all;
    }
    wrong_one(&field.kind())
}

fn wrong_one(kind: &Kind) -> Vec<Value> {
    match kind {
        Kind::Bool => vec![json!("yes"), json!(1), json!({})],
        Kind::String => vec![
            json!(5),
            json!(true),
            json!(["a"]),
            json!({}),
            json!("a\u{0}b"),
        ],
        Kind::Bytes => vec![json!("?"), json!(5)],
        Kind::Enum(_) => vec![json!("NO_SUCH_NAME"), json!(9999), json!(true), json!(1.5)],
        Kind::Message(message) if message.full_name() == "google.protobuf.Timestamp" => {
            vec![
                json!("yesterday"),
                json!(5),
                json!({}),
                json!("2026-13-01T00:00:00Z"),
            ]
        }
        Kind::Message(message) if message.full_name() == "google.protobuf.Duration" => {
            vec![
                json!("soon"),
                json!(30),
                json!("30"),
                json!({}),
                json!("1e9999s"),
            ]
        }
        Kind::Message(_) => vec![json!("text"), json!(5), json!([])],
        // Numbers of 32 and of 64 bits.
        _ => vec![
            json!("many"),
            json!(1.5),
            json!(true),
            json!(1e300),
            json!("99999999999999999999"),
        ],
    }
}

/// Every field of a request with its path and a body that sets it, at most three levels deep.
fn paths(message: &MessageDescriptor, at: &str, depth: usize) -> Vec<(String, FieldDescriptor)> {
    let mut all = Vec::new();
    for field in message.fields() {
        let path = if at.is_empty() {
            field.name().to_owned()
        } else {
            format!("{at}.{}", field.name())
        };
        if let Kind::Message(inner) = field.kind()
            && !field.is_list()
            && !field.is_map()
            && !inner.full_name().starts_with("google.")
            && depth < 3
        {
            all.extend(paths(&inner, &path, depth + 1));
        }
        all.push((path, field));
    }
    all
}

/// `{"a":{"b":value}}` for `a.b`.
fn nested(path: &str, value: Value) -> Value {
    path.rsplit('.')
        .fold(value, |inner, name| json!({ name: inner }))
}

fn assert_named(answer: &Answered, field: &str, what: &dyn std::fmt::Debug) {
    answer.is_problem(400);
    let named = answer.fields();
    let within = |name: &&str| {
        *name == field
            || name.starts_with(&format!("{field}["))
            || name.starts_with(&format!("{field}."))
    };
    assert!(
        named.iter().any(within),
        "{what:?} must name {field}: {answer:?}"
    );
}

/// Every row that the gateway's own calls write, as text.
async fn written(stand: &Stand) -> Vec<String> {
    sqlx::query_scalar(
        "SELECT 'principal ' || p::text FROM principal p
         UNION ALL SELECT 'token ' || t::text FROM token t
         UNION ALL SELECT 'idempotency ' || i::text FROM idempotency i ORDER BY 1",
    )
    .fetch_all(&stand.database.pool())
    .await
    .unwrap()
}

/// A gateway, and what is written before anything is asked of it: the admin and its token.
async fn start() -> (Stand, Vec<String>) {
    let stand = Stand::start().await;
    let before = written(&stand).await;
    assert_eq!(before.len(), 2, "{before:?}");
    (stand, before)
}

/// Nothing reached the service behind, and nothing of our own is written.
async fn assert_nothing_came_of_it(stand: &Stand, before: &[String]) {
    assert!(stand.backend.seen().is_empty());
    assert_eq!(written(stand).await, before);
}

async fn send(stand: &Stand, rpc: &Rpc, body: &Value) -> Answered {
    let request = stand.ask(rpc.verb.clone(), &rpc.url(), &stand.admin);
    stand.send(request.json(body)).await
}

#[tokio::test]
async fn a_wrong_type_in_any_field_of_any_body_is_named() {
    let (stand, before) = start().await;
    let mut tried = 0;
    for rpc in rpcs().iter().filter(|rpc| rpc.body) {
        let bound = rpc.in_path();
        for (path, field) in paths(&rpc.input, "", 0) {
            if bound.contains(&path.as_str()) {
                continue;
            }
            for value in wrong(&field) {
                let answer = send(&stand, rpc, &nested(&path, value.clone())).await;
                assert_named(&answer, &path, &(&rpc.path, value));
                tried += 1;
            }
        }
    }
    assert!(tried > 300, "{tried}");
    assert_nothing_came_of_it(&stand, &before).await;
}

#[tokio::test]
async fn a_wrong_value_in_any_parameter_of_any_query_is_named() {
    let (stand, before) = start().await;
    let mut tried = 0;
    for rpc in rpcs().iter().filter(|rpc| !rpc.body) {
        let bound = rpc.in_path();
        for (path, field) in paths(&rpc.input, "", 0) {
            if bound.contains(&path.as_str()) {
                continue;
            }
            let mut queries = vec![];
            match field.kind() {
                Kind::String | Kind::Bytes => queries.push(format!("{path}=a%00b")),
                _ => queries.extend(["nonsense", "1.5", "%20", ""].map(|v| format!("{path}={v}"))),
            }
            if !field.is_list() {
                queries.push(format!("{path}=1&{path}=1"));
            }
            for query in queries {
                let url = format!("{}?{query}", rpc.url());
                let request = stand.ask(rpc.verb.clone(), &url, &stand.admin);
                let answer = stand.send(request).await;
                assert_named(&answer, &path, &(&rpc.path, &query));
                tried += 1;
            }
        }
        let request = stand.ask(
            rpc.verb.clone(),
            &format!("{}?no_such=1", rpc.url()),
            &stand.admin,
        );
        assert_named(&stand.send(request).await, "no_such", &rpc.path);
    }
    assert!(tried > 50, "{tried}");
    assert_nothing_came_of_it(&stand, &before).await;
}

#[tokio::test]
async fn unknown_fields_and_bodies_that_are_no_object_are_refused() {
    let (stand, before) = start().await;
    for rpc in rpcs().iter().filter(|rpc| rpc.body) {
        for (path, _) in paths(&rpc.input, "", 0) {
            let camel = path.rsplit('.').next().unwrap();
            if camel.contains('_') {
                let words: Vec<&str> = camel.split('_').collect();
                let upper = words[1..].iter().map(|w| w[..1].to_uppercase() + &w[1..]);
                let camel: String = [words[0].to_owned()].into_iter().chain(upper).collect();
                let wrong = path
                    .rsplit_once('.')
                    .map_or_else(|| camel.clone(), |(p, _)| format!("{p}.{camel}"));
                let answer = send(&stand, rpc, &nested(&wrong, json!("x"))).await;
                assert_named(&answer, &wrong, &rpc.path);
            }
        }
        assert_named(
            &send(&stand, rpc, &json!({ "no_such": 1 })).await,
            "no_such",
            &rpc.path,
        );
        let deep = (0..100)
            .fold(json!(1), |inner, _| json!([inner]))
            .to_string();
        let bodies = [
            "",
            "[]",
            "5",
            "\"text\"",
            "null",
            "{",
            "{}{}",
            "{\"a\":1,}",
            "\u{feff}{}",
            &deep,
        ];
        for body in bodies {
            let request = stand.ask(rpc.verb.clone(), &rpc.url(), &stand.admin);
            let request = request
                .header("content-type", "application/json")
                .body(body.to_owned());
            if body.is_empty() {
                continue;
            }
            let answer = stand.send(request).await;
            answer.is_problem(400);
            assert!(
                !answer.fields().is_empty(),
                "{} {body}: {answer:?}",
                rpc.path
            );
        }
        let request = stand.ask(rpc.verb.clone(), &rpc.url(), &stand.admin);
        let request = request
            .header("content-type", "application/json")
            .body(vec![0xff, 0xfe]);
        stand.send(request).await.is_problem(400);
    }
    assert_nothing_came_of_it(&stand, &before).await;
}

#[tokio::test]
async fn a_field_given_twice_and_one_that_the_path_contradicts_are_named() {
    let (stand, before) = start().await;
    for rpc in rpcs().iter().filter(|rpc| rpc.body) {
        let bound = rpc.in_path();
        for field in rpc.input.fields() {
            let name = field.name();
            let request = stand.ask(rpc.verb.clone(), &rpc.url(), &stand.admin);
            let twice = format!("{{\"{name}\":null,\"{name}\":null}}");
            let request = request
                .header("content-type", "application/json")
                .body(twice);
            assert_named(&stand.send(request).await, name, &rpc.path);
            if bound.contains(&name) {
                let answer = send(&stand, rpc, &json!({ name: "another" })).await;
                assert_named(&answer, name, &rpc.path);
            }
        }
        let url = format!("{}?reason=x", rpc.url());
        let request = stand
            .ask(rpc.verb.clone(), &url, &stand.admin)
            .json(&json!({}));
        assert_named(&stand.send(request).await, "reason", &rpc.path);
    }
    assert_nothing_came_of_it(&stand, &before).await;
}

#[tokio::test]
async fn what_is_too_large_is_refused_by_every_call() {
    let (stand, before) = start().await;
    let most = 4 * 1024 * 1024;
    // One byte more than any call takes, in JSON and in a message.
    let body = format!("{{\"reason\":\"{}\"}}", "a".repeat(most - 12));
    assert_eq!(body.len(), most + 1);
    let (body, framed) = (Bytes::from(body), frame(&vec![0; most + 1]));
    let long = "a".repeat(33 * 1024);
    for rpc in rpcs() {
        // What is refused before it was read leaves a connection that is of no more use.
        let alone = |request: reqwest::RequestBuilder| request.header("connection", "close");
        let ask = |url: &str| alone(stand.ask(rpc.verb.clone(), url, &stand.admin));
        if rpc.body {
            let request = ask(&rpc.url()).header("content-type", "application/json");
            let answer = stand.send(request.body(body.clone())).await;
            assert_eq!(answer.is_problem(413).body["code"], "PAYLOAD_TOO_LARGE");
        } else {
            let answer = stand.send(ask(&rpc.url()).header("x-large", &long)).await;
            assert_eq!(answer.is_problem(431).body["code"], "HEADERS_TOO_LARGE");
        }
        if rpc.template_has_fields() {
            // All fields together: no client sends an address of 64 KiB.
            let each = &long[..long.len() / rpc.in_path().len()];
            let answer = stand.send(ask(&rpc.url_with(each))).await;
            assert_eq!(answer.is_problem(431).body["code"], "HEADERS_TOO_LARGE");
        }
        let request = alone(stand.ask(Method::POST, &rpc.path, &stand.admin));
        let request = request.header("content-type", "application/grpc");
        let answer = stand.send(request.body(framed.clone())).await;
        assert_eq!(
            answer.header("grpc-status"),
            "3",
            "{}: {answer:?}",
            rpc.path
        );
        let words = answer.header("grpc-message");
        assert!(words.contains("4194304"), "{}: {words}", rpc.path);
    }
    assert_nothing_came_of_it(&stand, &before).await;
    assert_eq!(stand.get("/v1/whoami", &stand.admin).await.status, 200);
}

#[tokio::test]
async fn what_is_just_too_large_is_refused_with_the_limit() {
    let stand = Stand::start().await;
    let most = 4 * 1024 * 1024;
    let of = |bytes: usize| format!("{{\"name\": \"{}\"}}", "a".repeat(bytes - 12));
    let request = |body: String| {
        let request = stand.ask(Method::POST, "/v1/principals", &stand.admin);
        request
            .header("content-type", "application/json")
            .body(body)
    };
    let answer = stand.send(request(of(most + 1))).await;
    assert_eq!(answer.is_problem(413).body["code"], "PAYLOAD_TOO_LARGE");
    assert!(answer.body.to_string().contains("4194304"), "{answer:?}");
    // As much as is allowed is read, and only then found wrong.
    let answer = stand.send(request(of(most))).await;
    assert!(
        answer.is_problem(400).fields().contains(&"name"),
        "{answer:?}"
    );

    let large = stand
        .ask(Method::GET, "/v1/whoami", &stand.admin)
        .header("x-large", "a".repeat(33 * 1024));
    let answer = stand.send(large).await;
    assert_eq!(answer.is_problem(431).body["code"], "HEADERS_TOO_LARGE");
}

#[tokio::test]
async fn a_body_that_never_ends_is_given_up() {
    let stand = Stand::start_with(&[("CANDLEFISH_CALL_TIMEOUT_MS", "200")]).await;
    let never = futures_util::stream::pending::<Result<Bytes, std::io::Error>>();
    let request = stand
        .ask(Method::POST, "/v1/principals", &stand.admin)
        .header("content-type", "application/json")
        .body(reqwest::Body::wrap_stream(never));
    let answer = stand.send(request).await;
    assert_eq!(answer.is_problem(400).body["reason"], "body-too-slow");
}

#[tokio::test]
async fn paths_that_are_no_text_are_refused() {
    let (stand, before) = start().await;
    for rpc in rpcs().iter().filter(|rpc| rpc.template_has_fields()) {
        for value in ["%ff", "%00", "%c3%28", "", "a%2fb%00"] {
            let mut request = stand.ask(rpc.verb.clone(), &rpc.url_with(value), &stand.admin);
            if rpc.body {
                request = request.json(&json!({}));
            }
            let answer = stand.send(request).await;
            assert!(
                answer.status.is_client_error(),
                "{} {value}: {answer:?}",
                rpc.path
            );
        }
    }
    assert_nothing_came_of_it(&stand, &before).await;
}

#[tokio::test]
async fn the_gateways_own_calls_refuse_values_out_of_their_limits() {
    let (stand, before) = start().await;
    let long = "a".repeat(100_000);
    for rpc in rpcs().iter().filter(|rpc| rpc.own) {
        let bound = rpc.in_path();
        for field in rpc
            .input
            .fields()
            .filter(|field| !bound.contains(&field.name()))
        {
            let name = field.name();
            let values = match field.kind() {
                Kind::String if field.is_list() => {
                    vec![json!([long]), json!(["!"]), json!(vec!["a"; 5_000])]
                }
                Kind::String => vec![json!(long)],
                Kind::Int32 => vec![json!(-1), json!(i32::MAX)],
                Kind::Enum(_) => vec![json!(0)],
                _ => continue,
            };
            for value in values {
                let request = stand.ask(rpc.verb.clone(), &rpc.url(), &stand.admin);
                let answer = if rpc.body {
                    stand.send(request.json(&json!({ name: value }))).await
                } else {
                    let text = |value: &Value| {
                        value
                            .as_str()
                            .map_or_else(|| value.to_string(), str::to_owned)
                    };
                    let pairs: Vec<(&str, String)> = match &value {
                        Value::Array(items) => {
                            items.iter().take(100).map(|v| (name, text(v))).collect()
                        }
                        one => vec![(name, text(one))],
                    };
                    if pairs.iter().any(|(_, text)| text.len() > 50_000) || value == json!(0) {
                        continue;
                    }
                    stand.send(request.query(&pairs)).await
                };
                let short = value.to_string().chars().take(40).collect::<String>();
                assert!(
                    answer.status.is_client_error(),
                    "{} {name}={short}: {:?}",
                    rpc.path,
                    answer.status
                );
                let named = answer.fields();
                assert!(
                    named.iter().any(|f| f.starts_with(name)),
                    "{} {name}={short}: {answer:?}",
                    rpc.path
                );
            }
        }
    }
    assert_nothing_came_of_it(&stand, &before).await;
}

/// The fields that a refusal over gRPC names, in order.
fn named(status: &Status) -> Vec<String> {
    let violations = status.get_details_bad_request();
    let violations = violations.into_iter().flat_map(|all| all.field_violations);
    let mut named: Vec<String> = violations.map(|one| one.field).collect();
    named.sort();
    named
}

/// What the gateway refuses of a message over gRPC.
async fn refused(stand: &Stand, rpc: &Rpc, message: &DynamicMessage) -> Status {
    let bytes = Bytes::from(message.encode_to_vec());
    let call = raw::call(stand.channel(), &rpc.path, with_token(bytes, &stand.admin));
    let answer = tokio::time::timeout(SOON, call).await;
    let answer = answer.unwrap_or_else(|_elapsed| panic!("{} goes on", rpc.path));
    answer.expect_err(&rpc.path)
}

/// What a field that is needed may be.
fn good(field: &str) -> &'static str {
    match field {
        "name" => "other",
        "kind" => "KIND_MACHINE",
        "principal" => "ci",
        "role" => "ROLE_VIEWER",
        other => panic!("nothing good is known of {other}"),
    }
}

/// A body with these fields.
fn body_of<'a>(fields: impl IntoIterator<Item = &'a str>) -> Value {
    let fields = fields.into_iter();
    let fields = fields.map(|field| (field.to_owned(), json!(good(field))));
    Value::Object(fields.collect())
}

#[tokio::test]
async fn what_is_missing_is_named_all_at_once_and_one_by_one() {
    let (stand, _) = start().await;
    let machine = json!({ "name": "ci", "kind": "KIND_MACHINE" });
    let made = stand.post("/v1/principals", &stand.admin, &machine).await;
    assert_eq!(made.status, 201, "{made:?}");
    let before = written(&stand).await;
    let rpcs = rpcs();
    for (path, needed) in NEEDED {
        let rpc = rpcs.iter().find(|rpc| rpc.path == path).unwrap();
        let nothing = DynamicMessage::new(rpc.input.clone());
        let status = refused(&stand, rpc, &nothing).await;
        assert_eq!(status.code(), Code::InvalidArgument, "{path}: {status}");
        assert_eq!(named(&status), needed, "{path}");
        // What is in the path cannot be missing from a REST call.
        if rpc.template_has_fields() {
            continue;
        }
        let answer = send(&stand, rpc, &json!({})).await;
        let mut fields = answer.is_problem(400).fields();
        fields.sort_unstable();
        assert_eq!(fields, needed, "{path}");
        for missing in needed.iter().copied() {
            let others = needed.iter().copied().filter(|field| *field != missing);
            let answer = send(&stand, rpc, &body_of(others)).await;
            assert_eq!(answer.is_problem(400).fields(), [missing], "{path}");
        }
    }
    assert_nothing_came_of_it(&stand, &before).await;
    // With all of them it is made: what was refused was that they were missing.
    for (path, needed) in NEEDED {
        let rpc = rpcs.iter().find(|rpc| rpc.path == path).unwrap();
        if !rpc.template_has_fields() {
            let answer = send(&stand, rpc, &body_of(needed.iter().copied())).await;
            assert_eq!(answer.status, 201, "{path}: {answer:?}");
        }
    }
    assert_eq!(written(&stand).await.len(), before.len() + 2);
}

#[tokio::test]
async fn what_is_out_of_its_limits_is_named_over_grpc_too_also_by_streams() {
    use prost_reflect::Value as Set;
    let (stand, before) = start().await;
    let long = || Set::String("a".repeat(100_000));
    let mut tried = 0;
    for rpc in rpcs().iter().filter(|rpc| rpc.own) {
        for field in rpc.input.fields() {
            let value = match (field.kind(), field.is_list()) {
                (Kind::String, true) => Set::List(vec![long()]),
                (Kind::String, false) => long(),
                (Kind::Int32, _) => Set::I32(-1),
                (Kind::Enum(_), _) => Set::EnumNumber(9_999),
                _ => continue,
            };
            let mut message = DynamicMessage::new(rpc.input.clone());
            message.set_field(&field, value);
            let status = refused(&stand, rpc, &message).await;
            let name = field.name();
            assert_eq!(status.code(), Code::InvalidArgument, "{} {name}", rpc.path);
            let named = named(&status);
            let names = named.iter().any(|one| one.starts_with(name));
            assert!(names, "{} {name}: {named:?}", rpc.path);
            tried += 1;
        }
    }
    assert!(tried > 12, "{tried}");
    assert_nothing_came_of_it(&stand, &before).await;
}

#[tokio::test]
async fn what_cannot_be_read_and_what_may_not_be_are_named_together() {
    let (stand, before) = start().await;
    let token = json!({ "name": 5, "sites": ["BAD"], "principal": "NO!" });
    let principal = json!({ "name": 5, "kind": "KIND_PERSON", "emails": ["nowhere"] });
    let table: [(&str, Value, &[&str]); 3] = [
        (
            "/v1/tokens",
            token,
            &["name", "principal", "role", "sites[0]"],
        ),
        ("/v1/principals", principal, &["emails[0]", "name"]),
        ("/v1/tokens/x1:revoke", json!({ "no": 1 }), &["id", "no"]),
    ];
    for (path, body, expected) in table {
        let answer = stand.post(path, &stand.admin, &body).await;
        let mut fields = answer.is_problem(400).fields();
        fields.sort_unstable();
        assert_eq!(fields, expected, "{path}: {answer:?}");
    }
    assert_nothing_came_of_it(&stand, &before).await;
}

#[tokio::test]
async fn ids_that_nobody_has_are_not_found_or_named() {
    let (stand, before) = start().await;
    for id in [
        "tok_00000000000000000000000001",
        "tok_x",
        "dep_1",
        "%20",
        "..;",
    ] {
        let path = format!("/v1/tokens/{id}:revoke");
        let answer = stand.post(&path, &stand.admin, &json!({})).await;
        assert!(answer.status.is_client_error(), "{id}: {answer:?}");
    }
    let answer = stand.get("/v1/tokens?principal=nobody", &stand.admin).await;
    answer.is_problem(404);
    assert_eq!(answer.fields(), ["principal"]);
    assert_nothing_came_of_it(&stand, &before).await;
}

/// Bytes that are no message of a call, whatever it is; and for its first field those of another type, and
/// a text that is none.
fn garbage(input: &MessageDescriptor) -> Vec<Bytes> {
    let mut all = vec![Bytes::from_static(
        b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff",
    )];
    for field in input.fields() {
        let tag = |wire: u32| u8::try_from((field.number() << 3) | wire);
        // A field above 15 has a longer tag.
        let (Ok(number), Ok(bits), Ok(text)) = (tag(0), tag(5), tag(2)) else {
            continue;
        };
        if number > 0x78 {
            continue;
        }
        let has_length = matches!(field.kind(), Kind::String | Kind::Bytes | Kind::Message(_));
        all.push(if has_length {
            Bytes::copy_from_slice(&[number, 5])
        } else {
            Bytes::copy_from_slice(&[bits, 1, 2, 3, 4])
        });
        if field.kind() == Kind::String {
            all.push(Bytes::copy_from_slice(&[text, 2, 0xff, 0xfe]));
        }
    }
    all
}

#[tokio::test]
async fn bytes_that_are_no_message_are_refused() {
    let (stand, before) = start().await;
    stand.backend.reads();
    let mut tried = 0;
    for rpc in rpcs() {
        for bytes in garbage(&rpc.input) {
            let request = with_token(bytes.clone(), &stand.admin);
            let call = raw::call(stand.channel(), &rpc.path, request);
            let answer = tokio::time::timeout(SOON, call).await;
            let status = answer.unwrap_or_else(|_elapsed| panic!("{} {bytes:?} goes on", rpc.path));
            let code = status.as_ref().map_or_else(Status::code, |_made| Code::Ok);
            assert_eq!(
                code,
                Code::InvalidArgument,
                "{} {bytes:?}: {status:?}",
                rpc.path
            );
            tried += 1;
        }
    }
    assert!(tried > 100, "{tried}");
    assert_nothing_came_of_it(&stand, &before).await;
}

#[tokio::test]
async fn frames_that_hold_no_message_are_the_callers_fault() {
    let (stand, before) = start().await;
    // Nothing, half of a head, less than it says, compressed, and two of them.
    let frames: [&[u8]; 5] = [
        b"",
        b"\0\0\0",
        b"\0\0\0\0\x05ab",
        b"\x01\0\0\0\0",
        b"\0\0\0\0\0\0\0\0\0\0",
    ];
    for rpc in rpcs() {
        for frame in frames {
            let request = stand.ask(Method::POST, &rpc.path, &stand.admin);
            let request = request.header("content-type", "application/grpc");
            let answer = stand.send(request.body(frame.to_vec())).await;
            let code = answer.header("grpc-status");
            assert_eq!(code, "3", "{} {frame:?}: {answer:?}", rpc.path);
        }
    }
    assert_nothing_came_of_it(&stand, &before).await;
}

#[tokio::test]
async fn what_no_database_can_hold_is_named_over_grpc_too() {
    let (stand, before) = start().await;
    let request = access::CreateTokenRequest {
        principal: "a\0b".to_owned(),
        name: "test".to_owned(),
        role: access::Role::Viewer.into(),
        // Long before the first year that Postgres knows.
        expires_at: Some(prost_types::Timestamp {
            seconds: -300_000_000_000,
            nanos: 0,
        }),
        ..access::CreateTokenRequest::default()
    };
    let path = "/candlefish.access.v1.AccessService/CreateToken";
    let request = with_token(Bytes::from(request.encode_to_vec()), &stand.admin);
    let call = raw::call(stand.channel(), path, request);
    let status = call.await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument, "{status}");
    assert_eq!(named(&status), ["expires_at", "principal"]);
    assert_nothing_came_of_it(&stand, &before).await;
}

#[tokio::test]
async fn another_content_type_is_named() {
    let (stand, before) = start().await;
    for kind in [
        "text/plain",
        "application/xml",
        "multipart/form-data; boundary=x",
    ] {
        let request = stand
            .ask(Method::POST, "/v1/sites", &stand.admin)
            .header("content-type", kind)
            .body("slug=docs");
        let answer = stand.send(request).await;
        answer.is_problem(415);
        assert_eq!(answer.fields(), ["content-type"]);
    }
    assert_nothing_came_of_it(&stand, &before).await;
}
