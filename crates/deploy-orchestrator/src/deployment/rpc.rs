//! gRPC ↔ command, nothing else.

use std::pin::Pin;

use candlefish_ids::DeploymentId;
use candlefish_proto::deploy::{self as pb, deployment_service_server::DeploymentService};
use candlefish_runtime::{identity, identity::Caller, refusal::Refusal, tasks::Tasks};
use futures_util::Stream;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};
use uuid::Uuid;

use super::{
    Error,
    advance::{self, Advance},
    error::unknown,
    pin,
    retry::{self, Retry},
    roll_back,
    stop::{self, Stop},
    store::{self, Listing, Narrowing, Scope},
    together::Together,
    view, watch,
};
use crate::{
    ctx::{Ctx, shown},
    field::Faults,
    idempotency::Key,
    page::{self, Filter, Page},
    site,
};

mod commands;

/// Of logs and of ledgers of blockers.
const LONG: page::Sizes = page::Sizes {
    default: 200,
    most: 1000,
};
/// Versions that a slow watcher may lag behind before the watch waits for it.
const WATCH_BUFFER: usize = 4;

/// The deployment service.
#[derive(Debug, Clone)]
pub(crate) struct Rpc {
    ctx: Ctx,
    tasks: Tasks,
    together: Together,
}

impl Rpc {
    pub(crate) fn new(ctx: Ctx, tasks: Tasks) -> Self {
        Self {
            ctx,
            tasks,
            together: Together::new(),
        }
    }

    /// The deployment, if the caller may see it; with what is wrong with the request besides.
    async fn find(
        &self,
        caller: &Caller,
        id: &str,
        mut faults: Faults,
    ) -> Result<super::Deployment, Status> {
        let id = faults.id::<DeploymentId>("id", id);
        let id = faults.finish_with(id)?;
        let mut conn = self.ctx.pool.acquire().await.map_err(Error::from)?;
        let found = store::find(&mut conn, id).await.map_err(Error::from)?;
        let seen = found.filter(|deployment| caller.sees(&deployment.site));
        Ok(seen.ok_or_else(|| unknown(id))?)
    }
}

type Watching = Pin<Box<dyn Stream<Item = Result<pb::Deployment, Status>> + Send>>;

#[tonic::async_trait]
impl DeploymentService for Rpc {
    type WatchDeploymentStream = Watching;

    async fn create_deployment(
        &self,
        request: Request<pb::CreateDeploymentRequest>,
    ) -> Result<Response<pb::Deployment>, Status> {
        let (caller, key, message) = taken(request, "CreateDeployment")?;
        let cmd = commands::create(&self.ctx, &caller, &message).await?;
        let (ctx, together) = (self.ctx.clone(), self.together.clone());
        let reply = self
            .tasks
            .command(
                "command",
                Box::pin(async move { together.create(&ctx, caller, key, cmd).await }),
            )
            .await?;
        Ok(reply.into_response())
    }

    async fn get_deployment(
        &self,
        request: Request<pb::GetDeploymentRequest>,
    ) -> Result<Response<pb::Deployment>, Status> {
        let caller = identity::caller(&request)?;
        let id = &request.get_ref().id;
        let found = self.find(&caller, id, Faults::default()).await?;
        let mut conn = self.ctx.pool.acquire().await.map_err(Error::from)?;
        Ok(Response::new(
            view::whole(&self.ctx, &mut conn, found).await?,
        ))
    }

    async fn list_deployments(
        &self,
        request: Request<pb::ListDeploymentsRequest>,
    ) -> Result<Response<pb::ListDeploymentsResponse>, Status> {
        let caller = identity::caller(&request)?;
        let (page, what) = self.listing(&caller, request.into_inner()).await?;
        let mut conn = self.ctx.pool.acquire().await.map_err(Error::from)?;
        let rows = store::list(&mut conn, &what).await.map_err(Error::from)?;
        let (rows, next_page_token) = page.cut(rows, |one| one.id.uuid());
        let deployments = view::with_surroundings(&self.ctx, &mut conn, &rows).await?;
        Ok(Response::new(pb::ListDeploymentsResponse {
            deployments,
            next_page_token,
        }))
    }

    async fn watch_deployment(
        &self,
        request: Request<pb::WatchDeploymentRequest>,
    ) -> Result<Response<Watching>, Status> {
        let caller = identity::caller(&request)?;
        let message = request.into_inner();
        let mut faults = Faults::default();
        let after = faults.count("after_version", message.after_version, 0, 0..=i32::MAX);
        let found = self.find(&caller, &message.id, faults).await?;
        let (sender, receiver) = mpsc::channel(WATCH_BUFFER);
        let watching = watch::run(
            self.ctx.clone(),
            found.id,
            after,
            sender,
            self.tasks.stopping(),
        );
        self.tasks
            .spawn("watch", candlefish_runtime::tasks::Policy::Ignore, watching);
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }

