//! Calls that share a transaction: what is asked while a commit is on its way goes with the next one.
//!
//! Accepting one deployment costs about as many statements as accepting thirty, so under load the call
//! that gets a turn carries all that wait, with one statement for each table. Where nobody waits a call
//! goes alone, at once, by [`create`]: nothing is held back to gather more.
//!
//! Only plain calls share. A preview, a lift of the hold, a join with a push, a replay, a rehearsal and
//! every refusal takes the way of [`create`], with a transaction of its own; so does every call of a
//! transaction that failed before its commit.
//!
//! Invariants: a call is answered after the commit that holds it, and by nothing else; no two calls
//! of a transaction have the same lane or the same key.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard},
};

use candlefish_ids::DeploymentId;
use candlefish_proto::deploy as pb;
use candlefish_runtime::{
    database,
    identity::Caller,
    metrics::QUEUE_DEPTH,
    refusal::{Code, Refusal},
};
use futures_util::future::join_all;
use tokio::sync::{Semaphore, oneshot};
use tracing::Span;

use super::{
    Deployment, Error,
    accept::{self, New, build},
    create::{self, Create, To},
    plan::Kind,
    view,
};
use crate::{
    ctx::{CommitError, Ctx},
    idempotency::{self, Key, Reply},
    lane,
    site::{self, Environment},
    trigger,
};

/// Transactions at the same time: while one commits, the next is prepared.
const TURNS: usize = 2;
/// Calls of one transaction, at the most.
const MOST: usize = 32;

type Answer = Result<Reply<pb::Deployment>, Error>;

/// The calls that wait for a turn; cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Together {
    waiting: Arc<Mutex<VecDeque<Asked>>>,
    turns: Arc<Semaphore>,
}

/// A call that waits.
#[derive(Debug)]
struct Asked {
    caller: Caller,
    key: Option<Key>,
    cmd: Create,
    /// The environment's slug.
    environment: String,
    /// Of the request, for the trace of its deployment.
    parent: String,
    span: Span,
    answer: oneshot::Sender<Answer>,
}

impl Asked {
    /// Both may not be in one transaction.
    fn meets(&self, other: &Self) -> bool {
        let lane = |one: &Self| (one.cmd.site.clone(), one.environment.clone());
        let key = self.key.as_ref().zip(other.key.as_ref());
        lane(self) == lane(other) || key.is_some_and(|(one, other)| one.meets(other))
    }
}

impl Together {
    pub(crate) fn new() -> Self {
        Self {
            waiting: Arc::default(),
            turns: Arc::new(Semaphore::new(TURNS)),
        }
    }

    /// Accepts a deployment; it is durable once this answers. To be run to its end: it may carry the
    /// calls of others.
    pub(crate) async fn create(
        &self,
        ctx: &Ctx,
        caller: Caller,
        key: Option<Key>,
        cmd: Create,
    ) -> Answer {
        let environment = match &cmd.to {
            To::Environment(slug) if cmd.lift_hold.is_empty() && !ctx.rehearses => slug.clone(),
            _ => return create::create(ctx, &caller, key, cmd).await,
        };
        let (answer, mut answered) = oneshot::channel();
        self.waiting().push_back(Asked {
            caller,
            key,
            cmd,
            environment,
            parent: candlefish_runtime::trace::current_traceparent(),
            span: Span::current(),
            answer,
        });
        self.measure();
        loop {
            let turn = tokio::select! {
                biased;
                told = &mut answered => return told.unwrap_or_else(|_| Err(lost().into())),
                turn = self.turns.acquire() => turn.expect("nobody closes the turns"),
            };
            let calls = self.take();
            if calls.is_empty() {
                // Another turn carries this one already.
                drop(turn);
                return answered.await.unwrap_or_else(|_| Err(lost().into()));
            }
            self.measure();
            carry(ctx, calls).await;
        }
    }

    fn measure(&self) {
        let waiting = u32::try_from(self.waiting().len()).unwrap_or(u32::MAX);
        metrics::gauge!(QUEUE_DEPTH, "queue" => "accept").set(f64::from(waiting));
    }

