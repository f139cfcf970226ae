//! What went wrong, as RFC 9457 `application/problem+json`, and the one table from statuses to HTTP.

use std::time::Duration;

use bytes::Bytes;
use candlefish_ids::RequestId;
use candlefish_runtime::refusal::DOMAIN;
use http::{Extensions, HeaderValue, Response, StatusCode, header};
use http_body_util::Full;
use serde_json::{Map, Value, json};
use tonic::{Code, Status};
use tonic_types::StatusExt;

use crate::transcode::Fault;

pub(crate) mod kinds;

pub(crate) use kinds::Kind;

/// Names the request in every answer, for whoever quotes it.
pub(crate) const REQUEST_ID: &str = "x-request-id";
/// The media type of a problem.
pub(crate) const MEDIA_TYPE: &str = "application/problem+json";

/// The id that the front gave a request when it came.
pub(crate) fn request_id(extensions: &Extensions) -> RequestId {
    let given = extensions.get::<RequestId>().copied();
    given.unwrap_or_else(RequestId::new)
}

/// One thing that went wrong.
#[derive(Debug, Clone)]
pub(crate) struct Problem {
    kind: &'static Kind,
    /// What happened to this request, in words.
    detail: String,
    /// The stable word of the refusal; may be empty.
    reason: String,
    faults: Vec<Fault>,
    /// Values for programs, such as the id that exists already.
    metadata: Vec<(String, String)>,
    retry_after: Option<Duration>,
    /// For 405.
    allow: Option<String>,
}

impl Problem {
    pub(crate) fn new(kind: &'static Kind, reason: &str, detail: impl Into<String>) -> Self {
        Self {
            kind,
            detail: detail.into(),
            reason: reason.to_owned(),
            faults: Vec::new(),
            metadata: Vec::new(),
            retry_after: None,
            allow: None,
        }
    }

    /// What is wrong with a request that could not become a message.
    pub(crate) fn bad_fields(faults: Vec<Fault>) -> Self {
        let mut problem = Self::new(&kinds::INVALID_ARGUMENT, "bad-fields", "");
        problem.faults = faults;
        problem
    }

    /// Names what is wrong besides, as whoever judged the rest of the request sees it. Fields that could not
    /// be read hold nothing for them, so that what is said of these, of what lies in them and of what they
    /// lie in is left out; so are the places of a list that could not be read whole, which are others there.
    pub(crate) fn besides(mut self, other: Self) -> Self {
        let unread: Vec<String> = self
            .faults
            .iter()
            .map(|fault| fault.field.split('[').next().unwrap_or_default().to_owned())
            .collect();
        let more: Vec<Fault> = other
            .faults
            .into_iter()
            .filter(|fault| !unread.iter().any(|field| meet(field, &fault.field)))
            .collect();
        self.faults.extend(more);
        self
    }

    /// Names one more bad field.
    pub(crate) fn field(mut self, field: &str, message: impl Into<String>) -> Self {
        self.faults.push(Fault {
            field: field.to_owned(),
            message: message.into(),
        });
        self
    }

    /// For a path that exists with other methods.
    pub(crate) fn allowing(mut self, methods: &str) -> Self {
        self.allow = Some(methods.to_owned());
        self
    }

    pub(crate) fn retry_after(mut self, delay: Duration) -> Self {
        self.retry_after = Some(delay);
        self
    }

    pub(crate) const fn status(&self) -> StatusCode {
        self.kind.status
    }

    fn title(&self) -> String {
        match self.faults.len() {
            0 => self.kind.title.to_owned(),
            1 => "The request has 1 fault".to_owned(),
            many => format!("The request has {many} faults"),
        }
    }