    async fn list_steps(
        &self,
        request: Request<pb::ListStepsRequest>,
    ) -> Result<Response<pb::ListStepsResponse>, Status> {
        let caller = identity::caller(&request)?;
        let id = &request.get_ref().id;
        let found = self.find(&caller, id, Faults::default()).await?;
        let mut conn = self.ctx.pool.acquire().await.map_err(Error::from)?;
        let steps = view::steps(&mut conn, &found).await.map_err(Error::from)?;
        Ok(Response::new(pb::ListStepsResponse { steps }))
    }

    async fn list_logs(
        &self,
        request: Request<pb::ListLogsRequest>,
    ) -> Result<Response<pb::ListLogsResponse>, Status> {
        let caller = identity::caller(&request)?;
        let message = request.into_inner();
        let mut faults = Faults::default();
        let filter = Filter::of("ListLogs").with(&message.id);
        let page: Page<i64> = Page::read(
            &mut faults,
            &filter,
            message.page_size,
            &message.page_token,
            LONG,
        );
        let found = self.find(&caller, &message.id, faults).await?;
        let after = page.after().copied().unwrap_or(0);
        let mut conn = self.ctx.pool.acquire().await.map_err(Error::from)?;
        let rows = store::list_log(&mut conn, found.id, after, page.limit())
            .await
            .map_err(Error::from)?;
        let size = usize::try_from(page.size()).unwrap_or(0);
        let more = rows.len() > size;
        let rows = rows.get(..size.min(rows.len())).unwrap_or_default();
        let last = rows.last().map_or(after, |(id, ..)| *id);
        Ok(Response::new(pb::ListLogsResponse {
            lines: rows
                .iter()
                .map(|(_, at, step_ord, message)| pb::LogLine {
                    at: Some(shown(*at)),
                    message: message.clone(),
                    step_ord: *step_ord,
                })
                .collect(),
            next_page_token: page.token(&last),
            more,
        }))
    }

    async fn list_blockers(
        &self,
        request: Request<pb::ListBlockersRequest>,
    ) -> Result<Response<pb::ListBlockersResponse>, Status> {
        let caller = identity::caller(&request)?;
        let message = request.into_inner();
        let mut faults = Faults::default();
        let filter = Filter::of("ListBlockers").with(&message.id);
        let page = Page::read(
            &mut faults,
            &filter,
            message.page_size,
            &message.page_token,
            LONG,
        );
        let found = self.find(&caller, &message.id, faults).await?;
        let mut conn = self.ctx.pool.acquire().await.map_err(Error::from)?;
        let answer = view::blockers(&mut conn, found.id, &page).await;
        Ok(Response::new(answer.map_err(Error::from)?))
    }

    async fn cancel_deployment(
        &self,
        request: Request<pb::CancelDeploymentRequest>,
    ) -> Result<Response<pb::Deployment>, Status> {
        let (caller, key, message) = taken(request, "CancelDeployment")?;
        self.stop(caller, key, &message.id, &message.reason, false)
            .await
    }

    async fn abort_deployment(
        &self,
        request: Request<pb::AbortDeploymentRequest>,
    ) -> Result<Response<pb::Deployment>, Status> {
        let (caller, key, message) = taken(request, "AbortDeployment")?;
        self.stop(caller, key, &message.id, &message.reason, true)
            .await
    }

    async fn retry_deployment(
        &self,
        request: Request<pb::RetryDeploymentRequest>,
    ) -> Result<Response<pb::Deployment>, Status> {
        let (caller, key, message) = taken(request, "RetryDeployment")?;
        let mut faults = Faults::default();
        let id = faults.id("id", &message.id);
        let reason = faults.optional_reason("reason", &message.reason);
        let cmd = Retry {
            id: faults.finish_with(id)?,
            reason,
        };
        let ctx = self.ctx.clone();
        let reply = self
            .tasks
            .command("command", async move {
                Box::pin(retry::retry(&ctx, &caller, key, cmd)).await
            })
            .await?;
        Ok(reply.into_response())
    }

    async fn advance_deployment(
        &self,
        request: Request<pb::AdvanceDeploymentRequest>,
    ) -> Result<Response<pb::Deployment>, Status> {
        let (caller, key, message) = taken(request, "AdvanceDeployment")?;
        let mut faults = Faults::default();
        let id = faults.id("id", &message.id);
        let reason = faults.optional_reason("reason", &message.reason);
        if message.step_ord < 1 {
            faults.add("step_ord", "must name the step to leave, from 1");
        }
        let cmd = Advance {
            id: faults.finish_with(id)?,
            step_ord: message.step_ord,
            reason,
        };
        let ctx = self.ctx.clone();
        let reply = self
            .tasks
            .command("command", async move {
                advance::advance(&ctx, &caller, key, cmd).await
            })
            .await?;
        Ok(reply.into_response())
    }

