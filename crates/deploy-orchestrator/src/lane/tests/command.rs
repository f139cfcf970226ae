//! Which command is next, and those of people.

use std::time::Duration;

use candlefish_ids::{DeploymentId, ReleaseId, StepId, StopId};
use candlefish_runtime::refusal::{Code, Refusal};
use futures_util::FutureExt as _;

use super::{
    PLACE, PREVIEW, SITE,
    world::{World, policy},
};
use crate::{
    deployment::{
        advance::{self, Advance},
        create::{self, Create, To},
        pin,
        retry::{self, Retry},
        roll_back::{self, RollBack},
        stop::{self, Stop},
    },
    preview::close::{self, Close},
    queue::{self, ItemId},
    release::{ban, clear},
    site::{
        environment::{self, UpdateEnvironment},
        hold,
        policy::Order,
        strategy::Strategy,
    },
    step,
};

/// How many commands [`World::attempt`] tells apart.
pub(super) const CHOICES: usize = 100;

impl World {
    /// A command chosen at random; what it answers is of no matter, but it may not break.
    pub(super) async fn command(&mut self) {
        if self.dice.below(15) == 0 {
            return Box::pin(self.crash()).await;
        }
        // What could return to another release is there for a few turns: by their weights alone, aborts
        // would hardly meet it.
        let moved = "state IN ('running', 'waiting') AND pivoted_at IS NOT NULL
                     AND previous_release_id IS NOT NULL";
        let moved = match self.dice.below(6) {
            0 => self.one_where(moved).await,
            _ => None,
        };
        // So is what acts and has no traffic yet: by its weight alone, a stop would rarely pause anything.
        let acts = "state = 'running' AND kind <> 'rollback' AND pivoted_at IS NULL";
        let acts = match self.dice.below(10) {
            0 => self.one_where(acts).await,
            _ => None,
        };
        let choice = self.dice.below(CHOICES);
        let done = match (moved, acts) {
            (Some(id), _) => self.end_this(id, true).await,
            (None, Some(_)) => self.set_stop(true).await,
            (None, None) => Box::pin(self.attempt(choice)).await,
        };
        if let Err(refusal) = done {
            let broke = matches!(refusal.code(), Code::Internal | Code::Unavailable);
            assert!(!broke, "{refusal}\nafter\n{}", self.told());
            self.say(format!("  refused: {refusal}"));
        }
        self.follow_wake_ups().await;
    }

    pub(super) async fn attempt(&mut self, choice: usize) -> Result<(), Refusal> {
        match choice {
            0..36 => self.step().await,
            36..41 => self.time_passes().await,
            41..44 => {
                self.edge_changes();
                Ok(())
            }
            44..52 => self.create().await,
            52..55 => self.end(false).await,
            55..57 => self.end(true).await,
            57..59 => self.retry().await,
            59..62 => self.roll_back().await,
            62..64 => self.advance().await,
            64..67 => self.pin().await,
            67..71 => self.hold().await,
            71..75 => self.stop_the_line().await,
            75..78 => self.ban().await,
            78..79 => self.seal_one().await,
            79..81 => self.order().await,
            81..84 => self.decide().await,
            84..89 => self.push().await,
            89..93 => self.pull().await,
            93..95 => self.close().await,
            _ => self.upload().await,
        }
    }

    /// What a command asked the sweep to do, it does at once.
    pub(super) async fn follow_wake_ups(&mut self) {
        let asked = self.ctx.nudges.lanes.notified().now_or_never().is_some();
        if asked {
            step::sweep::sweep(&self.ctx, &mut step::sweep::Left::default())
                .await
                .unwrap();
        }
    }

    /// The preview may not be there, or be closed: then the command is refused.
    fn place(&mut self) -> String {
        let place = if self.dice.below(4) == 0 {
            PREVIEW
        } else {
            PLACE
        };
        place.to_owned()
    }

    /// The newest as often as any other: somebody just built it.
    fn release(&mut self) -> ReleaseId {
        if self.dice.below(2) == 0 {
            return *self.releases.last().unwrap();
        }
        self.dice.of(&self.releases).unwrap()
    }

    /// One of the deployments in these states.
    async fn one_of(&mut self, states: &str) -> Option<DeploymentId> {
        self.one_where(&format!("state IN ({states})")).await
    }

    async fn one_where(&mut self, condition: &str) -> Option<DeploymentId> {
        let question = format!("SELECT id::text FROM deployment WHERE {condition} ORDER BY id");
        let all = self.texts(&question).await;
        let one = self.dice.of(&all)?;
        Some(DeploymentId::from_uuid(one.parse().unwrap()))
    }

