//! Sees whether uploads move: a client knows a time for a whole request, not for one that stands still
//! while it sends.

use std::{convert::Infallible, io, pin::pin, time::Duration};

use bytes::{Bytes, BytesMut};
use futures_util::{StreamExt as _, stream};
use reqwest::Body;
use tokio::{
    fs::File,
    io::AsyncReadExt as _,
    sync::watch,
    time::{Instant, timeout_at},
};

/// Pieces in which content is handed on: where the next one is taken, something has moved.
const PIECE: usize = 16 * 1024;

/// When something moved last. All uploads share one: where the way is narrow, each waits for the others.
#[derive(Debug, Clone)]
pub(super) struct Pulse(watch::Sender<Instant>);

impl Pulse {
    pub(super) fn new() -> Self {
        Self(watch::Sender::new(Instant::now()))
    }

    /// Something was sent or received.
    pub(super) fn beat(&self) {
        self.0.send_modify(|last| *last = Instant::now());
    }

    /// What an act answers; `None`, and the act is given up, once nothing has moved for `limit`.
    pub(super) async fn within<T>(
        &self,
        limit: Duration,
        act: impl Future<Output = T>,
    ) -> Option<T> {
        let mut act = pin!(act);
        let mut ends = Instant::now() + limit;
        loop {
            if let Ok(answer) = timeout_at(ends, &mut act).await {
                return Some(answer);
            }
            let moved = *self.0.borrow() + limit;
            if moved <= ends {
                return None;
            }
            ends = moved;
        }
    }

    /// Bytes as a body. What is no more than one piece stays whole, so that the client can send it
    /// anew by itself.
    pub(super) fn bytes(&self, bytes: Bytes) -> Body {
        if bytes.len() <= PIECE {
            return bytes.into();
        }
        let pulse = self.clone();
        let starts = (0..bytes.len()).step_by(PIECE);
        let pieces = starts.map(move |at| bytes.slice(at..bytes.len().min(at + PIECE)));
        Body::wrap_stream(stream::iter(pieces).map(move |piece| {
            pulse.beat();
            Ok::<_, Infallible>(piece)
        }))
    }

    /// A file as a body.
    pub(super) fn file(&self, file: File) -> Body {
        let begin = (file, self.clone());
        Body::wrap_stream(stream::try_unfold(begin, |(mut file, pulse)| async move {
            let mut piece = BytesMut::with_capacity(PIECE);
            let count = file.read_buf(&mut piece).await?;
            pulse.beat();
            Ok::<_, io::Error>((count > 0).then(|| (piece.freeze(), (file, pulse))))
        }))
    }
}

#[cfg(test)]
mod tests {
    use std::{
        future::{pending, poll_fn},
        task::Poll,
    };

    use super::*;

    #[tokio::test]
    async fn what_stands_still_is_given_up_and_what_moves_is_not() {
        let limit = Duration::from_millis(10);
        let pulse = Pulse::new();
        assert_eq!(pulse.within(limit, pending::<()>()).await, None);
        // Moves in the last moment, each time, and is done after many of them.
        let mut looks = 0;
        let slow = poll_fn(|_| {
            looks += 1;
            pulse.beat();
            if looks > 5 {
                Poll::Ready("done")
            } else {
                Poll::Pending
            }
        });
        assert_eq!(pulse.within(limit, slow).await, Some("done"));
    }

    #[tokio::test]
    async fn what_is_handed_on_moves() {
        let pulse = Pulse::new();
        let file = tempfile::tempfile().unwrap();
        file.set_len(100_000).unwrap();
        for body in [
            pulse.bytes(Bytes::from(vec![7_u8; 100_000])),
            pulse.file(File::from_std(file)),
        ] {
            let before = *pulse.0.borrow();
            let body = reqwest::Response::from(axum::http::Response::new(body));
            assert_eq!(body.bytes().await.unwrap().len(), 100_000);
            assert!(*pulse.0.borrow() > before);
        }
    }
}
