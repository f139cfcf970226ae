//! gRPC ↔ command, nothing else.

use std::collections::HashSet;

use candlefish_manifest::Limits;
use candlefish_proto::deploy::{self as pb, site_service_server::SiteService};
use candlefish_runtime::{
    identity::{self, Caller},
    tasks::Tasks,
};
use tonic::{Request, Response, Status};

use super::{
    Error, Source,
    create::{self, CreateSite},
    environment::{self, CreateEnvironment, UpdateEnvironment},
    hold::{self, ChangeHold},
    host,
    policy::Policy,
    previews::PreviewRule,
    pushes::PushRule,
    store,
    update::{self, UpdateSite},
    view,
};
use crate::{
    ctx::Ctx,
    field::Faults,
    idempotency::Key,
    lane,
    page::{self, Filter, Page},
    preview::close::{self, Close},
    record,
};

const NAME_MAX: usize = 100;
const REPOSITORY_MAX: usize = 140;
const HOSTS_MAX: usize = 20;

/// The site service.
#[derive(Debug, Clone)]
pub(crate) struct Rpc {
    ctx: Ctx,
    tasks: Tasks,
}

impl Rpc {
    pub(crate) fn new(ctx: Ctx, tasks: Tasks) -> Self {
        Self { ctx, tasks }
    }

    async fn change_hold(
        &self,
        caller: Caller,
        key: Option<Key>,
        named: (&str, &str, &str),
        lifts: bool,
    ) -> Result<Response<pb::Environment>, Status> {
        let mut faults = Faults::default();
        let cmd = ChangeHold {
            site: faults.site("site", named.0),
            environment: faults.environment("environment", named.1),
            reason: faults.reason("reason", named.2),
            lifts,
        };
        let pool = &self.ctx.pool;
        super::name_absent(pool, &mut faults, &caller, &cmd.site, &cmd.environment).await;
        faults.finish()?;
        let ctx = self.ctx.clone();
        let reply = self
            .tasks
            .command("command", async move {
                Box::pin(hold::change(&ctx, &caller, key, cmd)).await
            })
            .await?;
        Ok(reply.into_response())
    }

    async fn find(
        &self,
        caller: &Caller,
        site: &str,
        environment: &str,
    ) -> Result<super::Environment, Status> {
        let mut faults = Faults::default();
        let site = faults.site("site", site);
        let environment = faults.environment("environment", environment);
        faults.finish()?;
        let mut conn = self.ctx.pool.acquire().await.map_err(Error::Begin)?;
        Ok(super::find_environment(&mut conn, &site, &environment, caller).await?)
    }
}

#[tonic::async_trait]
impl SiteService for Rpc {
    async fn create_site(
        &self,
        request: Request<pb::CreateSiteRequest>,
    ) -> Result<Response<pb::Site>, Status> {
        let (caller, key, message) = taken(request, "CreateSite")?;
        let mut faults = Faults::default();
        let (source, folder) = source(&mut faults, &message, &self.ctx.config.limits);
        let cmd = CreateSite {
            slug: faults.site("slug", &message.slug),
            name: faults.optional_text("name", &message.name, NAME_MAX),
            repository: repository(&mut faults, &message.repository),
            source,
            folder,
            previews: message
                .previews
                .as_ref()
                .map(|given| PreviewRule::read(&mut faults, "previews", given))
                .unwrap_or_default(),
        };
        faults.finish()?;
        let ctx = self.ctx.clone();
        let reply = self
            .tasks
            .command("command", async move {
                create::create(&ctx, &caller, key, cmd).await
            })
            .await?;
        Ok(reply.into_response())
    }

