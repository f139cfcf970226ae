//! Carrying a deployment on: one transaction takes it over as many steps as can go at once.
//!
//! The lane's lock is the owner of everything inside the database. A step whose work is outside is
//! claimed in the transaction that reaches it, worked on with nothing locked, and recorded in another
//! transaction guarded by claim and fence: a late worker finds the claim gone and writes nothing.

mod begin;
mod record;
mod together;

use std::time::Duration;

use candlefish_ids::{EnvironmentId, StepId};
use tokio::time::Instant;

pub(crate) use self::{
    begin::{Begun, begin, begin_each},
    record::{Taken, Unheard, is_claimed, record_outside},
    together::{Asked, Done, Share, together},
};
use super::{
    AWAY, Step, analyse, edges, finish,
    outcome::{Outcome, Wait},
    shared, shift, stage, store,
    verify::{self, Seen},
};
use crate::{
    backoff,
    blocker::{self, Blocker},
    ctx::{Ctx, Tx},
    deployment::{
        self, Deployment, Error,
        apply::{Change, apply, record, undone},
        event::SYSTEM,
        plan::{Kind, StepKind},
        state::{Cause, Event, State},
    },
    lane::{self, store::Lane},
    noun,
    observed::Observed,
    stop,
};

/// A step that this worker claimed, to be worked on outside the database.
#[derive(Debug, Clone)]
pub(crate) struct Claimed {
    pub(crate) environment_id: EnvironmentId,
    pub(crate) deployment: Deployment,
    pub(crate) step: Step,
    pub(crate) claim: i64,
    /// When its lease runs out by our own clock; never later than by the database's.
    pub(crate) held_until: Instant,
    /// What the transaction that claimed it saw of the release and the edges, where others shared it.
    pub(crate) seen: Option<Seen>,
}

/// A deployment in the hands of one transaction.
struct Hands<'a> {
    ctx: &'a Ctx,
    tx: &'a mut Tx,
    lane: Lane,
    deployment: Deployment,
    before: State,
    /// Something that people see changed.
    changed: bool,
    /// Some stop of the line pauses what acts on its site.
    pausing: bool,
    /// A blocker of the deployment may stand; false when none does.
    blocked: bool,
    /// Who claims steps whose work is outside; nobody where a deployment is only begun.
    worker: Option<&'a str>,
}

/// Takes a due step's turn, and those that follow; with a claim when the deployment has come to a step
/// whose work is outside. None when it is not due any more, or not ours; nothing is written then.
/// `unheard` is set when it failed and may have committed all the same.
pub(crate) async fn turn(
    ctx: &Ctx,
    worker: &str,
    due: store::Due,
    unheard: &mut Option<Unheard>,
) -> Result<Option<Taken>, Error> {
    let mut tx = ctx.begin().await.map_err(Error::Begin)?;
    match taken(ctx, &mut tx, worker, due).await {
        Ok(Some(Taken(claimed))) => record::commit(ctx, tx, claimed, unheard).await,
        other => {
            record::let_go(tx).await;
            other
        }
    }
}

/// A turn that is to be committed.
async fn taken(
    ctx: &Ctx,
    tx: &mut Tx,
    worker: &str,
    due: store::Due,
) -> Result<Option<Taken>, Error> {
    let Some(lane) = lane::store::try_lock(tx, due.environment_id).await? else {
        return Ok(None);
    };
    let Some(deployment) = deployment::store::lock(tx, due.deployment_id).await? else {
        return Ok(None);
    };
    let now = tx.now();
    if deployment.fence != lane.fence {
        return Ok(None);
    }
    let Some(found) = store::lock_due(tx, now, due.step_id, due.edges_reported).await? else {
        return Ok(None);
    };
    let mut hands = Hands::new(ctx, tx, lane, deployment, Some(worker));
    (hands.pausing, hands.blocked) = (found.pausing, found.blocked);
    hands.forgive(&found);
    let claimed = hands.turn(found).await?;
    hands.close().await?;
    Ok(Some(Taken(claimed)))
}

impl<'a> Hands<'a> {
    fn new(
        ctx: &'a Ctx,
        tx: &'a mut Tx,
        lane: Lane,
        deployment: Deployment,
        worker: Option<&'a str>,
    ) -> Self {
        let before = deployment.state.clone();
        Self {
            ctx,
            tx,
            lane,
            deployment,
            before,
            changed: false,
            pausing: false,
            blocked: true,
            worker,
        }
    }

