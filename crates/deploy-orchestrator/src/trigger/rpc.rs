//! gRPC ↔ what became of pushes.

use candlefish_proto::deploy::{self as pb, trigger_service_server::TriggerService};
use candlefish_runtime::{database, identity};
use tonic::{Request, Response, Status};
use uuid::Uuid;

use super::{
    gateway::Gateway,
    store,
    unheard::{self, Stored},
    view,
};
use crate::{
    ctx::Ctx,
    field::Faults,
    page::{self, Filter, Page},
};

/// As few as a person types.
const LEAST_DIGITS: usize = 7;

/// The trigger service.
#[derive(Debug, Clone)]
pub(crate) struct Rpc {
    ctx: Ctx,
    /// None where nothing acts on webhooks.
    gateway: Option<Gateway>,
}

impl Rpc {
    pub(crate) fn new(ctx: Ctx, gateway: Option<Gateway>) -> Self {
        Self { ctx, gateway }
    }

    /// What may not be known here yet; nothing is asked for a later page.
    async fn stored(&self, first: bool) -> Result<Stored, Status> {
        let asked = self.gateway.as_ref().filter(|_gateway| first);
        let Some(gateway) = asked else {
            return Ok(Stored::default());
        };
        unheard::ask(&self.ctx.pool, gateway).await.map_err(unread)
    }
}

#[tonic::async_trait]
impl TriggerService for Rpc {
    async fn list_triggers(
        &self,
        request: Request<pb::ListTriggersRequest>,
    ) -> Result<Response<pb::ListTriggersResponse>, Status> {
        let caller = identity::caller(&request)?;
        let message = request.into_inner();
        let mut faults = Faults::default();
        if !message.commit.is_empty() || message.site.is_empty() {
            check_commit(&mut faults, &message.commit);
        }
        if !message.site.is_empty() {
            faults.site("site", &message.site);
        }
        let filter = Filter::of("ListTriggers")
            .with(&message.commit)
            .with(&message.site);
        let page: Page<Uuid> = Page::read(
            &mut faults,
            &filter,
            message.page_size,
            &message.page_token,
            page::SIZES,
        );
        faults.finish()?;
        let stored = self.stored(page.after().is_none()).await?;
        let mut conn = self.ctx.pool.acquire().await.map_err(unread)?;
        let asked = store::Asked {
            commit: &message.commit,
            site: &message.site,
            sites: &caller.sites,
            before: page.after().copied(),
            limit: page.limit(),
        };
        // First: what is decided in between is among the triggers then.
        let undecided = match page.after() {
            None => store::find_undecided(&mut conn, &stored.deliveries)
                .await
                .map_err(unread)?,
            Some(_later_page) => None,
        };
        let rows = store::list(&mut conn, &asked).await.map_err(unread)?;
        let sees_all = caller.sites.is_empty();
        let (rows, next_page_token) = page.cut(rows, |row| row.id.uuid());
        Ok(Response::new(pb::ListTriggersResponse {
            triggers: rows.into_iter().map(view::trigger).collect(),
            next_page_token,
            undecided: undecided.map(|found| view::undecided(found, sees_all)),
            gateway_error: stored
                .error
                .map(|error| view::gateway_error(&error, sees_all))
                .unwrap_or_default(),
        }))
    }
}

fn check_commit(faults: &mut Faults, commit: &str) {
    let digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    if !(LEAST_DIGITS..=64).contains(&commit.len()) || !commit.bytes().all(digit) {
        let words = format!("must be {LEAST_DIGITS} to 64 hex digits in lower case");
        faults.add("commit", words);
    }
}

fn unread(error: sqlx::Error) -> Status {
    database::refuse("read triggers", &error).into()
}
