//! The gateway as seen from here: one channel, the token on every call, keys on those that act.

use std::{future::Future, time::Duration};

use bytes::Bytes;
use candlefish_proto::{
    deploy::{
        Deployment, WatchDeploymentRequest, deployment_service_client::DeploymentServiceClient,
    },
    event::{WatchEventsRequest, WatchEventsResponse, event_service_client::EventServiceClient},
};
use tonic::{
    Code, Request, Response, Status, Streaming,
    metadata::{Ascii, MetadataValue},
    transport::{Channel, ClientTlsConfig, Endpoint, Uri},
};

use crate::{
    contexts::{Chosen, TokenOf},
    error::{Again, Error, Unreachable},
    output::Output,
    render,
    repeats::{Repeat, Repeats},
};

mod acts;
pub(crate) mod calls;
mod names;
mod pages;

pub(crate) use acts::Act;
use calls::Call;
pub(crate) use names::{Loopback, is_loopback};

/// Pauses before a call that did not arrive is made again.
const RETRIES: [Duration; 3] = [
    Duration::from_millis(200),
    Duration::from_millis(600),
    Duration::from_millis(1500),
];

const CONNECT: Duration = Duration::from_secs(5);
/// The header of a stream of events that says after which cursor it begins.
const BEGINS_AFTER: &str = "watch-cursor";
/// The header of an answer that was given before, to a call with the same idempotency key.
const REPLAYED: &str = "idempotent-replayed";
/// The header of a call that is to be carried out and taken back.
const VALIDATE_ONLY: &str = "candlefish-validate-only";
/// The header of an answer to such a call. One without it was carried out.
const VALIDATED_ONLY: &str = "candlefish-validated-only";

/// A connection to one API.
#[derive(Clone)]
pub(crate) struct Api {
    address: String,
    token: Option<MetadataValue<Ascii>>,
    token_of: TokenOf,
    channel: Channel,
    repeats: Repeats,
    output: Output,
    /// Calls that act are only rehearsed.
    rehearses: bool,
}

/// A stream of events.
pub(crate) struct Events {
    pub(crate) messages: Streaming<WatchEventsResponse>,
    /// The cursor after which every event is told. A gateway that has only just started may not have
    /// reached the source of events, and gives none: the stream begins once it has, with what happens
    /// then.
    pub(crate) begins_after: Option<String>,
}

impl Api {
    /// Prepares the connection; the first call makes it. That an answer is one of before goes to `output`.
    pub(crate) fn new(chosen: &Chosen, repeats: Repeats, output: Output) -> Result<Self, Error> {
        let address = chosen.api.trim_end_matches('/').to_owned();
        let wrong = || {
            Error::wrong(
                format!("{address:?} is not the address of an API"),
                "Give one like http://127.0.0.1:8090 or https://candlefish.example.org.",
            )
        };
        let uri: Uri = address.parse().ok().ok_or_else(wrong)?;
        if !matches!(uri.scheme_str(), Some("http" | "https")) || uri.host().is_none() {
            return Err(wrong());
        }
        let token = chosen
            .token
            .as_ref()
            .map(|token| bearer(&token.0, &chosen.token_of))
            .transpose()?;
        let channel = endpoint(&uri).map_err(|_source| wrong())?.connect_lazy();
        Ok(Self {
            address,
            token,
            token_of: chosen.token_of.clone(),
            channel,
            repeats,
            output,
            rehearses: false,
        })
    }

    /// The same, where [`Api::act`] has the server carry the call out and take it back.
    pub(crate) fn rehearsing(&self) -> Self {
        Self {
            rehearses: true,
            ..self.clone()
        }
    }

    /// The API's address, without `/` at its end.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// A call that changes nothing.
    pub(crate) async fn read<C: Call>(&self, message: C) -> Result<C::Answer, Error> {
        self.call(message, None).await.map(Response::into_inner)
    }

    /// A call that acts, under an idempotency key that is kept until the answer is known. Of a repeat
    /// that the server answers as it did the first time it says so: since then others may have acted.
    pub(crate) async fn act<C: Act>(&self, message: C) -> Result<C::Answer, Error> {
        if self.rehearses {
            return self.rehearse(message).await;
        }
        let (answer, _) = self.act_as(&message.clone(), message).await?;
        Ok(answer)
    }

