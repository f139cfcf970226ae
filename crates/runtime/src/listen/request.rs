//! What every call gets: a span in the caller's trace, a count and a latency by method and code.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, uri::PathAndQuery};
use hyper::body::{Body, Frame, SizeHint};
use opentelemetry::{
    propagation::{Extractor, TextMapPropagator},
    trace::TraceContextExt,
};
use opentelemetry_sdk::propagation::TraceContextPropagator;
use tokio::time::Instant;
use tonic::Code;
use tower::{Layer, Service};
use tracing::{Instrument, Span};
use tracing_opentelemetry::OpenTelemetrySpanExt;

use crate::{identity::REQUEST_ID, metrics, trace};

/// The method labels of what is neither gRPC nor [`Served`], and of gRPC methods that nobody serves:
/// a stranger must not choose label values.
const PLAIN: &str = "http";
const UNKNOWN: &str = "unknown";

/// The method that a plain HTTP call was, `/package.Service/Method`: whoever answers it so puts this into
/// the answer's extensions, and the call is counted under it, with the HTTP status as its code. One of
/// those that are served, never what a caller said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Served(pub PathAndQuery);

/// Who calls, as far as traces are concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Peers {
    /// Our own processes: their trace goes on.
    Ours,
    /// Anyone: a trace of ours begins, linked to theirs. Adopted, a stranger's context could name
    /// a trace of ours and choose whether it is sampled.
    Anyone,
}

/// Observes the calls of a server.
#[derive(Debug, Clone, Copy)]
pub struct RequestLayer {
    peers: Peers,
}

impl RequestLayer {
    /// For a port that these peers call.
    pub const fn new(peers: Peers) -> Self {
        Self { peers }
    }
}

impl<S> Layer<S> for RequestLayer {
    type Service = Observed<S>;

    fn layer(&self, inner: S) -> Observed<S> {
        Observed {
            inner,
            peers: self.peers,
        }
    }
}

/// A service under a [`RequestLayer`].
#[derive(Debug, Clone)]
pub struct Observed<S> {
    inner: S,
    peers: Peers,
}

impl<S, ReqBody, ResBody> Service<Request<ReqBody>> for Observed<S>
where
    S: Service<Request<ReqBody>, Response = Response<ResBody>>,
    S::Future: Send + 'static,
    S::Error: 'static,
{
    type Response = Response<ObservedBody<ResBody>>;
    type Error = S::Error;
    type Future =
        Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send + 'static>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<ReqBody>) -> Self::Future {
        // A gRPC call is a POST: what a stranger says of another request's content makes it none.
        let grpc = request.method() == Method::POST && is_grpc(request.headers());
        let span = span(&request, grpc, self.peers);
        let observation = Observation::begin(grpc.then(|| request.uri().path().to_owned()));
        let answer = {
            let _entered = span.enter();
            self.inner.call(request)
        };
        Box::pin(
            async move {
                let response = answer.await?;
                Ok(observation.answered(response))
            }
            .instrument(span),
        )
    }
}

fn is_grpc(headers: &HeaderMap) -> bool {
    headers
        .get(http::header::CONTENT_TYPE)
        .is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"))
}

struct Headers<'a>(&'a HeaderMap);

impl Extractor for Headers<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key)?.to_str().ok()
    }

    fn keys(&self) -> Vec<&str> {
        vec!["traceparent", "tracestate"]
    }
}

fn span<B>(request: &Request<B>, grpc: bool, peers: Peers) -> Span {
    let path = request.uri().path();
    let span = tracing::info_span!(
        "request",
        otel.name = if grpc {
            path.trim_start_matches('/')
        } else {
            request.method().as_str()
        },
        otel.kind = "server",
        method = path,
        request.id = tracing::field::Empty,
        trace_id = tracing::field::Empty,
    );
    let caller = TraceContextPropagator::new()
        .extract_with_context(&opentelemetry::Context::new(), &Headers(request.headers()));
    match peers {
        Peers::Ours => {
            // Fails when the span is filtered out: then there is no trace to continue.
            drop(span.set_parent(caller));
            let said = request.headers().get(REQUEST_ID);
            if let Some(id) = said.and_then(|id| id.to_str().ok()) {
                named(&span, id);
            }
        }
        Peers::Anyone if caller.span().span_context().is_valid() => {
            span.add_link(caller.span().span_context().clone());
        }
        Peers::Anyone => {}
    }
    span.record("trace_id", trace::trace_id(&span));
    span
}

/// Writes the id of a request into the span that it came with. Whoever takes calls from anyone makes the
/// id, and says so once: what a stranger calls a request is nothing to look for in a log.
pub fn named(span: &Span, id: &str) {
    span.record("request.id", id);
}

/// One call's measure: recorded once, when its answer ended or was dropped.
#[derive(Debug)]
struct Observation {
    /// The gRPC path; none for plain HTTP.
    method: Option<String>,
    /// What plain HTTP turned out to be.
    served: Option<Served>,
    began: Instant,
    code: Option<String>,
}

impl Observation {
    fn begin(method: Option<String>) -> Self {
        ::metrics::gauge!(metrics::REQUESTS_ACTIVE).increment(1);
        Self {
            method,
            served: None,
            began: Instant::now(),
            code: None,
        }
    }

    fn answered<B>(mut self, response: Response<B>) -> Response<ObservedBody<B>> {
        // What is answered otherwise was no gRPC call, whatever it said: its path names no method.
        if !(response.status().is_success() && is_grpc(response.headers())) {
            self.method = None;
        }
        if self.method.is_some() {
            self.see(response.headers());
        } else {
            self.code = Some(response.status().as_str().to_owned());
            self.served = response.extensions().get().cloned();
        }
        response.map(|body| ObservedBody {
            body,
            observation: self,
        })
    }

    /// The status is in the headers of an answer without a message, else in the trailers.
    fn see(&mut self, headers: &HeaderMap) {
        if let Some(status) = headers.get("grpc-status") {
            self.code = Some(format!("{:?}", Code::from_bytes(status.as_bytes())));
        }
    }
}

impl Drop for Observation {
    fn drop(&mut self) {
        // An answer that was dropped before its status: the caller went, or its deadline passed.
        let code = self.code.take().unwrap_or_else(|| "Cancelled".to_owned());
        let method = match (&self.method, &self.served) {
            (None, None) => PLAIN,
            (None, Some(Served(method))) => method.path(),
            (Some(_), _) if code == "Unimplemented" => UNKNOWN,
            (Some(path), _) => path.as_str(),
        };
        let method = method.trim_start_matches('/').to_owned();
        ::metrics::gauge!(metrics::REQUESTS_ACTIVE).decrement(1);
        ::metrics::histogram!(metrics::REQUEST_DURATION, "method" => method.clone())
            .record(self.began.elapsed());
        ::metrics::counter!(metrics::REQUESTS, "method" => method, "code" => code).increment(1);
    }
}

/// An answer's body, watched for its end.
#[derive(Debug)]
pub struct ObservedBody<B> {
    body: B,
    observation: Observation,
}

impl<B> Body for ObservedBody<B>
where
    B: Body<Data = Bytes> + Unpin,
{
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        if let Poll::Ready(Some(Ok(frame))) = &polled
            && let Some(trailers) = frame.trailers_ref()
            && self.observation.method.is_some()
        {
            self.observation.see(trailers);
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests;
