//! One line for each process that was killed: which, since when it runs again, what went on.
//!
//! The line is held until the process is back, so that it is whole. Only where that takes so long
//! that people would wonder, another one before it says that it is not back yet.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Result;
use candlefish_devstack::Event;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};

/// As for everything else that `up` does: what takes longer is told of on its way.
pub(super) const PATIENCE: Duration = Duration::from_secs(2);
/// The longest between two lines that it is not back yet; each wait is twice the one before.
const LONGEST: Duration = Duration::from_mins(1);

/// A process that is not back yet.
#[derive(Debug)]
struct Down {
    /// Which, and how it ended first.
    end: String,
    /// How often it ended again before it was ready.
    again: u32,
    /// Before its next start.
    pause: Duration,
    since: Instant,
    /// When it is told of, should it still be away.
    due: Instant,
    wait: Duration,
}

impl Down {
    fn new(end: String, wait: Duration) -> Self {
        let since = Instant::now();
        Self {
            end,
            again: 0,
            pause: Duration::ZERO,
            since,
            due: since + wait,
            wait,
        }
    }

    fn words(&self) -> String {
        match self.again {
            0 => self.end.clone(),
            1 => format!("{}, and once more before it was ready", self.end),
            more => format!("{}, and {more} times more before it was ready", self.end),
        }
    }

    /// Says that it is away, and when that is to be said again.
    fn away(&mut self, now: Instant) -> String {
        self.wait = (self.wait * 2).min(LONGEST);
        self.due = now + self.wait;
        let starts = if self.pause.is_zero() {
            String::new()
        } else {
            let pause = self.pause;
            format!("; it keeps ending, so its last start waited {pause:.1?}")
        };
        let after = self.since.elapsed();
        format!(
            "{}, and is not back yet after {after:.1?}{starts}",
            self.words()
        )
    }
}

/// Tells of what comes through the channel; ends with it. `acting` asks which deployments are on
/// their way.
pub(super) async fn tell(
    mut events: mpsc::Receiver<Event>,
    patience: Duration,
    acting: impl AsyncFn() -> Result<Vec<String>>,
    mut say: impl FnMut(&str),
) {
    let mut down: BTreeMap<String, Down> = BTreeMap::new();
    loop {
        let due = down.values().map(|one| one.due).min();
        let event = match due {
            None => events.recv().await,
            Some(due) => match timeout_at(due, events.recv()).await {
                Ok(event) => event,
                Err(_quiet) => {
                    let now = Instant::now();
                    for one in down.values_mut().filter(|one| one.due <= now) {
                        say(&one.away(now));
                    }
                    continue;
                }
            },
        };
        match event {
            None => return,
            Some(Event::Lost {
                name,
                pid,
                status,
                pause,
            }) => {
                let end = format!("{name} (pid {pid}) ended by {status}");
                let known = down.entry(name);
                let one = known
                    .and_modify(|one| one.again += 1)
                    .or_insert_with(|| Down::new(end, patience));
                one.pause = pause;
            }
            Some(Event::Back { name, pid, after }) => {
                let subject = match down.remove(&name) {
                    Some(one) => format!("{}, and", one.words()),
                    None => name,
                };
                let went_on = went_on(acting().await);
                say(&format!(
                    "{subject} runs again as pid {pid} after {after:.1?}{went_on}"
                ));
            }
            Some(Event::Failed { name, error }) => {
                say(&format!("{name} does not start: {error}"));
            }
        }
    }
}

