//! gRPC ↔ what waits for a person.

use candlefish_messaging::dead_letter::{self, Wanted};
use candlefish_proto::deploy::{self as pb, queue_service_server::QueueService};
use candlefish_runtime::{
    identity::{self, Caller},
    refusal::Refusal,
    tasks::Tasks,
};
use tonic::{Request, Response, Status};
use uuid::Uuid;

use super::{
    ItemId, Listed,
    decide::{self, Decide},
    letter_item, step_item, store,
};
use crate::{
    ctx::Ctx,
    deployment::Error,
    field::Faults,
    idempotency::Key,
    page::{self, Filter, Page},
};

const CONSUMER_MAX: usize = 100;
const ERROR_MAX: usize = 200;

/// The queue service.
#[derive(Debug, Clone)]
pub(crate) struct Rpc {
    ctx: Ctx,
    tasks: Tasks,
}

impl Rpc {
    pub(crate) fn new(ctx: Ctx, tasks: Tasks) -> Self {
        Self { ctx, tasks }
    }

    /// Decides to the end, whatever becomes of the caller's connection.
    async fn decide(
        &self,
        caller: Caller,
        key: Option<Key>,
        cmd: Decide,
    ) -> Result<Response<pb::QueueItem>, Status> {
        let ctx = self.ctx.clone();
        let command = async move { decide::decide(&ctx, &caller, key, cmd).await };
        let done = self.tasks.command("command", Box::pin(command)).await;
        Ok(done?.into_response())
    }

    async fn list(
        &self,
        caller: &Caller,
        wanted: Wanted<'_>,
        page: &Page<Uuid>,
    ) -> Result<Vec<Listed>, Error> {
        let mut conn = self.ctx.pool.acquire().await?;
        let (after, limit) = (page.after().copied(), page.limit());
        let mut items: Vec<Listed> = Vec::new();
        // A step has no consumer.
        if wanted.consumer.is_empty() {
            let steps = store::list(&mut conn, &caller.sites, wanted.error, after, limit).await?;
            items.extend(steps.into_iter().map(step_item));
        }
        if caller.sites.is_empty() {
            let after = after.map(candlefish_ids::DeadLetterId::from_uuid);
            let letters = dead_letter::list(&mut conn, wanted, after, limit).await?;
            items.extend(letters.into_iter().map(letter_item));
        }
        items.sort_by_key(|(place, _)| *place);
        items.truncate(usize::try_from(limit).unwrap_or(0));
        Ok(items)
    }
}

#[tonic::async_trait]
impl QueueService for Rpc {
    async fn list_queue_items(
        &self,
        request: Request<pb::ListQueueItemsRequest>,
    ) -> Result<Response<pb::ListQueueItemsResponse>, Status> {
        let caller = identity::caller(&request)?;
        let message = request.into_inner();
        let mut faults = Faults::default();
        let (consumer, error) = (&message.consumer, &message.error);
        faults.optional_text("consumer", consumer, CONSUMER_MAX);
        faults.optional_text("error", error, ERROR_MAX);
        let page: Page<Uuid> = Page::read(
            &mut faults,
            &Filter::of("ListQueueItems").with(consumer).with(error),
            message.page_size,
            &message.page_token,
            page::SIZES,
        );
        faults.finish()?;
        let wanted = Wanted { consumer, error };
        let listed = self.list(&caller, wanted, &page).await?;
        let (listed, next_page_token) = page.cut(listed, |(place, _)| *place);
        Ok(Response::new(pb::ListQueueItemsResponse {
            items: listed.into_iter().map(|(_, item)| item).collect(),
            next_page_token,
        }))
    }

    async fn replay_queue_item(
        &self,
        request: Request<pb::ReplayQueueItemRequest>,
    ) -> Result<Response<pb::QueueItem>, Status> {
        let caller = identity::caller(&request)?;
        let message = request.get_ref();
        let cmd = read(&message.id, &message.reason, true)?;
        let key = Key::of(request.metadata(), &caller, "ReplayQueueItem", message)?;
        self.decide(caller, key, cmd).await
    }

    async fn discard_queue_item(
        &self,
        request: Request<pb::DiscardQueueItemRequest>,
    ) -> Result<Response<pb::QueueItem>, Status> {
        let caller = identity::caller(&request)?;
        let message = request.get_ref();
        let cmd = read(&message.id, &message.reason, false)?;
        let key = Key::of(request.metadata(), &caller, "DiscardQueueItem", message)?;
        self.decide(caller, key, cmd).await
    }
}

fn read(id: &str, reason: &str, replays: bool) -> Result<Decide, Refusal> {
    let mut faults = Faults::default();
    let item: Option<ItemId> = id.parse().ok();
    if item.is_none() {
        faults.add("id", "must be `step_` or `dl_` and 26 characters");
    }
    let reason = faults.reason("reason", reason);
    Ok(Decide {
        item: faults.finish_with(item)?,
        reason,
        replays,
    })
}
