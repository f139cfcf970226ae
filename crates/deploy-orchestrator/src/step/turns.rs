//! Turns that are asked for while a transaction is on its way share the next one.
//!
//! A turn costs about as many statements as ten, and statements are what carrying costs. So who gets the
//! place takes all that wait, and where nobody else waits a turn goes alone, at once: nothing is
//! held back to gather more. See [`super::drive::together()`] for what shares and what does not.
//!
//! One bad turn must not cost the others more than itself. A transaction that fails, or in which a turn
//! panics, is taken back, and each goes alone; one that takes long gives its place to the next; a
//! deployment whose turn fails also alone goes alone until one is committed.
//!
//! Invariants: whoever asks is answered once; no two turns of a transaction are of one lane.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    panic::AssertUnwindSafe,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use candlefish_ids::DeploymentId;
use candlefish_runtime::metrics::QUEUE_DEPTH;
use futures_util::FutureExt as _;
use tokio::{
    sync::{Notify, OwnedSemaphorePermit, Semaphore, oneshot},
    time::Instant,
};

use super::{
    drive::{self, Asked, Claimed, Share, Taken},
    worker::chain,
};
use crate::{ctx::Ctx, deployment::Error, noun};

/// Transactions at the same time. With two, each has half of the turns, and costs nearly as much.
const AT_A_TIME: usize = 1;
/// Turns of one transaction, at the most: their lanes are locked until its end.
const MOST: usize = 128;
/// A transaction that takes longer waits for something: others go on without it.
const KEPT: Duration = Duration::from_secs(1);
/// Turns alone at the same time: each has a connection, and there are others who need one.
const LONE: usize = 12;
/// A deployment that did not fail for so long has ended otherwise, or another process carries it.
const FORGOTTEN: Duration = Duration::from_mins(10);

/// How a turn ends for who asked for it.
#[derive(Debug)]
pub(crate) enum Answer {
    /// It is taken; what it claimed.
    Taken(Option<Box<Claimed>>),
    /// It is to be taken alone. Who is the only one keeps the place meanwhile.
    Alone(Asked, Option<OwnedSemaphorePermit>),
    /// It was taken by a commit that was not answered: what it claimed, should that have happened.
    Unheard(Asked, Option<Box<Claimed>>),
}

/// The turns that wait for a place; cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Turns {
    waiting: Arc<Mutex<VecDeque<Waiting>>>,
    places: Arc<Semaphore>,
    drained: Arc<Notify>,
    lone: Arc<Semaphore>,
    /// Deployments whose turns failed alone, and when one did last.
    failing: Arc<Mutex<HashMap<DeploymentId, Instant>>>,
}

#[derive(Debug)]
struct Waiting {
    asked: Asked,
    answer: oneshot::Sender<Answer>,
}

impl Turns {
    pub(crate) fn new() -> Self {
        Self {
            waiting: Arc::default(),
            places: Arc::new(Semaphore::new(AT_A_TIME)),
            drained: Arc::default(),
            lone: Arc::new(Semaphore::new(LONE)),
            failing: Arc::default(),
        }
    }

    /// Asks for a turn, which somebody takes as soon as [`Turns::wait`] is waited for.
    pub(crate) fn ask(&self, asked: Asked) -> oneshot::Receiver<Answer> {
        let (answer, answered) = oneshot::channel();
        if asked.is_lone() || self.failing().contains_key(&asked.deployment_id()) {
            tell(answer, Answer::Alone(asked, None));
            return answered;
        }
        self.waiting().push_back(Waiting { asked, answer });
        self.measure();
        answered
    }

    /// Waits for a turn that was asked for, and takes those of others meanwhile. None when whoever
    /// took it is gone: what was due is due yet, and what was claimed is so until its lease ends.
    pub(crate) async fn wait(
        &self,
        ctx: &Ctx,
        worker: &str,
        mut answered: oneshot::Receiver<Answer>,
    ) -> Option<Answer> {
        loop {
            let place = tokio::select! {
                biased;
                told = &mut answered => return told.ok(),
                place = Arc::clone(&self.places).acquire_owned() => place.ok()?,
            };
            let waiting = self.take();
            if waiting.is_empty() {
                // Another place has this one already.
                drop(place);
                return answered.await.ok();
            }
            self.measure();
            Box::pin(carry(ctx, worker, waiting, place)).await;
        }
    }

