//! What workers, the edge and time do, and the sweeps of the process.

use std::{collections::HashSet, time::Duration};

use candlefish_runtime::refusal::Refusal;

use super::world::{World, broken};
use crate::{
    ctx::Ctx,
    deployment::{
        self,
        plan::{Kind, StepKind},
        state::Cause,
    },
    preview,
    step::{
        self,
        drive::{self, Asked, Claimed, Done, Share, Taken, Unheard, together},
        outcome::Outcome,
        verify::{self, Trouble},
    },
    trigger,
};

/// How long a candidate settles, when it does.
const SETTLES: Duration = Duration::from_mins(10);

/// What the one edge does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Edge {
    Follows,
    Lags,
    Refuses,
    Silent,
}

impl World {
    /// Seconds, minutes or hours, and what the sweeps do about them.
    pub(super) async fn time_passes(&mut self) -> Result<(), Refusal> {
        let seconds = self.dice.of(&[20, 61, 600, 7_200]).unwrap();
        self.say(format!("{seconds} s pass"));
        self.pass(seconds).await;
        self.sweep().await
    }

    pub(super) async fn pass(&self, seconds: u32) {
        self.act(&format!(
            "UPDATE clock_offset SET by = by + interval '{seconds} seconds'"
        ))
        .await;
    }

    /// What the process does by itself, when it starts and ever again.
    pub(super) async fn sweep(&self) -> Result<(), Refusal> {
        let ctx = &self.ctx;
        step::sweep::sweep(ctx, &mut step::sweep::Left::default())
            .await
            .map_err(broken)?;
        trigger::content::sweep(ctx).await.map_err(broken)?;
        preview::age::sweep(ctx).await.map_err(broken)
    }

    pub(super) fn edge_changes(&mut self) {
        let all = [
            Edge::Follows,
            Edge::Follows,
            Edge::Lags,
            Edge::Refuses,
            Edge::Silent,
        ];
        self.edge = self.dice.of(&all).unwrap();
        self.say(format!("the edge: {:?}", self.edge));
    }

    pub(super) async fn edge_reports(&self) {
        let heard = "UPDATE edge SET heard_at = clock();";
        let staged = |staged: bool, error: &str| {
            format!(
                "INSERT INTO edge_release (edge_id, release_id, staged, error, at)
                     SELECT 'edge-1', id, {staged}, '{error}', clock() FROM release
                 ON CONFLICT (edge_id, release_id) DO UPDATE
                     SET staged = excluded.staged, error = excluded.error;"
            )
        };
        let report = match self.edge {
            Edge::Silent => return,
            Edge::Lags => heard.to_owned(),
            Edge::Refuses => format!("{heard} {}", staged(false, "it is corrupt")),
            Edge::Follows => format!(
                "UPDATE edge SET heard_at = clock(), failing_since = NULL, failing_reason = '';
                 INSERT INTO edge_route (edge_id, host, epoch, version)
                     SELECT 'edge-1', host, epoch, version FROM route
                 ON CONFLICT (edge_id, host) DO UPDATE
                     SET epoch = excluded.epoch, version = excluded.version;
                 {}",
                staged(true, "")
            ),
        };
        self.act(&report).await;
    }

    /// A worker takes a step that is due: it does it, finds the release bad, meets trouble, or dies.
    pub(super) async fn step(&mut self) -> Result<(), Refusal> {
        self.pass(1).await;
        self.edge_reports().await;
        let due = self.due().await;
        if due.len() > 1 && self.dice.below(2) == 0 {
            return Box::pin(self.steps_together(due)).await;
        }
        let Some(due) = self.dice.of(&due) else {
            return Ok(());
        };
        self.say(format!("a turn of {}", due.deployment_id));
        let mut unheard = None;
        let turn = turn(&self.ctx, "worker", due, &mut unheard).await;
        let mut next = turn.map_err(broken)?;
        while let Some(claimed) = next {
            let Some(outcome) = self.works(&claimed).await else {
                self.say("  the worker dies");
                return Ok(());
            };
            self.say(format!("  {:?}: {outcome:?}", claimed.step.kind));
            let done = (&claimed, &outcome);
            let recorded = record_outside(&self.ctx, "worker", done, &mut unheard).await;
            next = recorded.map_err(broken)?;
        }
        Ok(())
    }

