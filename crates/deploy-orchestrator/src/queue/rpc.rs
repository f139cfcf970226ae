//! gRPC ↔ what waits for a person. The two verbs are small enough to live here with their
//! transactions.

use candlefish_ids::{DeploymentId, StepId};
use candlefish_proto::deploy::{self as pb, queue_service_server::QueueService};
use candlefish_runtime::{
    identity::{self, Caller},
    refusal::{Code, Refusal},
};
use tonic::{Request, Response, Status};
use uuid::Uuid;

use super::store::{self, Quarantined};
use crate::{
    ctx::{Ctx, Tx, shown},
    deployment::{
        self, Deployment, Error,
        apply::{Change, apply_and_record},
        state::{Cause, Event, State},
    },
    field::Faults,
    lane::{self, store::Lane},
    page::{self, Filter, Page},
};

/// The queue service.
#[derive(Debug, Clone)]
pub(crate) struct Rpc {
    pub(crate) ctx: Ctx,
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
        let page: Page<Uuid> = Page::read(
            &mut faults,
            &Filter::of("ListQueueItems"),
            message.page_size,
            &message.page_token,
            page::SIZES,
        );
        faults.finish()?;
        let mut conn = self.ctx.pool.acquire().await.map_err(Error::from)?;
        let after: Option<Uuid> = page.after().copied();
        let rows = store::list(&mut conn, &caller.sites, after, page.limit())
            .await
            .map_err(Error::from)?;
        let (rows, next_page_token) = page.cut(rows, |one| one.id.uuid());
        let items = rows.into_iter().map(item).collect();
        Ok(Response::new(pb::ListQueueItemsResponse {
            items,
            next_page_token,
        }))
    }

    async fn replay_queue_item(
        &self,
        request: Request<pb::ReplayQueueItemRequest>,
    ) -> Result<Response<pb::QueueItem>, Status> {
        let caller = identity::caller(&request)?;
        let message = request.into_inner();
        let (step, reason) = named(&message.id, &message.reason)?;
        let item = self.decide(&caller, step, &reason, true).await?;
        Ok(Response::new(item))
    }

    async fn discard_queue_item(
        &self,
        request: Request<pb::DiscardQueueItemRequest>,
    ) -> Result<Response<pb::QueueItem>, Status> {
        let caller = identity::caller(&request)?;
        let message = request.into_inner();
        let (step, reason) = named(&message.id, &message.reason)?;
        let item = self.decide(&caller, step, &reason, false).await?;
        Ok(Response::new(item))
    }
}

impl Rpc {
    async fn decide(
        &self,
        caller: &Caller,
        step: StepId,
        reason: &str,
        replay: bool,
    ) -> Result<pb::QueueItem, Error> {
        let ctx = &self.ctx;
        let mut tx = ctx.begin().await.map_err(Error::Begin)?;
        let (mut lane, mut deployment, quarantined) = lock(&mut tx, caller, step).await?;
        let now = tx.now();
        let done = if replay {
            store::replay(&mut tx, now, step).await?
        } else {
            store::discard(&mut tx, now, step).await?
        };
        if !done {
            return Err(unknown(step).into());
        }
        let verb = if replay {
            "puts back to work"
        } else {
            "gives up"
        };
        let words = format!("{} {verb} {}: {reason}", caller.principal, quarantined.kind);
        move_on(&mut tx, &mut lane, &mut deployment, caller, &words, replay).await?;
        lane::grant(ctx, &mut tx, &mut lane).await?;
        ctx.commit(tx).await.map_err(Error::Commit)?;
        Ok(item(quarantined))
    }
}

async fn move_on(
    tx: &mut Tx,
    lane: &mut Lane,
    deployment: &mut Deployment,
    caller: &Caller,
    words: &str,
    replay: bool,
) -> Result<(), Error> {
    let now = tx.now();
    let cancelling = matches!(deployment.state, State::Cancelling { .. });
    crate::blocker::set(tx, now, deployment.id, None).await?;
    deployment::store::log(tx, now, deployment.id, 0, words).await?;
    if let Some(left) = deployment.deadline_left.take() {
        deployment.deadline_at = Some(now.plus(left));
    }
    let event = match (replay, cancelling) {
        // An undo step that is replayed changes nothing but its own row.
        (true, true) => return Ok(()),
        (true, false) => Event::Resumes,
        (false, false) => Event::Stops(Cause::Discarded),
        (false, true) => {
            deployment.target_confirmed = Some(false);
            if crate::step::store::ready_next(tx, now, deployment.id)
                .await?
                .is_some()
            {
                return Ok(());
            }
            Event::Undone
        }
    };
    let change = Change::new(event, &caller.principal, words);
    apply_and_record(tx, lane, deployment, change).await
}

async fn lock(
    tx: &mut Tx,
    caller: &Caller,
    step: StepId,
) -> Result<(Lane, Deployment, Quarantined), Error> {
    let id: DeploymentId = store::find_deployment(tx, step)
        .await?
        .ok_or_else(|| unknown(step))?;
    let (lane, deployment) = deployment::stop::lock(tx, caller, id).await?;
    let before = step.uuid().as_u128().checked_sub(1).map(Uuid::from_u128);
    let mut found = store::list(tx, &caller.sites, before, 1).await?;
    let quarantined = found
        .pop()
        .filter(|one| one.id == step)
        .ok_or_else(|| unknown(step))?;
    Ok((lane, deployment, quarantined))
}

fn named(id: &str, reason: &str) -> Result<(StepId, String), Status> {
    let mut faults = Faults::default();
    let step = faults.id("id", id);
    let reason = faults.reason("reason", reason);
    Ok((faults.finish_with(step)?, reason))
}

fn unknown(step: StepId) -> Refusal {
    let words = format!("nothing named {step} waits for a person");
    Refusal::new(Code::NotFound, "queue-item-unknown", words)
}

fn item(step: Quarantined) -> pb::QueueItem {
    pb::QueueItem {
        id: step.id.to_string(),
        kind: pb::queue_item::Kind::Step.into(),
        since: step.since.map(shown),
        error: step.error,
        deployment_id: step.deployment_id.to_string(),
        summary: format!("{} of {}/{}", step.kind, step.site, step.environment),
    }
}
