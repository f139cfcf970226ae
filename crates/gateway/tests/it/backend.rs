//! A deploy-orchestrator that answers what a test tells it to, and remembers what it was asked. Its
//! port refuses whoever cannot prove to be the gateway, by the same code as the real one.

use std::{
    collections::HashMap,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};

use axum::{Router, extract::OriginalUri};
use bytes::{BufMut, Bytes, BytesMut};
use candlefish_proto::event::{Envelope, HeadResponse, ReplayRequest, ReplayResponse};
use candlefish_runtime::{
    identity::{Allow, Caller, Verifier, VerifyLayer},
    listen,
    tasks::{Policy, Tasks},
};
use futures_util::{StreamExt, stream};
use http::{HeaderMap, HeaderValue, Request, Response, header};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use prost::Message;
use prost_reflect::{DescriptorPool, DynamicMessage};
use tokio::sync::{mpsc, oneshot};
use tonic::{Status, body::Body, service::Routes};

const HEAD: &str = "/candlefish.event.v1.FeedService/Head";
const REPLAY: &str = "/candlefish.event.v1.FeedService/Replay";

/// What a call is answered.
pub(crate) enum Answer {
    /// One message, and headers.
    Message(Vec<u8>, HeaderMap),
    Refusal(Status),
    /// One message that was read before, and is sent when the test says.
    Late(Vec<u8>, oneshot::Receiver<()>),
    /// Nothing, for ever.
    Silence,
    /// Headers, some bytes and no end, as of one that is killed when the test says.
    Death(Bytes, oneshot::Receiver<()>),
    /// Each message as the test sends it; an error ends the stream.
    Stream(mpsc::Receiver<Result<Vec<u8>, Status>>),
}

/// A call that came through.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    /// Whole, where a method is below another path.
    pub(crate) path: String,
    pub(crate) headers: HeaderMap,
    pub(crate) message: Bytes,
    pub(crate) caller: Caller,
}

#[derive(Default)]
struct State {
    answers: HashMap<String, Answer>,
    seen: Vec<Seen>,
    events: Vec<Envelope>,
    /// Epochs that are over.
    epochs_over: i32,
    /// The feed is refused.
    mute: bool,
    /// How often events were asked for.
    feed_asked: usize,
    /// What requests look like, when they are read.
    reads: Option<DescriptorPool>,
}

/// The service, and what it remembers; cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct Backend(Arc<Mutex<State>>);

impl Backend {
    /// Serves on a port of its own; answers its address.
    pub(crate) async fn serve(&self, keys: &Path, tasks: &Tasks) -> String {
        let gateway = Allow::none()
            .public()
            .service("candlefish.event.v1.FeedService");
        let issuers = [("gateway", gateway)];
        let verifier = Verifier::from_dir("deploy-orchestrator", keys, &issuers).unwrap();
        let this = self.clone();
        let calls = Router::new()
            .fallback(move |request: Request<axum::body::Body>| {
                let this = this.clone();
                async move { this.answer(request).await }
            })
            .layer(VerifyLayer::new(verifier));
        let router = calls.clone().nest(listen::REHEARSED, calls);
        let listener = listen::bind("127.0.0.1:0").await.unwrap();
        let address = listen::local_addr(&listener).unwrap();
        let serving = listen::serve(listener, Routes::from(router), tasks.stopping());
        drop(tasks.try_spawn("backend", Policy::Ignore, serving));
        format!("http://{address}")
    }

    /// Answers the next call of a method, `Service/Method`, with a message.
    pub(crate) fn will_answer(&self, method: &str, message: &impl Message) {
        self.will(
            method,
            Answer::Message(message.encode_to_vec(), HeaderMap::new()),
        );
    }

    pub(crate) fn will(&self, method: &str, answer: Answer) {
        let path = format!("/candlefish.deploy.v1.{method}");
        self.with(|state| state.answers.insert(path, answer));
    }

    /// From now on requests are read, and what cannot be is refused as the library refuses it for the real
    /// one.
    pub(crate) fn reads(&self) {
        let pool = DescriptorPool::decode(candlefish_proto::DESCRIPTORS).unwrap();
        self.with(|state| state.reads = Some(pool));
    }

    /// Why a request cannot be read.
    fn unread(&self, path: &str, message: &Bytes) -> Option<Status> {
        let pool = self.with(|state| state.reads.clone())?;
        let (service, name) = path.trim_start_matches('/').split_once('/')?;
        let service = pool.get_service_by_name(service)?;
        let method = service.methods().find(|method| method.name() == name)?;
        let read = DynamicMessage::decode(method.input(), message.clone());
        read.err().map(|error| Status::internal(error.to_string()))
    }

    /// Answers the next call of a method with a stream that the test feeds.
    pub(crate) fn will_stream(&self, method: &str) -> mpsc::Sender<Result<Vec<u8>, Status>> {
        let (feed, messages) = mpsc::channel(16);
        self.will(method, Answer::Stream(messages));
        feed
    }

