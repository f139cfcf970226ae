//! One lane and who drives it: deployments of a growing history, some of which go wrong on purpose.

use anyhow::{Context, Result};
use candlefish_proto::deploy::{self as pb, deployment::State, strategy::Kind};
use tonic::Code;

use super::{
    Done, Fate,
    callers::{Callers, Violation, Wish, accept_late},
};
use crate::{
    Content,
    api::{Commit, summary},
    rng::Rng,
};

/// The site of all lanes.
pub(super) const SITE: &str = "chaos";

/// One lane and who drives it.
pub(super) struct Lane {
    pub(super) callers: Callers,
    pub(super) slug: String,
    pub(super) seed: u32,
    pub(super) rng: Rng,
    /// Something succeeded here that no rollback leaves: there is something to go back to.
    pub(super) has_before: bool,
    pub(super) done: Done,
}

impl Lane {
    /// Counts what came true of these fates.
    pub(super) async fn drive(mut self, fates: Vec<Fate>) -> Result<Done> {
        // One more than there are places: what comes late at the first is older, too.
        let commits = Commit::chain(self.seed, u32::try_from(fates.len() + 1)?);
        for (place, fate) in fates.into_iter().enumerate() {
            let named = format!("{} {place} {fate:?}", self.slug);
            let came_true = self.one(fate, place, &commits).await.context(named)?;
            *self.done.fates.entry(fate).or_default() += u64::from(came_true);
        }
        Ok(self.done)
    }

    /// Answers whether what was planned came true.
    async fn one(&mut self, fate: Fate, place: usize, commits: &[Commit]) -> Result<bool> {
        let older = commits.get(place).context("an older commit")?;
        let commit = commits.get(place + 1).context("a commit for each place")?;
        let mark = format!("{}-{place}", self.slug);
        let mut content = Content::site(&mark);
        if fate == Fate::Broken {
            content = content.without("index.html");
        }
        let strategy = self.strategy(fate);
        let id = self.deploy(&content, &mark, commit, strategy).await?;
        self.done.planned.push(id.clone());
        if fate == Fate::Broken {
            self.done.flawed.push(id.clone());
        }
        match fate {
            Fate::Ordinary => self.go_on(&id).await,
            Fate::Broken => self.be_refuted(&id).await,
            Fate::Cancelled => self.cancel(&id).await,
            Fate::AbortedPastThePivot => self.abort(&id, &mark, commit).await,
            Fate::RolledBack => self.roll_back(&id, &mark).await,
            Fate::Late => {
                let went_live = self.stay(&id).await?;
                self.come_late(&mark, older).await?;
                Ok(went_live)
            }
        }
    }

    /// Now and then the next push comes while this one is on its way; not as long as there would be
    /// nothing to go back to.
    async fn go_on(&mut self, id: &str) -> Result<bool> {
        if self.rng.below(4) > 0 || !self.has_before {
            return self.stay(id).await;
        }
        Ok(true)
    }

    /// Waits until it has ended; answers whether it was live. Whether it may end otherwise, because a
    /// newer one took its place, is asked at rest: see `checker::blame`.
    async fn stay(&mut self, id: &str) -> Result<bool> {
        let ended = self.callers.ended(id).await?;
        self.has_before |= ended.state() == State::Succeeded;
        Ok(ended.live_at.is_some())
    }

    async fn be_refuted(&self, id: &str) -> Result<bool> {
        let ended = self.callers.ended(id).await?;
        if ended.state() == State::Succeeded || ended.pivoted_at.is_some() {
            let violation = Violation {
                claim: "a broken release never has traffic",
                words: summary(&ended),
            };
            return Err(violation.into());
        }
        Ok(ended.cause == "verification")
    }

    async fn cancel(&mut self, id: &str) -> Result<bool> {
        if self.rng.below(2) == 0 {
            self.callers
                .until(id, "begins", |one| one.started_at.is_some())
                .await?;
        }
        accept_late(self.callers.cancel(id).await?)?;
        let cancelled = self.ends_as(id, "cancelled").await?;
        self.wait_mostly(id).await?;
        Ok(cancelled)
    }

