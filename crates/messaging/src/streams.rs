//! Creates the streams of a publishing area; never alters one.

use std::time::Duration;

use async_nats::jetstream::{
    Context,
    context::CreateStreamError,
    stream::{Config, DiscardPolicy, RetentionPolicy, StorageType},
};

/// Events are healed from the owner's outbox, so the stream is only a fan-out with a memory.
const MAX_AGE: Duration = Duration::from_hours(72);
/// Ids cost memory; nothing relies on the window.
const DUPLICATE_WINDOW: Duration = Duration::from_mins(2);

/// A stream of one publishing area.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stream {
    /// In capitals: `DEPLOY`.
    pub name: String,
    /// Every subject below this one: `deploy`.
    pub area: String,
    /// Copies; 1 on one machine, 3 in production.
    pub replicas: usize,
    /// The most it holds; old messages go first. The server reserves it when it creates the stream.
    pub max_bytes: i64,
}

impl Stream {
    /// The stream of an area, with one copy and 256 MiB.
    pub fn of(area: &str) -> Self {
        Self {
            name: area.to_uppercase(),
            area: area.to_owned(),
            replicas: 1,
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
    let config = Config {
        name: stream.name.clone(),
        subjects: vec![format!("{}.>", stream.area)],
        retention: RetentionPolicy::Limits,
        discard: DiscardPolicy::Old,
        storage: StorageType::File,
        max_age: MAX_AGE,
        max_bytes: stream.max_bytes,
        duplicate_window: DUPLICATE_WINDOW,
        num_replicas: stream.replicas,
        ..Config::default()
    };
    match jetstream.get_or_create_stream(config).await {
        Ok(_) => Ok(()),
        Err(source) => Err(Error {
            name: stream.name.clone(),
            source: Box::new(source),
        }),
    }
}
