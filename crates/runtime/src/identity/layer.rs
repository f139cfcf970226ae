//! The layer that lets a call in or refuses it.

use std::{
    future::{Ready, ready},
    task::{Context, Poll},
};

use futures_util::future::Either;
use http::{Request, Response};
use tonic::{Status, server::NamedService};
use tower::{Layer, Service};

use super::Verifier;

/// Wraps a gRPC service, or a router of them, so that each call proves who makes it. The
/// [`super::Caller`] is then in the request's extensions.
#[derive(Debug, Clone)]
pub struct VerifyLayer {
    verifier: Verifier,
}

impl VerifyLayer {
    /// Lets in what the verifier accepts.
    pub const fn new(verifier: Verifier) -> Self {
        Self { verifier }
    }
}

impl<S> Layer<S> for VerifyLayer {
    type Service = Verify<S>;

    fn layer(&self, inner: S) -> Verify<S> {
        Verify {
            verifier: self.verifier.clone(),
            inner,
        }
    }
}

/// A service behind a [`VerifyLayer`].
#[derive(Debug, Clone)]
pub struct Verify<S> {
    verifier: Verifier,
    inner: S,
}

impl<S: NamedService> NamedService for Verify<S> {
    const NAME: &'static str = S::NAME;
}

impl<S, ReqBody, ResBody> Service<Request<ReqBody>> for Verify<S>
where
    S: Service<Request<ReqBody>, Response = Response<ResBody>>,
    ResBody: Default,
{
    type Response = Response<ResBody>;
    type Error = S::Error;
    type Future = Either<S::Future, Ready<Result<Self::Response, S::Error>>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<ReqBody>) -> Self::Future {
        match self
            .verifier
            .verify(request.headers(), request.uri().path())
        {
            Ok(caller) => {
                request.extensions_mut().insert(caller);
                Either::Left(self.inner.call(request))
            }
            Err(refused) => {
                tracing::warn!(method = request.uri().path(), "call refused: {refused}");
                Either::Right(ready(Ok(Status::from(refused).into_http())))
            }
        }
    }
}
