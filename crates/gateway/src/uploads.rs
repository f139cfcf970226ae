//! Blob uploads: passed through as they are, to whoever signed their URL.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use bytes::Bytes;
use candlefish_ids::RequestId;
use futures_util::{Stream, StreamExt};
use http::{HeaderValue, Request, Response, Uri, header};
use http_body_util::{BodyExt, BodyStream, Full};
use serde_json::{Map, Value};
use tokio::time::Instant;
use tonic::{Status, body::Body};

use crate::{
    backend::chain,
    problem::{self, Problem, kinds},
    rehearsal,
};

#[cfg(test)]
mod tests;

const CONNECT: Duration = Duration::from_secs(1);
/// How long a replica that took a connection is taken to be there.
const LATELY: Duration = Duration::from_secs(2);
/// An upload of which nothing moves for so long is given up, as a replica that is frozen still takes
/// connections. What moves may take as long as it likes.
const IDLE: Duration = Duration::from_secs(30);

/// Passes uploads through; cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Uploads {
    http: reqwest::Client,
    targets: Arc<[Uri]>,
    idle: Duration,
    /// The replica that took a connection lately, and when it was asked.
    lately: Arc<Mutex<Option<(Instant, String)>>>,
}

impl Uploads {
    /// To replicas of the deploy-orchestrator.
    pub(crate) fn new(targets: &[Uri]) -> Result<Self, reqwest::Error> {
        Self::within(targets, IDLE)
    }

    fn within(targets: &[Uri], idle: Duration) -> Result<Self, reqwest::Error> {
        let http = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            // What is behind us is reached as gRPC reaches it, whatever the environment says.
            .no_proxy()
            .connect_timeout(CONNECT)
            .build()?;
        Ok(Self {
            http,
            targets: targets.into(),
            idle,
            lately: Arc::default(),
        })
    }

    /// Passes one upload through. Its body flows: nothing is held, so nothing is tried twice.
    pub(crate) async fn answer(&self, request: Request<Body>) -> Response<Body> {
        let request_id = problem::request_id(request.extensions());
        // A signed address opens what it names: the log has the path alone.
        let (verb, path) = (request.method().clone(), request.uri().path().to_owned());
        let rehearses = matches!(rehearsal::is_asked(request.headers()), Ok(true));
        let passed = self.pass(request, request_id).await;
        let mut response = passed.unwrap_or_else(|problem| {
            problem::log(&problem, request_id, verb.as_str(), &path);
            problem.respond(&request_id.to_string()).map(Body::new)
        });
        if rehearses {
            rehearsal::mark(response.headers_mut());
        }
        response
    }

    async fn pass(
        &self,
        request: Request<Body>,
        request_id: RequestId,
    ) -> Result<Response<Body>, Problem> {
        let (parts, body) = request.into_parts();
        if parts.method != http::Method::PUT {
            let words = format!("{} takes PUT, not {}", parts.uri.path(), parts.method);
            return Err(
                Problem::new(&kinds::METHOD_NOT_ALLOWED, "method-not-allowed", words)
                    .allowing("PUT"),
            );
        }
        let path = parts.uri.path_and_query().map_or("/", |path| path.as_str());
        if !is_upload(path) {
            let words = format!("nothing is at {}", parts.uri.path());
            return Err(Problem::new(&kinds::NOT_FOUND, "path-unknown", words));
        }
        let asked = rehearsal::is_asked(&parts.headers);
        if asked.map_err(|refusal| Problem::from(&Status::from(refusal)))? {
            let words =
                "an upload has no rehearsal: what is stored and named by nothing goes by itself";
            return Err(Problem::new(&kinds::UNIMPLEMENTED, "not-rehearsed", words));
        }
        let target = self.reachable().await.ok_or_else(unreachable)?;
        let moves = Moves::default();
        let mut upload = self
            .http
            .put(format!("{}{path}", target.trim_end_matches('/')))
            .body(reqwest::Body::wrap_stream(pieces(body, moves.clone())));
        if let Some(length) = parts.headers.get(header::CONTENT_LENGTH) {
            upload = upload.header(header::CONTENT_LENGTH, length);
        }
        let passing = async {
            let answer = upload.send().await?;
            moves.count();
            shown(answer, request_id).await
        };
        let why = tokio::select! {
            passed = passing => match passed {
                Ok(answer) => return Ok(answer),
                Err(error) => chain(&error),
            },
            () = moves.end(self.idle) => "nothing of it moved any more".to_owned(),
        };
        tracing::info!(error = %why, "an upload was not passed through");
        self.forget();
        Err(unreachable())
    }

