//! gRPC ↔ what became of pushes.

use candlefish_proto::deploy::{self as pb, trigger_service_server::TriggerService};
use candlefish_runtime::{database, identity};
use sqlx::PgConnection;
use tonic::{Request, Response, Status};
use uuid::Uuid;

use super::{
    gateway::Gateway,
    store::{self, By},
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
        let by = read(&mut faults, &message);
        let filter = Filter::of("ListTriggers")
            .with(&message.commit)
            .with(&message.site)
            .with(&message.delivery_id);
        let page: Page<Uuid> = Page::read(
            &mut faults,
            &filter,
            message.page_size,
            &message.page_token,
            page::SIZES,
        );
        let by = faults.finish_with(by)?;
        let sees_all = caller.sites.is_empty();
        let stored = self.stored(page.after().is_none()).await?;
        let mut conn = self.ctx.pool.acquire().await.map_err(unread)?;
        let asked = store::Asked {
            by,
            sites: &caller.sites,
            before: page.after().copied(),
            limit: page.limit(),
        };
        // First: what is decided in between is among the triggers then.
        let (undecided, delivery) = match page.after() {
            None => read_deliveries(&mut conn, &stored, by, sees_all)
                .await
                .map_err(unread)?,
            Some(_later_page) => (None, None),
        };
        let rows = store::list(&mut conn, &asked).await.map_err(unread)?;
        let (rows, next_page_token) = page.cut(rows, |row| row.id.uuid());
        Ok(Response::new(pb::ListTriggersResponse {
            triggers: rows.into_iter().map(view::trigger).collect(),
            next_page_token,
            undecided,
            delivery,
            gateway_error: stored
                .error
                .map(|error| view::gateway_error(&error, sees_all))
                .unwrap_or_default(),
        }))
    }
}

/// What is asked for; `None` only beside a fault.
fn read<'a>(faults: &mut Faults, message: &'a pb::ListTriggersRequest) -> Option<By<'a>> {
    let (commit, site) = (&*message.commit, &*message.site);
    let delivery = faults.optional_id("delivery_id", &message.delivery_id);
    if !commit.is_empty() {
        check_commit(faults, commit);
    }
    if !site.is_empty() {
        faults.site("site", site);
    }
    match (&*message.delivery_id, commit, site) {
        ("", "", "") => {
            for field in ["commit", "site", "delivery_id"] {
                let words = "is missing: a commit, a site or a delivery must be given";
                faults.add(field, words);
            }
            None
        }
        ("", "", site) => Some(By::Site(site)),
        ("", commit, site) => Some(By::Commit { commit, site }),
        (_, "", "") => delivery.map(By::Delivery),
        _ => {
            faults.add("delivery_id", "goes with neither a commit nor a site");
            None
        }
    }
}

/// What is known of deliveries as a whole: how many are not decided, and the one that is asked for.
async fn read_deliveries(
    conn: &mut PgConnection,
    stored: &Stored,
    by: By<'_>,
    sees_all: bool,
) -> Result<(Option<pb::Undecided>, Option<pb::Delivery>), sqlx::Error> {
    let undecided = store::find_undecided(conn, &stored.deliveries).await?;
    let noted = match by {
        By::Delivery(id) if sees_all => {
            let noted = store::find_noted(conn, id).await?;
            noted.or_else(|| stored.find(id))
        }
        _ => None,
    };
    Ok((
        undecided.map(|found| view::undecided(found, sees_all)),
        noted.map(view::delivery),
    ))
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
