//! Restarts what was killed, and says so in one line.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::pin;
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use anyhow::Result;
use futures_util::future::{Either, select};
use tokio::net::TcpStream;

use crate::process::Process;
use crate::stack::{Companion, Replica, Stack, readiness};

const POLL: Duration = Duration::from_millis(50);

/// A process that lives shorter than this before it ends again waits before its next start.
const HEALTHY_AGE: Duration = Duration::from_secs(10);
const SHORTEST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// What a supervisor saw.
#[derive(Debug)]
pub enum Event {
    /// It ended without being asked to, and has been started again, or will be after `pause`.
    Lost {
        name: String,
        pid: u32,
        status: ExitStatus,
        pause: Duration,
    },
    /// It is ready again, this long after it ended.
    Back {
        name: String,
        pid: u32,
        after: Duration,
    },
    /// It could not be started, and is tried again; told once for each reason.
    Failed { name: String, error: String },
}

/// What is known of one process.
#[derive(Debug, Default)]
struct Watched {
    /// Since when it is not ready, by its own end.
    absent: Option<Instant>,
    start_at: Option<Instant>,
    /// Before its last start; none before its first end.
    pause: Option<Duration>,
    /// Why it did not start when that was tried last.
    refused: Option<String>,
}

impl Watched {
    /// It has ended at this age: how long to wait before it is started again.
    fn ended(&mut self, age: Duration) -> Duration {
        let pause = match self.pause {
            Some(pause) if age < HEALTHY_AGE => (pause * 2).clamp(SHORTEST_PAUSE, LONGEST_PAUSE),
            _ => Duration::ZERO,
        };
        self.absent.get_or_insert_with(Instant::now);
        self.pause = Some(pause);
        self.start_at = Some(Instant::now() + pause);
        pause
    }

    /// It runs: its next end is told of.
    fn started(&mut self) {
        self.start_at = None;
        self.refused = None;
    }

    /// It did not start, as when its program is gone while it is built anew: tried again after a pause
    /// that grows. Answers why, unless that was told before.
    fn did_not_start(&mut self, why: String) -> Option<String> {
        let pause = self.pause.unwrap_or_default() * 2;
        let pause = pause.clamp(SHORTEST_PAUSE, LONGEST_PAUSE);
        self.pause = Some(pause);
        self.start_at = Some(Instant::now() + pause);
        if self.refused.as_ref() == Some(&why) {
            return None;
        }
        self.refused = Some(why.clone());
        Some(why)
    }
}

/// Restarts every process of the stack that ends by itself or by a stranger's hand, until
/// `stopping` is done; that also ends a wait for a store that does not come back. What was stopped
/// through the stack stays stopped.
pub async fn supervise(
    stack: &Stack,
    stopping: impl Future<Output = ()>,
    mut tell: impl FnMut(Event),
) -> Result<()> {
    let mut stopping = pin!(stopping);
    let mut watched: BTreeMap<String, Watched> = BTreeMap::new();
    loop {
        let round = async {
            stores(stack, &mut watched, &mut tell).await;
            others(stack, &mut watched, &mut tell).await;
            tokio::time::sleep(POLL).await;
        };
        if let Either::Left(_) = select(&mut stopping, pin!(round)).await {
            return Ok(());
        }
    }
}

/// Everything but the stores, one after the other.
async fn others(
    stack: &Stack,
    watched: &mut BTreeMap<String, Watched>,
    tell: &mut impl FnMut(Event),
) {
    for Replica { process, ports, .. } in stack.replicas() {
        let known = watched.entry(process.name().to_owned()).or_default();
        let ready = async { readiness(ports.ops.address()).await.is_ok() };
        look_after(process, ready, known, tell).await;
    }
    for Companion { process, address } in stack.companions() {
        let known = watched.entry(process.name().to_owned()).or_default();
        let ready = async { TcpStream::connect(address).await.is_ok() };
        look_after(process, ready, known, tell).await;
    }
}

