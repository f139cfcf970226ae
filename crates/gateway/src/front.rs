//! The one port: looks at what a request is, and hands it to the surface that answers it.

use std::sync::Arc;

use candlefish_ids::RequestId;
use candlefish_runtime::{
    identity,
    listen::{self, request::Served},
};
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri, header,
};
use http_body_util::Full;
use tokio::sync::Semaphore;
use tonic::{Status, body::Body, service::Routes};
use tonic_web::GrpcWebLayer;
use tower::{Layer, ServiceExt};
use tracing::Span;

use crate::{
    call::{self, ending},
    contract::Lookup,
    deadline,
    delivery::github::{self, Webhooks},
    grpc::Grpc,
    open::Pages,
    problem::{self, Problem, kinds},
    rehearsal,
    rest::Rest,
    uploads::Uploads,
};

/// As much as the HTTP/2 side takes; the longest address of ours has a thousand.
const MOST_HEAD_BYTES: usize = 32 * 1024;
/// Streams of reflection and health at a time. They need no token: whoever comes may hold one as long as
/// they like.
pub(crate) const WATCHERS: usize = 64;
/// The largest request to those: a name, or a few.
pub(crate) const MOST_ASKED_BYTES: usize = 16 * 1024;
/// The one call of theirs that is no stream. A probe asks it, and nobody who watches keeps it out.
const CHECK: &str = "/grpc.health.v1.Health/Check";
/// What gRPC-Web calls itself. Anything else that begins so is none of its library's, which answers it bare.
const GRPC_WEB: [&[u8]; 4] = [
    b"application/grpc-web",
    b"application/grpc-web+proto",
    b"application/grpc-web-text",
    b"application/grpc-web-text+proto",
];

/// Everything that answers.
#[derive(Debug)]
pub(crate) struct Front {
    pub(crate) grpc: Grpc,
    pub(crate) rest: Rest,
    pub(crate) uploads: Uploads,
    pub(crate) webhooks: Webhooks,
    pub(crate) pages: Pages,
    /// gRPC reflection and health.
    pub(crate) described: Routes,
    /// Places for the streams of those.
    pub(crate) watchers: Arc<Semaphore>,
}

/// What a request is, by its method and its content type: every call of gRPC is a POST.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Surface {
    Grpc,
    GrpcWeb,
    Http,
}

impl Surface {
    fn of(method: &Method, headers: &HeaderMap) -> Self {
        let kind = headers
            .get(header::CONTENT_TYPE)
            .map_or(&b""[..], HeaderValue::as_bytes);
        if method != Method::POST {
            Self::Http
        } else if GRPC_WEB.contains(&kind) {
            Self::GrpcWeb
        } else if kind.starts_with(b"application/grpc")
            && !kind.starts_with(b"application/grpc-web")
        {
            Self::Grpc
        } else {
            Self::Http
        }
    }
}

impl Front {
    /// Answers one request, under an id that is in the log, in our span and in the answer.
    pub(crate) async fn answer(&self, mut request: Request<Body>) -> Response<Body> {
        let request_id = RequestId::new();
        let text = request_id.to_string();
        listen::request::named(&Span::current(), &text);
        request.extensions_mut().insert(request_id);
        let surface = Surface::of(request.method(), request.headers());
        let mut response = self.surface(surface, request).await;
        if let Ok(value) = HeaderValue::from_str(&text) {
            let headers = response.headers_mut();
            if surface != Surface::Http {
                headers.insert(HeaderName::from_static(identity::REQUEST_ID), value.clone());
            }
            headers.insert(problem::REQUEST_ID, value);
        }
        response
    }

    async fn surface(&self, surface: Surface, request: Request<Body>) -> Response<Body> {
        match surface {
            Surface::Grpc => self.grpc(request).await,
            Surface::GrpcWeb => {
                let web = GrpcWebLayer::new().layer(self.grpc.clone());
                match web.oneshot(request).await {
                    Ok(response) => response,
                    Err(never) => match never {},
                }
            }
            Surface::Http => Box::pin(self.timely(request)).await,
        }
    }

    async fn grpc(&self, request: Request<Body>) -> Response<Body> {
        let path = request.uri().path();
        if path.starts_with("/grpc.reflection.") || path.starts_with("/grpc.health.") {
            return self.describe(request).await;
        }
        self.grpc.answer(request).await
    }

    /// Reflection and health.
    async fn describe(&self, request: Request<Body>) -> Response<Body> {
        let request_id = problem::request_id(request.extensions());
        let path = request.uri().path().to_owned();
        let told = self.tell(&path, request).await;
        told.unwrap_or_else(|status| {
            problem::log(&Problem::from(&status), request_id, "gRPC", &path);
            status.into_http()
        })
    }

