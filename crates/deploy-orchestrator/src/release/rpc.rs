//! gRPC ↔ command, nothing else.

use candlefish_ids::ReleaseId;
use candlefish_proto::deploy::{self as pb, release_service_server::ReleaseService};
use candlefish_runtime::{
    identity::{self, Caller},
    refusal::Refusal,
    tasks::Tasks,
};
use tonic::{Request, Response, Status};
use uuid::Uuid;

use super::{
    Error,
    ban::{self, Ban},
    clear::{self, Clear},
    create::{self, Create},
    missing, seal, store, view,
};
use crate::{
    ctx::Ctx,
    field::Faults,
    idempotency::Key,
    page::{self, Filter, Page},
    site,
};

const MANIFEST_MAX: i32 = 64 * 1024 * 1024;
const PARENTS_MAX: usize = 16;
const ANCESTORS_MAX: usize = 1000;
const MISSING_SIZES: page::Sizes = page::Sizes {
    default: 500,
    most: 1000,
};

/// The release service.
#[derive(Debug, Clone)]
pub(crate) struct Rpc {
    ctx: Ctx,
    tasks: Tasks,
}

impl Rpc {
    pub(crate) fn new(ctx: Ctx, tasks: Tasks) -> Self {
        Self { ctx, tasks }
    }

    async fn change_ban(
        &self,
        caller: Caller,
        key: Option<Key>,
        named: (&str, &str),
        lifts: bool,
    ) -> Result<Response<pb::Release>, Status> {
        let mut faults = Faults::default();
        let id = faults.id("id", named.0);
        let reason = faults.reason("reason", named.1);
        let cmd = Ban {
            id: faults.finish_with(id)?,
            reason,
            lifts,
        };
        let ctx = self.ctx.clone();
        let reply = self.tasks.command("command", async move {
            ban::change(&ctx, &caller, key, cmd).await
        });
        Ok(reply.await?.into_response())
    }
}

#[tonic::async_trait]
impl ReleaseService for Rpc {
    async fn create_release(
        &self,
        request: Request<pb::CreateReleaseRequest>,
    ) -> Result<Response<pb::Release>, Status> {
        let (caller, key, message) = taken(request, "CreateRelease")?;
        let cmd = Create::try_from(message)?;
        let ctx = self.ctx.clone();
        let reply = self
            .tasks
            .command("command", async move {
                create::create(&ctx, &caller, key, cmd).await
            })
            .await?;
        Ok(reply.into_response())
    }

    async fn list_missing_blobs(
        &self,
        request: Request<pb::ListMissingBlobsRequest>,
    ) -> Result<Response<pb::ListMissingBlobsResponse>, Status> {
        let caller = identity::caller(&request)?;
        let message = request.into_inner();
        let mut faults = Faults::default();
        let id = faults.id("id", &message.id);
        let page = Page::read(
            &mut faults,
            &Filter::of("ListMissingBlobs").with(&message.id),
            message.page_size,
            &message.page_token,
            MISSING_SIZES,
        );
        let id = faults.finish_with(id)?;
        let why = "ListMissingBlobs takes what is corrupt out of the store";
        self.ctx.refuse_rehearsal(why)?;
        let ctx = self.ctx.clone();
        // Carried to its end: who takes something out of the store holds its row until that has answered.
        let found = self.tasks.command("missing blobs", async move {
            missing::list(&ctx, &caller, id, &page).await
        });
        Ok(Response::new(found.await?))
    }

    async fn seal_release(
        &self,
        request: Request<pb::SealReleaseRequest>,
    ) -> Result<Response<pb::Release>, Status> {
        let (caller, key, message) = taken(request, "SealRelease")?;
        let id = one_id(&message.id)?;
        let why = "SealRelease counts what the release names before it looks for it in the store";
        self.ctx.refuse_rehearsal(why)?;
        let ctx = self.ctx.clone();
        let reply = self
            .tasks
            .command("command", async move {
                seal::seal(&ctx, &caller, key, id).await
            })
            .await?;
        Ok(reply.into_response())
    }

    async fn get_release(
        &self,
        request: Request<pb::GetReleaseRequest>,
    ) -> Result<Response<pb::Release>, Status> {
        let caller = identity::caller(&request)?;
        let id = one_id(&request.get_ref().id)?;
        missing::find(&self.ctx, &caller, id).await?;
        let mut conn = self.ctx.pool.acquire().await.map_err(Error::from)?;
        Ok(Response::new(view::load(&mut conn, id).await?))
    }

