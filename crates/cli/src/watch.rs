//! Follows a deployment until there is nothing more to wait for.
//!
//! Watching changes nothing: Ctrl-C, a lost connection or the end of patience leave the deployment
//! as it is. A lost connection is made again, for [`GIVE_UP`]; the stream then goes on after the
//! version that was seen last.

use std::{
    pin::pin,
    time::{Duration, Instant},
};

use candlefish_proto::deploy::{
    Deployment, WatchDeploymentRequest,
    deployment::{Kind, State},
};
use jiff::SignedDuration;
use tonic::Streaming;

use crate::{
    api::{Api, is_unreachable},
    app::App,
    error::{Error, Exit},
};

mod view;

pub(crate) use view::View;

/// How long a lost connection is tried again.
const GIVE_UP: Duration = Duration::from_mins(2);
/// How long a pipe waits unless told otherwise.
const PIPE: SignedDuration = SignedDuration::from_mins(5);
/// The longest pause between two tries.
const PAUSE: Duration = Duration::from_secs(1);
/// How often a moving view is drawn.
const FRAME: Duration = Duration::from_millis(250);

/// What is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Until {
    /// All traffic is on the release, and it was fetched there.
    Live,
    /// Also baked: the deployment has ended.
    Done,
}

/// What is waited for, and how long.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Patience {
    /// What is waited for.
    pub(crate) until: Until,
    /// How long; `None` without end.
    pub(crate) limit: Option<SignedDuration>,
}

impl Patience {
    /// The limit as given; else none for a person who can press Ctrl-C, five minutes for a pipe.
    pub(crate) fn new(until: Until, wait: Option<SignedDuration>, app: &App) -> Self {
        let limit = wait.or_else(|| (!app.output.is_seen()).then_some(PIPE));
        Self { until, limit }
    }
}

/// Why watching ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Live, or with [`Until::Done`] succeeded.
    Live,
    /// Failed or rolled back.
    Failed,
    /// Cancelled.
    Cancelled,
    /// A newer commit took its place.
    Superseded,
    /// Patience ended after this long.
    Waiting(SignedDuration),
    /// Ctrl-C.
    Interrupted,
}

impl Outcome {
    /// The exit code.
    pub(crate) fn exit(self, superseded_ok: bool) -> Exit {
        match self {
            Self::Live => Exit::Done,
            Self::Failed => Exit::Failed,
            Self::Superseded if superseded_ok => Exit::Done,
            Self::Cancelled | Self::Superseded => Exit::Ended,
            Self::Waiting(_) => Exit::Waiting,
            Self::Interrupted => Exit::Interrupted,
        }
    }
}

/// Whether there is nothing more to wait for.
pub(crate) fn outcome(deployment: &Deployment, until: Until) -> Option<Outcome> {
    match deployment.state() {
        State::Succeeded => Some(Outcome::Live),
        State::Failed | State::RolledBack => Some(Outcome::Failed),
        State::Cancelled => Some(Outcome::Cancelled),
        State::Superseded => Some(Outcome::Superseded),
        State::Running | State::Waiting => {
            let live = deployment.live_at.is_some() && deployment.kind() != Kind::Preview;
            (live && until == Until::Live).then_some(Outcome::Live)
        }
        State::Unspecified | State::Pending | State::Cancelling => None,
    }
}

/// Shows every change until the outcome is known; answers the deployment as it was then.
pub(crate) async fn follow(
    app: &App,
    api: &Api,
    deployment: Deployment,
    patience: Patience,
    view: &mut View,
) -> Result<(Deployment, Outcome), Error> {
    let mut feed = Feed {
        app,
        api,
        stream: None,
        lost: None,
    };
    let mut deployment = deployment;
    let limit = patience.limit.map(|limit| (limit, limit.unsigned_abs()));
    let mut end = pin!(async {
        match limit {
            Some((said, limit)) => {
                tokio::time::sleep(limit).await;
                said
            }
            None => std::future::pending().await,
        }
    });
    let mut interrupted = pin!(tokio::signal::ctrl_c());
    let mut frames = tokio::time::interval(FRAME);
    loop {
        view.show(&deployment, &app.output);
        if let Some(outcome) = outcome(&deployment, patience.until) {
            return Ok((deployment, outcome));
        }
        let mut next = pin!(feed.next(deployment.id.clone(), deployment.version));
        let changed = loop {
            tokio::select! {
                changed = &mut next => break changed?,
                said = &mut end => return Ok((deployment, Outcome::Waiting(said))),
                _ = &mut interrupted => return Ok((deployment, Outcome::Interrupted)),
                _ = frames.tick() => view.turn(&deployment, &app.output),
            }
        };
        deployment = changed;
    }
}

/// The changes of one deployment, over as many connections as it takes.
struct Feed<'a> {
    app: &'a App,
    api: &'a Api,
    stream: Option<Streaming<Deployment>>,
    lost: Option<Instant>,
}

impl Feed<'_> {
    /// The next version after this one.
    async fn next(&mut self, id: String, after_version: i32) -> Result<Deployment, Error> {
        loop {
            let stream = match &mut self.stream {
                Some(stream) => stream,
                None => match self
                    .api
                    .watch(WatchDeploymentRequest {
                        id: id.clone(),
                        after_version,
                    })
                    .await
                {
                    Ok(stream) => self.stream.insert(stream),
                    Err(error) => {
                        self.wait(error).await?;
                        continue;
                    }
                },
            };
            match stream.message().await {
                Ok(Some(deployment)) => {
                    self.lost = None;
                    return Ok(deployment);
                }
                // The server ends a stream when it stops; the deployment goes on elsewhere.
                Ok(None) => {
                    self.stream = None;
                    tokio::time::sleep(FRAME).await;
                }
                Err(status) => {
                    self.stream = None;
                    let error = self.api.fault(status);
                    self.wait(error).await?;
                }
            }
        }
    }

    /// Waits before the next try, or gives up.
    async fn wait(&mut self, error: Error) -> Result<(), Error> {
        let worth = match &error {
            Error::Unreachable(_) => true,
            Error::Refused(status) => is_unreachable(status),
            _ => false,
        };
        if !worth {
            return Err(error);
        }
        if self.lost.is_none() {
            let address = self.api.address();
            self.app.output.note(&format!(
                "  Lost the connection to {address}; trying again."
            ));
        }
        let lost = self.lost.get_or_insert_with(Instant::now).elapsed();
        if lost > GIVE_UP {
            return Err(error);
        }
        // A replica that stops leaves others that answer at once.
        tokio::time::sleep(lost.clamp(FRAME, PAUSE)).await;
        Ok(())
    }
}
