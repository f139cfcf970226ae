//! gRPC to a watch.

use std::{sync::Arc, time::Duration};

use candlefish_proto::event::{
    WatchEventsRequest, WatchEventsResponse, event_service_server::EventService,
};
use candlefish_runtime::{identity, refusal::Refusal, tasks::Tasks};
use futures_util::{StreamExt, stream::BoxStream};
use tonic::{Request, Response, Status};

use super::{
    CURSOR, Tail,
    cursor::Cursor,
    filter::Filter,
    watch::{self, Watch},
};
use crate::field::Faults;

/// How long a watch waits to hear whether its site is there.
const ASKED_WITHIN: Duration = Duration::from_secs(2);

/// Which sites there are, as their owner says.
#[tonic::async_trait]
pub(crate) trait Sites: Send + Sync + std::fmt::Debug {
    /// Whether one has this slug, whoever may see it.
    async fn has(&self, site: &str) -> Result<bool, Status>;
}

/// The event service.
#[derive(Debug, Clone)]
pub(crate) struct Rpc {
    tail: Tail,
    sites: Arc<dyn Sites>,
    tasks: Tasks,
    quiet: Duration,
}

impl Rpc {
    /// A watcher that is told nothing for as long as `quiet` is told how far it is.
    pub(crate) fn new(tail: Tail, sites: Arc<dyn Sites>, tasks: Tasks, quiet: Duration) -> Self {
        Self {
            tail,
            sites,
            tasks,
            quiet,
        }
    }

    /// Refuses a site that is not there: its events would be waited for in vain. Where nobody can be asked
    /// the watch begins all the same, as it does without a site.
    async fn check_site(&self, filter: &Filter) -> Result<(), Refusal> {
        if filter.site().is_empty() {
            return Ok(());
        }
        let asking = self.sites.has(filter.site());
        match tokio::time::timeout(ASKED_WITHIN, asking).await {
            Ok(Ok(true)) => Ok(()),
            Ok(Ok(false)) => Err(filter.no_site()),
            unknown => {
                tracing::debug!(?unknown, "a watch begins without knowing its site");
                Ok(())
            }
        }
    }
}

#[tonic::async_trait]
impl EventService for Rpc {
    type WatchEventsStream = BoxStream<'static, Result<WatchEventsResponse, Status>>;

    async fn watch_events(
        &self,
        request: Request<WatchEventsRequest>,
    ) -> Result<Response<Self::WatchEventsStream>, Status> {
        let caller = identity::caller(&request)?;
        let request = request.into_inner();
        let mut faults = Faults::default();
        let filter = Filter::read(&request, caller, &mut faults);
        let cursor = Cursor::parse(&request.cursor).unwrap_or_else(|message| {
            faults.add("cursor", message);
            Cursor::default()
        });
        faults.finish()?;
        filter.check()?;
        // A tail that has ended reaches nothing any more: whoever waits for it would hold up the stop.
        let stopping = self.tasks.stopping();
        let beginning = async {
            self.check_site(&filter).await?;
            Watch::begin(self.tail.clone(), filter, cursor).await
        };
        let begun = stopping.run_until_cancelled(beginning).await;
        let watch = begun.unwrap_or_else(|| Err(watch::stopped()))?;
        let begins_after = watch.begins_after().and_then(|text| text.parse().ok());
        let stream = watch.stream(stopping, self.quiet);
        let mut response = Response::new(stream.boxed());
        if let Some(cursor) = begins_after {
            response.metadata_mut().insert(CURSOR, cursor);
        }
        Ok(response)
    }
}

#[cfg(test)]
mod tests {
    use candlefish_proto::event::{Envelope, HeadResponse, ReplayRequest, ReplayResponse};
    use candlefish_runtime::identity::Caller;
    use futures_util::FutureExt;
    use tonic::Code;
    use tonic_types::StatusExt;

    use super::*;
    use crate::events::{Feed, Listener, Place};

    /// A source that is ahead of what was read of it.
    #[derive(Debug)]
    struct Ahead;

    #[tonic::async_trait]
    impl Feed for Ahead {
        async fn head(&self) -> Result<HeadResponse, Status> {
            Ok(HeadResponse {
                source: "deploy".to_owned(),
                epoch: 1,
                seq: 9,
            })
        }

        async fn replay(&self, _asked: ReplayRequest) -> Result<ReplayResponse, Status> {
            Ok(ReplayResponse::default())
        }
    }

    impl Listener for Ahead {
        fn told(&self, _event: &Envelope) {}

        fn follows(&self) {}

        fn lost(&self) {}
    }

    #[tonic::async_trait]
    impl Sites for Ahead {
        async fn has(&self, site: &str) -> Result<bool, Status> {
            match site {
                "docs" => Ok(true),
                "down" => Err(Status::unavailable("no replica")),
                _ => Ok(false),
            }
        }
    }

    #[tokio::test]
    async fn a_site_that_is_not_there_is_refused_unless_nobody_can_say() {
        let hour = Duration::from_hours(1);
        let tail = Tail::new("deploy", Arc::new(Ahead), Arc::new(Ahead), hour);
        let rpc = Rpc::new(tail, Arc::new(Ahead), Tasks::new(), hour);
        for (site, is_there) in [("docs", true), ("doc", false), ("down", true)] {
            let mut request = Request::new(WatchEventsRequest {
                site: site.to_owned(),
                ..WatchEventsRequest::default()
            });
            request.extensions_mut().insert(Caller::process("test"));
            match rpc.watch_events(request).await {
                Ok(_begun) => assert!(is_there, "{site}"),
                Err(status) => {
                    assert!(!is_there, "{site}: {status:?}");
                    assert_eq!(status.code(), Code::NotFound, "{status:?}");
                    let named = status.get_details_bad_request().unwrap().field_violations;
                    assert_eq!(named[0].field, "site");
                }
            }
        }
    }

    #[tokio::test]
    async fn a_watch_that_waits_for_its_place_does_not_hold_up_the_stop() {
        let tasks = Tasks::new();
        let hour = Duration::from_hours(1);
        // It does not run: the process is about to stop.
        let tail = Tail::new("deploy", Arc::new(Ahead), Arc::new(Ahead), hour);
        let rpc = Rpc::new(tail, Arc::new(Ahead), tasks.clone(), hour);
        let mut cursor = Cursor::default();
        cursor.set("deploy", Place { epoch: 1, seq: 7 });
        let mut request = Request::new(WatchEventsRequest {
            cursor: cursor.text(),
            ..WatchEventsRequest::default()
        });
        request.extensions_mut().insert(Caller::process("test"));
        let mut watching = rpc.watch_events(request);
        assert!(watching.as_mut().now_or_never().is_none());
        tasks.stop();
        let status = watching.await.err().unwrap();
        assert_eq!(status.code(), Code::Unavailable, "{status:?}");
    }
}