    /// The turn of a step that is due.
    async fn turn(&mut self, found: store::Found) -> Result<Option<Claimed>, Error> {
        if found.is_claimed && found.step.lost_leases >= self.ctx.config.quarantine_after {
            self.quarantine(&found.step).await?;
            return Ok(None);
        }
        if !self.may_begin(&found.step).await? {
            return Ok(None);
        }
        if found.step.kind.is_outside() {
            return self.claim(found.step, found.is_claimed).await;
        }
        self.go_on(found.step).await
    }

    /// Goes on from a step inside the database as far as it can.
    async fn go_on(&mut self, first: Step) -> Result<Option<Claimed>, Error> {
        let mut step = first;
        loop {
            let outcome = self.act(&mut step).await?;
            match self.take(step, outcome).await? {
                None => return Ok(None),
                Some(next) if next.kind.is_outside() => return self.claim(next, false).await,
                Some(next) => step = next,
            }
        }
    }

    /// Comes to a step: claims it or goes on.
    async fn reach(&mut self, step: Step) -> Result<Option<Claimed>, Error> {
        if step.kind.is_outside() {
            return self.claim(step, false).await;
        }
        self.go_on(step).await
    }

    /// One turn of a step inside the database.
    async fn act(&mut self, step: &mut Step) -> Result<Outcome, Error> {
        let (ctx, tx, deployment) = (self.ctx, &mut *self.tx, &mut self.deployment);
        let (outcome, event) = match step.kind {
            StepKind::Prepare => (finish::prepare(tx, deployment).await?, None),
            StepKind::Stage => (stage::turn(ctx, tx, deployment, step).await?, None),
            StepKind::Shift => shift::shift(ctx, tx, deployment, step).await?,
            StepKind::Switch => shift::switch(ctx, tx, deployment, step).await?,
            StepKind::Analyse => (analyse::turn(ctx, tx, deployment, step).await?, None),
            StepKind::Bake => (finish::bake(tx, step), None),
            StepKind::Finish => finish::finish(ctx, tx, deployment, step).await?,
            StepKind::Return => (shift::back(ctx, tx, deployment, step).await?, None),
            StepKind::Unstage => (stage::undo_turn(ctx, tx, deployment, step).await?, None),
            StepKind::VerifyCandidate | StepKind::VerifyLive => {
                unreachable!("a step whose work is outside is claimed, not acted on")
            }
        };
        if let Some(event) = event {
            self.move_by(event, "").await?;
        }
        Ok(outcome)
    }

    /// Writes an outcome; answers the next step when the deployment can go on at once.
    async fn take(&mut self, step: Step, outcome: Outcome) -> Result<Option<Step>, Error> {
        match outcome {
            Outcome::Done { message } => self.done(step, &message).await,
            Outcome::Wait(wait) => {
                self.wait(&step, &wait).await?;
                Ok(None)
            }
            Outcome::Failed { cause, message } => {
                self.failed(&step, cause, message).await?;
                Ok(None)
            }
        }
    }

    async fn done(&mut self, step: Step, message: &str) -> Result<Option<Step>, Error> {
        self.changed = true;
        let next = if self.deployment.state.is_terminal() {
            shared::close(self.tx, &step, message).await?;
            None
        } else {
            shared::close_and_ready_next(self.tx, &step, message).await?
        };
        self.observe_end(&step);
        let line = match message {
            "" => step.kind.word().to_owned(),
            found => format!("{}: {found}", step.kind.word()),
        };
        self.tx.log(self.deployment.id, step.ord, &line);
        self.block(None).await?;
        self.resume_deadline();
        if step.is_undo {
            let confirmed = edges::all_followed(&step);
            let so_far = self.deployment.target_confirmed.unwrap_or(true);
            self.deployment.target_confirmed = Some(so_far && confirmed);
        }
        if step.kind == StepKind::VerifyLive {
            self.move_by(Event::GoesLive, "").await?;
        }
        if self.deployment.state.is_terminal() {
            return Ok(None);
        }
        if matches!(self.deployment.state, State::Waiting(_)) {
            self.move_by(Event::Resumes, "").await?;
        }
        let Some(next) = next else {
            undone(self.tx, &mut self.lane, &mut self.deployment).await?;
            return Ok(None);
        };
        Ok(self.may_begin(&next).await?.then_some(next))
    }

