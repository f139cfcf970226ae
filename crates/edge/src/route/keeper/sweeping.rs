//! When files are removed that no release holds any more.
//!
//! In a task of its own: a walk over all files takes its time, and a route that needs nothing staged is
//! not to wait for it. Only staging waits.

use std::time::Duration;

use tokio::{
    task::{JoinError, JoinSet},
    time::Instant,
};

/// From one to the next, and from the start to the first: what the last run was about to serve is asked
/// for again until then.
const EVERY: Duration = Duration::from_mins(10);
/// From one that could not be, as something was being staged, to the next try.
const AGAIN: Duration = Duration::from_secs(15);

/// What came of one: how many files went; nothing when it could not be.
type Swept = Option<usize>;

#[derive(Debug)]
pub(super) struct Sweeping {
    /// There may be such files. Only a sweep that was done says that there are none.
    is_due: bool,
    /// None begins before.
    from: Instant,
    running: JoinSet<Swept>,
}

impl Default for Sweeping {
    fn default() -> Self {
        // What a crash left is not known.
        Self::due_from(Instant::now() + EVERY)
    }
}

impl Sweeping {
    pub(super) fn due_from(from: Instant) -> Self {
        Self {
            is_due: true,
            from,
            running: JoinSet::new(),
        }
    }

    /// Something was let go of.
    pub(super) const fn ask(&mut self) {
        self.is_due = true;
    }

    /// When one is to begin; nothing while one runs, or when there is nothing to remove.
    pub(super) fn again_at(&self) -> Option<Instant> {
        (self.is_due && self.running.is_empty()).then_some(self.from)
    }

    /// Begins one. What is let go of while it runs is for the next one.
    pub(super) fn begin(&mut self, sweep: impl Future<Output = Swept> + Send + 'static) {
        self.is_due = false;
        self.running.spawn(sweep);
    }

    /// The end of the one that runs; nothing when none does.
    pub(super) async fn end(&mut self) -> Option<Result<Swept, JoinError>> {
        self.running.join_next().await
    }

    /// What came of it.
    pub(super) fn ended(&mut self, swept: Result<Swept, JoinError>) {
        let pause = match swept {
            Ok(Some(files)) => {
                tracing::debug!(files, "removed files that no release holds");
                EVERY
            }
            Ok(None) => {
                self.is_due = true;
                AGAIN
            }
            Err(error) => {
                tracing::error!(%error, "removing files that no release holds panicked");
                self.is_due = true;
                AGAIN
            }
        };
        self.from = Instant::now() + pause;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_sweep_that_could_not_be_is_due_until_one_was() {
        let mut sweeping = Sweeping::due_from(Instant::now());
        for swept in [None, None, Some(3)] {
            assert!(sweeping.again_at().is_some());
            sweeping.begin(std::future::ready(swept));
            assert!(sweeping.again_at().is_none(), "one at a time");
            let end = sweeping.end().await.unwrap();
            sweeping.ended(end);
        }
        assert!(sweeping.again_at().is_none());
        assert!(sweeping.end().await.is_none());
    }

    #[tokio::test]
    async fn what_is_let_go_of_while_one_runs_is_for_the_next() {
        let mut sweeping = Sweeping::due_from(Instant::now());
        sweeping.begin(std::future::ready(Some(0)));
        sweeping.ask();
        let end = sweeping.end().await.unwrap();
        sweeping.ended(end);
        assert!(sweeping.again_at().is_some_and(|at| at > Instant::now()));
    }
}
