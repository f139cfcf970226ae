//! What every call passes, by whichever surface it came: who calls, may they, how many at a time,
//! how long, and whose it is.

use std::{sync::Arc, time::Duration};

use bytes::{BufMut, Bytes, BytesMut};
use candlefish_ids::RequestId;
use candlefish_runtime::{
    identity::{Caller, IDENTITY, REQUEST_ID, Signer},
    listen::JUDGED,
    refusal::{Code, Refusal},
};
use http::{HeaderMap, HeaderName, HeaderValue, Response, uri::PathAndQuery};
use http_body_util::BodyExt;
use prost_reflect::DynamicMessage;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tonic::{Status, body::Body, service::Routes};
use tower::ServiceExt;

use crate::{
    auth::{self, Auth, Verified},
    backend::{self, Backend},
    budget::Budget,
    contract::{Contract, Method, Owner},
    memory::Memory,
    rehearsal::{self, Rehearsal},
};

mod answer;
pub(crate) mod ending;
mod place;

pub(crate) use answer::{Answer, Whole};
pub(crate) use place::{BODIES_KIB, Place, Unread};

/// The largest request message in bytes.
pub(crate) const MOST_BYTES: usize = 4 * 1024 * 1024;
/// The receiver of what is signed for the deploy-orchestrator.
pub(crate) const ORCHESTRATOR: &str = "deploy-orchestrator";
/// What a service finds wrong besides is only more to say: a person who waits for the rest is told it without.
const JUDGED_WITHIN: Duration = Duration::from_secs(2);
pub(crate) const TOO_MANY_STREAMS: &str = "too many streams at a time; try again";
pub(crate) const TOO_MUCH_SENT: &str = "too much is sent at a time; try again";
/// What a caller's own headers may carry to a service.
const FORWARDED: [HeaderName; 4] = [
    HeaderName::from_static("idempotency-key"),
    HeaderName::from_static("traceparent"),
    HeaderName::from_static("tracestate"),
    HeaderName::from_static("grpc-timeout"),
];

/// Shared by all surfaces; cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Calls {
    pub(crate) contract: Arc<Contract>,
    pub(crate) auth: Auth,
    pub(crate) orchestrator: Backend,
    pub(crate) memory: Memory,
    /// The services in this process.
    pub(crate) own: Routes,
    /// The same, which only judge what is asked of them.
    pub(crate) judged: Routes,
    pub(crate) signer: Signer,
    pub(crate) at_a_time: Arc<Semaphore>,
    /// Streams live long: they have places of their own, so that watchers keep no call out.
    pub(crate) streams: Arc<Semaphore>,
    /// What the bodies of both may weigh together.
    pub(crate) bodies: Budget,
    pub(crate) timeout: Duration,
}

/// One call that was let in.
#[derive(Debug)]
pub(crate) struct Admitted {
    pub(crate) method: Arc<Method>,
    pub(crate) verified: Arc<Verified>,
    pub(crate) request_id: RequestId,
    /// It is carried out and taken back.
    pub(crate) rehearses: bool,
}

impl Admitted {
    /// Where its service takes the call.
    fn path(&self) -> Result<PathAndQuery, Status> {
        if self.rehearses && self.method.owner == Owner::Orchestrator {
            return rehearsal::path(&self.method);
        }
        Ok(self.method.path.clone())
    }
}

impl Calls {
    /// Lets a caller in whose role is high enough, also to what is only rehearsed.
    pub(crate) async fn admit(
        &self,
        method: &Arc<Method>,
        headers: &HeaderMap,
        request_id: RequestId,
    ) -> Result<Admitted, Status> {
        let verified = self.auth.verify(headers).await?;
        auth::require(method.role, &verified.caller)?;
        let rehearses = !method.is_safe() && rehearsal::is_asked(headers)?;
        Ok(Admitted {
            method: Arc::clone(method),
            verified,
            request_id,
            rehearses,
        })
    }

