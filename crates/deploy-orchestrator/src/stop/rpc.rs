//! gRPC ↔ command, nothing else.

use candlefish_proto::deploy::{self as pb, stop_service_server::StopService};
use candlefish_runtime::{
    identity::{self, Caller},
    tasks::Tasks,
};
use tonic::{Request, Response, Status};
use uuid::Uuid;

use super::{
    Error, Stop,
    lift::{self, Lift},
    set::{self, Set},
    store, view,
};
use crate::{
    ctx::Ctx,
    field::Faults,
    idempotency::Key,
    page::{self, Filter, Page},
    site,
};

/// The stop service.
#[derive(Debug, Clone)]
pub(crate) struct Rpc {
    ctx: Ctx,
    tasks: Tasks,
}

impl Rpc {
    pub(crate) fn new(ctx: Ctx, tasks: Tasks) -> Self {
        Self { ctx, tasks }
    }

    async fn list(
        &self,
        caller: &Caller,
        site: &str,
        include_ended: bool,
        page: &Page<Uuid>,
    ) -> Result<Vec<Stop>, Error> {
        let mut conn = self.ctx.pool.acquire().await?;
        let slugs = if site.is_empty() {
            caller.sites.clone()
        } else {
            vec![site::find(&mut conn, site, caller).await?.slug]
        };
        let sites: Option<Vec<Uuid>> = if slugs.is_empty() {
            None
        } else {
            let ids = site::store::list_ids(&mut conn, &slugs).await?;
            Some(ids.iter().map(|id| id.uuid()).collect())
        };
        let before = page.after().copied().unwrap_or_else(Uuid::max);
        let sites = sites.as_deref();
        Ok(if include_ended {
            store::list_all(&mut conn, sites, before, page.limit()).await?
        } else {
            store::list_standing(&mut conn, sites, before, page.limit()).await?
        })
    }
}

#[tonic::async_trait]
impl StopService for Rpc {
    async fn set_stop(
        &self,
        request: Request<pb::SetStopRequest>,
    ) -> Result<Response<pb::Stop>, Status> {
        let (caller, key, message) = taken(request, "SetStop")?;
        let mut faults = Faults::default();
        let site = (!message.site.is_empty()).then(|| faults.site("site", &message.site));
        let reason = faults.reason("reason", &message.reason);
        if message.until.is_none() {
            faults.add(
                "until",
                "is missing: a stop ends by itself, at most 7 days ahead",
            );
        }
        let until = faults.timestamp("until", message.until.as_ref());
        let (pool, slug) = (&self.ctx.pool, &message.site);
        site::name_absent(pool, &mut faults, &caller, slug, "").await;
        let cmd = Set {
            site,
            pauses: message.pauses,
            reason,
            until: faults.finish_with(until)?,
        };
        let ctx = self.ctx.clone();
        let reply =
            self.tasks.command(
                "command",
                async move { set::set(&ctx, &caller, key, cmd).await },
            );
        Ok(reply.await?.into_response())
    }

    async fn lift_stop(
        &self,
        request: Request<pb::LiftStopRequest>,
    ) -> Result<Response<pb::Stop>, Status> {
        let (caller, key, message) = taken(request, "LiftStop")?;
        let mut faults = Faults::default();
        let id = faults.id("id", &message.id);
        let reason = faults.reason("reason", &message.reason);
        let cmd = Lift {
            id: faults.finish_with(id)?,
            reason,
        };
        let ctx = self.ctx.clone();
        let reply = self.tasks.command("command", async move {
            lift::lift(&ctx, &caller, key, cmd).await
        });
        Ok(reply.await?.into_response())
    }

    async fn list_stops(
        &self,
        request: Request<pb::ListStopsRequest>,
    ) -> Result<Response<pb::ListStopsResponse>, Status> {
        let caller = identity::caller(&request)?;
        let message = request.into_inner();
        let mut faults = Faults::default();
        if !message.site.is_empty() {
            faults.site("site", &message.site);
        }
        let filter = Filter::of("ListStops")
            .with(&message.site)
            .with([u8::from(message.include_ended)]);
        let page: Page<Uuid> = Page::read(
            &mut faults,
            &filter,
            message.page_size,
            &message.page_token,
            page::SIZES,
        );
        let (pool, slug) = (&self.ctx.pool, &message.site);
        site::name_absent(pool, &mut faults, &caller, slug, "").await;
        faults.finish()?;
        let rows = self
            .list(&caller, &message.site, message.include_ended, &page)
            .await?;
        let (rows, next_page_token) = page.cut(rows, |stop| stop.id.uuid());
        Ok(Response::new(pb::ListStopsResponse {
            stops: rows.iter().map(view::stop).collect(),
            next_page_token,
        }))
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
