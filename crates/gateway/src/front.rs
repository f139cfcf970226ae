//! The one port: looks at what a request is, and hands it to the surface that answers it.

use candlefish_ids::RequestId;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use tonic::{body::Body, service::Routes};
use tonic_web::GrpcWebLayer;
use tower::{Layer, ServiceExt};

use crate::{
    delivery::github::{self, Webhooks},
    grpc::Grpc,
    open::Pages,
    problem::{self, Problem, kinds},
    rest::Rest,
    uploads::Uploads,
};

/// As much as the HTTP/2 side takes; the longest address of ours has a thousand.
const MOST_HEAD_BYTES: usize = 32 * 1024;

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
}

/// What a request is, by its content type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Surface {
    Grpc,
    GrpcWeb,
    Http,
}

impl Surface {
    fn of(headers: &HeaderMap) -> Self {
        let kind = headers
            .get(header::CONTENT_TYPE)
            .map_or(&b""[..], HeaderValue::as_bytes);
        if kind.starts_with(b"application/grpc-web") {
            Self::GrpcWeb
        } else if kind.starts_with(b"application/grpc") {
            Self::Grpc
        } else {
            Self::Http
        }
    }
}

impl Front {
    /// Answers one request.
    pub(crate) async fn answer(&self, request: Request<Body>) -> Response<Body> {
        match Surface::of(request.headers()) {
            Surface::Grpc => self.grpc(request).await,
            Surface::GrpcWeb => {
                let web = GrpcWebLayer::new().layer(self.grpc.clone());
                match web.oneshot(request).await {
                    Ok(response) => response,
                    Err(never) => match never {},
                }
            }
            Surface::Http => self.http(request).await,
        }
    }

    async fn grpc(&self, request: Request<Body>) -> Response<Body> {
        let path = request.uri().path();
        if path.starts_with("/grpc.reflection.") || path.starts_with("/grpc.health.") {
            return match self.described.clone().oneshot(request).await {
                Ok(response) => response.map(Body::new),
                Err(never) => match never {},
            };
        }
        self.grpc.answer(request).await
    }

    async fn http(&self, request: Request<Body>) -> Response<Body> {
        if head_bytes(&request) > MOST_HEAD_BYTES {
            let words = format!("must have at most {MOST_HEAD_BYTES} bytes together");
            let problem = Problem::new(&kinds::HEADERS_TOO_LARGE, "headers-too-large", "");
            return refused(&problem.field("headers and address", words), &request);
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
                return refused(&problem.allowing("GET, HEAD"), &request);
            }
            let (uri, headers) = (request.uri(), request.headers());
            return self.pages.answer(page, uri, headers).await;
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

fn refused(problem: &Problem, request: &Request<Body>) -> Response<Body> {
    let request_id = RequestId::new();
    // The path of a request that is too large is no line for a log.
    let path: String = request.uri().path().chars().take(200).collect();
    problem::log(problem, request_id, request.method().as_str(), &path);
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
