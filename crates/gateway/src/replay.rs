//! The feed of our own events, so that a lossy bus loses nothing.

use candlefish_messaging::feed;
use candlefish_proto::event::{
    HeadRequest, HeadResponse, ReplayRequest, ReplayResponse, feed_service_server::FeedService,
};
use candlefish_runtime::{
    database,
    refusal::{Code, Refusal},
};
use sqlx::PgPool;
use tonic::{Request, Response, Status};

use crate::delivery::SOURCE;

/// The feed service.
#[derive(Debug, Clone)]
pub(crate) struct Rpc {
    pub(crate) pool: PgPool,
}

#[tonic::async_trait]
impl FeedService for Rpc {
    async fn head(&self, _request: Request<HeadRequest>) -> Result<Response<HeadResponse>, Status> {
        let mut conn = self.pool.acquire().await.map_err(unread)?;
        let head = feed::head(&mut conn, SOURCE).await.map_err(refused)?;
        Ok(Response::new(head))
    }

    async fn replay(
        &self,
        request: Request<ReplayRequest>,
    ) -> Result<Response<ReplayResponse>, Status> {
        let asked = request.into_inner();
        let mut conn = self.pool.acquire().await.map_err(unread)?;
        let replay = feed::replay(&mut conn, asked.epoch, asked.from_seq, asked.limit);
        Ok(Response::new(replay.await.map_err(refused)?))
    }
}

fn unread(error: sqlx::Error) -> Status {
    database::refuse("read the feed", &error).into()
}

fn refused(error: feed::Error) -> Status {
    match error {
        feed::Error::Database(error) => unread(error),
        ahead @ feed::Error::Ahead { .. } => {
            let words = ahead.to_string();
            let refusal = Refusal::new(Code::InvalidArgument, "epoch-ahead", &words);
            refusal.field("epoch", words).into()
        }
        broken @ feed::Error::Envelope { .. } => {
            Refusal::new(Code::Internal, "feed-broken", broken.to_string()).into()
        }
    }
}
