//! The one place that spawns: every task has a name, is waited for, and says what its end means.
//!
//! Two tokens end a process: *soft* (stop taking work, finish what is in hand) and *hard* (drop
//! everything). A task whose policy is [`Policy::StopProcess`] and that ends before the soft token
//! is a fault of the whole process: it stops, and exits with an error.

use std::{
    fmt::Display,
    future::Future,
    panic::AssertUnwindSafe,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures_util::FutureExt;
use tokio::task::JoinHandle;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::Instrument;

use crate::refusal::{Code, Refusal};

/// What it means when a task ends before the process stops.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Policy {
    /// The process must not go on without it: it stops softly and exits with an error.
    StopProcess,
    /// Nothing; a panic is logged.
    Ignore,
}

/// A task was lost: it panicked or was dropped at the hard stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the task {name} was lost")]
pub struct Lost {
    /// The task's name.
    pub name: &'static str,
}

/// Spawns and knows all tasks of a process, or of one test; cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Tasks {
    inner: Arc<Inner>,
    /// Commands are refused before they begin.
    only_judges: bool,
}

#[derive(Debug, Default)]
struct Inner {
    /// Waited for at the stop.
    work: TaskTracker,
    /// Ended after the work: the operations port answers to the last.
    shell: TaskTracker,
    soft: CancellationToken,
    hard: CancellationToken,
    fault: Mutex<Option<String>>,
}

impl Tasks {
    /// Tasks of their own, for a test; a process has its own from `Process`.
    pub fn new() -> Self {
        Self::default()
    }

    /// The same tasks for calls that are to be judged and not carried out: [`Tasks::command`] refuses, as
    /// `judged`, every command whose request was found good, before it begins.
    #[must_use]
    pub fn judging(&self) -> Self {
        Self {
            only_judges: true,
            ..self.clone()
        }
    }

    /// Whether these are [`Tasks::judging`]: who judges a request within its command does so before it then.
    pub fn only_judge(&self) -> bool {
        self.only_judges
    }

    /// Cancelled when the process begins to stop: take no new work, finish what is in hand.
    pub fn stopping(&self) -> CancellationToken {
        self.inner.soft.clone()
    }

    /// Cancelled when nothing is waited for any more.
    pub fn killed(&self) -> CancellationToken {
        self.inner.hard.clone()
    }

    /// Spawns a task that is waited for at the stop.
    pub fn spawn<F>(&self, name: &'static str, policy: Policy, future: F) -> JoinHandle<()>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.try_spawn(name, policy, future.map(Ok::<(), std::convert::Infallible>))
    }

