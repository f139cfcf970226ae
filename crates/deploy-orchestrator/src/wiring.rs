//! The only file that knows every room: builds, mounts, spawns.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use axum::{
    extract::Request,
    http::HeaderValue,
    middleware::{self, Next},
    response::Response,
};
use candlefish_blobs::{Options, Store};
use candlefish_messaging::{Consumer, ConsumerConfig, Relay, RelayConfig, retention};
use candlefish_proto::{deploy, event};
use candlefish_runtime::{
    database,
    identity::{Allow, Signer, Verifier, VerifyLayer},
    listen,
    ops::{self, Readiness},
    process,
    tasks::{Policy, Tasks},
    telemetry,
};
use sqlx::PgPool;
use tokio::sync::Notify;
use tonic::service::{Routes, RoutesBuilder};
use tracing::Instrument as _;

use crate::{
    Config, collect,
    ctx::{Ctx, Nudges},
    deployment, edge, feed, forget,
    github::{self, GitHub},
    observed, poke, preview, queue, reconcile, release, restorable,
    route::table::Table,
    site,
    step::{
        self,
        worker::{EdgeNews, Worker},
    },
    stop,
    trace::{self, TraceConfig},
    traffic,
    trigger::{
        self,
        gateway::Gateway,
        on_delivery::{self, OnDelivery},
    },
    upload,
};

/// The name of this process among issuers and audiences.
pub(crate) const NAME: &str = "deploy-orchestrator";

/// Connections that are there when the process serves: those of its first calls and loops.
const OPENED: u32 = 4;

