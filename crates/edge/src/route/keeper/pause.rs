//! When what failed is tried again.

use std::time::Duration;

use tokio::time::Instant;

/// The first pause after a failure; it doubles up to the second.
const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(15);

/// From a failure to the next try.
#[derive(Debug)]
pub(super) struct Pause {
    length: Duration,
    again_at: Instant,
}

impl Pause {
    /// From now; longer than the one after the failure before.
    pub(super) fn after(before: Option<&Self>) -> Self {
        let length = before.map_or(FIRST, |pause| (pause.length * 2).min(LONGEST));
        Self {
            length,
            again_at: Instant::now() + length,
        }
    }

    pub(super) const fn again_at(&self) -> Instant {
        self.again_at
    }

    pub(super) fn is_over(&self) -> bool {
        self.again_at <= Instant::now()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest() {
        let mut pause = Pause::after(None);
        let mut seconds = Vec::new();
        for _ in 0..6 {
            seconds.push(pause.length.as_secs());
            pause = Pause::after(Some(&pause));
        }
        assert_eq!(seconds, [1, 2, 4, 8, 15, 15]);
        assert!(!pause.is_over() && pause.again_at() > Instant::now());
    }
}
