//! The edge's stream to an orchestrator: it tells what it holds, and gets what it lacks.
//!
//! Any replica will do. When a stream ends, breaks, or does not catch up in time, the next replica
//! is asked; what is held stays served meanwhile, previews for as long as [`Contact`] says.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use candlefish_proto::deploy::{
    WatchRoutesRequest, WatchRoutesResponse, edge_service_client::EdgeServiceClient,
};
use candlefish_runtime::{
    config::without_secrets,
    identity::{Caller, IDENTITY, SignError, Signer},
    listen::MAX_MESSAGE_BYTES,
    ops::Readiness,
    trace,
};
use futures_util::future::OptionFuture;
use tokio::{
    sync::{mpsc, oneshot},
    time::{MissedTickBehavior, error::Elapsed, interval, sleep, timeout},
};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{
    Request, Status, Streaming,
    metadata::{Ascii, MetadataValue, errors::InvalidMetadataValue},
    transport::{Channel, Endpoint},
};

use crate::{
    contact::Contact,
    report::{self, Report, Sent},
    route::keeper::Told,
};

/// Who receives our token.
const AUDIENCE: &str = "deploy-orchestrator";
/// A replica that does not answer by then is not the one.
const CONNECT: Duration = Duration::from_secs(2);
/// A frozen peer is noticed within the sum of these: an edge that is not heard for 5 s is not live.
const PING: Duration = Duration::from_secs(1);
const PING_ANSWER: Duration = Duration::from_secs(1);
/// How long a replica may take to send what is current.
const CATCH_UP: Duration = Duration::from_secs(15);
/// Of a report in one message, which must stay below the bound of all messages: an edge never forgets
/// a host. As much as possible, for an older orchestrator sends again what the first message lacks.
const PAGE_BYTES: usize = MAX_MESSAGE_BYTES / 2;
/// Pauses between attempts; the first replica that works ends them.
const RETRY: Duration = Duration::from_millis(50);
const LONGEST_RETRY: Duration = Duration::from_secs(1);

/// Why the edge says something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Occasion {
    /// The stream begins.
    First,
    /// Something may have changed.
    Change,
    /// To be heard.
    Tick,
}