    /// As [`Api::act`], where the message holds more than what the person asked for (`asked`), such
    /// as what was live then: a repeat sends the message of the first time. Gives the key too, so
    /// that it can be kept for a failure that comes later.
    pub(crate) async fn act_as<C: Act>(
        &self,
        asked: &C,
        message: C,
    ) -> Result<(C::Answer, Repeat), Error> {
        let repeat = self.repeats.begin(
            &self.address,
            C::NAME,
            &asked.encode_to_vec(),
            message.encode_to_vec(),
        );
        let message = C::decode(repeat.request.as_slice()).unwrap_or(message);
        match self.call(message, Some(&repeat.key)).await {
            Err(error @ Error::Unreachable(_)) => Err(error.kept_by(Some(&repeat))),
            done => {
                repeat.settle();
                let answer = done?;
                self.tell_kept(asked, &repeat, &answer);
                Ok((answer.into_inner(), repeat))
            }
        }
    }

    /// What the call would answer. Its key is the one that the real call would have: of a request whose
    /// answer did not arrive, or a new one, so that a server that acts all the same does so once. As long
    /// as nothing is answered, such a server may have acted: the key is kept as that of the real call is.
    async fn rehearse<C: Act>(&self, message: C) -> Result<C::Answer, Error> {
        let asked = message.encode_to_vec();
        let repeat = self
            .repeats
            .begin(&self.address, C::NAME, &asked, asked.clone());
        let answer = match self.call(message.clone(), Some(&repeat.key)).await {
            Err(error @ Error::Unreachable(_)) => return Err(error.kept_by(Some(&repeat))),
            done => {
                // One that was left behind is that of a request whose answer is still not known.
                if !repeat.again {
                    repeat.settle();
                }
                done?
            }
        };
        if answer.metadata().get(VALIDATED_ONLY).is_none() {
            let now = message.now(answer.get_ref());
            return Err(Error::CarriedOut { now });
        }
        self.tell_kept(&message, &repeat, &answer);
        Ok(answer.into_inner())
    }

    /// Says of an answer that the server had kept it for this request.
    fn tell_kept<C: Act>(&self, asked: &C, repeat: &Repeat, answer: &Response<C::Answer>) {
        // Marked without being left behind, it is the answer to a try of a moment ago.
        let is_kept = repeat.again && answer.metadata().get(REPLAYED).is_some();
        if is_kept && let Some(now) = asked.now(answer.get_ref()) {
            self.output.note(&render::repeat::text(repeat.age, &now));
        }
    }

    /// The message of the first time, when the same was asked before and no answer arrived.
    pub(crate) fn asked_before<C: Call>(&self, asked: &C) -> Option<C> {
        let repeat = self
            .repeats
            .find(&self.address, C::NAME, &asked.encode_to_vec())?;
        C::decode(repeat.request.as_slice()).ok()
    }

    /// Streams a deployment: as it is, then whenever it changes.
    pub(crate) async fn watch(
        &self,
        message: WatchDeploymentRequest,
    ) -> Result<Streaming<Deployment>, Error> {
        let request = self.request(message, None, None);
        let stream = DeploymentServiceClient::new(self.channel.clone())
            .watch_deployment(request)
            .await;
        stream
            .map(Response::into_inner)
            .map_err(|status| self.fault(status))
    }

    /// Streams events.
    pub(crate) async fn events(&self, message: WatchEventsRequest) -> Result<Events, Error> {
        let request = self.request(message, None, None);
        let stream = EventServiceClient::new(self.channel.clone())
            .watch_events(request)
            .await;
        let answer = stream.map_err(|status| self.fault(status))?;
        let begins_after = answer.metadata().get(BEGINS_AFTER);
        let begins_after = begins_after.and_then(|cursor| cursor.to_str().ok());
        Ok(Events {
            begins_after: begins_after.map(str::to_owned),
            messages: answer.into_inner(),
        })
    }

