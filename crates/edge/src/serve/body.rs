//! Bodies of answers: nothing, bytes from memory, or a stretch of a file.

use std::{
    io,
    ops::Range,
    path::Path,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use futures_util::Stream as _;
use hyper::body::{Frame, SizeHint};
use tokio::{
    fs::File,
    io::{AsyncReadExt as _, AsyncSeekExt as _, Take},
};
use tokio_util::io::ReaderStream;

/// Read from disk at once: a hop to another thread costs some 10 µs each.
const PIECE_BYTES: usize = 128 * 1024;

/// A body.
#[derive(Debug)]
pub(crate) enum Body {
    Empty,
    Whole(Option<Bytes>),
    File {
        pieces: Box<ReaderStream<Take<File>>>,
        left: u64,
    },
}

impl Body {
    pub(crate) const fn whole(bytes: Bytes) -> Self {
        Self::Whole(Some(bytes))
    }

    /// A stretch of a file, which has all of it.
    pub(crate) async fn file(path: &Path, range: Range<u64>) -> io::Result<Self> {
        let mut file = File::open(path).await?;
        if file.metadata().await?.len() < range.end {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if range.start > 0 {
            file.seek(io::SeekFrom::Start(range.start)).await?;
        }
        let left = range.end - range.start;
        let pieces = ReaderStream::with_capacity(file.take(left), PIECE_BYTES);
        Ok(Self::File {
            pieces: Box::new(pieces),
            left,
        })
    }
}

impl hyper::body::Body for Body {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        match self.get_mut() {
            Self::Empty => Poll::Ready(None),
            Self::Whole(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Self::File { pieces, left } => Pin::new(pieces.as_mut()).poll_next(cx).map(|piece| {
                let piece = piece?;
                Some(piece.map(|bytes| {
                    *left = left.saturating_sub(u64::try_from(bytes.len()).unwrap_or(u64::MAX));
                    Frame::data(bytes)
                }))
            }),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty | Self::Whole(None) => true,
            Self::Whole(Some(bytes)) => bytes.is_empty(),
            Self::File { left, .. } => *left == 0,
        }
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(match self {
            Self::Empty | Self::Whole(None) => 0,
            Self::Whole(Some(bytes)) => u64::try_from(bytes.len()).unwrap_or(u64::MAX),
            Self::File { left, .. } => *left,
        })
    }
}
