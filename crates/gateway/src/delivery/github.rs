//! `POST /v1/webhooks/github`: GitHub's deliveries, over HTTP.
//!
//! The body is signed as bytes, so it is taken as bytes, whatever content type it has: GitHub sends JSON, or
//! a form that holds it. It never becomes JSON here.

use std::time::Duration;

use candlefish_messaging::Nudge;
use candlefish_runtime::metrics::DELIVERIES;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full};
use serde_json::json;
use sqlx::PgPool;
use tonic::body::Body;

pub(crate) use super::intake::MOST_BYTES;
use super::{
    intake::{Intake, Unread},
    receive::{self, Receive, Received, receive},
    signature::{Secrets, Signature},
};
use crate::{
    backend::chain,
    problem::{self, Problem, kinds},
};

/// Where GitHub sends to.
pub(crate) const PATH: &str = "/v1/webhooks/github";
pub(crate) const EVENT: &str = "x-github-event";
pub(crate) const DELIVERY: &str = "x-github-delivery";
pub(crate) const SIGNATURE: &str = "x-hub-signature-256";

const SOURCE: &str = "github";
const LONGEST_WORD: usize = 100;

/// Takes deliveries; cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Webhooks {
    pool: PgPool,
    secrets: Option<Secrets>,
    nudge: Nudge,
    intake: Intake,
    /// The longest a body may take to arrive.
    timeout: Duration,
}

/// What the headers say.
#[derive(Debug)]
struct Head<'a> {
    event: &'a str,
    delivery: &'a str,
    signature: Signature,
}

impl Webhooks {
    /// Without secrets nothing is taken.
    pub(crate) fn new(
        pool: PgPool,
        secrets: Option<Secrets>,
        nudge: Nudge,
        timeout: Duration,
    ) -> Self {
        Self {
            pool,
            secrets,
            nudge,
            intake: Intake::new(),
            timeout,
        }
    }

    /// Answers one request.
    pub(crate) async fn answer(&self, request: Request<Body>) -> Response<Body> {
        let request_id = problem::request_id(request.extensions());
        let verb = request.method().clone();
        let taken = self.take(request).await;
        taken.unwrap_or_else(|problem| {
            count("refused");
            problem::log(&problem, request_id, verb.as_str(), PATH);
            problem.respond(&request_id.to_string()).map(Body::new)
        })
    }

    async fn take(&self, request: Request<Body>) -> Result<Response<Body>, Problem> {
        let (parts, body) = request.into_parts();
        if parts.method != Method::POST {
            let words = format!("{PATH} takes POST, not {}", parts.method);
            let problem = Problem::new(&kinds::METHOD_NOT_ALLOWED, "method-not-allowed", words);
            return Err(problem.allowing("POST"));
        }
        let secrets = self.secrets.as_ref().ok_or_else(not_set_up)?;
        let head = Head::read(&parts.headers)?;
        if announced(&parts.headers).is_some_and(|bytes| bytes > MOST_BYTES) {
            return Err(too_large());
        }
        let reading = tokio::time::timeout(self.timeout, self.intake.read(body)).await;
        let read = reading.unwrap_or(Err(Unread::NotWhole));
        let (body, share) = read.map_err(unread)?;
        if !secrets.verify(&head.signature, &body) {
            return Err(forged(
                "signature-wrong",
                "the signature does not fit the body",
            ));
        }
        let received = self.store(&head, &body).await?;
        drop(share);
        Ok(accepted(head.event, received))
    }

    async fn store(&self, head: &Head<'_>, body: &[u8]) -> Result<Received, Problem> {
        let cmd = Receive {
            source: SOURCE,
            source_id: head.delivery,
            event: head.event,
            body,
        };
        let received = receive(&self.pool, cmd).await.map_err(|error| {
            let error: &receive::Error = &error;
            tracing::warn!(
                delivery = head.delivery, error = %chain(error), "a delivery is not stored"
            );
            not_now("not-stored", "the delivery could not be stored")
        })?;
        match received {
            Received::New(id) => {
                count("stored");
                self.nudge.nudge();
                tracing::info!(
                    delivery.id = %id, delivery = head.delivery, event = head.event,
                    bytes = body.len(), "a delivery is stored"
                );
            }
            Received::Known(id) => {
                count("known");
                tracing::info!(
                    delivery.id = %id, delivery = head.delivery, event = head.event,
                    "a delivery is known already"
                );
            }
        }
        Ok(received)
    }
}