    /// The turns of all that is due, one of each lane, share transactions.
    async fn steps_together(&mut self, due: Vec<step::store::Due>) -> Result<(), Refusal> {
        let mut lanes = HashSet::new();
        let due = due.into_iter();
        let due = due.filter(|one| lanes.insert(one.environment_id));
        let mut asked: Vec<Asked> = due.map(Asked::Due).collect();
        while !asked.is_empty() {
            self.say(format!("{} turns together", asked.len()));
            let mut next = Vec::new();
            for claimed in self.share_turns(asked).await? {
                let Some(outcome) = self.works(&claimed).await else {
                    self.say("  the worker dies");
                    continue;
                };
                self.say(format!("  {:?}: {outcome:?}", claimed.step.kind));
                next.push(came_to(claimed, outcome));
            }
            asked = next;
        }
        Ok(())
    }

    /// Takes turns in one transaction, and alone those that do not share; answers what was claimed.
    pub(super) async fn share_turns(&self, asked: Vec<Asked>) -> Result<Vec<Claimed>, Refusal> {
        let ctx = &self.ctx;
        let shares = Box::pin(together(ctx, "worker", &asked, &mut None)).await;
        let mut all = Vec::new();
        for (one, share) in asked.into_iter().zip(shares.map_err(broken)?) {
            let taken = match (share, one) {
                (Share::Taken(claimed), _) => Ok(claimed.map(|claimed| *claimed)),
                (Share::Alone, Asked::Due(due)) => turn(ctx, "worker", due, &mut None).await,
                (Share::Alone, Asked::Done(done)) => {
                    let outcome = (&done.claimed, &done.outcome);
                    record_outside(ctx, "worker", outcome, &mut None).await
                }
            };
            all.extend(taken.map_err(broken)?);
        }
        Ok(all)
    }

    pub(super) async fn due(&self) -> Vec<step::store::Due> {
        let kinds: Vec<String> = StepKind::ALL
            .iter()
            .map(|kind| kind.word().to_owned())
            .collect();
        let mut conn = self.ctx.pool.acquire().await.unwrap();
        let due = step::store::list_due(&mut conn, &kinds, true, Duration::ZERO, 10).await;
        due.unwrap()
    }

    /// What a step outside comes to; nothing when its worker dies. Half of the candidates that are
    /// looked at for the first time settle.
    async fn works(&mut self, claimed: &Claimed) -> Option<Result<Outcome, Trouble>> {
        let step = &claimed.step;
        let first = step.kind == StepKind::VerifyCandidate
            && step.detail.get("passed").is_none()
            && claimed.deployment.kind != Kind::Preview;
        match self.dice.below(20) {
            0..7 if first => {
                let now = self.ctx.now().await.unwrap();
                Some(Ok(verify::settle(now, step, SETTLES, "1 of 1".to_owned())))
            }
            0..14 => Some(Ok(Outcome::done(""))),
            14..16 => Some(Ok(Outcome::failed(Cause::Verification, "another page"))),
            16..18 => Some(Err(Trouble::Edge {
                edge: "edge-1".to_owned(),
                path: "/".to_owned(),
                words: "it hung up".to_owned(),
            })),
            _ => None,
        }
    }
}

/// Takes a due step's turn alone; answers what it claimed.
pub(super) async fn turn(
    ctx: &Ctx,
    worker: &str,
    due: step::store::Due,
    unheard: &mut Option<Unheard>,
) -> Result<Option<Claimed>, deployment::Error> {
    let taken = Box::pin(drive::turn(ctx, worker, due, unheard)).await;
    Ok(claim_of(taken?))
}

/// Records what a claimed step came to alone; answers what is claimed next.
pub(super) async fn record_outside(
    ctx: &Ctx,
    worker: &str,
    done: (&Claimed, &Result<Outcome, Trouble>),
    unheard: &mut Option<Unheard>,
) -> Result<Option<Claimed>, deployment::Error> {
    let taken = Box::pin(drive::record_outside(ctx, worker, done, unheard)).await;
    Ok(claim_of(taken?))
}

/// What a turn claimed that was taken.
pub(super) fn claim_of(taken: Option<Taken>) -> Option<Claimed> {
    taken.and_then(|Taken(claimed)| claimed)
}

/// What a claimed step came to, to be recorded.
pub(super) fn came_to(claimed: Claimed, outcome: Result<Outcome, Trouble>) -> Asked {
    let held_until = claimed.held_until;
    Asked::Done(Box::new(Done {
        claimed,
        outcome,
        held_until,
    }))
}