    /// A stream of theirs holds a place until it ends.
    async fn tell(&self, path: &str, request: Request<Body>) -> Result<Response<Body>, Status> {
        let place = if path == CHECK {
            None
        } else {
            let place = Arc::clone(&self.watchers).try_acquire_owned();
            Some(place.map_err(|_full| call::busy(call::TOO_MANY_STREAMS))?)
        };
        let answering = self.described.clone().oneshot(request);
        let answered = tokio::time::timeout(self.grpc.calls.timeout, answering).await;
        let answered =
            answered.map_err(|_elapsed| Status::cancelled("the request did not arrive in time"))?;
        let answer = match answered {
            Ok(response) => response.map(Body::new),
            Err(never) => match never {},
        };
        let answer = match place {
            Some(place) => call::holding(answer, place),
            None => answer,
        };
        // Whoever watches our health would hold up the stop.
        Ok(ending::in_words(answer, self.grpc.stopping.clone()))
    }

    /// What is no gRPC, in the time that the caller gives it.
    async fn timely(&self, request: Request<Body>) -> Response<Body> {
        let Some(patience) = deadline::of(request.headers()) else {
            return self.http(request).await;
        };
        let request_id = problem::request_id(request.extensions());
        let (verb, uri) = (request.method().clone(), request.uri().clone());
        let rehearses = matches!(rehearsal::is_asked(request.headers()), Ok(true));
        let answered = deadline::within(Some(patience), self.http(request)).await;
        answered.unwrap_or_else(|status| {
            let mut late = refused(&Problem::from(&status), request_id, &verb, &uri);
            if rehearses {
                rehearsal::mark(late.headers_mut());
            }
            // What would have said so is dropped: counted under the method, as every answer of a call.
            let contract = &self.rest.calls.contract;
            if let Lookup::Hit(hit) = contract.lookup(&verb, uri.path()) {
                let served = Served(hit.method.path.clone());
                late.extensions_mut().insert(served);
            }
            late
        })
    }

    async fn http(&self, request: Request<Body>) -> Response<Body> {
        let request_id = problem::request_id(request.extensions());
        if head_bytes(&request) > MOST_HEAD_BYTES {
            let words = format!("must have at most {MOST_HEAD_BYTES} bytes together");
            let problem = Problem::new(&kinds::HEADERS_TOO_LARGE, "headers-too-large", "");
            let problem = problem.field("headers and address", words);
            return refused(&problem, request_id, request.method(), request.uri());
        }
        let path = request.uri().path();
        if path.starts_with("/blobs/") {
            return self.uploads.answer(request).await;
        }
        if path == github::PATH {
            return self.webhooks.answer(request).await;
        }
        if let Some(page) = Pages::find(path) {
            if request.method() != Method::GET && request.method() != Method::HEAD {
                let words = format!("{path} takes GET, not {}", request.method());
                let problem = Problem::new(&kinds::METHOD_NOT_ALLOWED, "method-not-allowed", words);
                let problem = problem.allowing("GET, HEAD");
                return refused(&problem, request_id, request.method(), request.uri());
            }
            let (uri, headers) = (request.uri(), request.headers());
            return self.pages.answer(page, uri, headers, request_id).await;
        }
        self.rest.answer(request).await
    }
}

/// The address and the headers of a request, as far as their size goes.
fn head_bytes(request: &Request<Body>) -> usize {
    let address = request
        .uri()
        .path_and_query()
        .map_or(0, |all| all.as_str().len());
    let headers = request.headers().iter();
    address
        + headers
            .map(|(name, value)| name.as_str().len() + value.len())
            .sum::<usize>()
}

fn refused(problem: &Problem, request_id: RequestId, verb: &Method, uri: &Uri) -> Response<Body> {
    // The path of a request that is too large is no line for a log.
    let path: String = uri.path().chars().take(200).collect();
    problem::log(problem, request_id, verb.as_str(), &path);
    problem.respond(&request_id.to_string()).map(Body::new)
}

/// A page of text.
pub(crate) fn text(kind: &'static str, body: impl Into<bytes::Bytes>) -> Response<Body> {
    let mut response = Response::new(Body::new(Full::new(body.into())));
    *response.status_mut() = StatusCode::OK;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    );
    headers.insert(
        header::REFERRER_POLICY,
        HeaderValue::from_static("no-referrer"),
    );
    response
}