/// Asked when the process is back: what ended in between is not told of.
fn went_on(acting: Result<Vec<String>>) -> String {
    match acting {
        Ok(ids) if ids.is_empty() => "; no deployment is on its way now".to_owned(),
        Ok(ids) => format!("; went on: {}", ids.join(", ")),
        Err(error) => format!("; which deployments go on could not be asked: {error:#}"),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;
    use std::process::ExitStatus;

    use anyhow::anyhow;

    use super::*;

    /// Longer than any test: nobody wonders.
    const NEVER: Duration = Duration::from_hours(1);

    fn lost(name: &str, pid: u32, pause_millis: u64) -> Event {
        Event::Lost {
            name: name.to_owned(),
            pid,
            status: ExitStatus::from_raw(9),
            pause: Duration::from_millis(pause_millis),
        }
    }

    fn back(name: &str, pid: u32, millis: u64) -> Event {
        Event::Back {
            name: name.to_owned(),
            pid,
            after: Duration::from_millis(millis),
        }
    }

    async fn two() -> Result<Vec<String>> {
        Ok(vec!["dep_a".to_owned(), "dep_b".to_owned()])
    }

    /// The lines for these events, where nothing takes long.
    async fn lines(events: Vec<Event>, acting: impl AsyncFn() -> Result<Vec<String>>) -> String {
        let (seen, receiver) = mpsc::channel(events.len());
        for event in events {
            seen.try_send(event).unwrap();
        }
        drop(seen);
        let mut said = String::new();
        tell(receiver, NEVER, acting, |line| {
            said.push_str(line);
            said.push('\n');
        })
        .await;
        said
    }

    #[tokio::test]
    async fn a_killed_service_is_one_line_once_it_is_back() {
        let events = vec![lost("gateway-1", 41, 0), back("gateway-1", 57, 1400)];
        assert_eq!(
            lines(events, two).await,
            "gateway-1 (pid 41) ended by signal: 9 (SIGKILL), and runs again as pid 57 after 1.4s; \
             went on: dep_a, dep_b\n"
        );
    }

    #[tokio::test]
    async fn each_of_several_kills_is_one_line_also_when_the_start_waited() {
        let events = vec![
            lost("edge-1", 1, 0),
            lost("edge-2", 2, 0),
            back("edge-2", 3, 700),
            back("edge-1", 4, 900),
            lost("edge-1", 4, 500),
            back("edge-1", 5, 1200),
        ];
        assert_eq!(
            lines(events, async || Ok(Vec::new())).await,
            "edge-2 (pid 2) ended by signal: 9 (SIGKILL), and runs again as pid 3 after 700.0ms; \
             no deployment is on its way now\n\
             edge-1 (pid 1) ended by signal: 9 (SIGKILL), and runs again as pid 4 after 900.0ms; \
             no deployment is on its way now\n\
             edge-1 (pid 4) ended by signal: 9 (SIGKILL), and runs again as pid 5 after 1.2s; \
             no deployment is on its way now\n"
        );
    }

    #[tokio::test]
    async fn what_ends_again_before_it_was_ready_is_still_one_line() {
        let events = vec![
            lost("edge-1", 1, 0),
            lost("edge-1", 2, 500),
            back("edge-1", 3, 1600),
        ];
        assert_eq!(
            lines(events, two).await,
            "edge-1 (pid 1) ended by signal: 9 (SIGKILL), and once more before it was ready, and \
             runs again as pid 3 after 1.6s; went on: dep_a, dep_b\n"
        );
    }

    #[tokio::test]
    async fn what_could_not_be_asked_and_what_does_not_start_are_said() {
        let error = "no such file".to_owned();
        let name = "nats".to_owned();
        let events = vec![
            lost("postgres", 1, 0),
            back("postgres", 2, 2000),
            Event::Failed { name, error },
        ];
        assert_eq!(
            lines(events, async || Err(anyhow!("refused"))).await,
            "postgres (pid 1) ended by signal: 9 (SIGKILL), and runs again as pid 2 after 2.0s; \
             which deployments go on could not be asked: refused\n\
             nats does not start: no such file\n"
        );
    }

    #[tokio::test]
    async fn what_takes_long_is_told_of_before_and_its_line_is_whole_all_the_same() {
        let (seen, events) = mpsc::channel(2);
        let (told, mut lines) = mpsc::unbounded_channel();
        seen.try_send(lost("edge-1", 1, 0)).unwrap();
        let telling = tell(events, Duration::from_millis(1), two, |line: &str| {
            told.send(line.to_owned()).unwrap();
        });
        let reading = async {
            // It comes back only when it was missed.
            let first = lines.recv().await.unwrap();
            seen.send(back("edge-1", 2, 4000)).await.unwrap();
            drop(seen);
            first
        };
        let ((), first) = tokio::join!(telling, reading);
        let away = "edge-1 (pid 1) ended by signal: 9 (SIGKILL), and is not back yet after ";
        assert!(first.starts_with(away), "{first}");
        let mut last = first;
        while let Ok(line) = lines.try_recv() {
            assert!(last.starts_with(away), "{last}");
            last = line;
        }
        assert_eq!(
            last,
            "edge-1 (pid 1) ended by signal: 9 (SIGKILL), and runs again as pid 2 after 4.0s; went \
             on: dep_a, dep_b"
        );
    }
}
