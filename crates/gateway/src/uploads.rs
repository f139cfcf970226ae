//! Blob uploads: passed through as they are, to whoever signed their URL.

use bytes::Bytes;
use candlefish_ids::RequestId;
use futures_util::StreamExt;
use http::{HeaderValue, Request, Response, Uri, header};
use http_body_util::{BodyExt, BodyStream, Full};
use tonic::body::Body;

use crate::{
    backend::chain,
    problem::{Problem, kinds},
};

/// Passes uploads through; cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Uploads {
    http: reqwest::Client,
    targets: std::sync::Arc<[Uri]>,
}

impl Uploads {
    /// To replicas of the deploy-orchestrator.
    pub(crate) fn new(targets: &[Uri]) -> Result<Self, reqwest::Error> {
        let http = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(std::time::Duration::from_secs(1))
            .build()?;
        Ok(Self {
            http,
            targets: targets.into(),
        })
    }

    /// Passes one upload through. Its body flows: nothing is held, so nothing is tried twice.
    pub(crate) async fn answer(&self, request: Request<Body>) -> Response<Body> {
        let request_id = RequestId::new().to_string();
        let passed = self.pass(request).await;
        passed.unwrap_or_else(|problem| problem.respond(&request_id).map(Body::new))
    }

    async fn pass(&self, request: Request<Body>) -> Result<Response<Body>, Problem> {
        let (parts, body) = request.into_parts();
        if parts.method != http::Method::PUT {
            let words = format!("{} takes PUT, not {}", parts.uri.path(), parts.method);
            return Err(
                Problem::new(&kinds::METHOD_NOT_ALLOWED, "method-not-allowed", words)
                    .allowing("PUT"),
            );
        }
        let path = parts.uri.path_and_query().map_or("/", |path| path.as_str());
        let length = parts.headers.get(header::CONTENT_LENGTH).cloned();
        let unreachable = || {
            Problem::new(
                &kinds::UNAVAILABLE,
                "service-unavailable",
                "the service that takes uploads cannot be reached; upload again",
            )
            .retry_after(std::time::Duration::from_secs(1))
        };
        let target = self.reachable().await.ok_or_else(unreachable)?;
        let data = BodyStream::new(body).filter_map(|frame| async move {
            match frame {
                Ok(frame) => frame.into_data().ok().map(Ok),
                Err(error) => Some(Err(error)),
            }
        });
        let mut upload = self
            .http
            .put(format!("{}{path}", target.trim_end_matches('/')))
            .body(reqwest::Body::wrap_stream(data));
        if let Some(length) = length {
            upload = upload.header(header::CONTENT_LENGTH, length);
        }
        let answer = upload.send().await.map_err(|error| {
            tracing::info!(error = %chain(&error), "an upload was not passed through");
            unreachable()
        })?;
        shown(answer).await.ok_or_else(unreachable)
    }

    /// The first replica that takes connections.
    async fn reachable(&self) -> Option<String> {
        for target in &*self.targets {
            let authority = target.authority()?;
            let port = authority.port_u16().unwrap_or(80);
            if tokio::net::TcpStream::connect((authority.host(), port))
                .await
                .is_ok()
            {
                return Some(target.to_string());
            }
        }
        None
    }
}

async fn shown(answer: reqwest::Response) -> Option<Response<Body>> {
    let status = answer.status();
    let kind = answer.headers().get(header::CONTENT_TYPE).cloned();
    let bytes: Bytes = answer.bytes().await.ok()?;
    let mut response = Response::new(Body::new(Full::new(bytes).map_err(|never| match never {})));
    *response.status_mut() = status;
    if let Some(kind) = kind {
        response.headers_mut().insert(header::CONTENT_TYPE, kind);
    }
    let no_store = HeaderValue::from_static("no-store");
    response
        .headers_mut()
        .insert(header::CACHE_CONTROL, no_store);
    Some(response)
}
