//! A stream still ends in words when its service dies in the middle, or this process stops.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use candlefish_runtime::refusal::{Code, Refusal};
use http::{HeaderMap, Response};
use http_body::{Frame, SizeHint};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tonic::{Status, body::Body};

/// The stream; should it break off, it ends as unavailable, which callers repeat. Without this it is
/// reset, which they read as a fault of ours (`Internal`) that no repeating mends. It ends so too once
/// this process stops: a stream that goes on would hold up the stop, and be reset at its end.
pub(super) fn in_words(answer: Response<Body>, stopping: CancellationToken) -> Response<Body> {
    answer.map(|inner| {
        Body::new(Ending {
            inner,
            stopping: Box::pin(stopping.cancelled_owned()),
            over: false,
        })
    })
}

struct Ending {
    inner: Body,
    stopping: Pin<Box<WaitForCancellationFutureOwned>>,
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
        let words = match Pin::new(&mut self.inner).poll_frame(cx) {
            Poll::Ready(Some(Err(broken))) => {
                tracing::debug!(%broken, "a replica did not end its answer");
                let words = "the stream broke off; begin it again after what you have";
                last_words("service-unavailable", words)
            }
            Poll::Ready(frame) => return Poll::Ready(frame),
            // What has come is told first.
            Poll::Pending => {
                ready!(self.stopping.as_mut().poll(cx));
                let words = "this gateway stops; begin the stream again after what you have";
                last_words("stopping", words)
            }
        };
        self.over = true;
        Poll::Ready(Some(Ok(Frame::trailers(words))))
    }

    fn is_end_stream(&self) -> bool {
        self.over || self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

fn last_words(reason: &'static str, words: &str) -> HeaderMap {
    let status = Status::from(Refusal::new(Code::Unavailable, reason, words));
    let mut trailers = HeaderMap::new();
    if status.add_header(&mut trailers).is_err() {
        tracing::error!("the last words of a stream fit into no header");
    }
    trailers
}