    async fn create(&mut self) -> Result<(), Refusal> {
        let release_id = self.release();
        let to = match self.dice.below(8) {
            0 => To::Preview,
            _ => To::Environment(self.place()),
        };
        let hour = Duration::from_hours(1);
        let strategy = self.dice.of(&[
            Strategy::Recreate,
            Strategy::BlueGreen { bake: hour },
            Strategy::Canary {
                weights: vec![10],
                interval: Duration::from_mins(1),
                bake: Duration::ZERO,
            },
        ]);
        let lift_hold = if self.dice.below(6) == 0 {
            "enough"
        } else {
            ""
        };
        self.say(format!(
            "create {release_id} to {to:?} {strategy:?} {lift_hold}"
        ));
        let cmd = Create {
            site: SITE.to_owned(),
            to,
            release_id,
            strategy,
            reason: String::new(),
            lift_hold: lift_hold.to_owned(),
        };
        let made = Box::pin(create::create(&self.ctx, &self.caller, None, cmd)).await;
        Ok(made.map(drop)?)
    }

    async fn end(&mut self, aborts: bool) -> Result<(), Refusal> {
        let Some(id) = self
            .one_of("'pending', 'running', 'waiting', 'cancelling'")
            .await
        else {
            return Ok(());
        };
        self.end_this(id, aborts).await
    }

    async fn end_this(&mut self, id: DeploymentId, aborts: bool) -> Result<(), Refusal> {
        self.say(format!("end {id}, aborts: {aborts}"));
        let cmd = Stop {
            id,
            aborts,
            reason: String::new(),
        };
        let ended = stop::stop(&self.ctx, &self.caller, None, cmd).await;
        Ok(ended.map(drop)?)
    }

    async fn retry(&mut self) -> Result<(), Refusal> {
        let ended = "'succeeded', 'failed', 'cancelled', 'superseded', 'rolled_back'";
        let Some(id) = self.one_of(ended).await else {
            return Ok(());
        };
        self.say(format!("retry {id}"));
        let reason = String::new();
        let made = retry::retry(&self.ctx, &self.caller, None, Retry { id, reason }).await;
        Ok(made.map(drop)?)
    }

    /// One that was live somewhere, or any: what never was is refused.
    async fn release_to_go_back_to(&mut self) -> ReleaseId {
        let question = "SELECT DISTINCT release_id::text FROM deployment
                        WHERE live_at IS NOT NULL ORDER BY 1";
        let all = self.texts(question).await;
        match self.dice.of(&all) {
            Some(one) if self.dice.below(4) > 0 => ReleaseId::from_uuid(one.parse().unwrap()),
            _ => self.release(),
        }
    }

    async fn roll_back(&mut self) -> Result<(), Refusal> {
        let to = match self.dice.below(3) {
            0 => roll_back::To::Release(self.release_to_go_back_to().await),
            _ => roll_back::To::Before,
        };
        let environment = self.place();
        self.say(format!("roll {environment} back to {to:?}"));
        let cmd = RollBack {
            site: SITE.to_owned(),
            environment,
            leaves: None,
            to,
            reason: String::new(),
            validate_only: false,
        };
        let made = Box::pin(roll_back::roll_back(&self.ctx, &self.caller, None, cmd)).await;
        Ok(made.map(drop)?)
    }

    async fn advance(&mut self) -> Result<(), Refusal> {
        let Some(id) = self.one_of("'running', 'waiting'").await else {
            return Ok(());
        };
        let step = format!(
            "SELECT ord::text FROM step WHERE deployment_id = '{}' AND state = 'ready'",
            id.uuid()
        );
        let step_ord = self
            .texts(&step)
            .await
            .first()
            .map_or(1, |ord| ord.parse().unwrap());
        self.say(format!("advance {id} past {step_ord}"));
        let reason = String::new();
        let cmd = Advance {
            id,
            step_ord,
            reason,
        };
        let passed = advance::advance(&self.ctx, &self.caller, None, cmd).await;
        Ok(passed.map(drop)?)
    }

    async fn pin(&mut self) -> Result<(), Refusal> {
        let Some(id) = self.one_of("'pending', 'running', 'waiting'").await else {
            return Ok(());
        };
        let unpins = self.dice.below(2) == 0;
        self.say(format!("pin {id}, unpins: {unpins}"));
        let cmd = pin::Change {
            id,
            reason: "it matters".to_owned(),
            unpins,
        };
        let pinned = pin::change(&self.ctx, &self.caller, None, cmd).await;
        Ok(pinned.map(drop)?)
    }

    async fn hold(&mut self) -> Result<(), Refusal> {
        // Lifted more often than set: a rollback sets one too.
        let lifts = self.dice.below(3) > 0;
        let place = self.place();
        self.say(format!("hold {place}, lifts: {lifts}"));
        self.change_hold(&place, lifts).await
    }

    pub(super) async fn change_hold(&self, place: &str, lifts: bool) -> Result<(), Refusal> {
        let cmd = hold::ChangeHold {
            site: SITE.to_owned(),
            environment: place.to_owned(),
            reason: "a sale".to_owned(),
            lifts,
        };
        let changed = hold::change(&self.ctx, &self.caller, None, cmd).await;
        Ok(changed.map(drop)?)
    }

    async fn stop_the_line(&mut self) -> Result<(), Refusal> {
        let standing = self.standing_stops().await;
        if let Some(one) = self.dice.of(&standing)
            && self.dice.below(4) > 0
        {
            self.say(format!("lift the stop {one}"));
            return self.lift_stop(one).await;
        }
        self.set_stop(false).await
    }