/// Why a stream ended.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error("cannot reach the orchestrator")]
    Connect(#[from] tonic::transport::Error),
    #[error(transparent)]
    Sign(#[from] SignError),
    #[error("the token fits no header")]
    Token(#[from] InvalidMetadataValue),
    #[error("the orchestrator refused: {}", .0.message())]
    Refused(#[from] Status),
    #[error("the orchestrator ended the stream")]
    Ended,
    #[error("the orchestrator does not read what we send")]
    Stuck,
    #[error("the orchestrator does not answer")]
    Silent(#[from] Elapsed),
    #[error("the orchestrator did not send what is current in {} s", CATCH_UP.as_secs())]
    Slow,
    #[error("the stream was left alone for longer than previews may be served without a word")]
    Stale,
    #[error("routes are not taken in any more")]
    Stopping,
}

/// What is told of the routes that were current when a stream began.
#[derive(Debug)]
struct CaughtUp {
    /// Those that need no staging are served.
    applied: oneshot::Receiver<()>,
    /// All are, but for what cannot be staged.
    settled: oneshot::Receiver<()>,
}

/// What a stream needs.
#[derive(Debug)]
pub(crate) struct Watch {
    pub(crate) orchestrators: Vec<Endpoint>,
    pub(crate) signer: Option<Signer>,
    pub(crate) edge: String,
    pub(crate) boot: String,
    pub(crate) address: String,
    /// How often the edge is heard when nothing changes.
    pub(crate) period: Duration,
    pub(crate) report: Arc<Report>,
    pub(crate) routes: mpsc::Sender<Told>,
    pub(crate) contact: Arc<Contact>,
    pub(crate) readiness: Readiness,
}

impl Watch {
    /// Watches until `stopping`. While no replica answers, that is said a few times, not for ever:
    /// `/readyz` and the list of edges go on saying it.
    pub(crate) async fn run(self, stopping: CancellationToken) {
        let mut pause = RETRY;
        for orchestrator in self.orchestrators.iter().cycle() {
            let mut caught_up = false;
            let ended = tokio::select! {
                () = stopping.cancelled() => return,
                ended = self.session(orchestrator, &mut caught_up) => ended,
            };
            self.contact.ended();
            let Err(error) = ended else { return };
            if matches!(error, Error::Stopping) {
                return;
            }
            if caught_up || pause < LONGEST_RETRY {
                let (error, orchestrator) = (chain(&error), orchestrator.uri());
                tracing::warn!(error, %orchestrator, "no stream of routes");
            }
            pause = if caught_up {
                RETRY
            } else {
                (pause * 2).min(LONGEST_RETRY)
            };
            tokio::select! {
                () = stopping.cancelled() => return,
                () = sleep(pause) => {}
            }
        }
    }

    /// One stream, from its opening to its end.
    async fn session(&self, orchestrator: &Endpoint, caught_up: &mut bool) -> Result<(), Error> {
        let channel = timeout(CONNECT, orchestrator.connect()).await??;
        let (outgoing, ours) = mpsc::channel(8);
        // Subscribed before the first difference: a change between the two is told as well.
        let mut changed = self.report.watch();
        let mut sent = Sent::default();
        // Together: a report of more messages than may wait is told while the stream takes them.
        let opening = async { timeout(CATCH_UP, self.open(channel, ours)).await? };
        let telling = self.tell(&outgoing, &mut sent, Occasion::First);
        let ((), mut incoming) = tokio::try_join!(telling, opening)?;
        let mut ticks = interval(self.period);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let late = sleep(CATCH_UP);
        tokio::pin!(late);
        let mut applied: OptionFuture<oneshot::Receiver<()>> = None.into();
        let mut settled: OptionFuture<oneshot::Receiver<()>> = None.into();
        loop {
            if !self.contact.beat(Instant::now()) {
                return Err(Error::Stale);
            }
            tokio::select! {
                message = incoming.message() => {
                    let message = message?.ok_or(Error::Ended)?;
                    let received = self.receive(message, orchestrator, caught_up).await?;
                    if let Some(told) = received {
                        applied = Some(told.applied).into();
                        settled = Some(told.settled).into();
                    }
                }
                Some(is_applied) = &mut applied => {
                    applied = None.into();
                    is_applied.map_err(|_gone| Error::Stopping)?;
                    self.contact.stands(Instant::now());
                }
                Some(is_settled) = &mut settled => {
                    settled = None.into();
                    // Else the keeper ends, which the next message finds.
                    if is_settled.is_ok() {
                        self.readiness.set("routes", Ok(()));
                    }
                }
                // Ours to end: the sender lives in the report.
                _ = changed.changed() => {
                    self.tell(&outgoing, &mut sent, Occasion::Change).await?;
                }
                _ = ticks.tick() => self.tell(&outgoing, &mut sent, Occasion::Tick).await?,
                () = &mut late, if !*caught_up => return Err(Error::Slow),
            }
        }
    }

    async fn open(
        &self,
        channel: Channel,
        ours: mpsc::Receiver<WatchRoutesRequest>,
    ) -> Result<Streaming<WatchRoutesResponse>, Error> {
        let mut request = Request::new(ReceiverStream::new(ours));
        if let Some(signer) = &self.signer {
            let token = signer.token(AUDIENCE, &Caller::process("edge"))?;
            let token: MetadataValue<Ascii> = token.parse()?;
            request.metadata_mut().insert(IDENTITY, token);
        }
        trace::inject(request.metadata_mut());
        let mut client = EdgeServiceClient::new(channel)
            .max_decoding_message_size(MAX_MESSAGE_BYTES)
            .max_encoding_message_size(MAX_MESSAGE_BYTES);
        Ok(client.watch_routes(request).await?.into_inner())
    }

    /// Passes on what came; with the message that all was sent, answers what is told once it is served.
    async fn receive(
        &self,
        message: WatchRoutesResponse,
        orchestrator: &Endpoint,
        caught_up: &mut bool,
    ) -> Result<Option<CaughtUp>, Error> {
        let catches_up = message.caught_up && !*caught_up;
        let (applied, is_applied) = oneshot::channel();
        let (settled, is_settled) = oneshot::channel();
        let told = Told {
            routes: message.routes,
            applied: catches_up.then_some(applied),
            settled: catches_up.then_some(settled),
        };
        let says_something = catches_up || !told.routes.is_empty();
        if says_something && self.routes.send(told).await.is_err() {
            return Err(Error::Stopping);
        }
        if catches_up {
            *caught_up = true;
            let orchestrator = orchestrator.uri().to_string();
            tracing::info!(
                routes = self.report.route_count(),
                orchestrator = without_secrets(&orchestrator),
                "the stream of routes caught up"
            );
        }
        Ok(catches_up.then_some(CaughtUp {
            applied: is_applied,
            settled: is_settled,
        }))
    }

    async fn tell(
        &self,
        outgoing: &mpsc::Sender<WatchRoutesRequest>,
        sent: &mut Sent,
        occasion: Occasion,
    ) -> Result<(), Error> {
        let (held, staged) = self.report.difference(sent);
        // Told already, with the change before it.
        if occasion == Occasion::Change && held.is_empty() && staged.is_empty() {
            return Ok(());
        }
        let mut first = occasion == Occasion::First;
        let pages = report::pages(held, staged, PAGE_BYTES);
        let mut pages = pages.into_iter().peekable();
        while let Some(page) = pages.next() {
            let message = WatchRoutesRequest {
                edge: self.edge.clone(),
                boot: self.boot.clone(),
                address: self.address.clone(),
                held: page.held,
                staged: page.staged,
                first,
                more: pages.peek().is_some(),
            };
            match timeout(CONNECT, outgoing.send(message)).await {
                Ok(Ok(())) => first = false,
                Ok(Err(_)) => return Err(Error::Ended),
                Err(_) => return Err(Error::Stuck),
            }
        }
        Ok(())
    }
}

/// An error and its causes in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    let texts = std::iter::once(error.to_string()).chain(causes.map(ToString::to_string));
    texts.collect::<Vec<_>>().join(": ")
}

/// An orchestrator's address as a connection to be made.
pub(crate) fn endpoint(url: &str) -> Result<Endpoint, tonic::transport::Error> {
    Ok(Endpoint::from_shared(url.to_owned())?
        .connect_timeout(CONNECT)
        .http2_keep_alive_interval(PING)
        .keep_alive_timeout(PING_ANSWER)
        .keep_alive_while_idle(true)
        .tcp_nodelay(true))
}

#[cfg(test)]
mod tests;
