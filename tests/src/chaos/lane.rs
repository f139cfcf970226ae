//! One lane and who drives it: deployments of a growing history, some of which go wrong on purpose.

use anyhow::{Context, Result};
use candlefish_proto::deploy::{self as pb, deployment::State, strategy::Kind};

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
    pub(super) done: Done,
}

impl Lane {
    pub(super) async fn drive(mut self, fates: Vec<Fate>) -> Result<Done> {
        let commits = Commit::chain(self.seed, u32::try_from(fates.len())?);
        for (place, fate) in fates.into_iter().enumerate() {
            let named = format!("{} {place} {fate:?}", self.slug);
            self.one(fate, place, &commits).await.context(named)?;
            *self.done.fates.entry(fate).or_default() += 1;
        }
        Ok(self.done)
    }

    async fn one(&mut self, fate: Fate, place: usize, commits: &[Commit]) -> Result<()> {
        let commit = commits.get(place).context("a commit for each place")?;
        let mark = format!("{}-{place}", self.slug);
        let mut content = Content::site(&mark);
        if fate == Fate::Broken {
            content = content.without("index.html");
        }
        let strategy = self.strategy(fate);
        let id = self.deploy(&content, &mark, commit, strategy).await?;
        self.done.planned.push(id.clone());
        match fate {
            // Now and then the next push comes while this one is on its way.
            Fate::Ordinary => self.wait_mostly(&id).await?,
            Fate::Broken => {
                let ended = self.callers.ended(&id).await?;
                if ended.state() == State::Succeeded {
                    let violation = Violation {
                        claim: "a broken release does not go live",
                        words: summary(&ended),
                    };
                    return Err(violation.into());
                }
            }
            Fate::Cancelled => {
                if self.rng.below(2) == 0 {
                    self.callers
                        .until(&id, "begins", |one| one.started_at.is_some())
                        .await?;
                }
                accept_late(self.callers.cancel(&id).await?)?;
                self.wait_mostly(&id).await?;
            }
            Fate::AbortedPastThePivot => {
                self.callers
                    .until(&id, "is live", |one| one.live_at.is_some())
                    .await?;
                if self.rng.below(2) == 0 {
                    // The mended one waits already when the bad one is taken back.
                    let mark = format!("{mark}-mended");
                    let strategy = self.strategy(Fate::Ordinary);
                    let content = Content::site(&mark);
                    self.deploy(&content, &mark, commit, strategy).await?;
                }
                accept_late(self.callers.abort(&id).await?)?;
                self.wait_mostly(&id).await?;
            }
            Fate::RolledBack => {
                let ended = self.callers.ended(&id).await?;
                if ended.state() == State::Succeeded {
                    self.roll_back(&mark).await?;
                }
            }
            Fate::Late => {
                self.callers.ended(&id).await?;
                if let Some(older) = place.checked_sub(1).and_then(|before| commits.get(before)) {
                    self.come_late(&mark, older).await?;
                }
            }
        }
        Ok(())
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

    /// A release of this content, and a deployment of it; every second one is asked twice at once.
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
            self.callers.deploy_twice(&wish).await
        } else {
            self.callers.deploy(&wish).await
        };
        let id = accepted??.id;
        self.done.accepted.push(id.clone());
        Ok(id)
    }

    /// Goes back and lifts the hold, when there is something to go back to.
    async fn roll_back(&mut self, mark: &str) -> Result<()> {
        let key = format!("{}-{mark}-back", self.seed);
        let asked = self.callers.roll_back(SITE, &self.slug, &key).await?;
        let Ok(rollback) = asked else {
            // The first release of the lane has nothing before it.
            return Ok(());
        };
        let id = rollback
            .deployment
            .context("a rollback has its deployment")?
            .id;
        self.done.accepted.push(id.clone());
        self.callers.ended(&id).await?;
        self.callers.lift_hold(SITE, &self.slug).await
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
}
