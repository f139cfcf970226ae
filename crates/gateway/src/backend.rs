//! The connections to another service's replicas: in turns, passing over one that cannot be reached, and
//! for a while one that was silent.
//!
//! A call goes through as bytes: frame in, frames and trailers out. Its body is whole in memory, so
//! that a replica that is down costs another try, not an error. What may have reached a replica is
//! only tried again when it changes nothing.

use std::{
    error::Error as _,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use candlefish_runtime::refusal::{Code, Refusal};
use http::{HeaderMap, HeaderValue, Method, Request, Response, header, uri::PathAndQuery};
use http_body_util::Full;
use tokio::time::Instant;
use tonic::{
    Status,
    body::Body,
    transport::{Channel, Endpoint},
};
use tower::Service;

/// Connections to each replica: one HTTP/2 connection is one task on either side.
const CONNECTIONS: usize = 2;
/// How long calls begin with another channel after one broke on this. A replica that is frozen still takes
/// connections, and each call on one waits until a ping is not answered.
const AVOIDED: Duration = Duration::from_secs(10);

/// All replicas of one service; cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Backend {
    channels: Arc<[Connection]>,
    turn: Arc<AtomicUsize>,
}

/// One channel, and what is known of it.
#[derive(Debug)]
struct Connection {
    channel: Channel,
    silence: Silence,
}

/// Until when calls begin with another channel; nothing when this one answered last.
#[derive(Debug, Default)]
struct Silence(Mutex<Option<Instant>>);

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
            .flat_map(|_| endpoints)
            .map(|endpoint| Connection {
                channel: endpoint.connect_lazy(),
                silence: Silence::default(),
            })
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
        let connections = self.connections(first);
        connections.map(|(place, connection)| (place, connection.channel.clone()))
    }

    fn connections(&self, first: usize) -> impl Iterator<Item = (usize, &Connection)> {
        let all = self.channels.len();
        (0..all).filter_map(move |offset| {
            let place = first.wrapping_add(offset) % all;
            Some((place, self.channels.get(place)?))
        })
    }

    /// Every channel once, each time from another one on; those that were silent lately come last.
    fn best_first(&self) -> impl Iterator<Item = &Connection> {
        let first = self.turn.fetch_add(1, Ordering::Relaxed);
        let now = Instant::now();
        let all = self.connections(first).map(|(_place, one)| one);
        let (silent, others): (Vec<_>, Vec<_>) = all.partition(|one| one.silence.lasts(now));
        others.into_iter().chain(silent)
    }

    /// Makes the call on one replica after the other, until one answers.
    pub(crate) async fn call(&self, call: &Call) -> Result<Response<Body>, Status> {
        let mut last = None;
        for connection in self.best_first() {
            connection.silence.tried(Instant::now());
            match send(&mut connection.channel.clone(), call).await {
                Ok(response) => {
                    connection.silence.ended();
                    return Ok(response);
                }
                Err(error) => {
                    connection.silence.begun(Instant::now());
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

impl Silence {
    fn lasts(&self, now: Instant) -> bool {
        self.until().is_some_and(|until| now < until)
    }

    fn begun(&self, now: Instant) {
        *self.until() = Some(now + AVOIDED);
    }

    /// Its time may be over. Then one call learns how it is; until that is known, others begin elsewhere.
    fn tried(&self, now: Instant) {
        let mut until = self.until();
        if until.is_some() {
            *until = Some(now + AVOIDED);
        }
    }

    fn ended(&self) {
        *self.until() = None;
    }

    fn until(&self) -> MutexGuard<'_, Option<Instant>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
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

#[cfg(test)]
mod tests {
    use super::*;

    const MOMENT: Duration = Duration::from_millis(1);

    #[test]
    fn a_channel_that_was_silent_is_avoided_for_a_while_and_then_tried_by_one() {
        let silence = Silence::default();
        let begun = Instant::now();
        silence.tried(begun);
        assert!(!silence.lasts(begun), "nobody found it silent");
        silence.begun(begun);
        assert!(silence.lasts(begun) && silence.lasts(begun + AVOIDED - MOMENT));
        let over = begun + AVOIDED;
        assert!(!silence.lasts(over));
        silence.tried(over);
        assert!(
            silence.lasts(over + MOMENT),
            "others wait for what it finds"
        );
        silence.ended();
        assert!(!silence.lasts(over + MOMENT));
    }

    #[tokio::test]
    async fn every_channel_comes_once_and_those_that_were_silent_last() {
        let endpoints = ["http://127.0.0.1:1", "http://127.0.0.1:2"].map(Endpoint::from_static);
        let backend = Backend::new(&endpoints);
        let order = || -> Vec<usize> {
            let place = |one: &Connection| {
                backend
                    .channels
                    .iter()
                    .position(|all| std::ptr::eq(all, one))
            };
            backend.best_first().filter_map(place).collect()
        };
        assert_eq!(order(), [0, 1, 2, 3]);
        assert_eq!(order(), [1, 2, 3, 0]);
        for silent in [0, 2] {
            backend.channels[silent].silence.begun(Instant::now());
        }
        assert_eq!(order(), [3, 1, 2, 0]);
        assert_eq!(order(), [3, 1, 0, 2]);
        for silent in [1, 3] {
            backend.channels[silent].silence.begun(Instant::now());
        }
        // With none left, they come as ever.
        assert_eq!(order(), [0, 1, 2, 3]);
    }
}
