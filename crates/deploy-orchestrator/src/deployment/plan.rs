//! Strategies as plans: a pure function from strategy and kind to steps. No code path elsewhere asks
//! which strategy a deployment has.
#![deny(clippy::wildcard_enum_match_arm)]

use std::time::Duration;

use crate::{site::strategy::Strategy, step::analyse::EMPTY_IN_A_ROW};

/// The version of the plans that this binary makes. A worker claims only versions it knows.
pub(crate) const PLAN_VERSION: i32 = 1;

/// What a deployment is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Standard,
    Rollback,
    Preview,
}

/// What a step does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum StepKind {
    Prepare,
    Stage,
    VerifyCandidate,
    Shift,
    Analyse,
    Switch,
    VerifyLive,
    Bake,
    Finish,
    /// Undo: all traffic back to the release before.
    Return,
    /// Undo: the candidate's own address taken away.
    Unstage,
}

/// One step of a plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Planned {
    pub(crate) kind: StepKind,
    /// For shift and analyse: percent.
    pub(crate) weight: i32,
    /// For analyse and bake: how long. For switch while rolling: edges at a time, see [`Planned::batch`].
    pub(crate) interval: Duration,
    /// For switch: edges switched at a time; 0 for all at once.
    pub(crate) batch: i32,
}

impl Planned {
    const fn step(kind: StepKind) -> Self {
        Self {
            kind,
            weight: 0,
            interval: Duration::ZERO,
            batch: 0,
        }
    }
}

/// The forward steps of a deployment, in order.
pub(crate) fn plan(kind: Kind, strategy: &Strategy) -> Vec<Planned> {
    use StepKind::{
        Analyse, Bake, Finish, Prepare, Shift, Stage, Switch, VerifyCandidate, VerifyLive,
    };
    let step = Planned::step;
    let middle = match (kind, strategy) {
        (Kind::Preview, _) => {
            return [Prepare, Stage, VerifyCandidate, Finish].map(step).to_vec();
        }
        // Content that was live here before is not verified before it comes back: seconds count.
        // Nothing else is gone back to.
        (Kind::Rollback, _) => {
            return [Prepare, Stage, Switch, VerifyLive, Finish]
                .map(step)
                .to_vec();
        }
        (Kind::Standard, Strategy::Recreate | Strategy::BlueGreen { .. }) => vec![step(Switch)],
        (Kind::Standard, Strategy::Rolling { batch, .. }) => {
            vec![Planned {
                batch: *batch,
                ..step(Switch)
            }]
        }
        (
            Kind::Standard,
            Strategy::Canary {
                weights, interval, ..
            },
        ) => weights
            .iter()
            .flat_map(|&weight| {
                [
                    Planned {
                        weight,
                        ..step(Shift)
                    },
                    Planned {
                        weight,
                        interval: *interval,
                        ..step(Analyse)
                    },
                ]
            })
            .chain([step(Switch)])
            .collect(),
    };
    let bake = strategy.bake();
    let mut steps = [Prepare, Stage, VerifyCandidate].map(step).to_vec();
    steps.extend(middle);
    steps.push(step(VerifyLive));
    if !bake.is_zero() {
        steps.push(Planned {
            interval: bake,
            ..step(Bake)
        });
    }
    steps.push(step(Finish));
    steps
}

/// How long a plan may wait by itself: while its candidate settles, baking, and watching each share until
/// its policy decides. An interval that is repeated is no delay of the deployment's.
pub(crate) fn planned_waits(kind: Kind, strategy: &Strategy, settle: Duration) -> Duration {
    let wait = |step: &Planned| {
        let is_analysis = step.kind == StepKind::Analyse;
        let interval = step.interval * if is_analysis { EMPTY_IN_A_ROW } else { 1 };
        let settles = step.kind == StepKind::VerifyCandidate && kind != Kind::Preview;
        interval + if settles { settle } else { Duration::ZERO }
    };
    plan(kind, strategy).iter().map(wait).sum()
}

impl Kind {
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Standard => "standard",
            Self::Rollback => "rollback",
            Self::Preview => "preview",
        }
    }

    pub(crate) fn from_word(word: &str) -> Option<Self> {
        [Self::Standard, Self::Rollback, Self::Preview]
            .into_iter()
            .find(|kind| kind.word() == word)
    }
}

