//! The versions of one deployment, over as many connections as it takes: each goes on after the
//! version that was seen last.

use std::sync::atomic::{AtomicBool, Ordering};

use candlefish_proto::deploy::{Deployment, WatchDeploymentRequest};
use tonic::Streaming;

use crate::{api::Api, error::Error, outage::Outage};

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
    stream: Option<Streaming<Deployment>>,
    outage: Outage,
    /// Whether there is no connection now: the caller may look while it waits for news.
    away: &'a AtomicBool,
}

impl<'a> Feed<'a> {
    pub(super) fn new(api: &'a Api, away: &'a AtomicBool) -> Self {
        Self {
            api,
            stream: None,
            outage: Outage::default(),
            away,
        }
    }

    /// The next version after this one.
    pub(super) async fn next(&mut self, id: String, after_version: i32) -> Result<News, Error> {
        loop {
            if self.outage.is_on() && self.stream.is_none() {
                self.outage.pause().await;
            }
            let error = match self.message(&id, after_version).await {
                Ok(Some(deployment)) => {
                    self.outage.ends();
                    return Ok(News::Changed(Box::new(deployment)));
                }
                // The server ends a stream when it stops; the deployment goes on elsewhere.
                Ok(None) => {
                    self.stream = None;
                    if !self.outage.is_on() {
                        self.outage.pause().await;
                    }
                    continue;
                }
                Err(error) => error,
            };
            self.stream = None;
            let is_news = self.outage.goes_on(error)?;
            self.away.store(true, Ordering::Relaxed);
            if is_news {
                return Ok(News::Lost);
            }
        }
    }

    async fn message(&mut self, id: &str, after_version: i32) -> Result<Option<Deployment>, Error> {
        let stream = if let Some(stream) = &mut self.stream {
            stream
        } else {
            let request = WatchDeploymentRequest {
                id: id.to_owned(),
                after_version,
            };
            let stream = self.api.watch(request).await?;
            self.away.store(false, Ordering::Relaxed);
            self.outage.connects();
            self.stream.insert(stream)
        };
        stream
            .message()
            .await
            .map_err(|status| self.api.fault(status))
    }
}
