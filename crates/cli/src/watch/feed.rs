//! The versions of one deployment, over as many connections as it takes: each goes on after the
//! version that was seen last.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use candlefish_proto::deploy::{Deployment, WatchDeploymentRequest};
use tonic::Streaming;

use crate::{api::Api, error::Error};

/// How long a lost connection is tried again.
const GIVE_UP: Duration = Duration::from_mins(2);
/// Pauses between two tries: a replica that stops leaves others that answer at once, one that is
/// started again needs a moment.
const SHORTEST: Duration = Duration::from_millis(250);
const LONGEST: Duration = Duration::from_secs(1);
/// A connection that lasted so long was one; its loss is a new one.
const LASTED: Duration = Duration::from_secs(5);

/// What there is to tell.
pub(super) enum News {
    /// A newer version.
    Changed(Box<Deployment>),
    /// The connection is lost; the next call makes it again.
    Lost,
}

/// The versions of one deployment.
pub(super) struct Feed<'a> {
    api: &'a Api,
    stream: Option<(Streaming<Deployment>, Instant)>,
    lost: Option<Instant>,
    /// Whether there is no connection now: the caller may look while it waits for news.
    away: &'a AtomicBool,
}

impl<'a> Feed<'a> {
    pub(super) fn new(api: &'a Api, away: &'a AtomicBool) -> Self {
        Self {
            api,
            stream: None,
            lost: None,
            away,
        }
    }

    /// The next version after this one.
    pub(super) async fn next(&mut self, id: String, after_version: i32) -> Result<News, Error> {
        loop {
            if let Some(lost) = self.lost.filter(|_| self.stream.is_none()) {
                tokio::time::sleep(lost.elapsed().clamp(SHORTEST, LONGEST)).await;
            }
            let error = match self.message(&id, after_version).await {
                Ok(Some(deployment)) => {
                    self.lost = None;
                    return Ok(News::Changed(Box::new(deployment)));
                }
                // The server ends a stream when it stops; the deployment goes on elsewhere.
                Ok(None) => {
                    self.stream = None;
                    tokio::time::sleep(SHORTEST).await;
                    continue;
                }
                Err(error) => error,
            };
            if !matches!(error, Error::Unreachable(_)) {
                return Err(error);
            }
            self.away.store(true, Ordering::Relaxed);
            if self
                .stream
                .take()
                .is_some_and(|(_, since)| since.elapsed() > LASTED)
            {
                self.lost = None;
            }
            match self.lost {
                None => {
                    self.lost = Some(Instant::now());
                    return Ok(News::Lost);
                }
                Some(lost) if lost.elapsed() > GIVE_UP => return Err(error),
                Some(_) => {}
            }
        }
    }

    async fn message(&mut self, id: &str, after_version: i32) -> Result<Option<Deployment>, Error> {
        let (stream, _) = if let Some(stream) = &mut self.stream {
            stream
        } else {
            let request = WatchDeploymentRequest {
                id: id.to_owned(),
                after_version,
            };
            let stream = self.api.watch(request).await?;
            self.away.store(false, Ordering::Relaxed);
            self.stream.insert((stream, Instant::now()))
        };
        stream
            .message()
            .await
            .map_err(|status| self.api.fault(status))
    }
}
