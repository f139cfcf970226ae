//! Deployments under fire: many lanes are driven by callers who repeat safely, while processes are
//! killed, the streams deleted and Postgres restarted. The judge is `testkit::checker`.

use std::{
    collections::BTreeMap,
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use anyhow::{Context, Result, bail};
use candlefish_devstack::{Service, Stack};
use candlefish_proto::deploy::{self as pb, deployment::State, strategy::Kind};
use tokio::{task::JoinSet, time::Instant};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Status};

use crate::{
    Api, Content,
    api::{Commit, quick_policy, summary},
    rng::Rng,
};

/// A call that is not answered within this time is lost: the run fails.
const ANSWERED_WITHIN: Duration = Duration::from_secs(90);
/// A deployment that has not moved within this time is stuck: the run fails.
const MOVES_WITHIN: Duration = Duration::from_mins(3);

/// How large a run is.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    pub seed: u64,
    pub deployments: u64,
    pub lanes: u64,
    /// Process kills; the streams' deletion and Postgres's restart come on top.
    pub faults: u64,
}

/// What becomes of a deployment on purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fate {
    Ordinary,
    Cancelled,
    AbortedPastThePivot,
    RolledBack,
    Broken,
}

/// What a run did.
#[derive(Debug, Clone, Default)]
pub struct Done {
    /// Deployments accepted, by their planned fate; rollbacks on top.
    pub fates: BTreeMap<Fate, u64>,
    pub accepted: Vec<String>,
    /// Faults that fired, by kind of process.
    pub faults: BTreeMap<&'static str, u64>,
}

/// Drives the lanes and throws the faults; every accepted deployment is terminal when this answers.
pub async fn run(stack: &Stack, plan: Plan) -> Result<Done> {
    let mut rng = Rng::seeded(plan.seed);
    let callers = Callers::connect(stack)?;
    prepare(&callers, plan.lanes).await?;
    let fates = fates(&mut rng, plan);
    let over = CancellationToken::new();
    let mut lanes = JoinSet::new();
    for (lane, fates) in fates.into_iter().enumerate() {
        let driver = Lane {
            callers: callers.clone(),
            slug: format!("lane-{lane}"),
            seed: u32::try_from(plan.seed % 1_000_000)? * 100 + u32::try_from(lane)?,
            rng: rng.fork(),
        };
        lanes.spawn(driver.drive(fates));
    }
    let faults = throw(stack, plan, rng.fork(), over.clone());
    let driven = async {
        let mut done = Done::default();
        while let Some(lane) = lanes.join_next().await {
            let lane = lane.context("a lane's driver")??;
            done.accepted.extend(lane.accepted);
            for (fate, count) in lane.fates {
                *done.fates.entry(fate).or_default() += count;
            }
        }
        over.cancel();
        Ok::<_, anyhow::Error>(done)
    };
    let (done, faults) = tokio::join!(driven, faults);
    let mut done = done?;
    done.faults = faults?;
    for id in &done.accepted {
        callers.ended(id).await?;
    }
    Ok(done)
}

/// Each lane's fates, in a seeded order: an eighth of all for each of the four that go wrong.
fn fates(rng: &mut Rng, plan: Plan) -> Vec<Vec<Fate>> {
    let mut all = Vec::new();
    for place in 0..plan.deployments {
        all.push(match place % 8 {
            0 => Fate::Cancelled,
            1 => Fate::AbortedPastThePivot,
            2 => Fate::RolledBack,
            3 => Fate::Broken,
            _ => Fate::Ordinary,
        });
    }
    for place in (1..all.len()).rev() {
        let bound = u64::try_from(place + 1).unwrap_or(1);
        let other = usize::try_from(rng.below(bound)).unwrap_or(0);
        all.swap(place, other);
    }
    let mut lanes: Vec<Vec<Fate>> = (0..plan.lanes).map(|_| Vec::new()).collect();
    let count = lanes.len().max(1);
    for (place, fate) in all.into_iter().enumerate() {
        if let Some(lane) = lanes.get_mut(place % count) {
            lane.push(fate);
        }
    }
    lanes
}

async fn prepare(callers: &Callers, lanes: u64) -> Result<()> {
    let api = callers.any();
    api.create_site("chaos", &[]).await?;
    for lane in 0..lanes {
        let order = if lane % 2 == 0 {
            pb::policy::Order::Queue
        } else {
            pb::policy::Order::Latest
        };
        let request = pb::CreateEnvironmentRequest {
            site: "chaos".to_owned(),
            slug: format!("lane-{lane}"),
            policy: Some(pb::Policy {
                order: order.into(),
                ..quick_policy()
            }),
            hosts: Vec::new(),
        };
        api.sites().create_environment(request).await?;
    }
    Ok(())
}