    /// Whether no stop of the line pauses the deployment before this step. One that has begun is in
    /// its middle, unless it only announced that traffic will move; an undo and a rollback are never
    /// kept.
    async fn may_begin(&mut self, step: &Step) -> Result<bool, Error> {
        let begun = step.started_at.is_some();
        if step.is_undo || (begun && !shift::only_announces(step)) {
            return Ok(true);
        }
        let now = self.tx.now();
        let stop = if self.pausing && self.deployment.kind != Kind::Rollback {
            stop::store::find_pausing(self.tx, now, self.deployment.site_id).await?
        } else {
            None
        };
        if let Some(stop) = stop {
            let blocker = stop.blocker();
            store::paused::pause(self.tx, step, stop.until).await?;
            self.block(Some(&blocker)).await?;
            self.pause_deadline(&blocker);
            self.move_by(Event::Waits, "").await?;
            return Ok(false);
        }
        // Before it began it can only have waited for a stop.
        if !begun && matches!(self.deployment.state, State::Waiting(_)) {
            self.block(None).await?;
            self.resume_deadline();
            self.move_by(Event::Resumes, "").await?;
        }
        Ok(true)
    }

    async fn wait(&mut self, step: &Step, wait: &Wait) -> Result<(), Error> {
        shared::wait(self.tx, step, wait).await?;
        if self.says_already(step, wait).await? {
            return Ok(());
        }
        self.changed = true;
        self.block(wait.blocker.as_ref()).await?;
        if matches!(self.deployment.state, State::Cancelling { .. }) {
            return Ok(());
        }
        if wait.blocker.is_none() {
            self.resume_deadline();
        }
        match &wait.blocker {
            Some(blocker) => {
                self.pause_deadline(blocker);
                self.move_by(Event::Waits, "").await
            }
            None if matches!(self.deployment.state, State::Waiting(_)) => {
                self.move_by(Event::Resumes, "").await
            }
            None => Ok(()),
        }
    }

    /// Nothing that anybody sees changes with this wait: a poll makes no version and no event.
    async fn says_already(&mut self, step: &Step, wait: &Wait) -> Result<bool, Error> {
        let settled = match self.deployment.state {
            State::Running(_) => wait.blocker.is_none(),
            State::Waiting(_) => wait.blocker.is_some(),
            State::Cancelling { .. } => true,
            State::Pending | State::Ended { .. } => false,
        };
        if !settled || self.changed || wait.message != step.message || step.started_at.is_none() {
            return Ok(false);
        }
        let standing = wait.blocker.as_ref();
        if !self.blocked {
            return Ok(standing.is_none());
        }
        Ok(blocker::stands(self.tx, self.deployment.id, standing).await?)
    }

    /// Time in which its turn was due and nobody came does not eat the deadline: we were away, and no
    /// release is worse for it.
    fn forgive(&mut self, found: &store::Found) {
        let now = self.tx.now();
        let mut away = found.due_at.map_or(Duration::ZERO, |due| now.since(due));
        if found.is_claimed && !away.is_zero() {
            // Its worker was heard of last when the lease began.
            away += self.ctx.config.lease;
        }
        if away < AWAY {
            return;
        }
        if let Some(deadline) = self.deployment.deadline_at.take() {
            self.deployment.deadline_at = Some(deadline.plus(away));
            self.changed = true;
            let words = format!(
                "nobody worked on it for {} s; its deadline is that much later",
                away.as_secs()
            );
            self.tx.log(self.deployment.id, 0, &words);
        }
    }

    /// Makes this the only standing blocker, as [`blocker::set`] does. Where none stands, as for most
    /// steps, there is nothing to clear.
    async fn block(&mut self, blocker: Option<&Blocker>) -> Result<(), Error> {
        if blocker.is_some() || self.blocked {
            shared::block(self.tx, self.deployment.id, blocker).await?;
            self.blocked = blocker.is_some();
        }
        Ok(())
    }

    /// Waiting for a person does not eat the deadline.
    fn pause_deadline(&mut self, blocker: &Blocker) {
        let now = self.tx.now();
        if !blocker.kind.waits_for_a_person() {
            self.resume_deadline();
        } else if let Some(deadline) = self.deployment.deadline_at.take() {
            self.deployment.deadline_left = Some(deadline.since(now));
        }
    }

    /// Nobody is waited for any more.
    fn resume_deadline(&mut self) {
        let now = self.tx.now();
        if let Some(left) = self.deployment.deadline_left.take() {
            self.deployment.deadline_at = Some(now.plus(left));
        }
    }