    /// Refuses fields that the caller's role may not set.
    pub(crate) fn check_fields(
        admitted: &Admitted,
        message: &DynamicMessage,
    ) -> Result<(), Status> {
        let role = admitted.verified.caller.role;
        let breaches = admitted.method.guarded.breaches(message, role);
        if breaches.is_empty() {
            return Ok(());
        }
        let mut refusal = Refusal::new(
            Code::PermissionDenied,
            "role-too-low",
            "a field needs a higher role than yours",
        );
        for breach in breaches {
            let needs = auth::role_name(breach.role);
            refusal = refusal.field(breach.field, format!("needs the role {needs}"));
        }
        Err(refusal.into())
    }

    /// Makes the call in its place; the answer is gRPC, as the service gave it.
    pub(crate) async fn make(
        &self,
        admitted: &Admitted,
        headers: &HeaderMap,
        body: Bytes,
        place: Place,
    ) -> Result<Answer, Status> {
        let method = &admitted.method;
        let lapse = method.streams.then(|| self.auth.lapse(headers));
        let headers = self.forwarded(admitted, headers)?;
        // Both before the service is asked: what it reads may be changed while it answers, and what
        // it changes is changed whatever becomes of its answer.
        let since = self.memory.now();
        let is_safe = method.is_safe() || admitted.rehearses;
        let changes = !is_safe && method.owner == Owner::Orchestrator;
        let mut write = changes.then(|| self.memory.write(method, &body));
        let call = backend::Call {
            path: admitted.path()?,
            headers,
            body,
            safe: is_safe,
        };
        let answer = async {
            let answer = match method.owner {
                Owner::Orchestrator => self.orchestrator.call(&call).await,
                Owner::Gateway => call_own(&self.own, admitted, call).await,
            }?;
            if method.streams {
                return Ok(Answer::Stream(answer));
            }
            let whole = answer::whole(answer, since, is_safe).await?;
            if admitted.rehearses {
                rehearsal::check(method, &whole)?;
            }
            Ok(Answer::Whole(whole))
        };
        // A stream's answer begins at once; how long it goes on is its own business.
        let answer: Result<_, Status> =
            tokio::time::timeout(self.timeout, answer)
                .await
                .map_err(|_elapsed| {
                    let words = format!("no answer within {} s", self.timeout.as_secs());
                    Status::deadline_exceeded(words)
                })?;
        Ok(match answer? {
            Answer::Stream(mut answer) => {
                if let Some(lapse) = lapse {
                    answer = ending::until(answer, lapse);
                }
                Answer::Stream(holding(answer, place.permit))
            }
            Answer::Whole(whole) => {
                if let Some(write) = &mut write {
                    write.answered(method, &whole.frames, whole.refusal().as_ref());
                }
                Answer::Whole(whole)
            }
        })
    }

    /// What the service has against a request that could not be read whole, in the place of that. It judges
    /// there and acts on nothing; nothing is known where it cannot be asked, or finds no fault in the rest.
    pub(crate) async fn judge(
        &self,
        admitted: &Admitted,
        headers: &HeaderMap,
        body: Bytes,
        _place: &Place,
    ) -> Option<Status> {
        let method = &admitted.method;
        if method.streams {
            return None;
        }
        let path = match method.owner {
            Owner::Orchestrator => format!("{JUDGED}{}", method.path).parse().ok()?,
            Owner::Gateway => method.path.clone(),
        };
        let call = backend::Call {
            path,
            headers: self.forwarded(admitted, headers).ok()?,
            body,
            safe: true,
        };
        let since = self.memory.now();
        let asked = async {
            let answer = match method.owner {
                Owner::Orchestrator => self.orchestrator.call(&call).await,
                Owner::Gateway => call_own(&self.judged, admitted, call).await,
            }?;
            answer::whole(answer, since, true).await
        };
        let bound = self.timeout.min(JUDGED_WITHIN);
        let answered = tokio::time::timeout(bound, asked).await.ok()?;
        answered.ok()?.refusal()
    }

    /// A place for one more call of a method, or one more stream. Its body is read in there.
    pub(crate) fn enter(&self, method: &Method) -> Result<Place, Refusal> {
        let (places, words) = if method.streams {
            (&self.streams, TOO_MANY_STREAMS)
        } else {
            (&self.at_a_time, "too many calls at a time; try again")
        };
        let permit = Arc::clone(places).try_acquire_owned();
        let permit = permit.map_err(|_full| busy(words))?;
        Ok(Place::new(permit, &self.bodies))
    }

