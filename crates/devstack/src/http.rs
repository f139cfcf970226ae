//! The few HTTP requests of our own, by address: glibc does not resolve `*.localhost`.

use std::net::SocketAddr;
use std::pin::pin;
use std::time::Duration;

use anyhow::{Context, Result};
use bytes::Bytes;
use futures_util::future::{Either, select};
use http_body_util::{BodyExt, Full};
use hyper::Request;
use hyper::client::conn::http1;
pub use hyper::{HeaderMap, Method, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

/// A whole answer.
#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Answer {
    /// The body as text, whatever it is.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// GET of `path` from `address` under the host name `host`, in at most `timeout`.
pub async fn get(
    address: SocketAddr,
    host: &str,
    path: &str,
    headers: &[(&str, &str)],
    timeout: Duration,
) -> Result<Answer> {
    let request = request(Method::GET, address, host, path, headers);
    let answer = tokio::time::timeout(timeout, request).await;
    answer.with_context(|| format!("GET {path}: no answer within {timeout:?}"))?
}

/// One request without a body, over a connection of its own.
pub async fn request(
    method: Method,
    address: SocketAddr,
    host: &str,
    path: &str,
    headers: &[(&str, &str)],
) -> Result<Answer> {
    let stream = TcpStream::connect(address)
        .await
        .with_context(|| format!("connecting to {address}"))?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let mut request = Request::builder().method(method).uri(path);
    for (name, value) in [("host", host), ("connection", "close")] {
        request = request.header(name, value);
    }
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request.body(Full::new(Bytes::new()))?;
    let exchange = pin!(async move {
        let response = sender.send_request(request).await?;
        let (head, body) = response.into_parts();
        let body = body.collect().await?.to_bytes();
        anyhow::Ok(Answer {
            status: head.status,
            headers: head.headers,
            body,
        })
    });
    match select(exchange, pin!(connection)).await {
        Either::Left((answer, _connection)) => answer,
        // The server has closed: what it sent before is still to be read.
        Either::Right((_closed, exchange)) => exchange.await,
    }
}
