//! The feeds of other services' events, read in this gateway's own name; and the bus that says when.

use std::{sync::Arc, time::Duration};

use candlefish_proto::event::{
    HeadRequest, HeadResponse, ReplayRequest, ReplayResponse,
    feed_service_client::FeedServiceClient,
};
use candlefish_runtime::{
    identity::{Caller, IDENTITY, Signer},
    listen,
};
use futures_util::StreamExt;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tonic::{Code, Request, Status, transport::Channel};

use crate::{auth::ISSUER, backend::Backend, call::ORCHESTRATOR, events};

/// How long an owner may take to answer.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Every event of the deploy-orchestrator.
const SUBJECTS: &str = "deploy.>";
/// How long to wait before subscribing anew.
const AGAIN: Duration = Duration::from_secs(1);

/// The deploy-orchestrator's feed.
#[derive(Debug)]
pub(crate) struct Deploy {
    pub(crate) backend: Backend,
    pub(crate) signer: Signer,
}

/// Asks one replica after the other until one can be reached: while one is down the feed is there.
macro_rules! ask {
    ($feed:expr, $method:ident, $message:expr) => {{
        let mut answer = Err(Status::unavailable("no replica is configured"));
        for channel in $feed.backend.in_turn() {
            let request = $feed.request($message)?;
            answer = client(channel).$method(request).await;
            if !matches!(&answer, Err(status) if status.code() == Code::Unavailable) {
                break;
            }
        }
        Ok(answer?.into_inner())
    }};
}

fn client(channel: Channel) -> FeedServiceClient<Channel> {
    FeedServiceClient::new(channel).max_decoding_message_size(listen::MAX_MESSAGE_BYTES)
}

impl Deploy {
    fn request<T>(&self, message: T) -> Result<Request<T>, Status> {
        let token = self.signer.token(ORCHESTRATOR, &Caller::process(ISSUER));
        let token = token.map_err(|error| Status::internal(error.to_string()))?;
        let token = token
            .parse()
            .map_err(|_error| Status::internal("a token is no header"))?;
        let mut request = Request::new(message);
        request.metadata_mut().insert(IDENTITY, token);
        request.set_timeout(TIMEOUT);
        Ok(request)
    }
}

#[tonic::async_trait]
impl events::Feed for Deploy {
    async fn head(&self) -> Result<HeadResponse, Status> {
        ask!(self, head, HeadRequest {})
    }

    async fn replay(&self, asked: ReplayRequest) -> Result<ReplayResponse, Status> {
        ask!(self, replay, asked)
    }
}

/// Wakes the tail whenever the bus carries an event; the bus is only a hint, and may be down.
pub(crate) async fn wake(bus: async_nats::Client, wake: Arc<Notify>, stopping: CancellationToken) {
    while !stopping.is_cancelled() {
        match bus.subscribe(SUBJECTS).await {
            Ok(mut hints) => loop {
                let hint = tokio::select! {
                    () = stopping.cancelled() => return,
                    hint = hints.next() => hint,
                };
                if hint.is_none() {
                    break;
                }
                wake.notify_one();
            },
            Err(error) => tracing::debug!(%error, "events are not subscribed"),
        }
        tokio::select! {
            () = stopping.cancelled() => return,
            () = tokio::time::sleep(AGAIN) => {}
        }
    }
}