    /// The calls of the next transaction, by the order of their asking.
    fn take(&self) -> Vec<Asked> {
        let mut waiting = self.waiting();
        let mut taken: Vec<Asked> = Vec::new();
        let mut left = VecDeque::new();
        while let Some(one) = waiting.pop_front() {
            // What meets one that is left comes after it as well.
            let meets = taken.iter().chain(&left).any(|other| other.meets(&one));
            if taken.len() < MOST && !meets {
                taken.push(one);
            } else {
                left.push_back(one);
            }
        }
        *waiting = left;
        taken
    }

    fn waiting(&self) -> MutexGuard<'_, VecDeque<Asked>> {
        self.waiting
            .lock()
            .expect("nothing panics while it holds this lock")
    }
}

fn lost() -> Refusal {
    Refusal::new(
        Code::Unavailable,
        "answer-lost",
        "the process stops, and whether the deployment was accepted is not known; ask again with the \
         same idempotency-key",
    )
}

/// Answers each of these calls.
async fn carry(ctx: &Ctx, calls: Vec<Asked>) {
    // What is written for many is planned anew each time, which one alone need not pay.
    let shared = if calls.len() > 1 {
        share(ctx, &calls).await
    } else {
        Ok(vec![None])
    };
    let answers = match shared {
        Ok(answers) => answers,
        Err(Error::Commit(CommitError::Commit(error))) => {
            // It may have happened all the same: nobody acts again without being asked.
            for one in calls {
                let refusal = database::refuse("commit a transaction", &error);
                told(one.answer, Err(refusal.into()));
            }
            return;
        }
        Err(error) => {
            tracing::debug!(%error, calls = calls.len(), "calls that shared a transaction go alone");
            calls.iter().map(|_| None).collect()
        }
    };
    let alone = calls.into_iter().zip(answers).filter_map(|(one, answer)| {
        let Some(message) = answer else {
            return Some(one);
        };
        told(one.answer, Ok(Reply::new(message)));
        None
    });
    join_all(alone.map(|one| async move {
        let create = create::create(ctx, &one.caller, one.key, one.cmd);
        let answer = tracing::Instrument::instrument(create, one.span).await;
        told(one.answer, answer);
    }))
    .await;
}

/// Whoever asked may be gone; the deployment is there.
fn told(to: oneshot::Sender<Answer>, answer: Answer) {
    let _gone = to.send(answer);
}

/// A call that is still as plain as it seemed.
struct Plain<'a> {
    place: usize,
    asked: &'a Asked,
    environment: &'a Environment,
}

impl Plain<'_> {
    fn deployment(&self, now: candlefish_clock::Moment) -> Deployment {
        let Create {
            release_id,
            strategy,
            reason,
            ..
        } = &self.asked.cmd;
        let strategy = strategy.as_ref();
        let new = New {
            environment: self.environment,
            release_id: *release_id,
            kind: Kind::Standard,
            strategy: strategy
                .unwrap_or(&self.environment.policy.strategy)
                .clone(),
            actor: &self.asked.caller.principal,
            reason,
            retry_of: None,
            leaves_release_id: None,
        };
        build(DeploymentId::new(), now, &new)
    }
}

/// Accepts the plain ones in one transaction; none for those that go alone.
async fn share(ctx: &Ctx, calls: &[Asked]) -> Result<Vec<Option<pb::Deployment>>, Error> {
    let mut answers: Vec<Option<pb::Deployment>> = calls.iter().map(|_| None).collect();
    let mut tx = ctx.begin().await.map_err(Error::Begin)?;
    let environments = find_environments(&mut tx, calls).await?;
    let mut plain = visible(calls, &environments);
    let ids: Vec<_> = plain.iter().map(|one| one.environment.id).collect();
    let mut lanes = lane::store::lock_each(&mut tx, &ids).await?;
    plain = unused(&mut tx, plain).await?;
    plain = allowed(ctx, &mut tx, plain).await?;
    if plain.is_empty() {
        return Ok(answers);
    }
    lanes.retain(|lane| {
        plain
            .iter()
            .any(|one| one.environment.id == lane.environment_id)
    });
    let now = tx.now();
    let new: Vec<Deployment> = plain.iter().map(|one| one.deployment(now)).collect();
    let parents = plain.iter().map(|one| one.asked.parent.clone());
    let asked: Vec<_> = new.iter().zip(parents).collect();
    accept::write_each(&mut tx, &asked).await?;
    lane::grant_each(ctx, &mut tx, &mut lanes).await?;
    for (one, deployment) in plain.iter().zip(&new) {
        one.asked.span.in_scope(|| accept::say_accepted(deployment));
    }
    let shown = view::whole_each(ctx, &mut tx, new).await?;
    let keyed: Vec<_> = plain
        .iter()
        .zip(&shown)
        .filter_map(|(one, answer)| Some((one.asked.key.as_ref()?, answer)))
        .collect();
    idempotency::store_each(&mut tx, now, &keyed).await?;
    ctx.commit(tx).await?;
    for (one, answer) in plain.iter().zip(shown) {
        if let Some(slot) = answers.get_mut(one.place) {
            *slot = Some(answer);
        }
    }
    Ok(answers)
}