impl<'a> Head<'a> {
    /// Whoever cannot sign learns that first; then everything else that is missing, at once.
    fn read(headers: &'a HeaderMap) -> Result<Self, Problem> {
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        let signature = text(SIGNATURE).ok_or_else(|| {
            forged(
                "signature-missing",
                "the header X-Hub-Signature-256 is missing",
            )
        })?;
        let signature = Signature::parse(signature).ok_or_else(|| {
            let words = "X-Hub-Signature-256 must be sha256= and 64 hex digits";
            forged("signature-malformed", words)
        })?;
        let word = |name: &str| {
            let fits = |text: &&str| {
                (1..=LONGEST_WORD).contains(&text.len())
                    && text.bytes().all(|byte| byte.is_ascii_graphic())
            };
            text(name).filter(fits)
        };
        let (event, delivery) = (word(EVENT), word(DELIVERY));
        if let (Some(event), Some(delivery)) = (event, delivery) {
            return Ok(Self {
                event,
                delivery,
                signature,
            });
        }
        let mut problem = Problem::new(&kinds::INVALID_ARGUMENT, "headers-missing", "");
        let words = format!("must be there, with 1 to {LONGEST_WORD} visible characters");
        for (name, found) in [(EVENT, event), (DELIVERY, delivery)] {
            if found.is_none() {
                problem = problem.field(name, words.as_str());
            }
        }
        Err(problem)
    }
}

/// What the sender says that it sends.
fn announced(headers: &HeaderMap) -> Option<usize> {
    let said = headers.get(header::CONTENT_LENGTH)?;
    said.to_str().ok()?.parse().ok()
}

fn unread(why: Unread) -> Problem {
    match why {
        Unread::TooLarge => too_large(),
        Unread::NotWhole => not_now(
            "body-not-whole",
            "the body did not arrive whole; nothing is stored",
        ),
        Unread::Busy => not_now("busy", "too many deliveries at a time"),
    }
}

fn accepted(event: &str, received: Received) -> Response<Body> {
    let (id, known) = match received {
        Received::New(id) => (id, false),
        Received::Known(id) => (id, true),
    };
    // By its id, for not everything has a commit, or leaves anything that is found by one.
    let look = format!("candlefish push --delivery {id} tells what becomes of it");
    let message = match (event, known) {
        (_, true) => {
            format!("known: it was stored before, under this id or with this body; {look}")
        }
        ("ping", false) => "pong: Candlefish hears this webhook, and the secret fits".to_owned(),
        (_, false) => format!("stored: {look}"),
    };
    let body = json!({ "delivery_id": id.to_string(), "known": known, "message": message });
    let mut response = Response::new(Body::new(
        Full::from(body.to_string()).map_err(|never| match never {}),
    ));
    *response.status_mut() = StatusCode::ACCEPTED;
    let headers = response.headers_mut();
    let json = HeaderValue::from_static("application/json");
    headers.insert(header::CONTENT_TYPE, json);
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

fn count(outcome: &'static str) {
    metrics::counter!(DELIVERIES, "source" => SOURCE, "outcome" => outcome).increment(1);
}

fn not_set_up() -> Problem {
    Problem::new(
        &kinds::FAILED_PRECONDITION,
        "webhooks-not-set-up",
        "this gateway has no secret for GitHub's webhooks: whoever runs it sets \
         CANDLEFISH_GITHUB_WEBHOOK_SECRET to the webhook's secret; then deliver again",
    )
}

fn forged(reason: &'static str, words: &str) -> Problem {
    let words = format!(
        "{words}; nothing is stored. The webhook's secret must be the one that this gateway has as \
         CANDLEFISH_GITHUB_WEBHOOK_SECRET; then deliver again"
    );
    Problem::new(&kinds::SIGNATURE_INVALID, reason, words)
}

fn too_large() -> Problem {
    let words = format!("the body has more than {MOST_BYTES} bytes");
    Problem::new(&kinds::PAYLOAD_TOO_LARGE, "body-too-large", words)
}

fn not_now(reason: &'static str, words: &str) -> Problem {
    let words = format!("{words}; deliver it again");
    Problem::new(&kinds::UNAVAILABLE, reason, words).retry_after(Duration::from_secs(1))
}