    async fn abort(&mut self, id: &str, mark: &str, commit: &Commit) -> Result<bool> {
        let live = self
            .callers
            .until(id, "is live", |one| one.live_at.is_some())
            .await?;
        if self.rng.below(2) == 0 {
            // The mended one waits already when the bad one is taken back.
            let mark = format!("{mark}-mended");
            let strategy = self.strategy(Fate::Ordinary);
            let content = Content::site(&mark);
            self.deploy(&content, &mark, commit, strategy).await?;
        }
        accept_late(self.callers.abort(id).await?)?;
        let aborted = self.ends_as(id, "aborted").await?;
        self.wait_mostly(id).await?;
        Ok(aborted && live.live_at.is_some())
    }

    /// Whether it ends, or ended, for this cause. The answer to the verb does not tell: a repeat after
    /// one that was lost is refused.
    async fn ends_as(&self, id: &str, cause: &str) -> Result<bool> {
        let now = self.callers.until(id, "is read", |_now| true).await?;
        Ok(now.cause == cause)
    }

    /// Somebody's slow build of an older commit comes in after the newer one.
    async fn come_late(&mut self, mark: &str, older: &Commit) -> Result<()> {
        let mark = format!("{mark}-late");
        let strategy = self.strategy(Fate::Late);
        let content = Content::site(&mark);
        let late = self.deploy(&content, &mark, older, strategy).await?;
        self.callers.ended(&late).await?;
        Ok(())
    }

    async fn wait_mostly(&mut self, id: &str) -> Result<()> {
        if self.rng.below(4) > 0 {
            self.callers.ended(id).await?;
        }
        Ok(())
    }

    /// A release of this content, and a deployment of it; every second one is asked five times at once.
    async fn deploy(
        &mut self,
        content: &Content,
        mark: &str,
        commit: &Commit,
        strategy: Kind,
    ) -> Result<String> {
        let release = self.callers.release(SITE, content, commit).await?;
        self.done.marks.insert(release.clone(), mark.to_owned());
        let key = format!("{}-{mark}", self.seed);
        let wish = Wish {
            site: SITE,
            environment: &self.slug,
            release: &release,
            strategy,
            key: &key,
        };
        let accepted = if self.rng.below(2) == 0 {
            self.callers.deploy_at_once(&wish).await
        } else {
            self.callers.deploy(&wish).await
        };
        let id = accepted??.id;
        self.done.accepted.push(id.clone());
        Ok(id)
    }

    /// Once it is live, goes back and lifts the hold.
    async fn roll_back(&mut self, id: &str, mark: &str) -> Result<bool> {
        let ended = self.callers.ended(id).await?;
        if ended.state() != State::Succeeded {
            return Ok(false);
        }
        let key = format!("{}-{mark}-back", self.seed);
        let rollback = match self.callers.roll_back(SITE, &self.slug, &key).await? {
            Ok(rollback) => rollback,
            // Nothing to go back to, or no edge that serves it now.
            Err(status) if status.code() == Code::FailedPrecondition => return Ok(false),
            Err(status) => return Err(status.into()),
        };
        let id = rollback
            .deployment
            .context("a rollback has its deployment")?
            .id;
        self.done.accepted.push(id.clone());
        let ended = self.callers.ended(&id).await?;
        self.callers.lift_hold(SITE, &self.slug).await?;
        Ok(ended.pivoted_at.is_some())
    }

    fn strategy(&mut self, fate: Fate) -> Kind {
        // What a person is to end may not end by itself before: it bakes for longer than a run takes.
        let is_ended = matches!(fate, Fate::Cancelled | Fate::AbortedPastThePivot);
        let bake = is_ended.then_some(prost_types::Duration {
            seconds: 600,
            nanos: 0,
        });
        // Nothing bakes that is recreated.
        let drawn = match (fate, self.rng.below(4)) {
            (Fate::AbortedPastThePivot, _) | (Fate::Cancelled, 0) => 3,
            (_, drawn) => drawn,
        };
        match drawn {
            0 => Kind::Recreate(pb::Recreate {}),
            1 => Kind::Rolling(pb::Rolling { batch: 1, bake }),
            2 => Kind::Canary(pb::Canary {
                weights: vec![50],
                interval: Some(prost_types::Duration {
                    seconds: 1,
                    nanos: 0,
                }),
                bake,
            }),
            _ => Kind::BlueGreen(pb::BlueGreen { bake }),
        }
    }
}