    async fn list_releases(
        &self,
        request: Request<pb::ListReleasesRequest>,
    ) -> Result<Response<pb::ListReleasesResponse>, Status> {
        let caller = identity::caller(&request)?;
        let message = request.into_inner();
        let mut faults = Faults::default();
        let slug = faults.site("site", &message.site);
        let commit = faults.optional_commit("commit", &message.commit);
        let filter = Filter::of("ListReleases")
            .with(&message.site)
            .with(&message.commit);
        let page: Page<Uuid> = Page::read(
            &mut faults,
            &filter,
            message.page_size,
            &message.page_token,
            page::SIZES,
        );
        site::name_absent(&self.ctx.pool, &mut faults, &caller, &slug, "").await;
        faults.finish()?;
        let mut conn = self.ctx.pool.acquire().await.map_err(Error::from)?;
        let site = site::find(&mut conn, &slug, &caller)
            .await
            .map_err(Error::from)?;
        let before = page.after().copied();
        let rows = store::list(&mut conn, site.id, &commit, before, page.limit())
            .await
            .map_err(Error::from)?;
        let (rows, next_page_token) = page.cut(rows, |row| row.id.uuid());
        let releases = rows.into_iter().map(view::release).collect();
        Ok(Response::new(pb::ListReleasesResponse {
            releases,
            next_page_token,
        }))
    }

    async fn ban_release(
        &self,
        request: Request<pb::BanReleaseRequest>,
    ) -> Result<Response<pb::Release>, Status> {
        let (caller, key, message) = taken(request, "BanRelease")?;
        self.change_ban(caller, key, (&message.id, &message.reason), false)
            .await
    }

    async fn clear_release(
        &self,
        request: Request<pb::ClearReleaseRequest>,
    ) -> Result<Response<pb::Release>, Status> {
        let (caller, key, message) = taken(request, "ClearRelease")?;
        if message.environment.is_empty() {
            let named = (&*message.id, &*message.reason);
            return self.change_ban(caller, key, named, true).await;
        }
        let mut faults = Faults::default();
        let id = faults.id("id", &message.id);
        let environment = faults.environment("environment", &message.environment);
        let reason = faults.reason("reason", &message.reason);
        let cmd = Clear {
            id: faults.finish_with(id)?,
            environment,
            reason,
        };
        let ctx = self.ctx.clone();
        let reply = self
            .tasks
            .command("command", async move {
                clear::clear(&ctx, &caller, key, cmd).await
            })
            .await?;
        Ok(reply.into_response())
    }
}

fn one_id(text: &str) -> Result<ReleaseId, Status> {
    let mut faults = Faults::default();
    let id = faults.id("id", text);
    Ok(faults.finish_with(id)?)
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

impl TryFrom<pb::CreateReleaseRequest> for Create {
    type Error = Refusal;

    fn try_from(message: pb::CreateReleaseRequest) -> Result<Self, Refusal> {
        let mut faults = Faults::default();
        if !(1..=MANIFEST_MAX).contains(&message.manifest_size) {
            faults.add(
                "manifest_size",
                format!("must be 1 to {MANIFEST_MAX} bytes"),
            );
        }
        if message.commit.is_empty() {
            for (field, given) in [
                ("parents", &message.parents),
                ("ancestors", &message.ancestors),
            ] {
                if !given.is_empty() {
                    faults.add(field, "are of a commit, which is missing");
                }
            }
        }
        let manifest = faults.digest("manifest_digest", &message.manifest_digest);
        let rest = Self {
            site: faults.site("site", &message.site),
            manifest: candlefish_ids::Digest::from_bytes([0; 32]),
            manifest_size: message.manifest_size,
            commit: faults.optional_commit("commit", &message.commit),
            parents: faults.commits("parents", &message.parents, PARENTS_MAX),
            ancestors: faults.commits("ancestors", &message.ancestors, ANCESTORS_MAX),
            branch: faults.optional_text("branch", &message.branch, 250),
            message: faults.optional_text("message", &message.message, 200),
            author: faults.optional_text("author", &message.author, 100),
            author_email: faults.optional_text("author_email", &message.author_email, 254),
            committed_at: faults.timestamp("committed_at", message.committed_at.as_ref()),
            dirty: message.dirty,
        };
        Ok(Self {
            manifest: faults.finish_with(manifest)?,
            ..rest
        })
    }
}
