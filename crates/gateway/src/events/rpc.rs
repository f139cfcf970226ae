//! gRPC to a watch.

use std::time::Duration;

use candlefish_proto::event::{
    WatchEventsRequest, WatchEventsResponse, event_service_server::EventService,
};
use candlefish_runtime::{identity, tasks::Tasks};
use futures_util::{StreamExt, stream::BoxStream};
use tonic::{Request, Response, Status};

use super::{CURSOR, Tail, cursor::Cursor, filter::Filter, watch::Watch};
use crate::field::Faults;

/// The event service.
#[derive(Debug, Clone)]
pub(crate) struct Rpc {
    tail: Tail,
    tasks: Tasks,
    quiet: Duration,
}

impl Rpc {
    /// A watcher that is told nothing for as long as `quiet` is told how far it is.
    pub(crate) const fn new(tail: Tail, tasks: Tasks, quiet: Duration) -> Self {
        Self { tail, tasks, quiet }
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
        let watch = Watch::begin(self.tail.clone(), filter, cursor).await?;
        let begins_after = watch.begins_after().and_then(|text| text.parse().ok());
        let stream = watch.stream(self.tasks.stopping(), self.quiet);
        let mut response = Response::new(stream.boxed());
        if let Some(cursor) = begins_after {
            response.metadata_mut().insert(CURSOR, cursor);
        }
        Ok(response)
    }
}