    async fn update_site(
        &self,
        request: Request<pb::UpdateSiteRequest>,
    ) -> Result<Response<pb::Site>, Status> {
        let (caller, key, message) = taken(request, "UpdateSite")?;
        let mut faults = Faults::default();
        if message.name.is_none() && message.repository.is_none() && message.previews.is_none() {
            faults.add(
                "name",
                "is missing, and so are repository and previews: nothing would change",
            );
        }
        let cmd = UpdateSite {
            site: faults.site("site", &message.site),
            name: message
                .name
                .map(|name| faults.optional_text("name", &name, NAME_MAX)),
            repository: message
                .repository
                .map(|text| repository(&mut faults, &text)),
            previews: message
                .previews
                .as_ref()
                .map(|given| PreviewRule::read(&mut faults, "previews", given)),
        };
        let pool = &self.ctx.pool;
        super::name_absent(pool, &mut faults, &caller, &cmd.site, "").await;
        faults.finish()?;
        let ctx = self.ctx.clone();
        let reply = self
            .tasks
            .command("command", async move {
                update::update(&ctx, &caller, key, cmd).await
            })
            .await?;
        Ok(reply.into_response())
    }

    async fn get_site(
        &self,
        request: Request<pb::GetSiteRequest>,
    ) -> Result<Response<pb::Site>, Status> {
        let caller = identity::caller(&request)?;
        let mut faults = Faults::default();
        let slug = faults.site("site", &request.get_ref().site);
        faults.finish()?;
        let mut conn = self.ctx.pool.acquire().await.map_err(Error::Begin)?;
        let site = super::find(&mut conn, &slug, &caller).await?;
        Ok(Response::new(view::site(&self.ctx.config, site)))
    }

    async fn list_sites(
        &self,
        request: Request<pb::ListSitesRequest>,
    ) -> Result<Response<pb::ListSitesResponse>, Status> {
        let caller = identity::caller(&request)?;
        let message = request.into_inner();
        let mut faults = Faults::default();
        let filter = Filter::of("ListSites");
        let page: Page<String> = Page::read(
            &mut faults,
            &filter,
            message.page_size,
            &message.page_token,
            page::SIZES,
        );
        faults.finish()?;
        let after = page.after().cloned().unwrap_or_default();
        let mut conn = self.ctx.pool.acquire().await.map_err(Error::Begin)?;
        let rows = store::list_sites(&mut conn, &caller.sites, &after, page.limit())
            .await
            .map_err(Error::from)?;
        let (rows, next_page_token) = page.cut(rows, |site| site.slug.clone());
        let config = &self.ctx.config;
        let sites = rows
            .into_iter()
            .map(|row| view::site(config, row))
            .collect();
        Ok(Response::new(pb::ListSitesResponse {
            sites,
            next_page_token,
        }))
    }

    async fn create_environment(
        &self,
        request: Request<pb::CreateEnvironmentRequest>,
    ) -> Result<Response<pb::Environment>, Status> {
        let (caller, key, message) = taken(request, "CreateEnvironment")?;
        let mut faults = Faults::default();
        hosts(&mut faults, &message.hosts, &self.ctx.config.domain);
        let cmd = CreateEnvironment {
            site: faults.site("site", &message.site),
            slug: faults.new_environment("slug", &message.slug),
            policy: Policy::read(&mut faults, "policy", message.policy.as_ref()),
            pushes: message
                .pushes
                .as_ref()
                .map(|given| PushRule::read(&mut faults, "pushes", given))
                .unwrap_or_default(),
            hosts: message.hosts,
        };
        let pool = &self.ctx.pool;
        super::name_absent(pool, &mut faults, &caller, &cmd.site, "").await;
        faults.finish()?;
        let ctx = self.ctx.clone();
        let reply = self.tasks.command("command", async move {
            environment::create(&ctx, &caller, key, cmd).await
        });
        Ok(reply.await?.into_response())
    }

    async fn get_environment(
        &self,
        request: Request<pb::GetEnvironmentRequest>,
    ) -> Result<Response<pb::Environment>, Status> {
        let caller = identity::caller(&request)?;
        let asked = request.get_ref();
        let found = self.find(&caller, &asked.site, &asked.environment).await?;
        Ok(Response::new(view::environment(&self.ctx.config, &found)))
    }

