//! Restarts what was killed, and says so in one line.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::pin;
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use anyhow::Result;
use futures_util::future::{Either, select};

use crate::stack::{Stack, readiness};

const POLL: Duration = Duration::from_millis(50);

/// A process that lives shorter than this before it ends again waits before its next start.
const HEALTHY_AGE: Duration = Duration::from_secs(10);
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

#[derive(Debug)]
struct Absence {
    since: Instant,
    start_at: Option<Instant>,
}

/// Restarts every process of the stack that ends by itself or by a stranger's hand, until
/// `stopping` is done. What was stopped through the stack stays stopped.
pub async fn supervise(
    stack: &Stack,
    stopping: impl Future<Output = ()>,
    mut tell: impl FnMut(Event),
) -> Result<()> {
    let mut stopping = pin!(stopping);
    let mut absent: BTreeMap<String, Absence> = BTreeMap::new();
    let mut pauses: BTreeMap<String, Duration> = BTreeMap::new();
    loop {
        stores(stack, &mut tell).await;
        for replica in stack.replicas() {
            let process = &replica.process;
            let name = process.name().to_owned();
            if let Some(status) = process.lost() {
                let pause = pauses.entry(name.clone()).or_default();
                let absence = absent.entry(name.clone()).or_insert_with(|| {
                    *pause = if process.age() > HEALTHY_AGE {
                        Duration::ZERO
                    } else {
                        (*pause * 2).clamp(Duration::from_millis(500), LONGEST_PAUSE)
                    };
                    let pid = process.pid().unwrap_or_default();
                    tell(Event::Lost {
                        name: name.clone(),
                        pid,
                        status,
                        pause: *pause,
                    });
                    Absence {
                        since: Instant::now(),
                        start_at: None,
                    }
                });
                let due = *absence
                    .start_at
                    .get_or_insert_with(|| Instant::now() + *pause);
                if Instant::now() >= due {
                    absence.start_at = None;
                    if let Err(error) = process.start() {
                        let error = format!("{error:#}");
                        tell(Event::Failed { name, error });
                    }
                }
            } else if let Some(absence) = absent.get(&name)
                && readiness(replica.ops.address()).await.is_ok()
            {
                let after = absence.since.elapsed();
                let pid = process.pid().unwrap_or_default();
                absent.remove(&name);
                tell(Event::Back { name, pid, after });
            }
        }
        let pause = pin!(tokio::time::sleep(POLL));
        if let Either::Left(_) = select(&mut stopping, pause).await {
            return Ok(());
        }
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
