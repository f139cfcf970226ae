//! The one way to wait in a test: for a claim, with an end, telling what was seen last.

use std::{fmt::Debug, time::Duration};

use tokio::time::Instant;

/// A short wait ends about as soon as what it waits for.
const LEAST_PAUSE: Duration = Duration::from_millis(10);
/// What stands for less than this may be missed; a test that must see it keeps it from passing.
const LONGEST_PAUSE: Duration = Duration::from_millis(25);

/// Waits until `look` answers `Ok`; panics after `patience` with what it answered last.
pub async fn poll_until<T, E: Debug>(
    patience: Duration,
    what: &str,
    mut look: impl AsyncFnMut() -> Result<T, E>,
) -> T {
    let begun = Instant::now();
    loop {
        match look().await {
            Ok(value) => return value,
            Err(last) => {
                assert!(
                    begun.elapsed() < patience,
                    "waited {patience:?} for {what}: {last:?}"
                );
            }
        }
        tokio::time::sleep(pause(begun.elapsed())).await;
    }
}

/// How long to leave alone what was waited for so long: a tenth of that. A look is mostly a call of
/// several statements, made by a machine that has something else to do as well.
fn pause(waited: Duration) -> Duration {
    (waited / 10).clamp(LEAST_PAUSE, LONGEST_PAUSE)
}

/// Waits until `claim` holds; panics after `patience`.
pub async fn wait_until(patience: Duration, what: &str, mut claim: impl AsyncFnMut() -> bool) {
    poll_until(patience, what, async || {
        if claim().await {
            Ok(())
        } else {
            Err("not yet")
        }
    })
    .await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_with_what_was_waited() {
        for (waited, pauses) in [(0, 10), (100, 10), (150, 15), (250, 25), (60_000, 25)] {
            let waited = Duration::from_millis(waited);
            assert_eq!(pause(waited), Duration::from_millis(pauses), "{waited:?}");
        }
    }
}