    /// Waits until a turn may go alone; it does as long as this is kept.
    pub(crate) async fn lone(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.lone).acquire_owned().await.ok()
    }

    /// What a turn of this deployment came to. One that found its lane locked, or that another transaction
    /// broke off, has not shown that the next one will not fail.
    pub(crate) fn note(&self, deployment: DeploymentId, turn: &Result<Option<Taken>, Error>) {
        match turn {
            Ok(Some(_taken)) => {
                self.failing().remove(&deployment);
            }
            Err(error) if !error.is_contention() => self.failed(deployment, Instant::now()),
            Ok(None) | Err(_) => {}
        }
    }

    /// A turn of this deployment failed alone, as it would have failed any transaction.
    pub(crate) fn failed(&self, deployment: DeploymentId, now: Instant) {
        let mut failing = self.failing();
        failing.retain(|_id, at| now.saturating_duration_since(*at) < FORGOTTEN);
        failing.insert(deployment, now);
    }

    /// Returns once nobody waits for a place.
    pub(crate) async fn drained(&self) {
        loop {
            let drained = self.drained.notified();
            if self.waiting().is_empty() {
                return;
            }
            drained.await;
        }
    }

    fn measure(&self) {
        let waiting = u32::try_from(self.waiting().len()).unwrap_or(u32::MAX);
        metrics::gauge!(QUEUE_DEPTH, "queue" => "turns").set(f64::from(waiting));
    }

    /// The turns of the next transaction, by the order of their asking: the first of each lane.
    fn take(&self) -> Vec<Waiting> {
        let mut waiting = self.waiting();
        let (mut taken, mut left) = (Vec::new(), VecDeque::new());
        let mut lanes = HashSet::new();
        while let Some(one) = waiting.pop_front() {
            if one.answer.is_closed() {
                // Nobody would work on what it claims.
            } else if taken.len() < MOST && lanes.insert(one.asked.environment_id()) {
                taken.push(one);
            } else {
                left.push_back(one);
            }
        }
        *waiting = left;
        if waiting.is_empty() {
            self.drained.notify_waiters();
        }
        taken
    }

    fn failing(&self) -> MutexGuard<'_, HashMap<DeploymentId, Instant>> {
        self.failing
            .lock()
            .expect("nothing panics while it holds this lock")
    }

    fn waiting(&self) -> MutexGuard<'_, VecDeque<Waiting>> {
        self.waiting
            .lock()
            .expect("nothing panics while it holds this lock")
    }
}

/// Answers each of these.
async fn carry(ctx: &Ctx, worker: &str, mut waiting: Vec<Waiting>, place: OwnedSemaphorePermit) {
    if waiting.len() == 1
        && let Some(one) = waiting.pop()
    {
        tell(one.answer, Answer::Alone(one.asked, Some(place)));
        return;
    }
    let (mut asked, mut answers) = (Vec::new(), Vec::new());
    for one in waiting {
        asked.push(one.asked);
        answers.push(one.answer);
    }
    let mut unheard = None;
    let taken = taken(ctx, worker, (&asked, place), &mut unheard).await;
    let (shares, is_heard) = match (taken, unheard) {
        (Ok(shares), _) => (shares, true),
        (Err(error), Some(shares)) => {
            let error = chain(&error);
            tracing::debug!(
                error,
                "the commit of turns that share a transaction was not answered"
            );
            (shares, false)
        }
        (Err(error), None) => {
            let (error, turns) = (chain(&error), asked.len());
            tracing::debug!(error, turns, "turns that shared a transaction go alone");
            (asked.iter().map(|_| Share::Alone).collect(), true)
        }
    };
    for ((asked, share), answer) in asked.into_iter().zip(shares).zip(answers) {
        let told = match share {
            Share::Alone => Answer::Alone(asked, None),
            Share::Taken(claimed) if is_heard => Answer::Taken(claimed),
            Share::Taken(claimed) => Answer::Unheard(asked, claimed),
        };
        tell(answer, told);
    }
}