    /// Every public call that came through; the feed's are left out.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.with(|state| state.seen.clone())
    }

    /// The last public call that came through.
    pub(crate) fn last(&self) -> Seen {
        self.seen().pop().expect("a call came through")
    }

    /// Numbers an event.
    pub(crate) fn happens(&self, kind: &str, site: &str) {
        self.happens_to(kind, site, "");
    }

    /// How often events were asked for.
    pub(crate) fn feed_asked(&self) -> usize {
        self.with(|state| state.feed_asked)
    }

    /// Whether the feed is there.
    pub(crate) fn tells(&self, tells: bool) {
        self.with(|state| state.mute = !tells);
    }

    /// Its database was restored: events are counted anew.
    pub(crate) fn begins_an_epoch(&self) {
        self.with(|state| {
            state.epochs_over += 1;
            state.events.clear();
        });
    }

    /// Numbers an event about an entity.
    pub(crate) fn happens_to(&self, kind: &str, site: &str, entity: &str) {
        self.with(|state| {
            let seq = i64::try_from(state.events.len()).unwrap() + 1;
            state.events.push(Envelope {
                id: format!("evt_{seq}"),
                source: "deploy".to_owned(),
                epoch: state.epochs_over + 1,
                seq,
                r#type: kind.to_owned(),
                site: site.to_owned(),
                entity: entity.to_owned(),
                ..Envelope::default()
            });
        });
    }

    fn with<T>(&self, act: impl FnOnce(&mut State) -> T) -> T {
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    async fn answer(&self, request: Request<axum::body::Body>) -> Response<Body> {
        let (parts, body) = request.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        let message = body.slice(5..);
        let path = parts.uri.path().to_owned();
        if let Some(status) = self.unread(&path, &message) {
            return respond(Answer::Refusal(status));
        }
        let answer = match path.as_str() {
            HEAD | REPLAY if self.with(|state| state.mute) => {
                Answer::Refusal(Status::unavailable("mute"))
            }
            HEAD => self.head(),
            REPLAY => self.replay(&message),
            _ => {
                let caller = parts.extensions.get::<Caller>().unwrap().clone();
                let whole = parts.extensions.get::<OriginalUri>().unwrap();
                self.with(|state| {
                    state.seen.push(Seen {
                        path: whole.path().to_owned(),
                        headers: parts.headers.clone(),
                        message,
                        caller,
                    });
                    let nothing = || Answer::Message(Vec::new(), HeaderMap::new());
                    state.answers.remove(&path).unwrap_or_else(nothing)
                })
            }
        };
        match answer {
            Answer::Silence => std::future::pending().await,
            Answer::Late(message, said) => {
                // Also when the test is over.
                let _said = said.await;
                respond(Answer::Message(message, HeaderMap::new()))
            }
            answer => respond(answer),
        }
    }

    fn head(&self) -> Answer {
        let head = self.with(|state| HeadResponse {
            source: "deploy".to_owned(),
            epoch: state.epochs_over + 1,
            seq: i64::try_from(state.events.len()).unwrap(),
        });
        Answer::Message(head.encode_to_vec(), HeaderMap::new())
    }

    fn replay(&self, message: &[u8]) -> Answer {
        let asked = ReplayRequest::decode(message).unwrap();
        let limit = usize::try_from(asked.limit).unwrap();
        let replay = self.with(|state| {
            state.feed_asked += 1;
            let events = state.events.iter();
            let events = events.filter(|event| event.seq >= asked.from_seq);
            ReplayResponse {
                epoch: state.epochs_over + 1,
                events: events.take(limit).cloned().collect(),
                oldest_seq: 1,
            }
        });
        Answer::Message(replay.encode_to_vec(), HeaderMap::new())
    }
}

/// A message as one gRPC frame.
pub(crate) fn frame(message: &[u8]) -> Bytes {
    let mut bytes = BytesMut::new();
    bytes.put_u8(0);
    bytes.put_u32(u32::try_from(message.len()).unwrap());
    bytes.put_slice(message);
    bytes.freeze()
}

fn respond(answer: Answer) -> Response<Body> {
    let (headers, messages) = match answer {
        Answer::Refusal(status) => return status.into_http(),
        Answer::Silence | Answer::Late(..) => (HeaderMap::new(), stream::pending().boxed()),
        Answer::Death(begun, killed) => {
            let death = stream::once(async {
                // Also when the test is over.
                let _killed = killed.await;
                Err(std::io::Error::from(std::io::ErrorKind::ConnectionReset))
            });
            let frames = stream::iter([Ok(Frame::data(begun))]).chain(death);
            return grpc(Body::new(StreamBody::new(frames)), HeaderMap::new());
        }
        Answer::Message(message, headers) => (headers, stream::iter([Ok(message)]).boxed()),
        Answer::Stream(messages) => {
            let messages = stream::unfold(messages, |mut messages| async {
                Some((messages.recv().await?, messages))
            });
            (HeaderMap::new(), messages.boxed())
        }
    };
    let frames = messages
        .map(|message| match message {
            Ok(message) => Frame::data(frame(&message)),
            Err(status) => trailers(&status),
        })
        .chain(stream::iter([trailers(&Status::new(tonic::Code::Ok, ""))]))
        .map(Ok::<_, std::convert::Infallible>);
    grpc(Body::new(StreamBody::new(frames)), headers)
}

fn grpc(body: Body, headers: HeaderMap) -> Response<Body> {
    let mut response = Response::new(body);
    *response.headers_mut() = headers;
    let kind = HeaderValue::from_static("application/grpc");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}

fn trailers(status: &Status) -> Frame<Bytes> {
    let mut trailers = HeaderMap::new();
    status.add_header(&mut trailers).unwrap();
    Frame::trailers(trailers)
}