type Places = HashMap<(String, String), Environment>;

async fn find_environments(
    conn: &mut sqlx::PgConnection,
    calls: &[Asked],
) -> Result<Places, Error> {
    let sites: Vec<String> = calls.iter().map(|one| one.cmd.site.clone()).collect();
    let slugs: Vec<String> = calls.iter().map(|one| one.environment.clone()).collect();
    let found = site::store::list_by_slugs(conn, &sites, &slugs)
        .await
        .map_err(site::Error::from)
        .map_err(Refusal::from)?;
    Ok(found
        .into_iter()
        .map(|one| ((one.site.clone(), one.slug.clone()), one))
        .collect())
}

/// Those whose environment is there for their caller.
fn visible<'a>(calls: &'a [Asked], environments: &'a Places) -> Vec<Plain<'a>> {
    let mut plain = Vec::with_capacity(calls.len());
    for (place, asked) in calls.iter().enumerate() {
        let slugs = (asked.cmd.site.clone(), asked.environment.clone());
        if let Some(environment) = environments.get(&slugs)
            && asked.caller.sees(&environment.site)
            && environment.kind == site::Kind::Standard
        {
            plain.push(Plain {
                place,
                asked,
                environment,
            });
        }
    }
    plain
}

/// Those whose key is new.
async fn unused<'a>(
    conn: &mut sqlx::PgConnection,
    plain: Vec<Plain<'a>>,
) -> Result<Vec<Plain<'a>>, Error> {
    let keyed: Vec<(usize, &Key)> = plain
        .iter()
        .filter_map(|one| Some((one.place, one.asked.key.as_ref()?)))
        .collect();
    let keys: Vec<&Key> = keyed.iter().map(|(_, key)| *key).collect();
    let known = idempotency::list_known(conn, &keys).await?;
    let known: Vec<usize> = keyed
        .iter()
        .enumerate()
        .filter_map(|(number, (place, _))| known.contains(&number).then_some(*place))
        .collect();
    Ok(plain
        .into_iter()
        .filter(|one| !known.contains(&one.place))
        .collect())
}

/// Those whose release may be deployed here, that no push has asked for, and for which there is room.
async fn allowed<'a>(
    ctx: &Ctx,
    conn: &mut sqlx::PgConnection,
    plain: Vec<Plain<'a>>,
) -> Result<Vec<Plain<'a>>, Error> {
    if plain.is_empty() {
        return Ok(plain);
    }
    let asked: Vec<_> = plain
        .iter()
        .map(|one| (one.environment, one.asked.cmd.release_id))
        .collect();
    let most = ctx.config.max_waiting;
    let wanted = accept::share_releases(conn, &asked, most).await?;
    let asked: Vec<_> = asked
        .iter()
        .map(|(environment, release)| (environment.id, *release))
        .collect();
    let joins = trigger::list_with_unjoined(conn, &asked).await?;
    Ok(plain
        .into_iter()
        .zip(wanted)
        .filter(|(one, wanted)| {
            let allowed = wanted
                .as_ref()
                .is_some_and(|wanted| wanted.is_allowed() && wanted.waiting < i64::from(most));
            allowed && !joins.contains(&one.environment.id)
        })
        .map(|(one, _)| one)
        .collect())
}
