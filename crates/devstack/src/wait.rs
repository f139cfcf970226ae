//! The one place that sleeps for real: waiting for a condition, with a deadline.

use std::future::Future;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// How often a condition is looked at.
const POLL: Duration = Duration::from_millis(20);

/// Waits until `probe` answers `Ok`; its `Err` is the status so far. After `deadline` the error
/// names `what` and the last status.
pub async fn wait_until<T, Probe, Answer>(
    deadline: Duration,
    what: &str,
    mut probe: Probe,
) -> Result<T>
where
    Probe: FnMut() -> Answer,
    Answer: Future<Output = Result<T, String>>,
{
    let begun = Instant::now();
    let mut last = "not looked at yet".to_owned();
    loop {
        match tokio::time::timeout(deadline.saturating_sub(begun.elapsed()), probe()).await {
            Ok(Ok(value)) => return Ok(value),
            Ok(Err(status)) => last = status,
            Err(_elapsed) => {}
        }
        if begun.elapsed() >= deadline {
            bail!("{what}: not within {deadline:?}; last status: {last}");
        }
        tokio::time::sleep(POLL).await;
    }
}
