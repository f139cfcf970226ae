//! What holds the environment of a deployment, while somebody watches that. A hold is no change of a
//! deployment that acts: no version of it tells of one.
//!
//! An event is a hint: the environment is read again, also whenever the stream was made, and its hold
//! is told once it is another one than was told last.

use std::time::Duration;

use candlefish_proto::{
    deploy::{Environment, GetEnvironmentRequest},
    event::{WatchEventsRequest, WatchEventsResponse},
};
use futures_util::{Stream, StreamExt as _, stream};
use tonic::Streaming;

use crate::{api::Api, error::Error};

/// Events after which an environment may be held by something else.
const TYPES: [&str; 2] = ["deploy.environment.held.", "deploy.environment.lifted."];
/// Pause before a lost stream is made again. That there is no connection is the feed's to tell.
const PAUSE: Duration = Duration::from_secs(1);

/// The environment, whenever its hold is another one than was told; it never ends. Nothing where
/// nothing was told, and nothing more once the server refuses to tell.
pub(super) fn changes(api: &Api, told: Option<Environment>) -> impl Stream<Item = Environment> {
    stream::iter(told)
        .flat_map(move |told| {
            let holds = Holds {
                api,
                told,
                stream: None,
            };
            stream::unfold(holds, |mut holds| async move {
                holds.changed().await?;
                Some((holds.told.clone(), holds))
            })
        })
        .chain(stream::pending())
}

struct Holds<'a> {
    api: &'a Api,
    told: Environment,
    stream: Option<Streaming<WatchEventsResponse>>,
}

impl Holds<'_> {
    /// Waits for another hold, or for none; `None` once the server refuses.
    async fn changed(&mut self) -> Option<()> {
        loop {
            match self.look().await {
                Ok(true) => return Some(()),
                Ok(false) => {}
                Err(Error::Unreachable(_)) => self.lose().await,
                Err(_) => return None,
            }
        }
    }

    /// Waits for a hint, makes the stream where there is none, and reads. Says whether the hold is
    /// another one.
    async fn look(&mut self) -> Result<bool, Error> {
        let Some(stream) = &mut self.stream else {
            return self.begin().await;
        };
        let message = stream.message().await;
        match message {
            // How far the stream is.
            Ok(Some(message)) if message.event.is_none() => Ok(false),
            Ok(Some(_)) => self.read().await,
            // Stopped, lost or left behind: what happens meanwhile is read once it is made again.
            Ok(None) | Err(_) => {
                self.lose().await;
                Ok(false)
            }
        }
    }

    /// Makes the stream, then reads: no event tells of what happened before the stream began. One that
    /// does not say where it begins may do so after the reading, and nothing would tell of a hold that
    /// is set in between: it is given up, and made again.
    async fn begin(&mut self) -> Result<bool, Error> {
        let request = WatchEventsRequest {
            site: self.told.site.clone(),
            environment: self.told.slug.clone(),
            types: TYPES.map(str::to_owned).to_vec(),
            cursor: String::new(),
        };
        let events = self.api.events(request).await?;
        self.stream = events.begins_after.map(|_cursor| events.messages);
        let is_news = self.read().await?;
        if self.stream.is_none() && !is_news {
            self.lose().await;
        }
        Ok(is_news)
    }

    async fn read(&mut self) -> Result<bool, Error> {
        let request = GetEnvironmentRequest {
            site: self.told.site.clone(),
            environment: self.told.slug.clone(),
        };
        let environment = self.api.read(request).await?;
        let is_news = environment.hold != self.told.hold;
        self.told = environment;
        Ok(is_news)
    }

    async fn lose(&mut self) {
        self.stream = None;
        tokio::time::sleep(PAUSE).await;
    }
}