/// Takes them in one transaction; a place is kept for a while. A panic is one's whose turn panics alone as
/// well; the transaction is gone by it.
async fn taken(
    ctx: &Ctx,
    worker: &str,
    (asked, place): (&[Asked], OwnedSemaphorePermit),
    unheard: &mut Option<Vec<Share>>,
) -> Result<Vec<Share>, Error> {
    let taken = Box::pin(drive::together(ctx, worker, asked, unheard));
    let mut taken = AssertUnwindSafe(taken).catch_unwind();
    let taken = match tokio::time::timeout(KEPT, &mut taken).await {
        Ok(taken) => taken,
        Err(_elapsed) => {
            drop(place);
            taken.await
        }
    };
    taken.unwrap_or_else(|_panic| {
        let ids: Vec<DeploymentId> = asked.iter().map(Asked::deployment_id).collect();
        tracing::error!(
            deployments = noun::listed(&ids),
            "a turn of these panicked; they go alone"
        );
        Ok(asked.iter().map(|_| Share::Alone).collect())
    })
}

/// Who asked may be gone: then nobody works on what was claimed, and its lease runs out.
fn tell(to: oneshot::Sender<Answer>, answer: Answer) {
    let _gone = to.send(answer);
}

#[cfg(test)]
mod tests {
    use candlefish_ids::{DeploymentId, EnvironmentId, StepId};

    use super::*;
    use crate::step::store::Due;

    fn due(environment_id: EnvironmentId) -> Asked {
        Asked::Due(Due {
            step_id: StepId::new(),
            deployment_id: DeploymentId::new(),
            environment_id,
            edges_reported: false,
            is_lone: false,
            is_suspect: false,
            returns: false,
        })
    }

    fn lanes(waiting: &[Waiting]) -> Vec<EnvironmentId> {
        let asked = waiting.iter().map(|one| &one.asked);
        asked.map(Asked::environment_id).collect()
    }

    #[tokio::test]
    async fn one_that_fails_alone_or_undoes_is_put_into_no_transaction() {
        let turns = Turns::new();
        let fine = due(EnvironmentId::new());
        let id = fine.deployment_id();
        turns.failed(id, Instant::now());
        let told = turns.ask(fine).await.unwrap();
        let Answer::Alone(fine, None) = told else {
            panic!("{told:?}");
        };
        turns.note(id, &Ok(Some(Taken(None))));
        let _waits = turns.ask(fine);
        let gone = turns.ask(due(EnvironmentId::new()));
        drop(gone);
        assert_eq!(turns.take().len(), 1);
        let mut undoes = due(EnvironmentId::new());
        if let Asked::Due(due) = &mut undoes {
            due.is_lone = true;
        }
        let told = turns.ask(undoes).await.unwrap();
        assert!(matches!(told, Answer::Alone(..)), "{told:?}");
    }

    #[test]
    fn one_that_failed_shares_again_once_a_turn_is_committed_or_long_after() {
        let turns = Turns::new();
        let now = Instant::now();
        let (one, other) = (DeploymentId::new(), DeploymentId::new());
        turns.failed(one, now);
        turns.note(one, &Ok(None));
        turns.note(one, &Err(Error::Begin(sqlx::Error::PoolTimedOut)));
        assert!(turns.failing().contains_key(&one));
        turns.note(one, &Ok(Some(Taken(None))));
        assert!(turns.failing().is_empty());
        turns.note(one, &Err(Error::Sql(sqlx::Error::RowNotFound)));
        assert!(turns.failing().contains_key(&one));
        turns.failed(other, now + FORGOTTEN + Duration::from_mins(1));
        assert_eq!(turns.failing().keys().collect::<Vec<_>>(), [&other]);
    }

    #[test]
    fn a_transaction_has_one_turn_of_each_lane_by_the_order_of_asking() {
        let turns = Turns::new();
        let ids: Vec<_> = (0..MOST + 3).map(|_| EnvironmentId::new()).collect();
        let (first, second) = (ids[0], ids[1]);
        let asked = [first, first, second].into_iter();
        let asked = asked.chain(ids[2..].iter().copied());
        let _answers: Vec<_> = asked.map(|id| turns.ask(due(id))).collect();
        assert_eq!(lanes(&turns.take()), ids[..MOST]);
        let left = [&[first][..], &ids[MOST..]].concat();
        assert_eq!(lanes(&turns.take()), left);
        assert!(turns.take().is_empty());
    }
}
