//! REST: JSON to a call, and its answer to JSON, a problem, or server-sent events.

use std::sync::Arc;

use bytes::Bytes;
use candlefish_runtime::{listen::request::Served, tasks::Tasks};
use http::{HeaderMap, HeaderValue, Method as HttpMethod, Request, Response, StatusCode, header};
use http_body_util::Full;
use prost::Message;
use prost_reflect::{DynamicMessage, Value};
use tonic::{Status, body::Body};

use crate::{
    call::{self, Admitted, Answer, Calls, MOST_BYTES, Place, Unread, Whole, frame, unframe},
    contract::{Hit, Lookup},
    idempotency, memory,
    problem::{self, Problem, kinds},
    rehearsal, sse,
    transcode::{self, Half, Input},
};

const JSON: HeaderValue = HeaderValue::from_static("application/json");
/// What a browser sends when it connects again: the `id` of the last event that it got.
const LAST_SEEN: &str = "last-event-id";

/// Answers REST calls of the contract.
#[derive(Debug, Clone)]
pub(crate) struct Rest {
    pub(crate) calls: Calls,
    pub(crate) tasks: Tasks,
}

impl Rest {
    /// Answers one request.
    pub(crate) async fn answer(&self, request: Request<Body>) -> Response<Body> {
        let request_id = problem::request_id(request.extensions());
        let (parts, body) = request.into_parts();
        let contract = Arc::clone(&self.calls.contract);
        let mut served = None;
        let mut rehearses = false;
        let answered = match contract.lookup(&parts.method, parts.uri.path()) {
            Lookup::Hit(hit) => {
                served = Some(Served(hit.method.path.clone()));
                let admitted = self.calls.admit(hit.method, &parts.headers, request_id);
                match admitted.await {
                    Ok(admitted) => {
                        rehearses = admitted.rehearses;
                        self.call(&hit, &admitted, &parts, body).await
                    }
                    Err(status) => Err(Problem::from(&status)),
                }
            }
            other => Err(not_routed(&other, &parts.method, parts.uri.path())),
        };
        let mut response = answered.unwrap_or_else(|problem| {
            problem::log(
                &problem,
                request_id,
                parts.method.as_str(),
                parts.uri.path(),
            );
            problem.respond(&request_id.to_string()).map(Body::new)
        });
        if rehearses {
            rehearsal::mark(response.headers_mut());
        }
        // Counted under the method, refused or not.
        if let Some(served) = served {
            response.extensions_mut().insert(served);
        }
        response
    }

    async fn call(
        &self,
        hit: &Hit<'_>,
        admitted: &Admitted,
        parts: &http::request::Parts,
        body: Body,
    ) -> Result<Response<Body>, Problem> {
        if let Some(kept) = self.kept(admitted, hit, parts.uri.query()).await {
            return Ok(json(kept));
        }
        let entered = self.calls.enter(&admitted.method);
        let mut place = entered.map_err(|refusal| Problem::from(&Status::from(refusal)))?;
        let bytes = if hit.route.body {
            let read = self.read_body(&mut place, &parts.headers, body).await;
            Some(read?)
        } else {
            None
        };
        let input = Input {
            path: &hit.fields,
            query: parts.uri.query().unwrap_or_default(),
            body: bytes.as_deref(),
        };
        let mut message = match transcode::read(&hit.method.input, &input) {
            Ok(message) => message,
            Err(half) => return Err(self.judged(admitted, &parts.headers, half, &place).await),
        };
        resume(admitted, &parts.headers, &mut message)?;
        Calls::check_fields(admitted, &message).map_err(|status| Problem::from(&status))?;
        let framed = frame(&message.encode_to_vec());
        let headers = &parts.headers;
        let answer = self.calls.make(admitted, headers, framed, place).await;
        let answer = answer.map_err(|status| Problem::from(&status))?;
        match answer {
            Answer::Stream(answer) => sse::stream(admitted, answer, self.tasks.stopping()).await,
            Answer::Whole(whole) => self.one_message(admitted, whole).await,
        }
    }

    /// What could not be read of a request, and what the service finds wrong with the rest: all at once.
    async fn judged(
        &self,
        admitted: &Admitted,
        headers: &HeaderMap,
        half: Half,
        place: &Place,
    ) -> Problem {
        let is_something = half.is_something();
        let unread = Problem::bad_fields(half.faults);
        if !is_something {
            return unread;
        }
        let framed = frame(&half.message.encode_to_vec());
        match self.calls.judge(admitted, headers, framed, place).await {
            Some(status) => unread.besides(Problem::from(&status)),
            None => unread,
        }
    }

    /// The answer that is kept in memory, as JSON.
    async fn kept(&self, admitted: &Admitted, hit: &Hit<'_>, query: Option<&str>) -> Option<Bytes> {
        let (method, caller) = (&admitted.method, &admitted.verified.caller);
        method.keeps.as_ref()?;
        // The request has one field, so that is it.
        let [(_, id)] = hit.fields.as_slice() else {
            return None;
        };
        if query.is_some_and(|query| !query.is_empty()) {
            return None;
        }
        let kept = self.calls.memory.find(method, id, caller).await?;
        Some(kept.json.clone())
    }

