//! Callers that survive what they call: they go to another gateway when one does not answer, and
//! repeat with the same idempotency key.

use std::{
    fmt,
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use anyhow::{Result, bail};
use candlefish_devstack::Stack;
use candlefish_proto::deploy::{self as pb, strategy::Kind};
use futures_util::future::join_all;
use tokio::time::Instant;
use tonic::{Request, Status};

use crate::{
    Api, Content,
    api::{Commit, summary},
};

/// Calls with one key at the same time.
const AT_ONCE: usize = 5;
/// A call that is not answered within this time is lost.
const ANSWERED_WITHIN: Duration = Duration::from_secs(90);
/// A deployment that has not moved within this time is stuck.
const MOVES_WITHIN: Duration = Duration::from_mins(3);

/// Cheap to clone; shared by all who call.
#[derive(Debug, Clone)]
pub(super) struct Callers {
    apis: Arc<[Api]>,
    turn: Arc<AtomicU64>,
}

/// However often and wherever a call is made with one key.
pub(super) const ONE_ACT: &str = "one key is one act";

/// The platform broke a promise, as a caller sees it.
#[derive(Debug)]
pub(super) struct Violation {
    pub(super) claim: &'static str,
    pub(super) words: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}: {}", self.claim, self.words)
    }
}

impl std::error::Error for Violation {}

/// What a deployment is asked with.
#[derive(Debug, Clone)]
pub(super) struct Wish<'a> {
    pub(super) site: &'a str,
    pub(super) environment: &'a str,
    pub(super) release: &'a str,
    pub(super) strategy: Kind,
    /// Repeats of one wish have one key.
    pub(super) key: &'a str,
}

impl Callers {
    /// Callers of every gateway of the stack, with the admin's token.
    pub(super) fn connect(stack: &Stack) -> Result<Self> {
        let urls = stack.gateway_urls();
        let apis: Result<Vec<Api>> = urls
            .iter()
            .map(|url| Api::connect(url, stack.admin_token()))
            .collect();
        Ok(Self {
            apis: apis?.into(),
            turn: Arc::default(),
        })
    }

    /// One gateway's API, in turns.
    pub(super) fn any(&self) -> &Api {
        let count = u64::try_from(self.apis.len()).unwrap_or(1).max(1);
        let turn = self.turn.fetch_add(1, Ordering::Relaxed) % count;
        self.apis.get(usize::try_from(turn).unwrap_or(0)).unwrap()
    }

    /// Repeats a call until it is answered; a refusal is an answer.
    pub(super) async fn call<'a, T, F>(
        &'a self,
        what: &str,
        act: impl Fn(&'a Api) -> F,
    ) -> Result<Result<T, Status>>
    where
        F: Future<Output = Result<T, Status>> + 'a,
    {
        let begun = Instant::now();
        loop {
            let status = match act(self.any()).await {
                Ok(answer) => return Ok(Ok(answer)),
                Err(status) => status,
            };
            if !safe_to_repeat(&status) {
                return Ok(Err(status));
            }
            if begun.elapsed() > ANSWERED_WITHIN {
                bail!("{what} was not answered within {ANSWERED_WITHIN:?}: {status:?}");
            }
            pause().await;
        }
    }

    /// Waits until the deployment is terminal.
    pub(super) async fn ended(&self, id: &str) -> Result<pb::Deployment> {
        self.until(id, "ends", |one| one.finished_at.is_some())
            .await
    }

    /// Waits until the deployment is as `wanted` says, or terminal.
    pub(super) async fn until(
        &self,
        id: &str,
        what: &str,
        wanted: impl Fn(&pb::Deployment) -> bool,
    ) -> Result<pb::Deployment> {
        let begun = Instant::now();
        loop {
            let now = self
                .call("reading a deployment", |api| api.deployment(id))
                .await?
                .map_err(|status| lost(id, status))?;
            if wanted(&now) || now.finished_at.is_some() {
                return Ok(now);
            }
            if begun.elapsed() > MOVES_WITHIN {
                bail!(
                    "{id} {what}: not within {MOVES_WITHIN:?}: {}",
                    summary(&now)
                );
            }
            pause().await;
        }
    }

    /// A sealed release. Uploads and the seal repeat themselves: the same content is the same release.
    pub(super) async fn release(
        &self,
        site: &str,
        content: &Content,
        commit: &Commit,
    ) -> Result<String> {
        let begun = Instant::now();
        loop {
            let error = match self.any().release(site, content, commit).await {
                Ok(release) => return Ok(release),
                Err(error) => error,
            };
            let refused = error
                .downcast_ref::<Status>()
                .is_some_and(|status| !safe_to_repeat(status));
            if refused || begun.elapsed() > ANSWERED_WITHIN {
                return Err(error.context("a release"));
            }
            pause().await;
        }
    }

