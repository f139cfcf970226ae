//! Restarts what was killed, and says so in one line.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::pin;
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use anyhow::Result;
use futures_util::future::{Either, select};

use crate::stack::{Replica, Stack, readiness};

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
    /// It could not be started.
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
}

/// Restarts every process of the stack that ends by itself or by a stranger's hand, until
/// `stopping` is done. What was stopped through the stack stays stopped.
pub async fn supervise(
    stack: &Stack,
    stopping: impl Future<Output = ()>,
    mut tell: impl FnMut(Event),
) -> Result<()> {
    let mut stopping = pin!(stopping);
    let mut watched: BTreeMap<String, Watched> = BTreeMap::new();
    loop {
        stores(stack, &mut tell).await;
        for replica in stack.replicas() {
            let known = watched
                .entry(replica.process.name().to_owned())
                .or_default();
            look_after(replica, known, &mut tell).await;
        }
        let pause = pin!(tokio::time::sleep(POLL));
        if let Either::Left(_) = select(&mut stopping, pause).await {
            return Ok(());
        }
    }
}

async fn look_after(replica: &Replica, watched: &mut Watched, tell: &mut impl FnMut(Event)) {
    let process = &replica.process;
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
            watched.start_at = None;
            if let Err(error) = process.start() {
                let error = format!("{error:#}");
                tell(Event::Failed { name, error });
            }
        }
    } else if let Some(since) = watched.absent
        && readiness(replica.ports.ops.address()).await.is_ok()
    {
        watched.absent = None;
        let after = since.elapsed();
        tell(Event::Back { name, pid, after });
    }
}

/// Postgres and NATS: nothing else can be ready without them, so they are waited for.
async fn stores(stack: &Stack, tell: &mut impl FnMut(Event)) {
    for process in [stack.postgres().process(), stack.nats().process()] {
        let Some(status) = process.lost() else {
            continue;
        };
        let name = process.name().to_owned();
        let pid = process.pid().unwrap_or_default();
        let since = Instant::now();
        tell(Event::Lost {
            name: name.clone(),
            pid,
            status,
            pause: Duration::ZERO,
        });
        let back = if name == "postgres" {
            stack.postgres().restart().await
        } else {
            stack.nats().restart().await
        };
        match back {
            Ok(()) => {
                let pid = process.pid().unwrap_or_default();
                tell(Event::Back {
                    name,
                    pid,
                    after: since.elapsed(),
                });
            }
            Err(error) => tell(Event::Failed {
                name,
                error: format!("{error:#}"),
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_end_costs_no_time_and_each_of_a_row_costs_more() {
        let young = Duration::from_secs(1);
        let mut watched = Watched::default();
        let pauses: Vec<_> = (0..8).map(|_| watched.ended(young)).collect();
        assert_eq!(pauses[..3], [0, 500, 1000].map(Duration::from_millis));
        assert_eq!(pauses.last(), Some(&LONGEST_PAUSE));
        assert_eq!(watched.ended(HEALTHY_AGE), Duration::ZERO);
    }
}