    async fn list_environments(
        &self,
        request: Request<pb::ListEnvironmentsRequest>,
    ) -> Result<Response<pb::ListEnvironmentsResponse>, Status> {
        let caller = identity::caller(&request)?;
        let message = request.into_inner();
        let mut faults = Faults::default();
        let slug = faults.site("site", &message.site);
        let filter = Filter::of("ListEnvironments")
            .with(&message.site)
            .with([u8::from(message.include_previews)]);
        let page: Page<String> = Page::read(
            &mut faults,
            &filter,
            message.page_size,
            &message.page_token,
            page::SIZES,
        );
        let pool = &self.ctx.pool;
        super::name_absent(pool, &mut faults, &caller, &slug, "").await;
        faults.finish()?;
        let after = page.after().cloned().unwrap_or_default();
        let mut conn = self.ctx.pool.acquire().await.map_err(Error::Begin)?;
        let site = super::find(&mut conn, &slug, &caller).await?;
        let previews = message.include_previews;
        let rows = store::list_environments(&mut conn, site.id, previews, &after, page.limit())
            .await
            .map_err(Error::from)?;
        let (rows, next_page_token) = page.cut(rows, |one| one.slug.clone());
        let environments = rows
            .iter()
            .map(|one| view::environment(&self.ctx.config, one))
            .collect();
        Ok(Response::new(pb::ListEnvironmentsResponse {
            environments,
            next_page_token,
        }))
    }

    async fn update_environment(
        &self,
        request: Request<pb::UpdateEnvironmentRequest>,
    ) -> Result<Response<pb::Environment>, Status> {
        let (caller, key, message) = taken(request, "UpdateEnvironment")?;
        let mut faults = Faults::default();
        if message.policy.is_none() && message.pushes.is_none() {
            // Not the same as an empty one: a forgotten field must not put back all defaults.
            faults.add("policy", "is missing; an empty one takes all defaults");
        }
        let cmd = UpdateEnvironment {
            site: faults.site("site", &message.site),
            environment: faults.environment("environment", &message.environment),
            policy: message
                .policy
                .as_ref()
                .map(|given| Policy::read(&mut faults, "policy", Some(given))),
            pushes: message
                .pushes
                .as_ref()
                .map(|given| PushRule::read(&mut faults, "pushes", given)),
        };
        let pool = &self.ctx.pool;
        super::name_absent(pool, &mut faults, &caller, &cmd.site, &cmd.environment).await;
        faults.finish()?;
        let ctx = self.ctx.clone();
        let reply = self.tasks.command("command", async move {
            Box::pin(environment::update(&ctx, &caller, key, cmd)).await
        });
        Ok(reply.await?.into_response())
    }

    async fn set_hold(
        &self,
        request: Request<pb::SetHoldRequest>,
    ) -> Result<Response<pb::Environment>, Status> {
        let (caller, key, message) = taken(request, "SetHold")?;
        let named = (&*message.site, &*message.environment, &*message.reason);
        self.change_hold(caller, key, named, false).await
    }

    async fn lift_hold(
        &self,
        request: Request<pb::LiftHoldRequest>,
    ) -> Result<Response<pb::Environment>, Status> {
        let (caller, key, message) = taken(request, "LiftHold")?;
        let named = (&*message.site, &*message.environment, &*message.reason);
        self.change_hold(caller, key, named, true).await
    }

    async fn close_environment(
        &self,
        request: Request<pb::CloseEnvironmentRequest>,
    ) -> Result<Response<pb::Environment>, Status> {
        let (caller, key, message) = taken(request, "CloseEnvironment")?;
        let mut faults = Faults::default();
        let cmd = Close {
            site: faults.site("site", &message.site),
            environment: faults.environment("environment", &message.environment),
            reason: faults.reason("reason", &message.reason),
        };
        let pool = &self.ctx.pool;
        super::name_absent(pool, &mut faults, &caller, &cmd.site, &cmd.environment).await;
        faults.finish()?;
        let ctx = self.ctx.clone();
        let reply = self
            .tasks
            .command("command", async move {
                close::by_hand(&ctx, &caller, key, cmd).await
            })
            .await?;
        Ok(reply.into_response())
    }