    async fn one_message(
        &self,
        admitted: &Admitted,
        answer: Whole,
    ) -> Result<Response<Body>, Problem> {
        if let Some(status) = answer.refusal() {
            return Err(Problem::from(&status));
        }
        let method = &admitted.method;
        let internal = |words: &str| Problem::from(&Status::internal(words));
        let (message, _) =
            unframe(&answer.frames).ok_or_else(|| internal("the answer has no message"))?;
        let message = DynamicMessage::decode(method.output.clone(), message)
            .map_err(|_unreadable| internal("the answer cannot be read"))?;
        let text = Bytes::from(transcode::render(&message));
        if let Some(about) = method.keeps.as_ref().and_then(|k| k.ended(&message)) {
            let kept = memory::Answer {
                about,
                frame: answer.frames.clone(),
                json: text.clone(),
            };
            self.calls.memory.keep(method, answer.since, kept).await;
        }
        let mut response = json(text);
        let headers = response.headers_mut();
        if answer.head.headers.contains_key(idempotency::REPLAYED) {
            headers.insert(idempotency::REPLAYED, HeaderValue::from_static("true"));
        }
        if admitted.rehearses {
            // Nothing was made that could be read anywhere.
            return Ok(response);
        }
        if let Some(location) = method.creates.as_ref().and_then(|c| c.made(&message)) {
            if let Some(path) = location.and_then(|path| HeaderValue::from_str(&path).ok()) {
                headers.insert(header::LOCATION, path);
            }
            *response.status_mut() = StatusCode::CREATED;
        }
        Ok(response)
    }

    async fn read_body(
        &self,
        place: &mut Place,
        headers: &HeaderMap,
        body: Body,
    ) -> Result<Bytes, Problem> {
        let kind = headers
            .get(header::CONTENT_TYPE)
            .and_then(|value| value.to_str().ok());
        let is_json = kind.is_none_or(|kind| {
            let essence = kind.split(';').next().unwrap_or_default().trim();
            essence.eq_ignore_ascii_case("application/json") || essence.ends_with("+json")
        });
        let bytes = self.calls.whole(place, body, MOST_BYTES).await;
        let bytes = bytes.map_err(unread)?;
        if is_json || bytes.is_empty() {
            return Ok(bytes);
        }
        let words = format!("must be application/json, not {}", kind.unwrap_or_default());
        Err(Problem::new(&kinds::UNSUPPORTED_MEDIA_TYPE, "not-json", "")
            .field("content-type", words))
    }
}

fn unread(why: Unread) -> Problem {
    let (kind, reason, words) = match why {
        Unread::TooLarge => {
            let words = format!("the body has more than {MOST_BYTES} bytes");
            (&kinds::PAYLOAD_TOO_LARGE, "body-too-large", words)
        }
        Unread::TooSlow => (
            &kinds::CANCELLED,
            "body-too-slow",
            "the body did not arrive in time".to_owned(),
        ),
        Unread::Broken => (
            &kinds::CANCELLED,
            "body-broken",
            "the body broke off".to_owned(),
        ),
        Unread::Busy => return Problem::from(&Status::from(call::busy(call::TOO_MUCH_SENT))),
    };
    Problem::new(kind, reason, "").field("", words)
}

/// A stream goes on after what the client saw last. An id that is none is refused: to begin anew would tell
/// some things twice, or leave some out, and nobody would know.
fn resume(
    admitted: &Admitted,
    headers: &HeaderMap,
    message: &mut DynamicMessage,
) -> Result<(), Problem> {
    // Empty is what a client says that has seen nothing.
    let seen = headers.get(LAST_SEEN).filter(|seen| !seen.is_empty());
    let (Some(ids), Some(seen)) = (&admitted.method.stream_ids, seen) else {
        return Ok(());
    };
    let read = seen.to_str().ok();
    let read = match ids.to.kind() {
        prost_reflect::Kind::Int32 => read.and_then(|text| text.parse().ok()).map(Value::I32),
        _ => read.map(|text| Value::String(text.to_owned())),
    };
    let Some(value) = read else {
        let words = "is no id that this stream gave: send one as it came, or none to begin anew";
        let problem = Problem::new(&kinds::INVALID_ARGUMENT, "bad-header", "");
        return Err(problem.field(LAST_SEEN, words));
    };
    message.set_field(&ids.to, value);
    Ok(())
}

fn json(text: Bytes) -> Response<Body> {
    let mut response = Response::new(Body::new(Full::new(text)));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, JSON);
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

fn not_routed(lookup: &Lookup<'_>, verb: &HttpMethod, path: &str) -> Problem {
    match lookup {
        Lookup::OtherMethods(methods) => {
            let mut names: Vec<&str> = methods.iter().map(HttpMethod::as_str).collect();
            names.sort_unstable();
            names.dedup();
            let names = names.join(", ");
            let words = format!("{path} takes {names}, not {verb}");
            Problem::new(&kinds::METHOD_NOT_ALLOWED, "method-not-allowed", words).allowing(&names)
        }
        Lookup::OtherVerbs(verbs) => {
            let words = format!("{path} has no such verb; there are :{}", verbs.join(", :"));
            Problem::new(&kinds::NOT_FOUND, "verb-unknown", words)
        }
        Lookup::Hit(_) | Lookup::Nothing => {
            let words = format!("nothing is at {path}; /openapi.json lists what there is");
            Problem::new(&kinds::NOT_FOUND, "path-unknown", words)
        }
    }
}
