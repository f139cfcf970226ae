//! The one way to wait in a test: for a claim, with an end, telling what was seen last.

use std::{fmt::Debug, time::Duration};

use tokio::time::Instant;

const BETWEEN_LOOKS: Duration = Duration::from_millis(10);

/// Waits until `look` answers `Ok`; panics after `patience` with what it answered last.
pub async fn poll_until<T, E: Debug>(
    patience: Duration,
    what: &str,
    mut look: impl AsyncFnMut() -> Result<T, E>,
) -> T {
    let deadline = Instant::now() + patience;
    loop {
        match look().await {
            Ok(value) => return value,
            Err(last) => {
                assert!(
                    Instant::now() < deadline,
                    "waited {patience:?} for {what}: {last:?}"
                );
            }
        }
        tokio::time::sleep(BETWEEN_LOOKS).await;
    }
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
