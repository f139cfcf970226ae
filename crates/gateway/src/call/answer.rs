//! What a service answers: gRPC, whole unless it is a stream.

use std::{
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use candlefish_runtime::refusal::{Code, Refusal};
use http::{HeaderMap, HeaderValue, Response, header, response};
use http_body::Frame;
use http_body_util::BodyExt;
use tonic::{Status, body::Body};

use crate::memory::Since;

/// The answer to a call.
#[derive(Debug)]
pub(crate) enum Answer {
    Whole(Whole),
    Stream(Response<Body>),
}

/// An answer whose body is in memory: a replica that dies in the middle of it has answered nothing.
#[derive(Debug)]
pub(crate) struct Whole {
    pub(crate) head: response::Parts,
    pub(crate) frames: Bytes,
    trailers: Option<HeaderMap>,
    /// From before the service was asked.
    pub(crate) since: Since,
}

impl Whole {
    /// An answer that a service gave before, since then.
    pub(crate) fn again(frames: Bytes, since: Since) -> Self {
        let (mut head, ()) = Response::new(()).into_parts();
        head.headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/grpc"),
        );
        let mut trailers = HeaderMap::with_capacity(1);
        trailers.insert(Status::GRPC_STATUS, HeaderValue::from_static("0"));
        Self {
            head,
            frames,
            trailers: Some(trailers),
            since,
        }
    }

    /// Why the service refused; nothing when it did not.
    pub(crate) fn refusal(&self) -> Option<Status> {
        let refusal = |headers| {
            let status = Status::from_header_map(headers)?;
            (status.code() != tonic::Code::Ok).then_some(status)
        };
        refusal(&self.head.headers).or_else(|| refusal(self.trailers.as_ref()?))
    }

    pub(crate) fn into_response(self) -> Response<Body> {
        let body = Rest {
            frames: Some(self.frames).filter(|frames| !frames.is_empty()),
            trailers: self.trailers,
        };
        Response::from_parts(self.head, Body::new(body))
    }
}

/// Reads the answer to its end; that of a `safe` call, which changes nothing, may be asked for again.
pub(super) async fn whole(
    answer: Response<Body>,
    since: Since,
    safe: bool,
) -> Result<Whole, Status> {
    let (head, body) = answer.into_parts();
    let collected = body.collect().await.map_err(|broken| {
        tracing::debug!(%broken, "a replica did not end its answer");
        let words = if safe {
            "the answer broke off; nothing was carried out: repeat the call"
        } else {
            "the answer broke off; the call may have taken effect: repeat it with the same \
             idempotency key"
        };
        Refusal::new(Code::Unavailable, "service-unavailable", words)
    })?;
    Ok(Whole {
        head,
        trailers: collected.trailers().cloned(),
        frames: collected.to_bytes(),
        since,
    })
}

/// What of a whole answer is still to send. It names no size: gRPC-Web puts the trailers into the body.
struct Rest {
    frames: Option<Bytes>,
    trailers: Option<HeaderMap>,
}

impl http_body::Body for Rest {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let data = self.frames.take().map(Frame::data);
        let frame = data.or_else(|| self.trailers.take().map(Frame::trailers));
        Poll::Ready(frame.map(Ok))
    }

    fn is_end_stream(&self) -> bool {
        self.frames.is_none() && self.trailers.is_none()
    }
}