/// Callers that go to another gateway when one does not answer, and repeat with the same key.
#[derive(Debug, Clone)]
struct Callers {
    apis: Arc<[Api]>,
    turn: Arc<AtomicU64>,
}

impl Callers {
    fn connect(stack: &Stack) -> Result<Self> {
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

    fn any(&self) -> &Api {
        let count = u64::try_from(self.apis.len()).unwrap_or(1).max(1);
        let turn = self.turn.fetch_add(1, Ordering::Relaxed) % count;
        self.apis.get(usize::try_from(turn).unwrap_or(0)).unwrap()
    }

    /// Repeats a call until it is answered; a refusal is an answer.
    async fn call<'a, T, F>(
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

    async fn ended(&self, id: &str) -> Result<pb::Deployment> {
        self.until(id, "ends", |one| one.finished_at.is_some())
            .await
    }

    async fn until(
        &self,
        id: &str,
        what: &str,
        wanted: impl Fn(&pb::Deployment) -> bool,
    ) -> Result<pb::Deployment> {
        let begun = Instant::now();
        loop {
            let now = self
                .call("reading a deployment", |api| api.deployment(id))
                .await??;
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
}

/// What a caller waits between two looks: there is nothing to wait for but time.
async fn pause() {
    tokio::time::sleep(Duration::from_millis(100)).await;
}

fn safe_to_repeat(status: &Status) -> bool {
    use tonic::Code::{Aborted, Cancelled, DeadlineExceeded, Unavailable, Unknown};
    matches!(
        status.code(),
        Unavailable | Unknown | DeadlineExceeded | Cancelled | Aborted
    )
}

/// One lane and who drives it.
struct Lane {
    callers: Callers,
    slug: String,
    seed: u32,
    rng: Rng,
}

impl Lane {
    async fn drive(mut self, fates: Vec<Fate>) -> Result<Done> {
        let mut done = Done::default();
        let commits = Commit::chain(self.seed, u32::try_from(fates.len())?);
        for (place, (fate, commit)) in fates.into_iter().zip(&commits).enumerate() {
            let named = format!("{} {place} {fate:?}", self.slug);
            let ids = self.one(fate, place, commit).await.context(named)?;
            *done.fates.entry(fate).or_default() += 1;
            done.accepted.extend(ids);
        }
        Ok(done)
    }

    async fn one(&mut self, fate: Fate, place: usize, commit: &Commit) -> Result<Vec<String>> {
        let mut content = Content::site(&format!("{}-{place}", self.slug));
        if fate == Fate::Broken {
            content = content.without("index.html");
        }
        let release = self.release(&content, commit).await?;
        let strategy = self.strategy(fate);
        let id = self.deploy(&release, place, strategy).await?;
        let mut ids = vec![id.clone()];
        match fate {
            Fate::Ordinary => {
                // Now and then the next push comes while this one is on its way.
                if self.rng.below(4) > 0 {
                    self.callers.ended(&id).await?;
                }
            }
            Fate::Broken => {
                let ended = self.callers.ended(&id).await?;
                if ended.state() == State::Succeeded {
                    bail!("a broken release went live: {}", summary(&ended));
                }
            }
            Fate::Cancelled => {
                if self.rng.below(2) == 0 {
                    self.callers
                        .until(&id, "begins", |one| one.started_at.is_some())
                        .await?;
                }
                let cancelled = self.callers.call("cancel", |api| api.cancel(&id)).await?;
                accept_late(cancelled)?;
                self.callers.ended(&id).await?;
            }
            Fate::AbortedPastThePivot => {
                self.callers
                    .until(&id, "is live", |one| one.live_at.is_some())
                    .await?;
                let aborted = self.callers.call("abort", |api| api.abort(&id)).await?;
                accept_late(aborted)?;
                self.callers.ended(&id).await?;
            }
            Fate::RolledBack => {
                let ended = self.callers.ended(&id).await?;
                if ended.state() == State::Succeeded {
                    ids.extend(self.roll_back(place).await?);
                }
            }
        }
        Ok(ids)
    }

    fn strategy(&mut self, fate: Fate) -> Kind {
        let bake = Some(prost_types::Duration {
            seconds: 600,
            nanos: 0,
        });
        match (fate, self.rng.below(4)) {
            (Fate::AbortedPastThePivot, _) => Kind::BlueGreen(pb::BlueGreen { bake }),
            (_, 0) => Kind::Recreate(pb::Recreate {}),
            (_, 1) => Kind::Rolling(pb::Rolling {
                batch: 1,
                bake: None,
            }),
            (_, 2) => Kind::Canary(pb::Canary {
                weights: vec![50],
                interval: Some(prost_types::Duration {
                    seconds: 1,
                    nanos: 0,
                }),
                bake: None,
            }),
            _ => Kind::BlueGreen(pb::BlueGreen { bake: None }),
        }
    }

    /// A sealed release. Uploads and the seal repeat themselves: the same content is the same release.
    async fn release(&self, content: &Content, commit: &Commit) -> Result<String> {
        let begun = Instant::now();
        loop {
            let error = match self.callers.any().release("chaos", content, commit).await {
                Ok(release) => return Ok(release),
                Err(error) => error,
            };
            let refused = error
                .downcast_ref::<Status>()
                .is_some_and(|s| !safe_to_repeat(s));
            if refused || begun.elapsed() > ANSWERED_WITHIN {
                return Err(error.context("a release"));
            }
            pause().await;
        }
    }

    async fn deploy(&self, release: &str, place: usize, strategy: Kind) -> Result<String> {
        let message = pb::CreateDeploymentRequest {
            site: "chaos".to_owned(),
            environment: self.slug.clone(),
            release_id: release.to_owned(),
            strategy: Some(pb::Strategy {
                kind: Some(strategy),
            }),
            ..Default::default()
        };
        let key = format!("{}-{}-{place}", self.seed, self.slug);
        let accepted = self
            .callers
            .call("a deployment", |api| {
                let request = keyed(message.clone(), &key);
                async move {
                    Ok(api
                        .deployments()
                        .create_deployment(request)
                        .await?
                        .into_inner())
                }
            })
            .await?;
        Ok(accepted?.id)
    }

    /// Goes back, lifts the hold; no id when there is nothing to go back to.
    async fn roll_back(&self, place: usize) -> Result<Option<String>> {
        let message = pb::CreateRollbackRequest {
            site: "chaos".to_owned(),
            environment: self.slug.clone(),
            reason: "chaos".to_owned(),
            ..Default::default()
        };
        let key = format!("{}-{}-{place}-back", self.seed, self.slug);
        let asked = self
            .callers
            .call("a rollback", |api| {
                let request = keyed(message.clone(), &key);
                async move {
                    Ok(api
                        .deployments()
                        .create_rollback(request)
                        .await?
                        .into_inner())
                }
            })
            .await?;
        let Ok(rollback) = asked else {
            // The first release of the lane has nothing before it.
            return Ok(None);
        };
        let id = rollback
            .deployment
            .context("a rollback has its deployment")?
            .id;
        self.callers.ended(&id).await?;
        let lifted = self
            .callers
            .call("lifting", |api| api.lift_hold("chaos", &self.slug))
            .await?;
        accept_late(lifted)?;
        Ok(Some(id))
    }
}

/// A verb that comes too late is refused for the state; anything else is a fault of the platform.
fn accept_late<T>(answer: Result<T, Status>) -> Result<()> {
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

/// Kills one process at a time until the lanes are done or the plan is: the next one when its
/// successor is ready, and after 2 s at the latest. Half-way the streams go, later Postgres.
async fn throw(
    stack: &Stack,
    plan: Plan,
    mut rng: Rng,
    over: CancellationToken,
) -> Result<BTreeMap<&'static str, u64>> {
    let mut fired: BTreeMap<&'static str, u64> = BTreeMap::new();
    for turn in 0..plan.faults {
        if over.is_cancelled() {
            break;
        }
        if turn == plan.faults / 3 {
            stack.nats().wipe()?;
            stack.nats().restart().await?;
            *fired.entry("streams deleted").or_default() += 1;
        }
        if turn == plan.faults * 2 / 3 {
            stack.postgres().process().kill()?;
            stack.postgres().restart().await?;
            *fired.entry("postgres").or_default() += 1;
        }
        let (name, service) = match turn % 3 {
            0 => ("orchestrator", Service::Orchestrator),
            1 => ("gateway", Service::Gateway),
            _ => ("edge", Service::Edge),
        };
        let replicas = stack.processes(service);
        let place = rng.below(u64::try_from(replicas.len())?);
        let victim = replicas.get(usize::try_from(place)?).context("a replica")?;
        victim.kill()?;
        victim.start()?;
        *fired.entry(name).or_default() += 1;
        let wait = tokio::time::timeout(Duration::from_secs(2), stack.ready(victim.name()));
        // Not ready within 2 s: then the next one goes all the same.
        let _ready_or_not = wait.await;
    }
    Ok(fired)
}