    /// The whole request body, of at most `most` bytes. Whoever sends it a byte at a time is given
    /// as long as a call.
    pub(crate) async fn whole(
        &self,
        place: &mut Place,
        body: Body,
        most: usize,
    ) -> Result<Bytes, Unread> {
        let read = tokio::time::timeout(self.timeout, place.read(body, most)).await;
        read.unwrap_or(Err(Unread::TooSlow))
    }

    /// The headers that a service gets: who calls, as we sign it, and nothing that a caller made up.
    fn forwarded(&self, admitted: &Admitted, given: &HeaderMap) -> Result<HeaderMap, Status> {
        let mut headers = HeaderMap::with_capacity(6);
        for name in &FORWARDED {
            if let Some(value) = given.get(name) {
                headers.insert(name.clone(), value.clone());
            }
        }
        // A context from outside is linked from our own span, which is what goes on.
        let ours = candlefish_runtime::trace::current_traceparent();
        if let Some(ours) = HeaderValue::from_str(&ours).ok().filter(|v| !v.is_empty()) {
            headers.remove("tracestate");
            headers.insert("traceparent", ours);
        }
        let token = self
            .signer
            .token(ORCHESTRATOR, &admitted.verified.caller)
            .map_err(|error| Status::internal(error.to_string()))?;
        let value = |text: &str| {
            HeaderValue::from_str(text).map_err(|error| Status::internal(error.to_string()))
        };
        headers.insert(HeaderName::from_static(IDENTITY), value(&token)?);
        headers.insert(
            HeaderName::from_static(REQUEST_ID),
            value(&admitted.request_id.to_string())?,
        );
        Ok(headers)
    }
}

/// Makes a call of a service in this process.
async fn call_own(
    own: &Routes,
    admitted: &Admitted,
    call: backend::Call,
) -> Result<Response<Body>, Status> {
    let mut request = http::Request::new(Body::new(http_body_util::Full::new(call.body)));
    *request.method_mut() = http::Method::POST;
    *request.version_mut() = http::Version::HTTP_2;
    *request.uri_mut() = http::Uri::from(call.path);
    *request.headers_mut() = call.headers;
    request.headers_mut().insert(
        http::header::CONTENT_TYPE,
        HeaderValue::from_static("application/grpc"),
    );
    let caller = Caller {
        request_id: admitted.request_id.to_string(),
        ..admitted.verified.caller.clone()
    };
    request.extensions_mut().insert(caller);
    request
        .extensions_mut()
        .insert(Arc::clone(&admitted.verified));
    request
        .extensions_mut()
        .insert(Rehearsal(admitted.rehearses));
    match own.clone().oneshot(request).await {
        Ok(response) => Ok(response.map(Body::new)),
        Err(never) => match never {},
    }
}

/// Too much is in hand.
pub(crate) fn busy(words: &'static str) -> Refusal {
    Refusal::new(Code::Unavailable, "busy", words).retry_after(Duration::from_secs(1))
}

/// The answer, with a permit that is given back when its body ended or was dropped.
pub(crate) fn holding(answer: Response<Body>, permit: OwnedSemaphorePermit) -> Response<Body> {
    answer.map(|body| {
        // The closure lives as long as the body that it is part of.
        Body::new(body.map_frame(move |frame| {
            let _held = &permit;
            frame
        }))
    })
}

/// A message as one gRPC frame.
pub(crate) fn frame(message: &[u8]) -> Bytes {
    let mut bytes = BytesMut::with_capacity(5 + message.len());
    bytes.put_u8(0);
    bytes.put_u32(u32::try_from(message.len()).unwrap_or(u32::MAX));
    bytes.put_slice(message);
    bytes.freeze()
}

/// The first message of a body of gRPC frames; none while it is not whole, or when compressed.
pub(crate) fn unframe(body: &[u8]) -> Option<(&[u8], usize)> {
    let (head, rest) = body.split_at_checked(5)?;
    let [compressed, a, b, c, d] = head.try_into().ok()?;
    let length = usize::try_from(u32::from_be_bytes([a, b, c, d])).ok()?;
    let message = rest.get(..length)?;
    (compressed == 0).then_some((message, 5 + length))
}
