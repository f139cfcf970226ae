//! A stream of messages as server-sent events: `id` is where to go on, `data` the message's JSON.
//!
//! Where a stream begins comes first, when it says so: an `id` without `data`, which is no event to
//! a browser, but what it comes back with when the stream breaks before its first one. So does a
//! message that says nothing but where to go on, as quiet streams do.

use std::{convert::Infallible, time::Duration};

use bytes::{Buf, Bytes, BytesMut};
use futures_util::{StreamExt, stream};
use http::{HeaderValue, Response, StatusCode, header};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use prost_reflect::{DynamicMessage, Value};
use tokio_util::sync::CancellationToken;
use tonic::{Status, body::Body};

use crate::{
    call::{Admitted, unframe},
    contract::Method,
    events::CURSOR,
    problem::Problem,
    transcode,
};

/// Proxies close connections that say nothing for half a minute.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// A stream that ends at once does so within this time, and its answer can still say so.
const AT_ONCE: Duration = Duration::from_millis(50);
/// Tells a stream that ended from a connection that broke.
const END: &str = "event: end\ndata: {}\n\n";

/// What is left of the answer.
struct Reading {
    /// Told before anything else.
    begins: Option<String>,
    body: Body,
    /// Frames that are not told yet.
    bytes: BytesMut,
    stopping: CancellationToken,
    done: bool,
}

/// Turns a gRPC stream into server-sent events. One that has nothing to tell is 204, which is how a
/// browser learns not to connect again: otherwise it would ask for ever after what has ended.
pub(crate) async fn stream(
    admitted: &Admitted,
    answer: Response<Body>,
    stopping: CancellationToken,
) -> Result<Response<Body>, Problem> {
    let (head, body) = answer.into_parts();
    if let Some(status) = Status::from_header_map(&head.headers)
        && status.code() != tonic::Code::Ok
    {
        return Err(Problem::from(&status));
    }
    let method = std::sync::Arc::clone(&admitted.method);
    let request_id = admitted.request_id.to_string();
    let begins_after = head.headers.get(CURSOR).and_then(|id| id.to_str().ok());
    let mut reading = Reading {
        begins: begins_after.map(|id| format!("id: {id}\n: from here on\n\n")),
        body,
        bytes: BytesMut::new(),
        stopping,
        done: false,
    };
    if let Ok(first) = tokio::time::timeout(AT_ONCE, reading.body.frame()).await
        && let Some(nothing) = reading.begin(first)?
    {
        return Ok(nothing);
    }
    let events = stream::unfold(reading, move |mut reading| {
        let method = std::sync::Arc::clone(&method);
        let request_id = request_id.clone();
        async move {
            let text = reading.next(&method, &request_id).await?;
            Some((Ok::<_, Infallible>(Frame::data(Bytes::from(text))), reading))
        }
    });
    let mut response = Response::new(Body::new(StreamBody::new(events.boxed())));
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("text/event-stream"),
    );
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    Ok(response)
}

impl Reading {
    /// Takes the first frame; an answer of its own when there will be no event.
    fn begin(
        &mut self,
        first: Option<Result<Frame<Bytes>, Status>>,
    ) -> Result<Option<Response<Body>>, Problem> {
        let frame = match first {
            None => None,
            Some(Ok(frame)) => Some(frame),
            // A replica that dies, which the library may call a fault of ours.
            Some(Err(_broken)) => return Err(Problem::from(&broke_off())),
        };
        let trailers = match frame.map(Frame::into_data) {
            Some(Ok(data)) => {
                self.bytes.extend_from_slice(&data);
                return Ok(None);
            }
            Some(Err(frame)) => frame.into_trailers().ok(),
            None => None,
        };
        if let Some(status) = trailers.as_ref().and_then(Status::from_header_map)
            && status.code() != tonic::Code::Ok
        {
            return Err(Problem::from(&status));
        }
        let mut nothing = Response::new(Body::empty());
        *nothing.status_mut() = StatusCode::NO_CONTENT;
        Ok(Some(nothing))
    }

    /// The next piece of the event stream; none at its end.
    async fn next(&mut self, method: &Method, request_id: &str) -> Option<String> {
        if let Some(begins) = self.begins.take() {
            return Some(begins);
        }
        loop {
            if let Some(event) = self.told(method) {
                return Some(event);
            }
            if self.done {
                return None;
            }
            let frame = tokio::select! {
                () = self.stopping.cancelled() => {
                    self.done = true;
                    return Some(": this gateway stops; connect again\n\n".to_owned());
                }
                () = tokio::time::sleep(KEEP_ALIVE) => return Some(": still here\n\n".to_owned()),
                frame = self.body.frame() => frame,
            };
            match frame {
                Some(Ok(frame)) => {
                    if let Some(event) = self.take(frame, request_id) {
                        return Some(event);
                    }
                }
                Some(Err(_broken)) => {
                    self.done = true;
                    return Some(failed(&broke_off(), request_id));
                }
                None => {
                    self.done = true;
                    return Some(END.to_owned());
                }
            }
        }
    }

    fn take(&mut self, frame: Frame<Bytes>, request_id: &str) -> Option<String> {
        match frame.into_data() {
            Ok(data) => {
                self.bytes.extend_from_slice(&data);
                None
            }
            Err(frame) => {
                self.done = true;
                let trailers = frame.into_trailers().ok()?;
                let status = Status::from_header_map(&trailers)?;
                if status.code() == tonic::Code::Ok {
                    Some(END.to_owned())
                } else {
                    Some(failed(&status, request_id))
                }
            }
        }
    }

    fn told(&mut self, method: &Method) -> Option<String> {
        let (message, length) = unframe(&self.bytes)?;
        let decoded = DynamicMessage::decode(method.output.clone(), message).ok();
        self.bytes.advance(length);
        decoded.map(|message| event(method, &message))
    }
}

fn event(method: &Method, message: &DynamicMessage) -> String {
    let id = method
        .stream_ids
        .as_ref()
        .map(|ids| match message.get_field(&ids.from).as_ref() {
            Value::String(text) => text.clone(),
            Value::I32(number) => number.to_string(),
            _ => String::new(),
        });
    let data = String::from_utf8_lossy(&transcode::render(message)).into_owned();
    match id {
        Some(id) if is_place(method, message) => format!("id: {id}\n: still here\n\n"),
        Some(id) => format!("id: {id}\ndata: {data}\n\n"),
        None => format!("data: {data}\n\n"),
    }
}

/// Nothing is in it but where to go on.
fn is_place(method: &Method, message: &DynamicMessage) -> bool {
    let ids = method.stream_ids.as_ref();
    ids.is_some_and(|ids| message.fields().all(|(field, _)| field == ids.from))
}

fn broke_off() -> Status {
    Status::unavailable("the stream broke off")
}

/// The stream's end as an event, since its HTTP status is sent already.
fn failed(status: &Status, request_id: &str) -> String {
    format!(
        "event: problem\ndata: {}\n\n",
        Problem::from(status).json(request_id)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_that_breaks_before_its_first_message_is_unavailable() {
        let mut reading = Reading {
            begins: None,
            body: Body::empty(),
            bytes: BytesMut::new(),
            stopping: CancellationToken::new(),
            done: false,
        };
        // What becomes of a connection that is reset.
        let reset = Status::internal("h2 protocol error");
        let problem = reading.begin(Some(Err(reset))).unwrap_err();
        assert_eq!(problem.status(), StatusCode::SERVICE_UNAVAILABLE);
    }
}
