//! Connections as they come in. None stays that has nobody at its other end, or that does not say what it
//! speaks; and when none can be taken, that is tried again in a moment.

use std::{
    io::{self, ErrorKind, IoSlice},
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use futures_util::{Stream, StreamExt, stream};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    time::Sleep,
};
use tonic::transport::server::{Connected, TcpConnectInfo, TcpIncoming};

/// A peer that vanished is noticed within a minute, by the system. HTTP/2 has pings of its own; HTTP/1
/// has none, and a stream of events may be silent for long.
const IDLE: Duration = Duration::from_secs(30);
const PROBED_EVERY: Duration = Duration::from_secs(10);
const PROBES: u32 = 3;
/// How long a connection may take to say what it speaks.
const OPENING: Duration = Duration::from_secs(10);
/// How long to wait when no connection can be taken, mostly as too many files are open: the listener
/// would say so again at once, and keep a core busy with it.
const AGAIN: Duration = Duration::from_millis(100);
/// What HTTP/2 begins with.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// The connections of a port.
pub(super) fn incoming(
    listener: TcpListener,
) -> impl Stream<Item = io::Result<Connection>> + Send + 'static {
    let accepted = TcpIncoming::from(listener)
        .with_nodelay(Some(true))
        .with_keepalive(Some(IDLE))
        .with_keepalive_interval(Some(PROBED_EVERY))
        .with_keepalive_retries(Some(PROBES));
    taken(accepted).map(|stream| Ok(Connection::new(stream, OPENING)))
}

/// Those that could be taken. The server would ask again at once after any error.
fn taken<S>(accepted: S) -> impl Stream<Item = TcpStream> + Send + 'static
where
    S: Stream<Item = io::Result<TcpStream>> + Send + Unpin + 'static,
{
    stream::unfold(accepted, |mut accepted| async move {
        loop {
            match accepted.next().await? {
                Ok(stream) => return Some((stream, accepted)),
                Err(error) if is_of_one(&error) => {}
                Err(error) => {
                    tracing::warn!(%error, "no connection can be taken");
                    tokio::time::sleep(AGAIN).await;
                }
            }
        }
    })
}

/// Whether it is about one connection, which was gone before it was taken: the next one may be there.
fn is_of_one(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::ConnectionAborted | ErrorKind::ConnectionReset | ErrorKind::ConnectionRefused
    )
}

/// A connection that ends when it does not say in time what it speaks. The server waits for that
/// without a timer; for all that comes after, it has one.
#[derive(Debug)]
pub(super) struct Connection {
    stream: TcpStream,
    /// Until it has said so.
    opening: Option<Opening>,
}

#[derive(Debug)]
struct Opening {
    over: Pin<Box<Sleep>>,
    /// Bytes of the preface that have come.
    said: usize,
}

impl Opening {
    /// Whether it is known with these bytes what is spoken: HTTP/2 by its whole preface, HTTP/1 by the
    /// first byte that is none of it.
    fn ends_with(&mut self, came: &[u8]) -> bool {
        let expected = PREFACE.get(self.said..).unwrap_or_default();
        let fits = expected.starts_with(came);
        self.said += came.len();
        !fits || self.said >= PREFACE.len()
    }
}

impl Connection {
    fn new(stream: TcpStream, within: Duration) -> Self {
        let opening = Opening {
            over: Box::pin(tokio::time::sleep(within)),
            said: 0,
        };
        Self {
            stream,
            opening: Some(opening),
        }
    }
}

impl Connected for Connection {
    type ConnectInfo = TcpConnectInfo;

    fn connect_info(&self) -> TcpConnectInfo {
        self.stream.connect_info()
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        let read = Pin::new(&mut this.stream).poll_read(cx, buf);
        let Some(opening) = &mut this.opening else {
            return read;
        };
        if read.is_pending() {
            ready!(opening.over.as_mut().poll(cx));
            return Poll::Ready(Err(ErrorKind::TimedOut.into()));
        }
        let came = buf.filled().get(before..).unwrap_or_default();
        if opening.ends_with(came) {
            this.opening = None;
        }
        read
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(cx, buf)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        time::Instant,
    };

    use super::*;

    const SOON: Duration = Duration::from_secs(40);

    /// Both ends of a connection.
    async fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (client, accepted) = tokio::join!(TcpStream::connect(address), listener.accept());
        let (server, _from) = accepted.unwrap();
        (client.unwrap(), server)
    }

    #[tokio::test]
    async fn a_connection_that_does_not_say_what_it_speaks_is_ended() {
        // Nothing, and less than HTTP/2 begins with.
        for said in [&b""[..], &b"PRI * HTTP/2.0\r\n"[..]] {
            let (mut client, server) = pair().await;
            let mut taken = Connection::new(server, Duration::from_millis(50));
            client.write_all(said).await.unwrap();
            let mut read = Vec::new();
            let ended = tokio::time::timeout(SOON, taken.read_to_end(&mut read)).await;
            assert_eq!(ended.unwrap().unwrap_err().kind(), ErrorKind::TimedOut);
        }
    }

    #[tokio::test]
    async fn one_that_said_what_it_speaks_may_be_silent() {
        for said in [&b"G"[..], &b"PRI G"[..], PREFACE] {
            let (mut client, server) = pair().await;
            let mut taken = Connection::new(server, SOON);
            client.write_all(said).await.unwrap();
            let mut read = vec![0; said.len()];
            let reading = tokio::time::timeout(SOON, taken.read_exact(&mut read)).await;
            reading.unwrap().unwrap();
            assert_eq!(read, said);
            assert!(taken.opening.is_none(), "{said:?}");
        }
    }

    #[tokio::test]
    async fn where_no_connection_can_be_taken_it_is_tried_again_in_a_moment() {
        // Too many open files, twice; and one that was gone, which is no reason to wait.
        let full = || Err(io::Error::from_raw_os_error(24));
        let gone = Err(ErrorKind::ConnectionAborted.into());
        let (_client, server) = pair().await;
        let begun = Instant::now();
        let accepted = stream::iter([full(), gone, full(), Ok(server)]);
        let taken: Vec<TcpStream> = taken(accepted).collect().await;
        assert_eq!(taken.len(), 1);
        assert!(begun.elapsed() >= 2 * AGAIN);
    }
}