    async fn pin_deployment(
        &self,
        request: Request<pb::PinDeploymentRequest>,
    ) -> Result<Response<pb::Deployment>, Status> {
        let (caller, key, message) = taken(request, "PinDeployment")?;
        let mut faults = Faults::default();
        let id = faults.id("id", &message.id);
        let reason = faults.reason("reason", &message.reason);
        let cmd = pin::Change {
            id: faults.finish_with(id)?,
            reason,
            unpins: message.unpin,
        };
        let ctx = self.ctx.clone();
        let reply = self
            .tasks
            .command("command", async move {
                pin::change(&ctx, &caller, key, cmd).await
            })
            .await?;
        Ok(reply.into_response())
    }

    async fn create_rollback(
        &self,
        request: Request<pb::CreateRollbackRequest>,
    ) -> Result<Response<pb::Rollback>, Status> {
        let (caller, key, message) = taken(request, "CreateRollback")?;
        let cmd = commands::roll_back(&self.ctx, &caller, &message).await?;
        let ctx = self.ctx.clone();
        let command = async move { Box::pin(roll_back::roll_back(&ctx, &caller, key, cmd)).await };
        Ok(self
            .tasks
            .command("command", command)
            .await?
            .into_response())
    }
}

impl Rpc {
    async fn stop(
        &self,
        caller: Caller,
        key: Option<Key>,
        id: &str,
        reason: &str,
        aborts: bool,
    ) -> Result<Response<pb::Deployment>, Status> {
        let mut faults = Faults::default();
        let id = faults.id("id", id);
        let reason = faults.optional_reason("reason", reason);
        let cmd = Stop {
            id: faults.finish_with(id)?,
            aborts,
            reason,
        };
        let ctx = self.ctx.clone();
        let reply = self
            .tasks
            .command("command", async move {
                stop::stop(&ctx, &caller, key, cmd).await
            })
            .await?;
        Ok(reply.into_response())
    }

    async fn listing(
        &self,
        caller: &Caller,
        message: pb::ListDeploymentsRequest,
    ) -> Result<(Page<Uuid>, Listing), Status> {
        let mut faults = Faults::default();
        let filter = Filter::of("ListDeployments")
            .with(&message.site)
            .with(&message.environment)
            .with(message.state.to_be_bytes())
            .with(&message.commit);
        let page = Page::read(
            &mut faults,
            &filter,
            message.page_size,
            &message.page_token,
            page::SIZES,
        );
        let state = narrowing(&mut faults, message.state);
        faults.optional_place(&message.site, &message.environment);
        if message.site.is_empty() && !message.environment.is_empty() {
            faults.add("site", "must be named with `environment`");
        }
        let commit = faults.optional_commit("commit", &message.commit);
        let (pool, site, environment) = (&self.ctx.pool, &message.site, &message.environment);
        site::name_absent(pool, &mut faults, caller, site, environment).await;
        faults.finish()?;
        let scope = self
            .scope(caller, &message.site, &message.environment)
            .await?;
        let listing = Listing {
            scope,
            state,
            commit,
            before: page.after().copied().map(DeploymentId::from_uuid),
            limit: page.limit(),
        };
        Ok((page, listing))
    }

    /// Where to list: no wider than what the caller may see.
    async fn scope(&self, caller: &Caller, site: &str, environment: &str) -> Result<Scope, Status> {
        let mut conn = self.ctx.pool.acquire().await.map_err(Error::from)?;
        if !environment.is_empty() {
            let found = site::find_environment(&mut conn, site, environment, caller)
                .await
                .map_err(Refusal::from)?;
            return Ok(Scope::Environment(found.site_id, found.id));
        }
        if !site.is_empty() {
            let found = site::find(&mut conn, site, caller).await;
            return Ok(Scope::Sites(vec![found.map_err(Refusal::from)?.id]));
        }
        if caller.sites.is_empty() {
            return Ok(Scope::All);
        }
        let seen = site::store::list_ids(&mut conn, &caller.sites).await;
        let seen = seen.map_err(site::Error::from).map_err(Refusal::from)?;
        Ok(Scope::Sites(seen))
    }
}

/// Caller, key and message of a mutating call.
fn taken<T: prost::Message>(
    request: Request<T>,
    method: &'static str,
) -> Result<(Caller, Option<Key>, T), Status> {
    let caller = identity::caller(&request)?;
    let key = Key::of(request.metadata(), &caller, method, request.get_ref())?;
    Ok((caller, key, request.into_inner()))
}

fn narrowing(faults: &mut Faults, state: i32) -> Option<Narrowing> {
    use pb::deployment::State;
    let (word, terminal) = match State::try_from(state) {
        Ok(State::Unspecified) => return None,
        Ok(State::Pending) => ("pending", false),
        Ok(State::Running) => ("running", false),
        Ok(State::Waiting) => ("waiting", false),
        Ok(State::Cancelling) => ("cancelling", false),
        Ok(State::Succeeded) => ("succeeded", true),
        Ok(State::Failed) => ("failed", true),
        Ok(State::Cancelled) => ("cancelled", true),
        Ok(State::Superseded) => ("superseded", true),
        Ok(State::RolledBack) => ("rolled_back", true),
        Err(_unknown) => {
            let words = format!("must be a state of deployments, not {state}");
            faults.add("state", words);
            return None;
        }
    };
    Some(Narrowing { word, terminal })
}
