//! A stream still ends in words when its service dies in the middle, this process stops, or the token
//! that it was begun with works no more.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use candlefish_runtime::refusal::{Code, Refusal};
use http::{HeaderMap, Response};
use http_body::{Frame, SizeHint};
use tokio_util::sync::CancellationToken;
use tonic::{Status, body::Body};

/// The stream; should it break off, it ends as unavailable, which callers repeat. Without this it is
/// reset, which they read as a fault of ours (`Internal`) that no repeating mends. It ends so too once
/// this process stops: a stream that goes on would hold up the stop, and be reset at its end.
pub(crate) fn in_words(answer: Response<Body>, stopping: CancellationToken) -> Response<Body> {
    let stop = async move {
        stopping.cancelled().await;
        let words = "this gateway stops; begin the stream again after what you have";
        Refusal::new(Code::Unavailable, "stopping", words)
    };
    // What has come is told first.
    ending(answer, stop, false)
}

/// The stream, until this, whatever has come by then.
pub(super) fn until(
    answer: Response<Body>,
    end: impl Future<Output = Refusal> + Send + 'static,
) -> Response<Body> {
    ending(answer, end, true)
}

fn ending(
    answer: Response<Body>,
    end: impl Future<Output = Refusal> + Send + 'static,
    at_once: bool,
) -> Response<Body> {
    answer.map(|inner| {
        Body::new(Ending {
            inner,
            end: Box::pin(end),
            at_once,
            over: false,
        })
    })
}

struct Ending {
    inner: Body,
    end: Pin<Box<dyn Future<Output = Refusal> + Send>>,
    /// Also while there is more to tell.
    at_once: bool,
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
        let early = if self.at_once {
            self.end.as_mut().poll(cx)
        } else {
            Poll::Pending
        };
        let refusal = if let Poll::Ready(refusal) = early {
            refusal
        } else {
            match Pin::new(&mut self.inner).poll_frame(cx) {
                Poll::Ready(Some(Err(broken))) => {
                    tracing::debug!(%broken, "a replica did not end its answer");
                    let words = "the stream broke off; begin it again after what you have";
                    Refusal::new(Code::Unavailable, "service-unavailable", words)
                }
                Poll::Ready(frame) => return Poll::Ready(frame),
                Poll::Pending if self.at_once => return Poll::Pending,
                Poll::Pending => ready!(self.end.as_mut().poll(cx)),
            }
        };
        let words = last_words(refusal);
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

fn last_words(refusal: Refusal) -> HeaderMap {
    let mut trailers = HeaderMap::new();
    if Status::from(refusal).add_header(&mut trailers).is_err() {
        tracing::error!("the last words of a stream fit into no header");
    }
    trailers
}
