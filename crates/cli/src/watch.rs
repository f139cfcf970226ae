//! Follows a deployment until there is nothing more to wait for.
//!
//! Watching changes nothing: Ctrl-C, a lost connection or the end of patience leave the deployment
//! as it is.

use std::{
    pin::pin,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use candlefish_proto::deploy::{
    Deployment, Environment,
    deployment::{Kind, State},
};
use futures_util::StreamExt as _;
use jiff::SignedDuration;

use crate::{
    api::Api,
    app::App,
    error::{Error, Exit},
    outage,
};

mod feed;
mod holds;
mod view;

use feed::{Feed, News};
pub(crate) use view::View;

/// How long a pipe waits unless told otherwise.
const PIPE: SignedDuration = SignedDuration::from_mins(5);
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
    /// How much of that had passed before watching began.
    pub(crate) spent: SignedDuration,
}

impl Patience {
    /// What is waited for, with the [`limit`] of where we run.
    pub(crate) fn new(until: Until, wait: Option<SignedDuration>, app: &App) -> Self {
        Self {
            until,
            limit: limit(wait, app.output.is_seen()),
            spent: SignedDuration::ZERO,
        }
    }

    /// How long to watch: what is left of the limit.
    fn left(&self) -> Option<Duration> {
        let left = self.limit?.saturating_sub(self.spent);
        Some(left.max(SignedDuration::ZERO).unsigned_abs())
    }
}

/// The limit as given; else none for a person who can press Ctrl-C, five minutes for a pipe.
fn limit(given: Option<SignedDuration>, is_seen: bool) -> Option<SignedDuration> {
    given.or_else(|| (!is_seen).then_some(PIPE))
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
    /// Ctrl-C, or nobody reads any more.
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

/// Shows every change until the outcome is known; answers the deployment as it was then. Where the
/// environment was told before, changes of its hold are told too.
pub(crate) async fn follow(
    app: &App,
    api: &Api,
    deployment: Deployment,
    patience: Patience,
    view: &mut View,
    told: Option<Environment>,
) -> Result<(Deployment, Outcome), Error> {
    let away = AtomicBool::new(false);
    let mut feed = Feed::new(api, &away);
    let mut deployment = deployment;
    let limit = patience.limit.zip(patience.left());
    let mut end = pin!(async {
        match limit {
            Some((said, left)) => {
                tokio::time::sleep(left).await;
                said
            }
            None => std::future::pending().await,
        }
    });
    let mut holds = pin!(holds::changes(api, told));
    let mut interrupted = pin!(tokio::signal::ctrl_c());
    let mut frames = tokio::time::interval(FRAME);
    loop {
        view.show(&deployment, &app.output);
        if let Some(outcome) = outcome(&deployment, patience.until) {
            return Ok((deployment, outcome));
        }
        if app.output.is_lost() {
            return Ok((deployment, Outcome::Interrupted));
        }
        let mut next = pin!(feed.next(deployment.id.clone(), deployment.version));
        let news = loop {
            tokio::select! {
                news = &mut next => break news?,
                said = &mut end => {
                    // Out of touch, nobody can say that it still waits.
                    let is_away = away.load(Ordering::Relaxed);
                    return if is_away { Err(api.lost()) } else { Ok((deployment, Outcome::Waiting(said))) };
                }
                Some(environment) = holds.next() => {
                    view.hold(&deployment, &environment, &app.output);
                }
                _ = &mut interrupted => return Ok((deployment, Outcome::Interrupted)),
                _ = frames.tick() => view.turn(&deployment, &app.output),
            }
        };
        match news {
            News::Changed(changed) => deployment = *changed,
            News::Lost => {
                let words = outage::words(api.address());
                view.say(&format!("  {words}"), &app.output);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_limit_a_pipe_waits_five_minutes_and_a_person_without_end() {
        let given = Some(SignedDuration::from_secs(7));
        for (wait, is_seen, expected) in [
            (None, false, Some(SignedDuration::from_mins(5))),
            (None, true, None),
            (given, false, given),
            (given, true, given),
        ] {
            assert_eq!(limit(wait, is_seen), expected, "{wait:?} {is_seen}");
        }
    }

    #[test]
    fn what_was_spent_before_is_taken_off_the_limit() {
        let seconds = SignedDuration::from_secs;
        for (limit, spent, left) in [
            (Some(seconds(300)), seconds(0), Some(300)),
            (Some(seconds(300)), seconds(60), Some(240)),
            (Some(seconds(5)), seconds(60), Some(0)),
            (None, seconds(60), None),
        ] {
            let patience = Patience {
                until: Until::Live,
                limit,
                spent,
            };
            let left = left.map(Duration::from_secs);
            assert_eq!(patience.left(), left, "{patience:?}");
        }
    }
}