    /// Accepts a deployment; the inner error is a refusal.
    pub(super) async fn deploy(&self, wish: &Wish<'_>) -> Result<Result<pb::Deployment, Status>> {
        let message = pb::CreateDeploymentRequest {
            site: wish.site.to_owned(),
            environment: wish.environment.to_owned(),
            release_id: wish.release.to_owned(),
            strategy: Some(pb::Strategy {
                kind: Some(wish.strategy.clone()),
            }),
            ..Default::default()
        };
        self.call("a deployment", |api| {
            let request = keyed(message.clone(), wish.key);
            async move {
                let answer = api.deployments().create_deployment(request).await?;
                Ok(answer.into_inner())
            }
        })
        .await
    }

    /// Accepts a deployment five times at the same time, as a caller does who gave up waiting too
    /// soon: all are answered with the one deployment. Of two, which of them waits for the other's lock
    /// is left to chance; of three, sometimes none does.
    pub(super) async fn deploy_at_once(
        &self,
        wish: &Wish<'_>,
    ) -> Result<Result<pb::Deployment, Status>> {
        let mut answers = join_all((0..AT_ONCE).map(|_| self.deploy(wish))).await;
        let mut made: Vec<String> = answers
            .iter()
            .filter_map(|one| Some(one.as_ref().ok()?.as_ref().ok()?.id.clone()))
            .collect();
        made.sort_unstable();
        made.dedup();
        if made.len() > 1 {
            let violation = Violation {
                claim: ONE_ACT,
                words: format!("{} made {}", wish.key, made.join(" and ")),
            };
            return Err(violation.into());
        }
        answers.swap_remove(0)
    }

    /// Goes back to the release before; the inner error is a refusal.
    pub(super) async fn roll_back(
        &self,
        site: &str,
        environment: &str,
        key: &str,
    ) -> Result<Result<pb::Rollback, Status>> {
        let message = pb::CreateRollbackRequest {
            site: site.to_owned(),
            environment: environment.to_owned(),
            reason: "under fire".to_owned(),
            ..Default::default()
        };
        self.call("a rollback", |api| {
            let request = keyed(message.clone(), key);
            async move {
                let answer = api.deployments().create_rollback(request).await?;
                Ok(answer.into_inner())
            }
        })
        .await
    }

    /// Cancels; without a key, so that a lost answer shows as a refusal.
    pub(super) async fn cancel(&self, id: &str) -> Result<Result<pb::Deployment, Status>> {
        self.call("a cancel", |api| api.cancel(id)).await
    }

    /// Aborts; without a key, so that a lost answer shows as a refusal.
    pub(super) async fn abort(&self, id: &str) -> Result<Result<pb::Deployment, Status>> {
        self.call("an abort", |api| api.abort(id)).await
    }

    /// Lifts a hold; that there is none is as good.
    pub(super) async fn lift_hold(&self, site: &str, environment: &str) -> Result<()> {
        let lifted = self.call("lifting a hold", |api| api.lift_hold(site, environment));
        accept_late(lifted.await?)
    }
}

/// What was accepted is there for ever.
fn lost(id: &str, status: Status) -> anyhow::Error {
    if status.code() != tonic::Code::NotFound {
        return status.into();
    }
    let violation = Violation {
        claim: "what was accepted is never lost",
        words: format!("{id}: {}", status.message()),
    };
    violation.into()
}

/// What a caller waits between two looks: there is nothing to wait for but time.
pub(super) async fn pause() {
    tokio::time::sleep(Duration::from_millis(100)).await;
}

fn safe_to_repeat(status: &Status) -> bool {
    use tonic::Code::{Aborted, Cancelled, DeadlineExceeded, Unavailable, Unknown};
    matches!(
        status.code(),
        Unavailable | Unknown | DeadlineExceeded | Cancelled | Aborted
    )
}

/// A verb that comes too late is refused for the state; anything else is a fault of the platform.
pub(super) fn accept_late<T>(answer: Result<T, Status>) -> Result<()> {
    match answer {
        Err(status) if status.code() != tonic::Code::FailedPrecondition => Err(status.into()),
        _ => Ok(()),
    }
}

fn keyed<T>(message: T, key: &str) -> Request<T> {
    let mut request = Request::new(message);
    request
        .metadata_mut()
        .insert("idempotency-key", key.parse().unwrap());
    request
}