/// Starts it again when it has ended; `ready` is asked only of one that was started again.
async fn look_after(
    process: &Process,
    ready: impl Future<Output = bool>,
    watched: &mut Watched,
    tell: &mut impl FnMut(Event),
) {
    let name = process.name().to_owned();
    let pid = process.pid().unwrap_or_default();
    if let Some(status) = process.lost() {
        let due = if let Some(due) = watched.start_at {
            due
        } else {
            let pause = watched.ended(process.age());
            let event = Event::Lost {
                name: name.clone(),
                pid,
                status,
                pause,
            };
            tell(event);
            Instant::now() + pause
        };
        if Instant::now() >= due {
            match process.start() {
                Ok(_pid) => watched.started(),
                Err(error) => {
                    if let Some(error) = watched.did_not_start(format!("{error:#}")) {
                        tell(Event::Failed { name, error });
                    }
                }
            }
        }
        return;
    }
    // Also when it was stopped, or started by another hand, before its turn came.
    watched.started();
    if let Some(since) = watched.absent
        && ready.await
    {
        watched.absent = None;
        let after = since.elapsed();
        tell(Event::Back { name, pid, after });
    }
}

/// Postgres and NATS: nothing else can be ready without them, so they are waited for.
async fn stores(
    stack: &Stack,
    watched: &mut BTreeMap<String, Watched>,
    tell: &mut impl FnMut(Event),
) {
    for process in [stack.postgres().process(), stack.nats().process()] {
        let name = process.name().to_owned();
        let known = watched.entry(name.clone()).or_default();
        let Some(status) = process.lost() else {
            *known = Watched::default();
            continue;
        };
        match known.start_at {
            None => tell(Event::Lost {
                name: name.clone(),
                pid: process.pid().unwrap_or_default(),
                status,
                pause: Duration::ZERO,
            }),
            Some(due) if Instant::now() < due => continue,
            Some(_) => {}
        }
        let since = *known.absent.get_or_insert_with(Instant::now);
        let back = if name == "postgres" {
            stack.postgres().restart().await
        } else {
            stack.nats().restart().await
        };
        match back {
            Ok(()) => {
                *known = Watched::default();
                let pid = process.pid().unwrap_or_default();
                let after = since.elapsed();
                tell(Event::Back { name, pid, after });
            }
            Err(error) => {
                if let Some(error) = known.did_not_start(format!("{error:#}")) {
                    tell(Event::Failed { name, error });
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;
    use std::sync::Arc;

    use super::*;
    use crate::output::Output;
    use crate::process::Launch;
    use crate::wait::wait_until;
    use crate::warden::Warden;

    #[test]
    fn the_first_end_costs_no_time_and_each_of_a_row_costs_more() {
        let young = Duration::from_secs(1);
        let mut watched = Watched::default();
        let pauses: Vec<_> = (0..8).map(|_| watched.ended(young)).collect();
        assert_eq!(pauses[..3], [0, 500, 1000].map(Duration::from_millis));
        assert_eq!(pauses.last(), Some(&LONGEST_PAUSE));
        assert_eq!(watched.ended(HEALTHY_AGE), Duration::ZERO);
    }

    #[test]
    fn what_does_not_start_is_tried_ever_less_often_and_each_reason_told_once() {
        let mut watched = Watched::default();
        watched.ended(HEALTHY_AGE);
        let mut next = |why: &str| {
            let told = watched.did_not_start(why.to_owned()).is_some();
            (watched.pause.unwrap().as_millis(), told)
        };
        assert_eq!(next("no such file"), (500, true));
        assert_eq!(next("no such file"), (1000, false));
        assert_eq!(next("it may not be run"), (2000, true));
        for _ in 0..3 {
            next("it may not be run");
        }
        assert_eq!(next("it may not be run"), (10_000, false));
        watched.started();
        assert!(watched.start_at.is_none() && watched.refused.is_none());
    }

    #[tokio::test]
    async fn a_program_that_is_gone_is_told_of_once() {
        let folder = tempfile::tempdir().unwrap();
        let program = folder.path().join("edge");
        symlink("/bin/true", &program).unwrap();
        let output = Output::Folder(folder.path().to_owned());
        let warden = Arc::new(Warden::start().unwrap());
        let process = Process::new("edge-1", Launch::new(program.clone()), output, warden);
        process.start().unwrap();
        std::fs::remove_file(&program).unwrap();
        wait_until(Duration::from_secs(10), "its end", async || {
            let ended = process.lost();
            ended.ok_or_else(|| "it runs".to_owned())
        })
        .await
        .unwrap();
        let mut watched = Watched::default();
        let mut told = Vec::new();
        // Each is a look, of which there are twenty a second.
        for _ in 0..5 {
            let ready = std::future::ready(true);
            look_after(&process, ready, &mut watched, &mut |event| told.push(event)).await;
        }
        assert!(
            matches!(&told[..], [Event::Lost { .. }, Event::Failed { .. }]),
            "{told:#?}"
        );
    }
}
