//! The feeds of other services' events, read in this gateway's own name; whether a site is there whose events
//! somebody asks for; and the bus that says when.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use candlefish_proto::{
    deploy::{GetSiteRequest, Site, site_service_client::SiteServiceClient},
    event::{
        HeadRequest, HeadResponse, ReplayRequest, ReplayResponse,
        feed_service_client::FeedServiceClient,
    },
};
use candlefish_runtime::{
    identity::{Caller, IDENTITY, Signer},
    listen, trace,
};
use futures_util::StreamExt;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tonic::{Code, Request, Status, transport::Channel};

use crate::{auth::ISSUER, backend::Backend, call::ORCHESTRATOR, events};

/// How long an owner may take to answer.
const TIMEOUT: Duration = Duration::from_secs(5);
/// How long one replica may take to say whether a site is there: well below what a watch waits for that, so
/// that another one can still be asked.
const SITE_TIMEOUT: Duration = Duration::from_millis(600);
/// Every event of the deploy-orchestrator.
const SUBJECTS: &str = "deploy.>";
/// How long to wait before subscribing anew.
const AGAIN: Duration = Duration::from_secs(1);

/// The deploy-orchestrator's feed.
#[derive(Debug)]
pub(crate) struct Deploy {
    backend: Backend,
    signer: Signer,
    /// The place of the channel that answered last.
    answers: AtomicUsize,
}

/// Asks one replica after the other until one answers: while one is down or frozen the feed is there. The
/// one that did last comes first: a frozen one costs its time once, not at every other look.
macro_rules! ask {
    ($feed:expr, $client:ident, $method:ident, $message:expr, $within:expr) => {{
        let mut answer = Err(Status::unavailable("no replica is configured"));
        let first = $feed.answers.load(Ordering::Relaxed);
        for (place, channel) in $feed.backend.beginning_at(first) {
            let request = $feed.request($message, $within)?;
            answer = $client(channel).$method(request).await;
            if !matches!(&answer, Err(status) if is_silent(status)) {
                // One that refuses us is not asked first again: another may know our key, or the call.
                let refuses = matches!(&answer, Err(status) if status.code() != Code::NotFound);
                let next = place + usize::from(refuses);
                $feed.answers.store(next, Ordering::Relaxed);
                break;
            }
        }
        Ok(answer.map_err(in_words)?.into_inner())
    }};
}

/// Whether another replica may answer. The library calls a request whose time is over cancelled.
pub(crate) fn is_silent(status: &Status) -> bool {
    matches!(status.code(), Code::Unavailable | Code::Cancelled)
}

/// A watcher passes it on to its caller, who cancelled nothing, and may repeat.
fn in_words(status: Status) -> Status {
    if status.code() == Code::Cancelled {
        return Status::unavailable("no replica of the service answers in time");
    }
    status
}

fn feeds(channel: Channel) -> FeedServiceClient<Channel> {
    FeedServiceClient::new(channel).max_decoding_message_size(listen::MAX_MESSAGE_BYTES)
}

fn sites(channel: Channel) -> SiteServiceClient<Channel> {
    SiteServiceClient::new(channel)
}

impl Deploy {
    /// Asks in the name that the signer signs for.
    pub(crate) fn new(backend: Backend, signer: Signer) -> Self {
        Self {
            backend,
            signer,
            answers: AtomicUsize::new(0),
        }
    }

    async fn site(&self, slug: &str) -> Result<Site, Status> {
        ask!(
            self,
            sites,
            get_site,
            GetSiteRequest {
                site: slug.to_owned()
            },
            SITE_TIMEOUT
        )
    }

    fn request<T>(&self, message: T, within: Duration) -> Result<Request<T>, Status> {
        let token = self.signer.token(ORCHESTRATOR, &Caller::process(ISSUER));
        let token = token.map_err(|error| Status::internal(error.to_string()))?;
        let token = token
            .parse()
            .map_err(|_error| Status::internal("a token is no header"))?;
        let mut request = Request::new(message);
        request.metadata_mut().insert(IDENTITY, token);
        trace::inject(request.metadata_mut());
        request.set_timeout(within);
        Ok(request)
    }
}

#[tonic::async_trait]
impl events::Feed for Deploy {
    async fn head(&self) -> Result<HeadResponse, Status> {
        ask!(self, feeds, head, HeadRequest {}, TIMEOUT)
    }

    async fn replay(&self, asked: ReplayRequest) -> Result<ReplayResponse, Status> {
        ask!(self, feeds, replay, asked, TIMEOUT)
    }
}

#[tonic::async_trait]
impl events::Sites for Deploy {
    async fn has(&self, site: &str) -> Result<bool, Status> {
        match self.site(site).await {
            Ok(_found) => Ok(true),
            Err(status) if status.code() == Code::NotFound => Ok(false),
            Err(status) => Err(status),
        }
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

#[cfg(test)]
mod tests {
    use tonic::TimeoutExpired;

    use super::*;

    #[test]
    fn a_replica_that_is_frozen_is_passed_over_and_all_of_them_are_unavailable() {
        let late = || Status::from_error(Box::new(TimeoutExpired(())));
        assert!(is_silent(&late()), "{:?}", late());
        assert_eq!(in_words(late()).code(), Code::Unavailable);
        let down = Status::unavailable("refused");
        assert!(is_silent(&down));
        assert_eq!(in_words(down).message(), "refused");
        assert!(!is_silent(&Status::unauthenticated("who")));
    }
}
