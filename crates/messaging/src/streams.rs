//! Creates the streams of a publishing area; never alters one.

use std::{fmt, str::FromStr, time::Duration};

use async_nats::jetstream::{
    Context,
    context::CreateStreamError,
    stream::{Config, DiscardPolicy, RetentionPolicy, StorageType},
};

/// Events are healed from the owner's outbox, so the stream is only a fan-out with a memory.
const MAX_AGE: Duration = Duration::from_hours(72);
/// Ids cost memory; nothing relies on the window.
const DUPLICATE_WINDOW: Duration = Duration::from_mins(2);

/// How many servers of the bus keep a stream: 1, 3 or 5, so that more than half of them can agree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Replicas(usize);

impl Default for Replicas {
    /// One, for a bus of one server.
    fn default() -> Self {
        Self(1)
    }
}

impl fmt::Display for Replicas {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// It is no number of copies that a stream can have.
#[derive(Debug, thiserror::Error)]
#[error("must be 1, 3 or 5")]
pub struct NoReplicas;

impl FromStr for Replicas {
    type Err = NoReplicas;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "1" => Ok(Self(1)),
            "3" => Ok(Self(3)),
            "5" => Ok(Self(5)),
            _ => Err(NoReplicas),
        }
    }
}

/// A stream of one publishing area.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stream {
    /// In capitals: `DEPLOY`.
    pub name: String,
    /// Every subject below this one: `deploy`.
    pub area: String,
    /// Copies; one on one machine, three in production.
    pub replicas: Replicas,
    /// The most it holds; old messages go first. The server reserves it when it creates the stream.
    pub max_bytes: i64,
}

impl Stream {
    /// The stream of an area, with one copy and 256 MiB.
    pub fn of(area: &str) -> Self {
        Self {
            name: area.to_uppercase(),
            area: area.to_owned(),
            replicas: Replicas::default(),
            max_bytes: 256 * 1024 * 1024,
        }
    }
}

/// The stream cannot be created.
#[derive(Debug, thiserror::Error)]
#[error("create the stream {name}")]
pub struct Error {
    name: String,
    #[source]
    source: Box<CreateStreamError>,
}

/// Creates the stream unless it is there; what is there stays as it is.
pub async fn ensure(jetstream: &Context, stream: &Stream) -> Result<(), Error> {
    match jetstream.get_or_create_stream(config(stream)).await {
        Ok(_) => Ok(()),
        Err(source) => Err(Error {
            name: stream.name.clone(),
            source: Box::new(source),
        }),
    }
}

fn config(stream: &Stream) -> Config {
    Config {
        name: stream.name.clone(),
        subjects: vec![format!("{}.>", stream.area)],
        retention: RetentionPolicy::Limits,
        discard: DiscardPolicy::Old,
        storage: StorageType::File,
        max_age: MAX_AGE,
        max_bytes: stream.max_bytes,
        duplicate_window: DUPLICATE_WINDOW,
        num_replicas: stream.replicas.0,
        ..Config::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_has_as_many_copies_as_are_configured() {
        for (text, copies) in [("1", 1), ("3", 3), ("5", 5)] {
            let replicas: Replicas = text.parse().unwrap();
            let stream = Stream {
                replicas,
                ..Stream::of("deploy")
            };
            assert_eq!(config(&stream).num_replicas, copies);
            assert_eq!(replicas.to_string(), text);
        }
        assert_eq!(config(&Stream::of("deploy")).num_replicas, 1);
        for bad in ["0", "2", "4", "7", "-1", "three", ""] {
            assert!(bad.parse::<Replicas>().is_err(), "{bad}");
        }
    }
}