    /// Spawns a task that may fail; its error is logged under its name.
    pub fn try_spawn<F, E>(&self, name: &'static str, policy: Policy, future: F) -> JoinHandle<()>
    where
        F: Future<Output = Result<(), E>> + Send + 'static,
        E: Display + Send + 'static,
    {
        let tasks = self.clone();
        let watched = self
            .watch(name, future)
            .map(move |end| tasks.judge(name, policy, end));
        spawn(self.inner.work.track_future(watched))
    }

    /// Carries a future to its end whatever becomes of the caller: a dropped call does not stop a
    /// command in the middle.
    pub async fn complete<T, F>(&self, name: &'static str, future: F) -> Result<T, Lost>
    where
        T: Send + 'static,
        F: Future<Output = T> + Send + 'static,
    {
        let tasks = self.clone();
        let hard = self.killed();
        let kept = async move {
            tokio::select! {
                value = future => Some(value),
                () = hard.cancelled() => None,
            }
        };
        let handle = spawn(tasks.inner.work.track_future(kept.in_current_span()));
        handle.await.ok().flatten().ok_or(Lost { name })
    }

    /// Carries a command of an RPC to its end, as [`Tasks::complete`] does; its refusal is a status,
    /// and so is the loss of it.
    pub async fn command<T, E, F>(&self, name: &'static str, command: F) -> Result<T, tonic::Status>
    where
        T: Send + 'static,
        E: Into<tonic::Status> + Send + 'static,
        F: Future<Output = Result<T, E>> + Send + 'static,
    {
        if self.only_judges {
            let words = "nothing is wrong with what was read of the request; it was only judged";
            return Err(Refusal::new(Code::FailedPrecondition, "judged", words).into());
        }
        let done = self.complete(name, command).await;
        let done = done.map_err(|_lost| {
            let words = "the service is stopping; repeat the call with the same idempotency key";
            Refusal::new(Code::Unavailable, "stopping", words)
        })?;
        done.map_err(Into::into)
    }

    /// Spawns a part of the shell: it ends last, by itself, at the hard token.
    pub(crate) fn spawn_shell<F>(&self, future: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let hard = self.killed();
        drop(spawn(self.inner.shell.track_future(async move {
            tokio::select! {
                () = future => {}
                () = hard.cancelled() => {}
            }
        })));
    }

    /// Begins the soft stop.
    pub fn stop(&self) {
        self.inner.soft.cancel();
    }

    /// Stops softly, waits at most `patience` for the tasks, then drops what is left. Answers
    /// whether all ended by themselves.
    pub async fn drain(&self, patience: Duration) -> bool {
        self.inner.soft.cancel();
        self.inner.work.close();
        self.inner.shell.close();
        let drained = tokio::select! {
            () = self.inner.work.wait() => true,
            () = self.inner.hard.cancelled() => false,
            () = tokio::time::sleep(patience) => false,
        };
        if !drained {
            tracing::warn!(
                tasks = self.inner.work.len(),
                "dropping tasks that did not end in time"
            );
        }
        self.inner.hard.cancel();
        // Dropping is immediate; the second bounds a task that blocks its thread.
        let end = async {
            self.inner.work.wait().await;
            self.inner.shell.wait().await;
        };
        drop(tokio::time::timeout(Duration::from_secs(1), end).await);
        drained
    }

    /// The task that ended early and why, when one did.
    pub fn fault(&self) -> Option<String> {
        self.inner
            .fault
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Runs to the end or to the hard token; a panic becomes words.
    fn watch<F, E>(
        &self,
        name: &'static str,
        future: F,
    ) -> impl Future<Output = Result<(), String>> + Send + use<F, E>
    where
        F: Future<Output = Result<(), E>> + Send + 'static,
        E: Display + Send + 'static,
    {
        let hard = self.killed();
        async move {
            tokio::select! {
                end = AssertUnwindSafe(future).catch_unwind() => match end {
                    Ok(Ok(())) => Ok(()),
                    Ok(Err(error)) => Err(error.to_string()),
                    Err(_) => Err("panicked".to_owned()),
                },
                () = hard.cancelled() => Ok(()),
            }
        }
        .instrument(tracing::info_span!(parent: None, "task", task = name))
    }

    fn judge(&self, name: &'static str, policy: Policy, end: Result<(), String>) {
        if let Err(why) = &end {
            tracing::error!(task = name, "task failed: {why}");
        }
        if policy == Policy::Ignore || self.inner.soft.is_cancelled() {
            return;
        }
        let why = end.err().unwrap_or_else(|| "ended".to_owned());
        tracing::error!(
            task = name,
            "stopping the process: a task that it needs {why}"
        );
        self.inner
            .fault
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get_or_insert(format!("{name}: {why}"));
        self.inner.soft.cancel();
    }
}

#[expect(clippy::disallowed_methods, reason = "the one place that spawns")]
fn spawn<T: Send + 'static>(future: impl Future<Output = T> + Send + 'static) -> JoinHandle<T> {
    tokio::spawn(future)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOON: Duration = Duration::from_secs(5);

    #[tokio::test]
    async fn a_needed_task_that_ends_early_stops_the_process_and_is_named() {
        let tasks = Tasks::new();
        drop(tasks.spawn("worker", Policy::StopProcess, async {}));
        tokio::time::timeout(SOON, tasks.stopping().cancelled())
            .await
            .unwrap();
        assert!(tasks.drain(SOON).await);
        assert_eq!(tasks.fault().as_deref(), Some("worker: ended"));
    }

    #[tokio::test]
    async fn a_needed_task_that_panics_stops_the_process() {
        let tasks = Tasks::new();
        drop(tasks.spawn("worker", Policy::StopProcess, async {
            panic!("on purpose")
        }));
        tokio::time::timeout(SOON, tasks.stopping().cancelled())
            .await
            .unwrap();
        assert_eq!(tasks.fault().as_deref(), Some("worker: panicked"));
    }

    #[tokio::test]
    async fn an_unneeded_task_may_end() {
        let tasks = Tasks::new();
        let end = async { Err::<(), _>("nothing to do") };
        tasks.try_spawn("once", Policy::Ignore, end).await.unwrap();
        assert!(!tasks.stopping().is_cancelled());
        assert_eq!(tasks.fault(), None);
    }

    #[tokio::test]
    async fn a_task_that_ends_after_the_stop_is_no_fault() {
        let tasks = Tasks::new();
        let stopping = tasks.stopping();
        drop(tasks.spawn("worker", Policy::StopProcess, stopping.cancelled_owned()));
        assert!(tasks.drain(SOON).await);
        assert_eq!(tasks.fault(), None);
    }

    #[tokio::test]
    async fn a_task_that_will_not_end_is_dropped_when_patience_is_over() {
        let tasks = Tasks::new();
        drop(tasks.spawn("stuck", Policy::Ignore, std::future::pending()));
        assert!(!tasks.drain(Duration::from_millis(20)).await);
        assert!(tasks.killed().is_cancelled());
    }

    #[tokio::test]
    async fn what_is_only_judged_does_not_begin() {
        let tasks = Tasks::new();
        let begun = Arc::new(Mutex::new(false));
        let command = |begun: Arc<Mutex<bool>>| async move {
            *begun.lock().unwrap() = true;
            Ok::<_, tonic::Status>(())
        };
        let judged = tasks.judging();
        let refused = judged.command("command", command(Arc::clone(&begun)));
        let refused = refused.await.unwrap_err();
        assert_eq!(refused.code(), tonic::Code::FailedPrecondition);
        assert!(!*begun.lock().unwrap());
        let done = tasks.command("command", command(Arc::clone(&begun)));
        done.await.unwrap();
        assert!(*begun.lock().unwrap());
    }

    #[tokio::test]
    async fn a_command_is_carried_to_its_end_when_its_caller_goes() {
        let tasks = Tasks::new();
        let (began, begins) = tokio::sync::oneshot::channel();
        let (go, gone) = tokio::sync::oneshot::channel::<()>();
        let (done, ends) = tokio::sync::oneshot::channel();
        let call = tasks.complete("command", async move {
            began.send(()).unwrap();
            gone.await.unwrap();
            done.send(7).unwrap();
        });
        tokio::select! {
            _ = call => panic!("nobody let it end"),
            begun = begins => begun.unwrap(),
        }
        go.send(()).unwrap();
        assert_eq!(ends.await.unwrap(), 7);
    }
}
