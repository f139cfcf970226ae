//! Judging a release by its traffic: pure.
//!
//! Too few samples or a dead source are never the release's fault; only `Fail` blames it.

/// What was counted, of one release, within one interval.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Counted {
    pub(crate) requests: i64,
    /// A 5xx, or a 404 for a path that the other release serves.
    pub(crate) failed: i64,
}

impl Counted {
    /// The failed share; zero without requests.
    #[expect(
        clippy::as_conversions,
        clippy::cast_precision_loss,
        reason = "a share of counters far below 2^52"
    )]
    pub(crate) fn failed_share(self) -> f64 {
        if self.requests <= 0 {
            0.0
        } else {
            self.failed as f64 / self.requests as f64
        }
    }
}

/// The outcome of judging one interval.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    Pass,
    Fail,
    NotEnoughData,
    /// No sample came in the interval at all.
    ProviderDown,
}

/// One point above stable, at least.
const MARGIN: f64 = 0.01;
/// And twice stable's share, at least.
const FACTOR: f64 = 2.0;

/// Judges one interval.
pub(crate) fn judge(
    candidate: Counted,
    stable: Counted,
    sampled: bool,
    min_requests: i32,
) -> Verdict {
    if !sampled {
        return Verdict::ProviderDown;
    }
    if candidate.requests < i64::from(min_requests) {
        return Verdict::NotEnoughData;
    }
    let (share, reference) = (candidate.failed_share(), stable.failed_share());
    if share > reference + MARGIN && share > reference * FACTOR {
        Verdict::Fail
    } else {
        Verdict::Pass
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counted(requests: i64, failed: i64) -> Counted {
        Counted { requests, failed }
    }

    #[test]
    fn only_enough_and_clearly_worse_traffic_fails() {
        for (candidate, stable, verdict) in [
            (counted(49, 49), counted(1000, 0), Verdict::NotEnoughData),
            (counted(50, 0), counted(0, 0), Verdict::Pass),
            (counted(50, 1), counted(1000, 0), Verdict::Fail),
            (counted(100, 1), counted(1000, 0), Verdict::Pass),
            (counted(100, 2), counted(1000, 0), Verdict::Fail),
            // Twice as bad, yet within a point of stable.
            (counted(1000, 9), counted(1000, 1), Verdict::Pass),
            // A point above, yet not twice.
            (counted(100, 15), counted(100, 10), Verdict::Pass),
            (counted(100, 21), counted(100, 10), Verdict::Fail),
        ] {
            assert_eq!(
                judge(candidate, stable, true, 50),
                verdict,
                "{candidate:?} {stable:?}"
            );
        }
    }

    #[test]
    fn a_dead_source_blames_nobody() {
        assert_eq!(
            judge(counted(0, 0), counted(0, 0), false, 50),
            Verdict::ProviderDown
        );
        assert_eq!(
            judge(counted(500, 500), counted(0, 0), false, 50),
            Verdict::ProviderDown
        );
    }
}