    async fn get_lane(
        &self,
        request: Request<pb::GetLaneRequest>,
    ) -> Result<Response<pb::Lane>, Status> {
        let caller = identity::caller(&request)?;
        let asked = request.get_ref();
        let found = self.find(&caller, &asked.site, &asked.environment).await?;
        Ok(Response::new(lane::view::read(&self.ctx, &found).await?))
    }

    async fn list_history(
        &self,
        request: Request<pb::ListHistoryRequest>,
    ) -> Result<Response<pb::ListHistoryResponse>, Status> {
        let caller = identity::caller(&request)?;
        let message = request.into_inner();
        let mut faults = Faults::default();
        let site = faults.site("site", &message.site);
        let environment = faults.environment("environment", &message.environment);
        let filter = Filter::of("ListHistory").with(&site).with(&environment);
        let page: Page<i64> = Page::read(
            &mut faults,
            &filter,
            message.page_size,
            &message.page_token,
            page::SIZES,
        );
        let pool = &self.ctx.pool;
        super::name_absent(pool, &mut faults, &caller, &site, &environment).await;
        faults.finish()?;
        let found = self.find(&caller, &site, &environment).await?;
        let mut conn = self.ctx.pool.acquire().await.map_err(Error::Begin)?;
        let before = page.after().copied();
        let rows = record::store::list(&mut conn, found.site_id, found.id, before, page.limit())
            .await
            .map_err(|error| Error::from(store::Error::from(error)))?;
        let (rows, next_page_token) = page.cut(rows, |one| one.id);
        let records = rows
            .into_iter()
            .map(|one| record::view::record(one, &found))
            .collect();
        Ok(Response::new(pb::ListHistoryResponse {
            records,
            next_page_token,
        }))
    }
}

/// Where the content comes from, and the folder of the repository that is the site.
fn source(
    faults: &mut Faults,
    message: &pb::CreateSiteRequest,
    limits: &Limits,
) -> (Source, String) {
    let folder = message.folder.strip_suffix('/').unwrap_or(&message.folder);
    let given = message.source;
    let source = match pb::site::Source::try_from(given) {
        Ok(pb::site::Source::Unspecified | pb::site::Source::Upload) => Source::Upload,
        Ok(pb::site::Source::Repository) => Source::Repository,
        Err(_) => {
            let words = format!("must be SOURCE_UPLOAD or SOURCE_REPOSITORY, not {given}");
            faults.add("source", words);
            return (Source::Upload, String::new());
        }
    };
    if source == Source::Repository && message.repository.is_empty() {
        faults.add("repository", "is needed: the content comes from it");
    }
    if source == Source::Upload && !message.folder.is_empty() {
        faults.add(
            "folder",
            "is of SOURCE_REPOSITORY; an upload says itself what it holds",
        );
    } else if let (false, Err(error)) = (
        message.folder.is_empty(),
        candlefish_manifest::check_path(folder, limits),
    ) {
        faults.add("folder", error.to_string());
    }
    (source, folder.to_owned())
}

/// `owner/name`, or nothing.
fn repository(faults: &mut Faults, text: &str) -> String {
    let part = |part: &str| {
        !part.is_empty()
            && part
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
    };
    let named = text
        .split_once('/')
        .is_some_and(|(owner, name)| part(owner) && part(name));
    if !text.is_empty() && !named {
        faults.add("repository", "must be owner/name, as on GitHub");
    }
    faults.optional_text("repository", text, REPOSITORY_MAX)
}

fn hosts(faults: &mut Faults, names: &[String], domain: &str) {
    if names.len() > HOSTS_MAX {
        let most = format!("has {}; at most {HOSTS_MAX} fit", names.len());
        faults.add("hosts", most);
    }
    let mut before = HashSet::new();
    for (place, name) in names.iter().take(HOSTS_MAX).enumerate() {
        if let Err(what) = host::check(name, domain) {
            faults.add(format!("hosts[{place}]"), what);
        } else if !before.insert(name) {
            faults.add(format!("hosts[{place}]"), "is named twice");
        }
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