impl StepKind {
    pub(crate) const ALL: [Self; 11] = [
        Self::Prepare,
        Self::Stage,
        Self::VerifyCandidate,
        Self::Shift,
        Self::Analyse,
        Self::Switch,
        Self::VerifyLive,
        Self::Bake,
        Self::Finish,
        Self::Return,
        Self::Unstage,
    ];

    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Prepare => "prepare",
            Self::Stage => "stage",
            Self::VerifyCandidate => "verify_candidate",
            Self::Shift => "shift",
            Self::Analyse => "analyse",
            Self::Switch => "switch",
            Self::VerifyLive => "verify_live",
            Self::Bake => "bake",
            Self::Finish => "finish",
            Self::Return => "return",
            Self::Unstage => "unstage",
        }
    }

    pub(crate) fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.word() == word)
    }

    /// Its work is outside the database, so a worker claims it by a lease. All other steps are done
    /// whole within a transaction that holds the lane.
    pub(crate) const fn is_outside(self) -> bool {
        matches!(self, Self::VerifyCandidate | Self::VerifyLive)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(kind: Kind, strategy: &Strategy) -> String {
        plan(kind, strategy)
            .iter()
            .map(|step| match step.weight {
                0 => step.kind.word().to_owned(),
                weight => format!("{} {weight}", step.kind.word()),
            })
            .collect::<Vec<_>>()
            .join(", ")
    }

    #[test]
    fn each_strategy_is_its_plan() {
        let minute = Duration::from_mins(1);
        let canary = Strategy::Canary {
            weights: vec![10, 50],
            interval: minute,
            bake: Duration::ZERO,
        };
        assert_eq!(
            words(Kind::Standard, &canary),
            "prepare, stage, verify_candidate, shift 10, analyse 10, shift 50, analyse 50, \
             switch, verify_live, finish"
        );
        assert_eq!(
            words(Kind::Standard, &Strategy::BlueGreen { bake: minute }),
            "prepare, stage, verify_candidate, switch, verify_live, bake, finish"
        );
        assert_eq!(
            words(Kind::Standard, &Strategy::Recreate),
            "prepare, stage, verify_candidate, switch, verify_live, finish"
        );
        assert_eq!(
            words(Kind::Rollback, &canary),
            "prepare, stage, switch, verify_live, finish"
        );
        assert_eq!(
            words(Kind::Preview, &canary),
            "prepare, stage, verify_candidate, finish"
        );
    }

    #[test]
    fn each_share_may_be_watched_until_its_policy_decides() {
        let minutes = Duration::from_mins;
        let canary = Strategy::Canary {
            weights: vec![10, 50],
            interval: minutes(20),
            bake: minutes(5),
        };
        let waits = |kind, strategy: &Strategy| planned_waits(kind, strategy, Duration::ZERO);
        assert_eq!(waits(Kind::Standard, &canary), minutes(3 * 20 * 2 + 5));
        let baking = Strategy::BlueGreen { bake: minutes(5) };
        assert_eq!(waits(Kind::Standard, &baking), minutes(5));
        assert_eq!(waits(Kind::Rollback, &canary), Duration::ZERO);
    }

    #[test]
    fn what_is_looked_at_twice_may_settle_between() {
        let minutes = Duration::from_mins;
        for (kind, settles) in [
            (Kind::Standard, minutes(10)),
            (Kind::Rollback, Duration::ZERO),
            (Kind::Preview, Duration::ZERO),
        ] {
            let waits = planned_waits(kind, &Strategy::Recreate, minutes(10));
            assert_eq!(waits, settles, "{kind:?}");
        }
    }

    #[test]
    fn a_rolling_switch_knows_its_batch() {
        let rolling = Strategy::Rolling {
            batch: 2,
            bake: Duration::ZERO,
        };
        let switch = plan(Kind::Standard, &rolling)
            .into_iter()
            .find(|step| step.kind == StepKind::Switch)
            .unwrap();
        assert_eq!(switch.batch, 2);
    }

    #[test]
    fn every_word_is_read_back() {
        for kind in StepKind::ALL {
            assert_eq!(StepKind::from_word(kind.word()), Some(kind));
        }
    }
}
