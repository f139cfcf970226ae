//! A process's main port: gRPC and plain HTTP on one listener.
//!
//! `tonic`'s own server is used, not `axum`'s: it honours `grpc-timeout`, also for the routes of
//! HTTP/1 merged into it. Every call passes [`request`]: a span that continues the caller's trace,
//! a count and a latency.

use std::{net::SocketAddr, time::Duration};

use tokio::net::{TcpListener, ToSocketAddrs};
use tokio_util::sync::CancellationToken;
use tonic::{service::Routes, transport::Server};

use incoming::incoming;
use request::{Peers, RequestLayer};

mod incoming;
pub mod request;

/// The largest message, for `max_decoding_message_size` and `max_encoding_message_size` of each
/// gRPC service and client. Lists and manifests are paged to stay below it.
pub const MAX_MESSAGE_BYTES: usize = 8 * 1024 * 1024;

/// Below this path a service takes the same calls, judges their requests, and carries none out: see
/// [`crate::tasks::Tasks::judging`]. Whoever serves nothing there does not know of it yet.
pub const JUDGED: &str = "/judged";

/// Below this path a service takes the same calls, carries each out, and takes it back where it would
/// commit: the answer is what the real call would have answered. Whoever serves nothing there does not
/// know of it yet, and refuses.
pub const REHEARSED: &str = "/rehearsed";

/// Response metadata of every answer from below [`REHEARSED`], refusals too, with the value `true`:
/// nothing was done.
pub const VALIDATED_ONLY: &str = "candlefish-validated-only";

/// A peer that vanished is noticed within the sum of these.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(5);
/// One gateway holds one connection to us with all its calls on it.
const CONCURRENT_STREAMS: u32 = 4096;
const HEADER_LIST_BYTES: u32 = 32 * 1024;

/// Why a port does not open or closes.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Somebody else has it, or it is not ours.
    #[error("listen on {addr}")]
    Bind {
        /// Where.
        addr: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The listener has no address.
    #[error("ask where the port listens")]
    Address(#[source] std::io::Error),
    /// The server ended.
    #[error("serve the port")]
    Serve(#[from] tonic::transport::Error),
}

/// Opens a port.
pub async fn bind(addr: impl ToSocketAddrs + std::fmt::Debug) -> Result<TcpListener, Error> {
    let said = format!("{addr:?}");
    TcpListener::bind(addr)
        .await
        .map_err(|source| Error::Bind { addr: said, source })
}

/// Where it listens: port 0 has become a real one.
pub fn local_addr(listener: &TcpListener) -> Result<SocketAddr, Error> {
    listener.local_addr().map_err(Error::Address)
}

/// Serves our own processes until `stopping`, then finishes the calls in hand. Streams that would
/// never end must watch `stopping` themselves.
pub async fn serve(
    listener: TcpListener,
    routes: Routes,
    stopping: CancellationToken,
) -> Result<(), Error> {
    serve_peers(Peers::Ours, listener, routes, stopping).await
}

/// The same for a port that anyone may call: a trace from outside is linked, not continued.
pub async fn serve_anyone(
    listener: TcpListener,
    routes: Routes,
    stopping: CancellationToken,
) -> Result<(), Error> {
    serve_peers(Peers::Anyone, listener, routes, stopping).await
}

async fn serve_peers(
    peers: Peers,
    listener: TcpListener,
    routes: Routes,
    stopping: CancellationToken,
) -> Result<(), Error> {
    Server::builder()
        .accept_http1(true)
        .http2_keepalive_interval(Some(KEEPALIVE_INTERVAL))
        .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT))
        .max_concurrent_streams(CONCURRENT_STREAMS)
        .http2_max_header_list_size(HEADER_LIST_BYTES)
        .layer(RequestLayer::new(peers))
        .add_routes(routes)
        .serve_with_incoming_shutdown(incoming(listener), stopping.cancelled_owned())
        .await?;
    Ok(())
}

#[cfg(test)]
mod tests;