    /// The body.
    pub(crate) fn json(&self, request_id: &str) -> Value {
        let mut body = Map::new();
        body.insert(
            "type".to_owned(),
            format!("/problems/{}", self.kind.slug).into(),
        );
        body.insert("title".to_owned(), self.title().into());
        body.insert("status".to_owned(), self.kind.status.as_u16().into());
        body.insert("code".to_owned(), self.kind.code.into());
        let texts = [
            ("reason", self.reason.as_str()),
            ("detail", self.detail.as_str()),
            ("request_id", request_id),
        ];
        for (name, text) in texts {
            if !text.is_empty() {
                body.insert(name.to_owned(), text.into());
            }
        }
        if !self.faults.is_empty() {
            let errors = self.faults.iter();
            let errors = errors
                .map(|f| json!({"field": f.field, "message": f.message}))
                .collect();
            body.insert("errors".to_owned(), errors);
        }
        if !self.metadata.is_empty() {
            let pairs = self.metadata.iter().cloned();
            let pairs = pairs
                .map(|(name, value)| (name, Value::from(value)))
                .collect();
            body.insert("metadata".to_owned(), Value::Object(pairs));
        }
        Value::Object(body)
    }

    /// The whole answer.
    pub(crate) fn respond(&self, request_id: &str) -> Response<Full<Bytes>> {
        let body = self.json(request_id).to_string();
        let mut response = Response::new(Full::from(body));
        *response.status_mut() = self.kind.status;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(MEDIA_TYPE));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if let Ok(request_id) = HeaderValue::from_str(request_id) {
            headers.insert(REQUEST_ID, request_id);
        }
        if let Some(allow) = self.allow.as_deref().and_then(|allow| allow.parse().ok()) {
            headers.insert(header::ALLOW, allow);
        }
        if self.kind.status == StatusCode::UNAUTHORIZED {
            let scheme = HeaderValue::from_static(self.kind.challenge());
            headers.insert(header::WWW_AUTHENTICATE, scheme);
        }
        if let Some(delay) = self.retry_after {
            let seconds = delay.as_secs().max(1);
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}

/// Whether they are one field, or one lies in the other: `policy`, `policy.strategy`.
fn meet(one: &str, other: &str) -> bool {
    let within = |inner: &str, outer: &str| {
        let rest = inner.strip_prefix(outer);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
    };
    within(one, other) || within(other, one)
}

/// The one line about a call that was not carried out.
pub(crate) fn log(problem: &Problem, request_id: RequestId, verb: &str, path: &str) {
    let (code, reason) = (problem.kind.code, problem.reason.as_str());
    let named: Vec<&str> = problem
        .faults
        .iter()
        .map(|fault| fault.field.as_str())
        .collect();
    let fields = named.join(", ");
    let words = match (problem.detail.as_str(), problem.faults.first()) {
        ("", Some(first)) => format!("{} ({}: {})", problem.title(), first.field, first.message),
        (detail, _) => detail.to_owned(),
    };
    if problem.status().is_server_error() {
        tracing::warn!(request.id = %request_id, code, reason, "{verb} {path} failed: {words}");
    } else {
        tracing::info!(request.id = %request_id, code, reason, fields, "{verb} {path} refused: {words}");
    }
}

impl From<&Status> for Problem {
    fn from(status: &Status) -> Self {
        let details = status.get_error_details();
        let info = details.error_info().filter(|info| info.domain == DOMAIN);
        let reason = info.map(|info| info.reason.clone()).unwrap_or_default();
        let mut metadata: Vec<(String, String)> = info
            .map(|info| {
                info.metadata
                    .iter()
                    .map(|(k, v)| (k.clone(), v.clone()))
                    .collect()
            })
            .unwrap_or_default();
        metadata.sort();
        let faults = details.bad_request().map(|bad| {
            let fields = bad.field_violations.iter();
            let fault = |f: &tonic_types::FieldViolation| Fault {
                field: f.field.clone(),
                message: f.description.clone(),
            };
            fields.map(fault).collect()
        });
        let kind = kinds::of(status.code(), &reason);
        let retry_after = details.retry_info().and_then(|info| info.retry_delay);
        // A pause helps whoever repeats what could not be answered now.
        let retry_after = retry_after
            .or_else(|| (status.code() == Code::Unavailable).then_some(Duration::from_secs(1)));
        Self {
            kind,
            detail: status.message().to_owned(),
            reason,
            faults: faults.unwrap_or_default(),
            metadata,
            retry_after,
            allow: None,
        }
    }
}

#[cfg(test)]
mod tests;
