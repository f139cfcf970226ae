//! Visitors who stop reading: each would keep a connection, of which there are so many, for ever.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Sleep, sleep},
};

/// A connection that fails once nothing could be written to it for a while, though there was something
/// to write. One that has nothing to write may be as idle as it likes.
#[derive(Debug)]
pub(super) struct Impatient<S> {
    stream: S,
    patience: Duration,
    /// Writes what fits at this moment; `WouldBlock` when nothing does.
    write_now: fn(&S, &[u8]) -> io::Result<usize>,
    /// Since a write could not be made.
    stalled: Option<Pin<Box<Sleep>>>,
}

impl<S: Unpin> Impatient<S> {
    pub(super) fn new(
        stream: S,
        patience: Duration,
        write_now: fn(&S, &[u8]) -> io::Result<usize>,
    ) -> Self {
        Self {
            stream,
            patience,
            write_now,
            stalled: None,
        }
    }

    /// What a write came to that was to begin with `bytes`.
    fn judge(
        &mut self,
        cx: &mut Context<'_>,
        written: Poll<io::Result<usize>>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if written.is_ready() {
            self.stalled = None;
            return written;
        }
        let patience = self.patience;
        let stalled = self
            .stalled
            .get_or_insert_with(|| Box::pin(sleep(patience)));
        ready!(stalled.as_mut().poll(cx));
        self.stalled = None;
        // A socket is said to be ready only when a third of its buffer is free, which takes a slow
        // visitor minutes: what counts is whether anything left it.
        Poll::Ready(match (self.write_now)(&self.stream, bytes) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                let words = "the visitor does not read its answer";
                Err(io::Error::new(io::ErrorKind::TimedOut, words))
            }
            written => written,
        })
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Impatient<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_read(cx, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Impatient<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.stream).poll_write(cx, bytes);
        this.judge(cx, written, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.stream).poll_write_vectored(cx, slices);
        let mut slices = slices.iter().map(|slice| &**slice);
        let first = slices.find(|bytes| !bytes.is_empty());
        this.judge(cx, written, first.unwrap_or_default())
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};

    use super::*;

    const FOR_EVER: Duration = Duration::from_hours(1);
    const AT_ONCE: Duration = Duration::from_millis(1);

    fn full(_: &DuplexStream, _: &[u8]) -> io::Result<usize> {
        Err(io::ErrorKind::WouldBlock.into())
    }

    /// Whether a byte could be written at this moment.
    async fn writes(stream: &mut Impatient<DuplexStream>) -> bool {
        poll_fn(|cx| Poll::Ready(Pin::new(&mut *stream).poll_write(cx, b"x")))
            .await
            .is_ready()
    }

    #[tokio::test]
    async fn who_reads_nothing_is_given_up() {
        let (ours, _theirs) = duplex(2);
        let mut ours = Impatient::new(ours, AT_ONCE, full);
        assert_eq!(ours.write(b"abc").await.unwrap(), 2);
        let error = ours.write(b"c").await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        let slices = [IoSlice::new(b""), IoSlice::new(b"c")];
        let error = ours.write_vectored(&slices).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }

    #[tokio::test]
    async fn whatever_leaves_begins_the_time_anew() {
        let (ours, mut theirs) = duplex(1);
        let mut ours = Impatient::new(ours, FOR_EVER, full);
        for _ in 0..3 {
            assert!(writes(&mut ours).await);
            assert!(ours.stalled.is_none(), "nothing more to write");
            assert!(!writes(&mut ours).await);
            assert!(ours.stalled.is_some(), "the time runs");
            assert_eq!(theirs.read_u8().await.unwrap(), b'x');
        }
    }

    #[tokio::test]
    async fn a_socket_that_takes_a_little_is_not_given_up() {
        fn a_little(_: &DuplexStream, bytes: &[u8]) -> io::Result<usize> {
            match bytes {
                b"yz" => Ok(1),
                _ => Err(io::Error::other("other bytes than the visitor's")),
            }
        }
        let (ours, _theirs) = duplex(1);
        let mut ours = Impatient::new(ours, AT_ONCE, a_little);
        assert!(writes(&mut ours).await);
        for _ in 0..3 {
            assert_eq!(ours.write(b"yz").await.unwrap(), 1);
        }
    }
}