    /// A stop of the site or of everything. What acts is paused only at its next step: where it must
    /// pause, a few turns come before anybody lifts it.
    async fn set_stop(&mut self, must_pause: bool) -> Result<(), Refusal> {
        let site = (self.dice.below(2) == 0).then(|| SITE.to_owned());
        let pauses = must_pause || self.dice.below(3) > 0;
        self.say(format!("stop {site:?}, pauses: {pauses}"));
        let now = self.ctx.now().await.unwrap();
        let cmd = crate::stop::set::Set {
            site,
            pauses,
            reason: "an attack".to_owned(),
            until: now.plus(Duration::from_mins(90)).timestamp(),
        };
        let set = crate::stop::set::set(&self.ctx, &self.caller, None, cmd).await;
        set.map(drop)?;
        if must_pause {
            for _turn in 0..3 {
                self.step().await?;
            }
        }
        Ok(())
    }

    pub(super) async fn standing_stops(&self) -> Vec<StopId> {
        let standing = "SELECT id::text FROM stop WHERE ended_at IS NULL ORDER BY id";
        let standing = self.texts(standing).await.into_iter();
        standing
            .map(|id| StopId::from_uuid(id.parse().unwrap()))
            .collect()
    }

    pub(super) async fn lift_stop(&self, id: StopId) -> Result<(), Refusal> {
        let cmd = crate::stop::lift::Lift {
            id,
            reason: "it is over".to_owned(),
        };
        let lifted = crate::stop::lift::lift(&self.ctx, &self.caller, None, cmd).await;
        Ok(lifted.map(drop)?)
    }

    async fn ban(&mut self) -> Result<(), Refusal> {
        let id = self.release();
        let choice = self.dice.below(5);
        if choice < 3 {
            let lifts = choice > 0;
            self.say(format!("ban {id}, lifts: {lifts}"));
            return self.change_ban(id, lifts).await;
        }
        let environment = self.place();
        self.say(format!("clear {id} for {environment}"));
        let cmd = clear::Clear {
            id,
            environment,
            reason: "it was the edge".to_owned(),
        };
        let cleared = clear::clear(&self.ctx, &self.caller, None, cmd).await;
        Ok(cleared.map(drop)?)
    }

    pub(super) async fn change_ban(&self, id: ReleaseId, lifts: bool) -> Result<(), Refusal> {
        let reason = "it leaks".to_owned();
        let cmd = ban::Ban { id, reason, lifts };
        let changed = ban::change(&self.ctx, &self.caller, None, cmd).await;
        Ok(changed.map(drop)?)
    }

    async fn seal_one(&mut self) -> Result<(), Refusal> {
        let release = self.dice.of(&self.releases).unwrap();
        self.say(format!("seal {release}"));
        self.seal(release).await
    }

    /// The policy of an environment changes: from now on its lane queues, or lets the latest pass.
    async fn order(&mut self) -> Result<(), Refusal> {
        let order = self.dice.of(&[Order::Latest, Order::Queue]).unwrap();
        let environment = self.place();
        self.say(format!("{environment} orders by {order:?}"));
        let cmd = UpdateEnvironment {
            site: SITE.to_owned(),
            environment,
            policy: Some(policy(order)),
            pushes: None,
        };
        let changed = environment::update(&self.ctx, &self.caller, None, cmd).await;
        Ok(changed.map(drop)?)
    }

    /// A person puts a quarantined step back to work, or gives it up.
    async fn decide(&mut self) -> Result<(), Refusal> {
        let quarantined = self.quarantined().await;
        match self.dice.of(&quarantined) {
            Some(step) => self.decide_about(step).await,
            None => Ok(()),
        }
    }

    pub(super) async fn quarantined(&self) -> Vec<StepId> {
        let steps = "SELECT id::text FROM step WHERE state = 'quarantined' ORDER BY id";
        let steps = self.texts(steps).await.into_iter();
        steps
            .map(|id| StepId::from_uuid(id.parse().unwrap()))
            .collect()
    }

    pub(super) async fn decide_about(&mut self, step: StepId) -> Result<(), Refusal> {
        let replays = self.dice.below(2) == 0;
        self.say(format!("decide about {step}, replays: {replays}"));
        let cmd = queue::Decide {
            item: ItemId::Step(step),
            reason: "the node was sick".to_owned(),
            replays,
        };
        let decided = queue::decide(&self.ctx, &self.caller, None, cmd).await;
        Ok(decided.map(drop)?)
    }

    /// A person closes a preview, of the pull request or a single one.
    async fn close(&mut self) -> Result<(), Refusal> {
        let open = "SELECT slug FROM environment
                    WHERE kind = 'preview' AND closed_at IS NULL ORDER BY id";
        let open = self.texts(open).await;
        let Some(environment) = self.dice.of(&open) else {
            return Ok(());
        };
        self.say(format!("close {environment}"));
        let cmd = Close {
            site: SITE.to_owned(),
            environment,
            reason: "nobody looks at it".to_owned(),
        };
        let closed = close::by_hand(&self.ctx, &self.caller, None, cmd).await;
        Ok(closed.map(drop)?)
    }
}
