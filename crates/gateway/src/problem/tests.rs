use candlefish_runtime::refusal::{Code as Refused, Refusal};
use http_body_util::BodyExt;

use super::*;

fn of(refusal: Refusal) -> Problem {
    Problem::from(&Status::from(refusal))
}

#[test]
fn a_refusal_becomes_a_problem_that_names_its_fields() {
    let problem = of(Refusal::new(
        Refused::InvalidArgument,
        "bad-strategy",
        "the strategy cannot be planned",
    )
    .field("strategy.canary.weights[1]", "must rise: 50 comes after 60")
    .field(
        "environment",
        "docs has production and staging, not \"prod\"",
    ));
    insta::assert_json_snapshot!(problem.json("req_1"));
}

#[test]
fn what_only_follows_from_an_unread_field_is_not_named_besides() {
    let fault = |field: &str, message: &str| Fault {
        field: field.to_owned(),
        message: message.to_owned(),
    };
    let unread = Problem::bad_fields(vec![
        fault("site", "must be a text"),
        fault("strategy.canary.weights[0]", "must be a number"),
        fault("policy.setle", "is unknown here"),
    ]);
    let judged = of(Refusal::new(Refused::NotFound, "unknown", "nothing")
        .field("site", "is missing")
        .field("strategy.canary.weights[1]", "must rise")
        .field("policy", "is empty")
        .field("site_name", "has 200 characters")
        .field("reason", "must say something"));
    let all = unread.besides(judged);
    assert_eq!(all.status().as_u16(), 400);
    let named: Vec<&str> = all
        .faults
        .iter()
        .map(|fault| fault.field.as_str())
        .collect();
    assert_eq!(
        named,
        [
            "site",
            "strategy.canary.weights[0]",
            "policy.setle",
            "site_name",
            "reason"
        ]
    );
}

#[test]
fn a_refusal_for_state_carries_its_words_and_values() {
    let problem = of(Refusal::new(
        Refused::FailedPrecondition,
        "deployment-terminal",
        "dep_1 ended as SUCCEEDED at 14:07; roll back instead",
    )
    .metadata("state", "STATE_SUCCEEDED")
    .metadata("deployment_id", "dep_1"));
    insta::assert_json_snapshot!(problem.json("req_2"));
}

#[test]
fn every_code_has_the_http_status_that_callers_expect() {
    let table = [
        (Code::InvalidArgument, 400),
        (Code::OutOfRange, 400),
        (Code::Unauthenticated, 401),
        (Code::PermissionDenied, 403),
        (Code::NotFound, 404),
        (Code::AlreadyExists, 409),
        (Code::FailedPrecondition, 409),
        (Code::Aborted, 409),
        (Code::ResourceExhausted, 429),
        (Code::Internal, 500),
        (Code::Unknown, 500),
        (Code::DataLoss, 500),
        (Code::Unimplemented, 501),
        (Code::Unavailable, 503),
        (Code::DeadlineExceeded, 504),
    ];
    for (code, expected) in table {
        let problem = Problem::from(&Status::new(code, "words"));
        assert_eq!(problem.status().as_u16(), expected, "{code:?}");
    }
}

#[test]
fn a_reused_idempotency_key_is_422() {
    let refusal = Refusal::new(
        Refused::InvalidArgument,
        "idempotency-key-reused",
        "used before",
    );
    assert_eq!(of(refusal).status().as_u16(), 422);
}

#[tokio::test]
async fn the_answer_says_when_to_repeat_and_who_may_ask() {
    let busy = Problem::from(&Status::unavailable("the orchestrator does not answer"));
    let response = busy.respond("req_3");
    assert_eq!(response.headers()["retry-after"], "1");
    assert_eq!(response.headers()["content-type"], MEDIA_TYPE);
    let body = response.into_body().collect().await.unwrap().to_bytes();
    let body: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(body["code"], "UNAVAILABLE");
    assert_eq!(body["request_id"], "req_3");

    let nobody = Problem::from(&Status::unauthenticated("send a token")).respond("req_4");
    assert!(nobody.headers().contains_key("www-authenticate"));
}

#[test]
fn pages_and_codes_are_unique() {
    for (place, kind) in kinds::ALL.iter().enumerate() {
        assert_eq!(kinds::by_slug(kind.slug), Some(*kind));
        assert!(
            kinds::ALL
                .iter()
                .skip(place + 1)
                .all(|other| other.code != kind.code)
        );
        assert_eq!(kind.slug, kind.code.to_lowercase().replace('_', "-"));
    }
}
