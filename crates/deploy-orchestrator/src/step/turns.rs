//! Turns that are asked for while a transaction is on its way share the next one.
//!
//! A turn costs about as many statements as ten, and statements are what carrying costs. So who gets the
//! place takes all that wait, and where nobody else waits a turn goes alone, at once: nothing is
//! held back to gather more. See [`super::drive::together()`] for what shares and what does not.
//!
//! Invariants: whoever asks is answered once; no two turns of a transaction are of one lane.

use std::{
    collections::{HashSet, VecDeque},
    sync::{Arc, Mutex, MutexGuard},
};

use candlefish_runtime::metrics::QUEUE_DEPTH;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, oneshot};

use super::{
    drive::{self, Asked, Claimed, Share},
    worker::chain,
};
use crate::ctx::Ctx;

/// Transactions at the same time. With two, each has half of the turns, and costs nearly as much.
const AT_A_TIME: usize = 1;
/// Turns of one transaction, at the most: their lanes are locked until its end.
const MOST: usize = 32;

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
        }
    }

    /// Asks for a turn, which somebody takes as soon as [`Turns::wait`] is waited for.
    pub(crate) fn ask(&self, asked: Asked) -> oneshot::Receiver<Answer> {
        let (answer, answered) = oneshot::channel();
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
            if taken.len() < MOST && lanes.insert(one.asked.environment_id()) {
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
    let taken = drive::together(ctx, worker, &asked, &mut unheard).await;
    drop(place);
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
        })
    }

    fn lanes(waiting: &[Waiting]) -> Vec<EnvironmentId> {
        let asked = waiting.iter().map(|one| &one.asked);
        asked.map(Asked::environment_id).collect()
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