/// Why the process cannot start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("connect to the database")]
    Database(#[from] database::Error),
    #[error(transparent)]
    Migrate(#[from] database::MigrateError),
    #[error("the schema is behind: run `deploy-orchestrator migrate` first")]
    Behind,
    #[error("reach the database")]
    Unreached(#[source] sqlx::Error),
    #[error("read the schema's version")]
    Version(#[source] sqlx::Error),
    #[error("connect to NATS")]
    Nats(#[from] candlefish_messaging::nats::Error),
    #[error("open the blob store")]
    Blobs(#[source] candlefish_blobs::Error),
    #[error("read the keys of our peers")]
    Keys(#[from] candlefish_runtime::identity::KeyError),
    #[error("open a port")]
    Listen(#[from] listen::Error),
    #[error("prepare the traces of deployments")]
    Traces(#[from] telemetry::Error),
    #[error("prepare to ask GitHub")]
    GitHub(#[source] Box<dyn std::error::Error + Send + Sync>),
    #[error("open the operations port")]
    Ops(#[from] ops::Error),
}

/// Applies the migrations, under the migrator's advisory lock.
pub async fn migrate(config: &Config) -> Result<(), Error> {
    Ok(database::migrate(&config.database_url, &migrator()).await?)
}

fn migrator() -> sqlx::migrate::Migrator {
    let mut migrator = sqlx::migrate!();
    // A replica of the release before must start on a schema that is one ahead.
    migrator.set_ignore_missing(true);
    migrator
}

/// Where a started orchestrator answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Running {
    /// gRPC and blob uploads.
    pub address: SocketAddr,
    /// `/healthz`, `/readyz`, `/metrics`.
    pub ops_address: SocketAddr,
}

/// Builds everything and serves until `tasks` stop.
pub async fn run(config: Config, tasks: &Tasks) -> Result<Running, Error> {
    process::configured(&config.describe());
    let readiness = Readiness::new();
    readiness.set("database", Err("not connected yet".to_owned()));
    let ops_address = ops::serve(config.ops_listen, readiness.clone(), tasks.clone()).await?;
    let listener = listen::bind(config.listen).await?;
    let address = listen::local_addr(&listener)?;
    let pool = database::connect(&config.database_url, config.database_connections).await?;
    let opened = config.database_connections.min(OPENED);
    database::open(&pool, opened)
        .await
        .map_err(Error::Unreached)?;
    let schema = check_schema(&pool).await?;
    readiness.set("database", Ok(()));
    tasks.spawn(
        "database watch",
        Policy::StopProcess,
        database::watch(
            pool.clone(),
            readiness,
            Duration::from_secs(1),
            tasks.stopping(),
        ),
    );
    let nats = candlefish_messaging::nats::connect(NAME, &config.nats_url).await?;
    let blobs = open_blobs(&config).await?;
    let ctx = Ctx {
        pool,
        config: Arc::new(config),
        blobs,
        nudges: Nudges::default(),
        rehearses: false,
    };
    let gateway = gateway(&ctx)?;
    let routes = spawn(&ctx, &nats, tasks, gateway.clone())?;
    let github = github(&ctx)?;
    spawn_triggers(&ctx, &nats, tasks, (gateway, github.clone()));
    spawn_github(&ctx, tasks, github);
    let stopping = tasks.stopping();
    tasks.try_spawn(
        "main port",
        Policy::StopProcess,
        listen::serve(listener, routes, stopping),
    );
    tracing::info!(
        listen = %address, schema, domain = %ctx.config.domain, blobs = %ctx.config.blobs,
        "serving"
    );
    Ok(Running {
        address,
        ops_address,
    })
}

/// Refuses a schema that is behind; answers its newest migration.
async fn check_schema(pool: &PgPool) -> Result<i64, Error> {
    let newest = migrator()
        .iter()
        .map(|migration| migration.version)
        .max()
        .unwrap_or(0);
    let applied: Option<i64> =
        sqlx::query_scalar("SELECT max(version) FROM _sqlx_migrations WHERE success")
            .fetch_one(pool)
            .await
            .map_err(|error| match error {
                // No table: nothing was ever migrated.
                sqlx::Error::Database(_) => Error::Behind,
                error => Error::Version(error),
            })?;
    applied
        .filter(|applied| *applied >= newest)
        .ok_or(Error::Behind)
}

async fn open_blobs(config: &Config) -> Result<Arc<dyn Store>, Error> {
    let options = Options {
        upload_key: config.upload_key.clone(),
        s3_endpoint: config.s3_endpoint.clone(),
        ..Options::default()
    };
    candlefish_blobs::open(&config.blobs, options)
        .await
        .map_err(Error::Blobs)
}

/// Starts the loops and mounts the services.
fn spawn(
    ctx: &Ctx,
    nats: &async_nats::Client,
    tasks: &Tasks,
    gateway: Option<Gateway>,
) -> Result<Routes, Error> {
    let stopping = tasks.stopping();
    let news = Arc::new(EdgeNews::default());
    let table = Table::new(
        ctx.pool.clone(),
        Arc::clone(&ctx.nudges.routes),
        ctx.config.poll,
    );
    let seen = table.subscribe();
    let edges = edge::rpc::Rpc {
        ctx: ctx.clone(),
        tasks: tasks.clone(),
        routes: seen,
        news: Arc::clone(&news),
    };
    // In containers each replica is process 1 of its own.
    let own = uuid::Uuid::new_v4().simple().to_string();
    let name = format!("{NAME}-{}-{:.6}", std::process::id(), own);
    let own = bytes::Bytes::from(own);
    let worker = Worker::new(ctx.clone(), &name, news, tasks.clone());
    let relay = Relay::new(
        ctx.pool.clone(),
        nats.clone(),
        RelayConfig::of(feed::SOURCE).replicated(ctx.config.nats_replicas),
    )
    .nudged_by(ctx.nudges.relay.clone());
    let stop = Policy::StopProcess;
    tasks.spawn("routes", stop, table.run(stopping.clone()));
    tasks.spawn("worker", stop, worker.run(stopping.clone()));
    tasks.spawn(
        "sweep",
        stop,
        step::sweep::run(ctx.clone(), stopping.clone()),
    );
    tasks.spawn("relay", stop, relay.run(stopping.clone()));
    tasks.spawn(
        "traffic",
        stop,
        traffic::run(ctx.pool.clone(), nats.clone(), stopping.clone()),
    );
    tasks.spawn(
        "poke",
        stop,
        poke::tell(ctx.clone(), own.clone(), nats.clone(), stopping.clone()),
    );
    let listening = poke::listen(ctx.nudges.clone(), own, nats.clone(), stopping.clone());
    tasks.spawn("poked", stop, listening);
    tasks.spawn("forget", stop, forget::run(ctx.clone(), stopping.clone()));
    tasks.spawn(
        "reconcile",
        stop,
        reconcile::run(ctx.clone(), stopping.clone()),
    );
    let kept = retention::RetentionConfig::default();
    tasks.spawn(
        "retention",
        stop,
        retention::run(ctx.pool.clone(), kept, stopping),
    );
    spawn_watches(ctx, tasks);
    spawn_traces(ctx, &name, tasks)?;
    mount(ctx, tasks, edges, gateway)
}

/// The gateways, when it is said where they are.
fn gateway(ctx: &Ctx) -> Result<Option<Gateway>, Error> {
    if ctx.config.gateways.is_empty() {
        tracing::info!("no gateway is named: webhooks make nothing happen");
        return Ok(None);
    }
    let signer = Signer::from_pem_file(NAME, &ctx.config.identity_key)?;
    Ok(Some(Gateway::new(&ctx.config.gateways, signer)))
}

/// GitHub, when it is said who asks.
fn github(ctx: &Ctx) -> Result<Option<GitHub>, Error> {
    let Some(settings) = ctx.config.github.clone() else {
        tracing::info!("GitHub is not asked: nothing says as whom");
        return Ok(None);
    };
    let github = GitHub::new(settings, ctx.pool.clone());
    let github = github.map_err(|error| Error::GitHub(Box::new(error)))?;
    Ok(Some(github))
}

/// What acts on webhooks, when there are gateways to ask.
fn spawn_triggers(
    ctx: &Ctx,
    nats: &async_nats::Client,
    tasks: &Tasks,
    (gateway, github): (Option<Gateway>, Option<GitHub>),
) {
    let stop = Policy::StopProcess;
    let ending = trigger::content::run(ctx.clone(), tasks.stopping());
    tasks.spawn("content", stop, ending);
    let Some(gateway) = gateway else {
        return;
    };
    let wake = Arc::new(Notify::new());
    let handler = OnDelivery {
        pool: ctx.pool.clone(),
        gateway: gateway.clone(),
        wake: Arc::clone(&wake),
    };
    let config = ConsumerConfig {
        heal_every: ctx.config.heal,
        ..ConsumerConfig::of(on_delivery::CONSUMER, on_delivery::SOURCE)
    };
    let consumer = Consumer::new(
        ctx.pool.clone(),
        nats.clone(),
        config,
        handler,
        gateway.clone(),
    );
    tasks.spawn("deliveries", stop, consumer.run(tasks.stopping()));
    let fetching = trigger::run(ctx.clone(), gateway, github, wake, tasks.stopping());
    tasks.spawn("triggers", stop, fetching);
}

/// What asks GitHub again and again.
fn spawn_github(ctx: &Ctx, tasks: &Tasks, github: Option<GitHub>) {
    let Some(github) = github else {
        return;
    };
    let stop = Policy::StopProcess;
    let comparing = github::compare::run(ctx.clone(), github.clone(), tasks.stopping());
    tasks.spawn("comparisons", stop, comparing);
    let sweeping = github::sweep::run(ctx.clone(), github.clone(), tasks.stopping());
    tasks.spawn("heads", stop, sweeping);
    let commenting = github::comment::run(ctx.clone(), github.clone(), tasks.stopping());
    tasks.spawn("comments", stop, commenting);
    let fetching = github::archive::run(ctx.clone(), github.clone(), tasks.stopping());
    tasks.spawn("archives", stop, fetching);
    let writing = github::write::run(ctx.clone(), github, tasks.stopping());
    tasks.spawn("written deployments", stop, writing);
}

/// Loops that look after what is kept, and tell.
fn spawn_watches(ctx: &Ctx, tasks: &Tasks) {
    let stop = Policy::StopProcess;
    tasks.spawn(
        "restorable",
        stop,
        restorable::run(ctx.clone(), tasks.stopping()),
    );
    tasks.spawn(
        "old previews",
        stop,
        preview::age::run(ctx.clone(), tasks.stopping()),
    );
    tasks.spawn("collect", stop, collect::run(ctx.clone(), tasks.stopping()));
    tasks.spawn(
        "observed",
        stop,
        observed::run(ctx.clone(), tasks.stopping()),
    );
}

/// Sends traces of deployments when a collector is named.
fn spawn_traces(ctx: &Ctx, name: &str, tasks: &Tasks) -> Result<(), Error> {
    if let Some(exporter) = telemetry::span_exporter(NAME, &ctx.config.telemetry)? {
        let (pool, config) = (ctx.pool.clone(), TraceConfig::of(name));
        let sending = trace::run(pool, exporter, config, tasks.stopping());
        tasks.spawn("traces", Policy::StopProcess, sending);
    }
    Ok(())
}

/// Serves what our processes may call, and twice more what people call: below [`listen::JUDGED`] requests
/// are judged and none is carried out, below [`listen::REHEARSED`] they are carried out and taken back.
fn mount(
    ctx: &Ctx,
    tasks: &Tasks,
    edges: edge::rpc::Rpc,
    gateway: Option<Gateway>,
) -> Result<Routes, Error> {
    let keys = &ctx.config.trusted_keys;
    let feed_service = "candlefish.event.v1.FeedService";
    let watch_routes = "/candlefish.deploy.v1.EdgeService/WatchRoutes";
    let everything = [
        ("gateway", Allow::none().public().service(feed_service)),
        ("edge", Allow::none().method(watch_routes)),
    ];
    let identity = VerifyLayer::new(Verifier::from_dir(NAME, keys, &everything)?);
    let people = [("gateway", Allow::none().public())];
    let by_people = VerifyLayer::new(Verifier::from_dir(NAME, keys, &people)?);

    let mut judged = Routes::builder();
    public(
        &mut judged,
        ctx,
        &tasks.judging(),
        edges.clone(),
        gateway.clone(),
    );
    let judged = judged.routes().into_axum_router().layer(by_people.clone());

    let mut rehearsed = Routes::builder();
    public(
        &mut rehearsed,
        &ctx.rehearsing(),
        tasks,
        edges.clone(),
        gateway.clone(),
    );
    let rehearsed = rehearsed
        .routes()
        .into_axum_router()
        .layer(by_people)
        .layer(middleware::from_fn(only_rehearsed));

    let mut routes = Routes::builder();
    public(&mut routes, ctx, tasks, edges, gateway);
    let feed = feed::Rpc {
        pool: ctx.pool.clone(),
    };
    routes.add_service(
        event::feed_service_server::FeedServiceServer::new(feed)
            .max_decoding_message_size(listen::MAX_MESSAGE_BYTES)
            .max_encoding_message_size(listen::MAX_MESSAGE_BYTES),
    );
    let grpc = routes.routes().into_axum_router().layer(identity);
    let all = grpc
        .nest(listen::JUDGED, judged)
        .nest(listen::REHEARSED, rehearsed)
        .merge(upload::router(ctx.clone()));
    Ok(Routes::from(all))
}

/// Marks the answer to a call that was only rehearsed, and every line that its command logs: what the
/// line says did not happen.
async fn only_rehearsed(request: Request, next: Next) -> Response {
    let mut answer = next
        .run(request)
        .instrument(tracing::info_span!("rehearsed"))
        .await;
    let mark = HeaderValue::from_static("true");
    answer.headers_mut().insert(listen::VALIDATED_ONLY, mark);
    answer
}

/// The services of the public API.
fn public(
    routes: &mut RoutesBuilder,
    ctx: &Ctx,
    tasks: &Tasks,
    edges: edge::rpc::Rpc,
    gateway: Option<Gateway>,
) {
    let most = listen::MAX_MESSAGE_BYTES;
    macro_rules! mount {
        ($server:ty, $service:expr) => {
            routes.add_service(
                <$server>::new($service)
                    .max_decoding_message_size(most)
                    .max_encoding_message_size(most),
            )
        };
    }
    mount!(
        deploy::site_service_server::SiteServiceServer<_>,
        site::rpc::Rpc::new(ctx.clone(), tasks.clone())
    );
    mount!(
        deploy::release_service_server::ReleaseServiceServer<_>,
        release::rpc::Rpc::new(ctx.clone(), tasks.clone())
    );
    mount!(
        deploy::deployment_service_server::DeploymentServiceServer<_>,
        deployment::rpc::Rpc::new(ctx.clone(), tasks.clone())
    );
    mount!(deploy::edge_service_server::EdgeServiceServer<_>, edges);
    mount!(
        deploy::queue_service_server::QueueServiceServer<_>,
        queue::rpc::Rpc::new(ctx.clone(), tasks.clone())
    );
    mount!(
        deploy::trigger_service_server::TriggerServiceServer<_>,
        trigger::rpc::Rpc::new(ctx.clone(), gateway)
    );
    mount!(
        deploy::stop_service_server::StopServiceServer<_>,
        stop::rpc::Rpc::new(ctx.clone(), tasks.clone())
    );
}