    /// A replica that takes connections. A body that flows cannot be sent twice, so it is asked for
    /// before; not for each file of a release, though.
    async fn reachable(&self) -> Option<String> {
        if let Some((asked, target)) = &*self.lately()
            && asked.elapsed() < LATELY
        {
            return Some(target.clone());
        }
        for target in &*self.targets {
            let authority = target.authority()?;
            let port = authority.port_u16().unwrap_or(80);
            let connecting = tokio::net::TcpStream::connect((authority.host(), port));
            if matches!(tokio::time::timeout(CONNECT, connecting).await, Ok(Ok(_))) {
                let target = target.to_string();
                *self.lately() = Some((Instant::now(), target.clone()));
                return Some(target);
            }
        }
        None
    }

    fn forget(&self) {
        *self.lately() = None;
    }

    fn lately(&self) -> MutexGuard<'_, Option<(Instant, String)>> {
        self.lately.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether it is still an upload once `..` is taken out of it, as the client does: the port behind has
/// more than uploads, and not for those outside.
fn is_upload(path: &str) -> bool {
    let base = url::Url::parse("http://candlefish.invalid");
    let sent = base.and_then(|base| base.join(path));
    sent.is_ok_and(|sent| sent.path().starts_with("/blobs/"))
}

fn unreachable() -> Problem {
    Problem::new(
        &kinds::UNAVAILABLE,
        "service-unavailable",
        "the service that takes uploads cannot be reached; upload again",
    )
    .retry_after(CONNECT)
}

/// How often something of an upload moved, in either direction; cheap to clone.
#[derive(Debug, Clone, Default)]
struct Moves(Arc<AtomicU64>);

impl Moves {
    fn count(&self) {
        self.0.fetch_add(1, Relaxed);
    }

    /// Ends when nothing moved for a while: for `idle` at least, for twice that at most. A moment for
    /// each piece would be exact, and a timer for each.
    async fn end(&self, idle: Duration) {
        loop {
            let before = self.0.load(Relaxed);
            tokio::time::sleep(idle).await;
            if self.0.load(Relaxed) == before {
                return;
            }
        }
    }
}

/// The pieces of an upload, each counted when it is taken.
fn pieces(body: Body, moves: Moves) -> impl Stream<Item = Result<Bytes, Status>> + Send {
    BodyStream::new(body).filter_map(move |frame| {
        moves.count();
        async move {
            match frame {
                Ok(frame) => frame.into_data().ok().map(Ok),
                Err(error) => Some(Err(error)),
            }
        }
    })
}

/// The answer as it came; a problem with the request's id, which only we know.
async fn shown(
    answer: reqwest::Response,
    request_id: RequestId,
) -> Result<Response<Body>, reqwest::Error> {
    let status = answer.status();
    let kind = answer.headers().get(header::CONTENT_TYPE).cloned();
    let mut bytes: Bytes = answer.bytes().await?;
    if kind
        .as_ref()
        .is_some_and(|kind| kind == problem::MEDIA_TYPE)
    {
        bytes = named(bytes, request_id);
    }
    let mut response = Response::new(Body::new(Full::new(bytes).map_err(|never| match never {})));
    *response.status_mut() = status;
    if let Some(kind) = kind {
        response.headers_mut().insert(header::CONTENT_TYPE, kind);
    }
    let no_store = HeaderValue::from_static("no-store");
    response
        .headers_mut()
        .insert(header::CACHE_CONTROL, no_store);
    Ok(response)
}

/// A problem with the id of its request; what is none stays as it is.
fn named(bytes: Bytes, request_id: RequestId) -> Bytes {
    let Ok(mut problem) = serde_json::from_slice::<Map<String, Value>>(&bytes) else {
        return bytes;
    };
    problem.insert("request_id".to_owned(), request_id.to_string().into());
    Bytes::from(Value::Object(problem).to_string())
}