    async fn failed(&mut self, step: &Step, cause: Cause, message: String) -> Result<(), Error> {
        let now = self.tx.now();
        shared::leave(self.ctx, self.tx, self.deployment.id).await?;
        store::close(self.tx, now, step, "failed", &message).await?;
        self.observe_end(step);
        tracing::info!(
            deployment.id = %self.deployment.id, step = step.kind.word(), cause = cause.word(),
            "{} fails: {message}", self.deployment.place()
        );
        self.move_by(Event::Stops(cause), &message).await
    }

    async fn try_again(&mut self, step: &Step, why: &str) -> Result<(), Error> {
        let now = self.tx.now();
        self.changed = true;
        if step.attempt + 1 >= self.ctx.config.attempts {
            let times = noun::counted(step.attempt + 1, "time");
            let words = format!("{}: {why}, {times}", step.kind.word());
            return self.failed(step, Cause::Edges, words).await;
        }
        let again_in = backoff::after(step.attempt);
        shared::leave(self.ctx, self.tx, self.deployment.id).await?;
        store::retry(self.tx, now, step, again_in, why).await?;
        let blocker = Blocker {
            kind: blocker::Kind::Provider,
            until: Some(now.plus(again_in)),
            owner: "platform",
            message: format!("{why}; tried again"),
            action: format!(
                "candlefish edges (shows who does not answer) or candlefish cancel {} (gives it up)",
                step.deployment_id
            ),
        };
        self.block(Some(&blocker)).await?;
        self.move_by(Event::Waits, "").await
    }

    /// Claims a step whose work is outside. Without a worker at hand it stays ready, and is found due.
    async fn claim(&mut self, mut step: Step, lost: bool) -> Result<Option<Claimed>, Error> {
        let Some(worker) = self.worker else {
            return Ok(None);
        };
        let claim = shared::claim(self.ctx, self.tx, &step, worker, lost).await?;
        if lost {
            step.lost_leases += 1;
            self.tx.observe(Observed::LeaseLost);
        }
        self.changed = true;
        let shares = self.tx.shared_of(self.deployment.id).is_some();
        let seen = if shares {
            Some(verify::see(&self.ctx.config, self.tx, &self.deployment, &step).await?)
        } else {
            None
        };
        Ok(Some(Claimed {
            environment_id: self.lane.environment_id,
            deployment: self.deployment.clone(),
            step,
            claim,
            held_until: self.tx.begun() + self.ctx.config.lease,
            seen,
        }))
    }

    async fn quarantine(&mut self, step: &Step) -> Result<(), Error> {
        let workers = noun::counted(step.lost_leases + 1, "worker");
        let message = format!("{} lost {workers}", step.kind.word());
        store::quarantine(self.tx, step, &message).await?;
        tracing::error!(deployment.id = %self.deployment.id, "a step is quarantined: {message}");
        let id: StepId = step.id;
        let blocker = Blocker {
            kind: blocker::Kind::Quarantine,
            until: None,
            owner: "approver",
            message,
            action: format!(
                "candlefish queues replay {id} --reason … or candlefish queues discard {id} --reason …"
            ),
        };
        self.block(Some(&blocker)).await?;
        self.changed = true;
        self.pause_deadline(&blocker);
        if matches!(self.deployment.state, State::Cancelling { .. }) {
            return Ok(());
        }
        self.move_by(Event::Waits, "").await
    }

    async fn move_by(&mut self, event: Event, message: &str) -> Result<(), Error> {
        self.changed = true;
        let change = Change::new(event, SYSTEM, message);
        apply(self.tx, &mut self.lane, &mut self.deployment, &change).await
    }

    fn observe_end(&mut self, step: &Step) {
        let now = self.tx.now();
        self.tx.observe(Observed::StepEnded {
            kind: step.kind.word(),
            took: now.since(step.started_at.unwrap_or(now)),
        });
    }

    /// Saves what changed.
    async fn save(&mut self) -> Result<(), Error> {
        if self.changed {
            record(self.tx, &mut self.deployment, &self.before, SYSTEM).await?;
        }
        Ok(())
    }

    /// Saves what changed and lets the lane choose again when it is free.
    async fn close(&mut self) -> Result<(), Error> {
        self.save().await?;
        if self.changed && self.deployment.state.is_terminal() {
            lane::grant(self.ctx, self.tx, &mut self.lane).await?;
        }
        Ok(())
    }
}