    /// What a failed call means to the person who made it.
    pub(crate) fn fault(&self, status: Status) -> Error {
        if is_unreachable(&status) {
            let why = reason(&status);
            return Error::Unreachable(Unreachable {
                address: self.address.clone(),
                why,
                again: Again::Harmless,
            });
        }
        let status = Box::new(status);
        if status.code() == Code::Unauthenticated {
            let token_of = self.token_of.clone();
            return Error::Stranger { status, token_of };
        }
        Error::Refused(status)
    }

    /// The connection was lost and did not come back in time.
    pub(crate) fn lost(&self) -> Error {
        self.fault(Status::unavailable("the connection was lost"))
    }

    async fn call<C: Call>(
        &self,
        message: C,
        key: Option<&str>,
    ) -> Result<Response<C::Answer>, Error> {
        let mut pauses = RETRIES.iter();
        loop {
            let request = self.request(message.clone(), key, Some(C::TIMEOUT));
            match C::send(self.channel.clone(), request).await {
                Ok(answer) => return Ok(answer),
                Err(status) if is_unreachable(&status) => match pauses.next() {
                    Some(pause) => tokio::time::sleep(*pause).await,
                    None => return Err(self.fault(status)),
                },
                Err(status) => return Err(self.fault(status)),
            }
        }
    }

    fn request<T>(&self, message: T, key: Option<&str>, timeout: Option<Duration>) -> Request<T> {
        let mut request = Request::new(message);
        if let Some(token) = &self.token {
            request
                .metadata_mut()
                .insert("authorization", token.clone());
        }
        if let Some(key) = key.and_then(|key| MetadataValue::try_from(key).ok()) {
            request.metadata_mut().insert("idempotency-key", key);
        }
        if self.rehearses {
            let yes = MetadataValue::from_static("true");
            request.metadata_mut().insert(VALIDATE_ONLY, yes);
        }
        if let Some(timeout) = timeout {
            request.set_timeout(timeout);
        }
        request
    }
}

fn bearer(token: &str, token_of: &TokenOf) -> Result<MetadataValue<Ascii>, Error> {
    let mut value = MetadataValue::try_from(format!("Bearer {token}")).map_err(|source| {
        Error::wrong(
            format!("the token has letters that no token has ({source})"),
            render::failure::another_token(token_of),
        )
    })?;
    value.set_sensitive(true);
    Ok(value)
}

fn endpoint(uri: &Uri) -> Result<Endpoint, tonic::transport::Error> {
    let host = uri.host().unwrap_or_default();
    let endpoint = match names::dialled(uri) {
        // The name stays the authority of every request; only the connection goes elsewhere.
        Some(dialled) => Endpoint::from(dialled).origin(uri.clone()),
        None => Endpoint::from(uri.clone()),
    };
    let endpoint = endpoint
        .user_agent(concat!("candlefish/", env!("CARGO_PKG_VERSION")))?
        .connect_timeout(CONNECT)
        .http2_keep_alive_interval(Duration::from_secs(20))
        .keep_alive_timeout(Duration::from_secs(10))
        .keep_alive_while_idle(true);
    if uri.scheme_str() == Some("https") {
        return endpoint.tls_config(ClientTlsConfig::new().with_native_roots().domain_name(host));
    }
    Ok(endpoint)
}

/// Whether a failed call may be made again: it did not arrive, or nobody could work on it.
/// A status that was made on this side has the transport's error as its source.
pub(crate) fn is_unreachable(status: &Status) -> bool {
    matches!(status.code(), Code::Unavailable | Code::DeadlineExceeded)
        || std::error::Error::source(status).is_some()
}

/// The innermost cause, which names what the network said.
fn reason(status: &Status) -> String {
    let mut cause: Option<&dyn std::error::Error> = std::error::Error::source(status);
    let mut words = status.message().to_owned();
    while let Some(error) = cause {
        words = error.to_string();
        cause = error.source();
    }
    words
}

/// What a call answers, before anybody waits for it.
pub(crate) trait Answer<T>: Future<Output = Result<Response<T>, Status>> + Send {}
impl<T, F: Future<Output = Result<Response<T>, Status>> + Send> Answer<T> for F {}

/// Bodies of uploads.
pub(crate) type Body = Bytes;
