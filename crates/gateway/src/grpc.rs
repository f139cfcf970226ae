//! gRPC and gRPC-Web: bytes in, bytes out.

mod ending;

use std::{
    convert::Infallible,
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use candlefish_ids::RequestId;
use candlefish_runtime::identity::REQUEST_ID;
use http::{HeaderName, HeaderValue, Request, Response};
use prost_reflect::DynamicMessage;
use tonic::{Code, Status, body::Body};
use tower::Service;

use crate::{
    call::{Admitted, Calls, MOST_BYTES, Unread, unframe},
    problem::{self, Problem},
};

/// How `tonic` begins its words for it.
const UNREADABLE: &str = "failed to decode Protobuf message";

/// Answers gRPC calls of the contract.
#[derive(Debug, Clone)]
pub(crate) struct Grpc {
    pub(crate) calls: Calls,
}

impl Grpc {
    /// Makes one call.
    pub(crate) async fn answer(&self, request: Request<Body>) -> Response<Body> {
        let request_id = RequestId::new();
        let path = request.uri().clone();
        let mut response = match self.pass(request, request_id).await {
            Ok(response) => response,
            Err(status) => {
                problem::log(&Problem::from(&status), request_id, "gRPC", path.path());
                status.into_http()
            }
        };
        if let Ok(value) = HeaderValue::from_str(&request_id.to_string()) {
            let headers = response.headers_mut();
            headers.insert(problem::REQUEST_ID, value.clone());
            headers.insert(HeaderName::from_static(REQUEST_ID), value);
        }
        response
    }

    async fn pass(
        &self,
        request: Request<Body>,
        request_id: RequestId,
    ) -> Result<Response<Body>, Status> {
        let path = request.uri().path();
        let method = self.calls.contract.method(path).ok_or_else(|| {
            Status::unimplemented(format!("there is no method {path}; reflection lists them"))
        })?;
        let (parts, body) = request.into_parts();
        let admitted = self.calls.admit(method, &parts.headers, request_id).await?;
        let body = self
            .calls
            .whole(body, MOST_BYTES + 5)
            .await
            .map_err(unread)?;
        check_guarded(&admitted, &body)?;
        let answer = self.calls.make(&admitted, &parts.headers, body).await?;
        let answer = callers_fault(answer);
        Ok(if method.streams {
            ending::in_words(answer)
        } else {
            answer
        })
    }
}

/// The gRPC library calls a request that it cannot read an internal error of the service.
fn callers_fault(answer: Response<Body>) -> Response<Body> {
    let unread = Status::from_header_map(answer.headers()).filter(|status| {
        status.code() == Code::Internal && status.message().starts_with(UNREADABLE)
    });
    match unread {
        Some(status) => Status::invalid_argument(status.message()).into_http(),
        None => answer,
    }
}

fn unread(why: Unread) -> Status {
    match why {
        Unread::TooLarge => {
            Status::invalid_argument(format!("the request has more than {MOST_BYTES} bytes"))
        }
        Unread::TooSlow => Status::cancelled("the request did not arrive in time"),
        Unread::Broken => Status::cancelled("the request broke off"),
    }
}

/// Only messages with guarded fields are read at all.
fn check_guarded(admitted: &Admitted, body: &[u8]) -> Result<(), Status> {
    if admitted.method.guarded.is_empty() {
        return Ok(());
    }
    let (message, _) = unframe(body).ok_or_else(|| {
        Status::invalid_argument("the request is no whole uncompressed gRPC message")
    })?;
    let message = DynamicMessage::decode(admitted.method.input.clone(), message)
        .map_err(|error| Status::invalid_argument(error.to_string()))?;
    Calls::check_fields(admitted, &message)
}

impl Service<Request<Body>> for Grpc {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let this = self.clone();
        Box::pin(async move { Ok(this.answer(request).await) })
    }
}
