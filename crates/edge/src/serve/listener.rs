//! Connections of visitors.

use std::{convert::Infallible, sync::Arc, time::Duration};

use hyper::{Request, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::graceful::{GracefulShutdown, Watcher},
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    task::JoinSet,
    time::sleep,
};
use tokio_util::sync::CancellationToken;

use super::{Server, stall::Impatient};

/// How long a visitor may take to send a request's head, or leave a connection idle.
const HEAD: Duration = Duration::from_mins(1);
/// A request's head: line and headers.
const HEAD_BYTES: usize = 32 * 1024;
const HEADERS: usize = 100;
/// A pause when no connection can be taken: mostly, file descriptors ran out.
const BREATH: Duration = Duration::from_millis(50);
/// How long answers in hand may take at the stop.
const PATIENCE: Duration = Duration::from_secs(10);

/// Serves until `stopping`, then finishes what is in hand. At most `connections` at a time: more
/// wait in the listener's queue. Who reads nothing of an answer for `stall` is given up.
pub(crate) async fn serve(
    listener: TcpListener,
    server: Arc<Server>,
    connections: usize,
    stall: Duration,
    stopping: CancellationToken,
) {
    let room = Arc::new(Semaphore::new(connections));
    let graceful = GracefulShutdown::new();
    // Not the process's tracker, which logs each task by name: there may be thousands a second.
    // They end with this task, which is tracked.
    let mut open = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            () = stopping.cancelled() => break,
            accepted = accept(&listener, &room) => accepted,
            Some(_) = open.join_next() => continue,
        };
        match accepted {
            Ok((stream, permit)) => {
                let server = Arc::clone(&server);
                // The socket itself is asked: what tokio knows of it comes late.
                let stream = Impatient::new(stream, stall, |stream, bytes| {
                    rustix::io::write(stream, bytes).map_err(Into::into)
                });
                drop(open.spawn(connection(stream, server, graceful.watcher(), permit)));
            }
            Err(error) => {
                tracing::warn!(%error, "no connection can be taken now");
                sleep(BREATH).await;
            }
        }
    }
    drop(listener);
    drop(tokio::time::timeout(PATIENCE, graceful.shutdown()).await);
}

async fn accept(
    listener: &TcpListener,
    room: &Arc<Semaphore>,
) -> std::io::Result<(TcpStream, OwnedSemaphorePermit)> {
    let permit = Arc::clone(room).acquire_owned().await;
    let permit = permit.map_err(std::io::Error::other)?;
    let (stream, _) = listener.accept().await?;
    // Answers are written whole; without this the last packet of one waits for the visitor.
    stream.set_nodelay(true)?;
    Ok((stream, permit))
}

async fn connection(
    stream: Impatient<TcpStream>,
    server: Arc<Server>,
    watcher: Watcher,
    permit: OwnedSemaphorePermit,
) {
    let service = service_fn(move |request: Request<Incoming>| {
        let server = Arc::clone(&server);
        // What a GET carries in its body is nobody's business here.
        let (parts, _) = request.into_parts();
        async move { Ok::<_, Infallible>(server.answer(&parts).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD)
        .max_buf_size(HEAD_BYTES)
        .max_headers(HEADERS)
        .serve_connection(TokioIo::new(stream), service);
    if let Err(error) = watcher.watch(connection).await {
        tracing::debug!(%error, "a connection broke off");
    }
    drop(permit);
}
