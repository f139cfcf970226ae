//! One line for each process that was killed: which, since when it runs again, what went on.

use std::collections::BTreeMap;
use std::time::Duration;

use candlefish_devstack::{Event, Stack};
use tokio::sync::mpsc;

use super::{say, seed};

/// A process that is back sooner is told of once, with everything.
const WAITS: Duration = Duration::from_secs(3);

/// Tells of what comes through the channel; ends with it.
pub(super) async fn tell(stack: &Stack, mut events: mpsc::Receiver<Event>) {
    // What is down and was not told of yet: its end, in words.
    let mut down: BTreeMap<String, String> = BTreeMap::new();
    loop {
        match tokio::time::timeout(WAITS, events.recv()).await {
            Ok(None) => return,
            Ok(Some(Event::Lost {
                name,
                pid,
                status,
                pause,
            })) => {
                let end = format!("{name} (pid {pid}) ended by {status}");
                if pause > Duration::ZERO {
                    say(&format!("{end}; starts again in {pause:.1?}"));
                } else {
                    down.insert(name, end);
                }
            }
            Ok(Some(Event::Back { name, pid, after })) => {
                let subject = match down.remove(&name) {
                    Some(end) => format!("{end}, and"),
                    None => name,
                };
                let went_on = went_on(stack).await;
                say(&format!(
                    "{subject} runs again as pid {pid} after {after:.1?}{went_on}"
                ));
            }
            Ok(Some(Event::Failed { name, error })) => {
                say(&format!("{name} does not start: {error}"));
            }
            Err(_quiet) => {
                for end in std::mem::take(&mut down).into_values() {
                    say(&format!("{end}, and is not ready again yet"));
                }
            }
        }
    }
}

async fn went_on(stack: &Stack) -> String {
    match seed::acting(stack).await {
        Ok(ids) if ids.is_empty() => "; no deployment was on its way".to_owned(),
        Ok(ids) => format!("; went on: {}", ids.join(", ")),
        Err(error) => format!("; which deployments go on could not be asked: {error:#}"),
    }
}
