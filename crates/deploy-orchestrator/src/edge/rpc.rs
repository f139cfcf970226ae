//! gRPC ↔ edges: the list for people, the stream for the edges themselves.

use std::{pin::Pin, sync::Arc};

use candlefish_proto::deploy::{self as pb, edge_service_server::EdgeService};
use candlefish_runtime::{
    identity,
    tasks::{Policy, Tasks},
};
use futures_util::Stream;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use super::{store, stream};
use crate::{
    ctx::Ctx,
    deployment::Error,
    field::Faults,
    page::{self, Filter, Page},
    route::table::Seen,
    step::worker::EdgeNews,
};

/// Answers that may wait for a slow edge; beyond it the stream waits, and sends the newest state.
const BUFFER: usize = 4;

/// The edge service.
#[derive(Debug, Clone)]
pub(crate) struct Rpc {
    pub(crate) ctx: Ctx,
    pub(crate) tasks: Tasks,
    pub(crate) routes: watch::Receiver<Seen>,
    pub(crate) news: Arc<EdgeNews>,
}

type Routes = Pin<Box<dyn Stream<Item = Result<pb::WatchRoutesResponse, Status>> + Send>>;

#[tonic::async_trait]
impl EdgeService for Rpc {
    type WatchRoutesStream = Routes;

    async fn list_edges(
        &self,
        request: Request<pb::ListEdgesRequest>,
    ) -> Result<Response<pb::ListEdgesResponse>, Status> {
        identity::caller(&request)?;
        let message = request.into_inner();
        let mut faults = Faults::default();
        let page: Page<String> = Page::read(
            &mut faults,
            &Filter::of("ListEdges"),
            message.page_size,
            &message.page_token,
            page::SIZES,
        );
        faults.finish()?;
        let after = page.after().map_or("", String::as_str);
        let mut conn = self.ctx.pool.acquire().await.map_err(Error::from)?;
        let edges = store::list(&mut conn, after, page.limit()).await;
        let (edges, next_page_token) =
            page.cut(edges.map_err(Error::from)?, |edge| edge.id.clone());
        Ok(Response::new(pb::ListEdgesResponse {
            edges,
            next_page_token,
        }))
    }

    async fn watch_routes(
        &self,
        request: Request<Streaming<pb::WatchRoutesRequest>>,
    ) -> Result<Response<Routes>, Status> {
        identity::caller(&request)?;
        let (sender, receiver) = mpsc::channel(BUFFER);
        let serving = stream::Serving {
            pool: self.ctx.pool.clone(),
            nudges: self.ctx.nudges.clone(),
            routes: self.routes.clone(),
            news: Arc::clone(&self.news),
            sender,
        };
        let stopping = self.tasks.stopping();
        let reports = request.into_inner();
        self.tasks.spawn("edge stream", Policy::Ignore, async move {
            tokio::select! {
                () = stopping.cancelled() => {}
                () = serving.run(reports) => {}
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }
}
