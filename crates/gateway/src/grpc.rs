//! gRPC and gRPC-Web: bytes in, bytes out.

use std::{
    convert::Infallible,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use http::{HeaderMap, Request, Response};
use prost_reflect::DynamicMessage;
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status, body::Body};
use tower::Service;

use crate::{
    call::{self, Admitted, Answer, Calls, MOST_BYTES, Unread, Whole, ending, unframe},
    contract::Method,
    deadline, memory,
    problem::{self, Problem},
    rehearsal, transcode,
};

/// How `tonic` begins its words for it.
const UNREADABLE: &str = "failed to decode Protobuf message";

/// Answers gRPC calls of the contract.
#[derive(Debug, Clone)]
pub(crate) struct Grpc {
    pub(crate) calls: Calls,
    /// Streams end with the process.
    pub(crate) stopping: CancellationToken,
}

impl Grpc {
    /// Makes one call.
    pub(crate) async fn answer(&self, request: Request<Body>) -> Response<Body> {
        let request_id = problem::request_id(request.extensions());
        let (parts, body) = request.into_parts();
        let mut rehearses = false;
        let passed = match self.method(parts.uri.path()) {
            Ok(method) => {
                let passing = async {
                    let admitted = self.calls.admit(method, &parts.headers, request_id).await?;
                    rehearses = admitted.rehearses;
                    self.pass(&admitted, &parts.headers, body).await
                };
                let patience = deadline::of(&parts.headers);
                let passed = deadline::within(patience, passing).await;
                passed.and_then(|passed| passed)
            }
            Err(status) => Err(status),
        };
        let mut response = passed.unwrap_or_else(|status| {
            let path = parts.uri.path();
            problem::log(&Problem::from(&status), request_id, "gRPC", path);
            status.into_http()
        });
        if rehearses {
            rehearsal::mark(response.headers_mut());
        }
        response
    }

    /// What is there is looked for before anything else: no deadline hides that there is nothing, and no
    /// stranger's path is counted as a method.
    fn method(&self, path: &str) -> Result<&Arc<Method>, Status> {
        self.calls.contract.method(path).ok_or_else(|| {
            Status::unimplemented(format!("there is no method {path}; reflection lists them"))
        })
    }

    async fn pass(
        &self,
        admitted: &Admitted,
        headers: &HeaderMap,
        body: Body,
    ) -> Result<Response<Body>, Status> {
        let mut place = self.calls.enter(&admitted.method)?;
        let body = self.calls.whole(&mut place, body, MOST_BYTES + 5).await;
        let body = body.map_err(unread)?;
        // What is none the library calls an internal error of the service.
        let message = one_message(&body).ok_or_else(|| {
            Status::invalid_argument("the request is not one whole gRPC message, uncompressed")
        })?;
        check_guarded(admitted, message)?;
        if let Some(kept) = self.kept(admitted, message).await {
            return Ok(kept.into_response());
        }
        let answer = self.calls.make(admitted, headers, body, place).await?;
        Ok(match answer {
            Answer::Stream(answer) => {
                ending::in_words(callers_fault(answer), self.stopping.clone())
            }
            Answer::Whole(whole) => {
                self.keep(admitted, &whole).await;
                callers_fault(whole.into_response())
            }
        })
    }

    /// The answer that is kept in memory.
    async fn kept(&self, admitted: &Admitted, message: &[u8]) -> Option<Whole> {
        let (method, caller) = (&admitted.method, &admitted.verified.caller);
        let keeps = method.keeps.as_ref()?;
        let id = keeps.asked(message)?;
        let kept = self.calls.memory.find(method, &id, caller).await?;
        Some(kept.whole())
    }

    async fn keep(&self, admitted: &Admitted, answer: &Whole) {
        let method = &admitted.method;
        let Some(keeps) = &method.keeps else {
            return;
        };
        if answer.refusal().is_some() {
            return;
        }
        let message = one_message(&answer.frames)
            .and_then(|message| DynamicMessage::decode(method.output.clone(), message).ok());
        let Some(message) = message else {
            return;
        };
        if let Some(about) = keeps.ended(&message) {
            let kept = memory::Answer {
                about,
                frame: answer.frames.clone(),
                json: transcode::render(&message).into(),
            };
            self.calls.memory.keep(method, answer.since, kept).await;
        }
    }
}

/// The message of a body that is one frame.
fn one_message(body: &[u8]) -> Option<&[u8]> {
    let (message, length) = unframe(body)?;
    (length == body.len()).then_some(message)
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
        Unread::Busy => call::busy(call::TOO_MUCH_SENT).into(),
    }
}

/// Only messages with guarded fields are read at all.
fn check_guarded(admitted: &Admitted, message: &[u8]) -> Result<(), Status> {
    if admitted.method.guarded.is_empty() {
        return Ok(());
    }
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
