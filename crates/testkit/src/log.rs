//! What a test's own thread logs.

use std::{
    fmt::{Debug, Write as _},
    sync::{Arc, Mutex},
};

use tracing::{
    Event, Level, Metadata, Subscriber,
    field::{Field, Visit},
    subscriber::DefaultGuard,
};
use tracing_subscriber::{Layer, layer::Context, layer::SubscriberExt as _};

/// Hears until it is dropped.
#[derive(Debug)]
pub struct Log {
    lines: Lines,
    _hears: DefaultGuard,
}

impl Log {
    /// Hears what this thread says from now on, debugging left out: all that runs in a test whose
    /// runtime has one thread.
    pub fn hear() -> Self {
        let lines = Lines::default();
        let registry = tracing_subscriber::registry().with(lines.clone());
        Self {
            lines,
            _hears: tracing::subscriber::set_default(registry),
        }
    }

    /// How many lines contain these words; each begins with its level, as in `WARN not ready`.
    pub fn count(&self, words: &str) -> usize {
        let lines = self.lines.0.lock().unwrap();
        lines.iter().filter(|line| line.contains(words)).count()
    }
}

/// The levels and messages, without what else their events tell.
#[derive(Debug, Clone, Default)]
struct Lines(Arc<Mutex<Vec<String>>>);

impl<S: Subscriber> Layer<S> for Lines {
    fn enabled(&self, metadata: &Metadata<'_>, _context: Context<'_, S>) -> bool {
        *metadata.level() <= Level::INFO
    }

    fn on_event(&self, event: &Event<'_>, _context: Context<'_, S>) {
        let mut message = Message::default();
        event.record(&mut message);
        let line = format!("{} {}", event.metadata().level(), message.0);
        self.0.lock().unwrap().push(line);
    }
}

#[derive(Default)]
struct Message(String);

impl Visit for Message {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        if field.name() == "message" {
            write!(self.0, "{value:?}").unwrap();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_heard_until_it_is_dropped() {
        let log = Log::hear();
        tracing::info!(number = 1, "one line");
        tracing::warn!("another line");
        tracing::debug!("no line");
        assert_eq!(log.count("line"), 2);
        assert_eq!(log.count("INFO one line"), 1);
        drop(log);
        let later = Log::hear();
        assert_eq!(later.count("line"), 0);
    }
}
