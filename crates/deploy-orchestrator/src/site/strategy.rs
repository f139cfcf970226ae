//! How a release goes live, as a call or an environment's policy says it. What it means in steps is
//! the deployment's plan.
#![deny(clippy::wildcard_enum_match_arm)]

use std::time::Duration;

use candlefish_proto::deploy as pb;
use serde::{Deserialize, Serialize};

use super::duration;
use crate::field::Faults;

/// A day: longer than that is another release's time.
pub(super) const BAKE_MAX: Duration = Duration::from_hours(24);
const INTERVAL_DEFAULT: Duration = Duration::from_secs(30);
const INTERVAL_MIN: Duration = Duration::from_secs(1);
const WEIGHTS_DEFAULT: [i32; 2] = [10, 50];
const WEIGHTS_MAX: usize = 10;
/// More edges than anybody runs.
const BATCH_MAX: i32 = 10_000;

/// How a release goes live.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub(crate) enum Strategy {
    /// All at once, without a bake.
    Recreate,
    /// Edge by edge.
    Rolling {
        /// Edges at a time.
        batch: i32,
        /// How long the release before stays ready to return to.
        #[serde(rename = "bake_ms", with = "duration")]
        bake: Duration,
    },
    /// Staged beside what is live, then switched at once.
    BlueGreen {
        /// How long the release before stays ready to return to.
        #[serde(rename = "bake_ms", with = "duration")]
        bake: Duration,
    },
    /// A growing share of the traffic, judged at each.
    Canary {
        /// In percent, rising, each 1 to 99.
        weights: Vec<i32>,
        /// How long each share is watched.
        #[serde(rename = "interval_ms", with = "duration")]
        interval: Duration,
        /// How long the release before stays ready to return to.
        #[serde(rename = "bake_ms", with = "duration")]
        bake: Duration,
    },
}

impl Default for Strategy {
    fn default() -> Self {
        Self::BlueGreen {
            bake: Duration::ZERO,
        }
    }
}

impl Strategy {
    /// How long the release before stays ready to return to; zero for no bake.
    pub(crate) const fn bake(&self) -> Duration {
        match self {
            Self::Recreate => Duration::ZERO,
            Self::Rolling { bake, .. } | Self::BlueGreen { bake } | Self::Canary { bake, .. } => {
                *bake
            }
        }
    }

    /// Reads the strategy at the field `path` of a request; `None` for unset, or beside a fault.
    pub(crate) fn read(
        faults: &mut Faults,
        path: &str,
        given: Option<&pb::Strategy>,
    ) -> Option<Self> {
        use pb::strategy::Kind;
        match &given?.kind {
            Some(Kind::Recreate(pb::Recreate {})) => Some(Self::Recreate),
            Some(Kind::Rolling(rolling)) => Some(Self::Rolling {
                batch: faults.count(
                    &format!("{path}.rolling.batch"),
                    rolling.batch,
                    1,
                    1..=BATCH_MAX,
                ),
                bake: read_bake(
                    faults,
                    &format!("{path}.rolling.bake"),
                    rolling.bake.as_ref(),
                ),
            }),
            Some(Kind::BlueGreen(blue_green)) => Some(Self::BlueGreen {
                bake: read_bake(
                    faults,
                    &format!("{path}.blue_green.bake"),
                    blue_green.bake.as_ref(),
                ),
            }),
            Some(Kind::Canary(canary)) => {
                let path = format!("{path}.canary");
                Some(Self::Canary {
                    weights: read_weights(faults, &format!("{path}.weights"), &canary.weights),
                    interval: faults.duration(
                        &format!("{path}.interval"),
                        canary.interval.as_ref(),
                        INTERVAL_DEFAULT,
                        INTERVAL_MIN..=BAKE_MAX,
                    ),
                    bake: read_bake(faults, &format!("{path}.bake"), canary.bake.as_ref()),
                })
            }
            None => {
                faults.add(
                    path,
                    "must be one of recreate, rolling, blue_green and canary",
                );
                None
            }
        }
    }
}

fn read_bake(faults: &mut Faults, field: &str, given: Option<&prost_types::Duration>) -> Duration {
    faults.duration(field, given, Duration::ZERO, Duration::ZERO..=BAKE_MAX)
}

fn read_weights(faults: &mut Faults, field: &str, given: &[i32]) -> Vec<i32> {
    if given.is_empty() {
        return WEIGHTS_DEFAULT.to_vec();
    }
    if given.len() > WEIGHTS_MAX {
        faults.add(
            field,
            format!("has {}; at most {WEIGHTS_MAX} fit", given.len()),
        );
        return Vec::new();
    }
    let mut before = 0;
    for (place, &weight) in given.iter().enumerate() {
        let field = || format!("{field}[{place}]");
        if !(1..=99).contains(&weight) {
            faults.add(field(), format!("must be 1 to 99 percent, not {weight}"));
        } else if weight <= before {
            faults.add(field(), format!("must rise: {weight} comes after {before}"));
        }
        before = before.max(weight);
    }
    given.to_vec()
}

impl From<&Strategy> for pb::Strategy {
    fn from(strategy: &Strategy) -> Self {
        use pb::strategy::Kind;
        let shown = |length| Some(duration::shown(length));
        let kind = match strategy {
            Strategy::Recreate => Kind::Recreate(pb::Recreate {}),
            Strategy::Rolling { batch, bake } => Kind::Rolling(pb::Rolling {
                batch: *batch,
                bake: shown(*bake),
            }),
            Strategy::BlueGreen { bake } => Kind::BlueGreen(pb::BlueGreen { bake: shown(*bake) }),
            Strategy::Canary {
                weights,
                interval,
                bake,
            } => Kind::Canary(pb::Canary {
                weights: weights.clone(),
                interval: shown(*interval),
                bake: shown(*bake),
            }),
        };
        Self { kind: Some(kind) }
    }
}

#[cfg(test)]
mod tests;
