//! A stream whose service dies in the middle still ends in words.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use candlefish_runtime::refusal::{Code, Refusal};
use http::{HeaderMap, Response};
use http_body::{Frame, SizeHint};
use tonic::{Status, body::Body};

/// The stream; should it break off, it ends as unavailable, which callers repeat. Without this it is
/// reset, which they read as a fault of ours (`Internal`) that no repeating mends.
pub(super) fn in_words(answer: Response<Body>) -> Response<Body> {
    answer.map(|inner| Body::new(Ending { inner, over: false }))
}

struct Ending {
    inner: Body,
    over: bool,
}

impl http_body::Body for Ending {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if self.over {
            return Poll::Ready(None);
        }
        match ready!(Pin::new(&mut self.inner).poll_frame(cx)) {
            Some(Err(broken)) => {
                tracing::debug!(%broken, "a replica did not end its answer");
                self.over = true;
                Poll::Ready(Some(Ok(Frame::trailers(last_words()))))
            }
            frame => Poll::Ready(frame),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.over || self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

fn last_words() -> HeaderMap {
    let status = Status::from(Refusal::new(
        Code::Unavailable,
        "service-unavailable",
        "the stream broke off; begin it again after what you have",
    ));
    let mut trailers = HeaderMap::new();
    if status.add_header(&mut trailers).is_err() {
        tracing::error!("the last words of a stream fit into no header");
    }
    trailers
}
