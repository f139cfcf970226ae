//! The connections to another service's replicas: in turns, passing over one that cannot be reached.
//!
//! A call goes through as bytes: frame in, frames and trailers out. Its body is whole in memory, so
//! that a replica that is down costs another try, not an error. What may have reached a replica is
//! only tried again when it changes nothing.

use std::{
    error::Error as _,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use bytes::Bytes;
use candlefish_runtime::refusal::{Code, Refusal};
use http::{HeaderMap, HeaderValue, Method, Request, Response, header, uri::PathAndQuery};
use http_body_util::Full;
use tonic::{
    Status,
    body::Body,
    transport::{Channel, Endpoint},
};
use tower::Service;

/// Connections to each replica: one HTTP/2 connection is one task on either side.
const CONNECTIONS: usize = 2;

/// All replicas of one service; cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Backend {
    channels: Arc<[Channel]>,
    turn: Arc<AtomicUsize>,
}

/// A call whose body is whole.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    pub(crate) path: PathAndQuery,
    pub(crate) headers: HeaderMap,
    /// gRPC frames.
    pub(crate) body: Bytes,
    /// Changes nothing, as it only reads or is rehearsed: may be sent again although it may have arrived.
    pub(crate) safe: bool,
}

impl Backend {
    /// Connects when it is first called.
    pub(crate) fn new(endpoints: &[Endpoint]) -> Self {
        // Round and round, so that neighbours in the list are different replicas.
        let channels = (0..CONNECTIONS)
            .flat_map(|_| endpoints.iter().map(Endpoint::connect_lazy))
            .collect();
        Self {
            channels,
            turn: Arc::new(AtomicUsize::new(0)),
        }
    }

    /// Every channel once, each time from another one on.
    pub(crate) fn in_turn(&self) -> impl Iterator<Item = Channel> {
        // Other calls take turns meanwhile: counting on from its own, this one meets every replica.
        let first = self.turn.fetch_add(1, Ordering::Relaxed);
        self.beginning_at(first).map(|(_place, channel)| channel)
    }

    /// Every channel once, with its place, from one on.
    pub(crate) fn beginning_at(&self, first: usize) -> impl Iterator<Item = (usize, Channel)> {
        let all = self.channels.len();
        (0..all).filter_map(move |offset| {
            let place = first.wrapping_add(offset) % all;
            Some((place, self.channels.get(place)?.clone()))
        })
    }

    /// Makes the call on one replica after the other, until one answers.
    pub(crate) async fn call(&self, call: &Call) -> Result<Response<Body>, Status> {
        let mut last = None;
        for mut channel in self.in_turn() {
            match send(&mut channel, call).await {
                Ok(response) => return Ok(response),
                Err(error) => {
                    let arrived = !never_arrived(&error);
                    tracing::debug!(error = %chain(&error), arrived, "a replica did not answer");
                    last = Some(arrived);
                    if arrived && !call.safe {
                        break;
                    }
                }
            }
        }
        let words = match last {
            Some(true) if call.safe => {
                "the service stopped answering; nothing was carried out: repeat the call"
            }
            Some(true) => {
                "the service stopped answering; the call may have taken effect: repeat it with the \
                 same idempotency key"
            }
            _ => "no replica of the service can be reached; nothing has happened: repeat the call",
        };
        Err(Refusal::new(Code::Unavailable, "service-unavailable", words).into())
    }
}

async fn send(
    channel: &mut Channel,
    call: &Call,
) -> Result<Response<Body>, tonic::transport::Error> {
    std::future::poll_fn(|cx| channel.poll_ready(cx)).await?;
    let mut request = Request::new(Body::new(Full::new(call.body.clone())));
    *request.method_mut() = Method::POST;
    *request.version_mut() = http::Version::HTTP_2;
    let mut parts = http::uri::Parts::default();
    parts.path_and_query = Some(call.path.clone());
    *request.uri_mut() = http::Uri::from_parts(parts).unwrap_or_default();
    *request.headers_mut() = call.headers.clone();
    let headers = request.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/grpc"),
    );
    headers.insert(header::TE, HeaderValue::from_static("trailers"));
    channel.call(request).await
}

/// Nothing of the call was sent: the connection could not be made.
fn never_arrived(error: &tonic::transport::Error) -> bool {
    let mut source = error.source();
    while let Some(cause) = source {
        if cause.is::<tonic::ConnectError>() {
            return true;
        }
        source = cause.source();
    }
    false
}

/// An error with its sources, for the one log line where it is handled.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
