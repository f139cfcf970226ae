//! The only file that knows every room: builds, mounts, spawns.

use std::{sync::Arc, time::Duration};

use axum::Router;
use candlefish_messaging::{Nudge, Relay, RelayConfig, retention};
use candlefish_proto::{
    access::access_service_server::AccessServiceServer,
    event::event_service_server::EventServiceServer,
};
use candlefish_runtime::{
    database,
    identity::{KeyError, Signer},
    listen,
    ops::{self, Readiness},
    process,
    tasks::{Policy, Tasks},
};
use http::Request;
use sqlx::PgPool;
use tokio::sync::{Notify, Semaphore};
use tokio_util::sync::CancellationToken;
use tonic::{body::Body, service::Routes};

use crate::{
    Config, access, auth,
    backend::Backend,
    budget::Budget,
    call::{BODIES_KIB, Calls},
    contract::{self, Contract},
    delivery::{self, github::Webhooks},
    events, feed,
    front::{self, Front},
    grpc::Grpc,
    health::Health,
    idempotency,
    memory::Memory,
    open::Pages,
    overview::{self, Overview},
    rest::Rest,
    token,
    uploads::Uploads,
};

/// Rows at once, so that no statement runs long.
const FORGET_AT_ONCE: i64 = 5_000;

/// Connections that are there when the process serves: those of its first calls and loops.
const OPENED: u32 = 4;

/// Why the process cannot start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("connect to the database")]
    Database(#[from] database::Error),
    #[error(transparent)]
    Migrate(#[from] database::MigrateError),
    #[error("the schema is behind: run `gateway migrate` first")]
    Behind,
    #[error("reach the database")]
    Unreached(#[source] sqlx::Error),
    #[error("read the schema's version")]
    Version(#[source] sqlx::Error),
    #[error("read the keys")]
    Key(#[from] KeyError),
    #[error("make the bootstrap admin: {0}")]
    Bootstrap(String),
    #[error("read the contract: {0}")]
    Contract(String),
    #[error("describe the contract by reflection")]
    Reflection(#[source] tonic_reflection::server::Error),
    #[error("prepare the connection to NATS")]
    Nats(#[from] candlefish_messaging::nats::Error),
    #[error("prepare uploads")]
    Uploads(#[source] reqwest::Error),
    #[error("open a port")]
    Listen(#[from] listen::Error),
    #[error("open the operations port")]
    Ops(#[from] ops::Error),
}

impl From<contract::Error> for Error {
    fn from(error: contract::Error) -> Self {
        Self::Contract(crate::backend::chain(&error))
    }
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

/// Builds everything and serves until the process stops.
pub async fn run(config: Config, tasks: &Tasks) -> Result<(), Error> {
    process::configured(&config.describe());
    let readiness = Readiness::new();
    readiness.set("database", Err("not connected yet".to_owned()));
    ops::serve(config.ops_listen, readiness.clone(), tasks.clone()).await?;
    let listener = listen::bind(config.listen).await?;
    let pool = database::connect(&config.database_url, config.database_connections).await?;
    let opened = config.database_connections.min(OPENED);
    database::open(&pool, opened)
        .await
        .map_err(Error::Unreached)?;
    let schema = check_schema(&pool).await?;
    if let Some(presented) = config.bootstrap {
        token::bootstrap::ensure(&pool, presented)
            .await
            .map_err(|error| Error::Bootstrap(crate::backend::chain(&error)))?;
    }
    readiness.set("database", Ok(()));
    tasks.spawn(
        "database watch",
        Policy::StopProcess,
        database::watch(
            pool.clone(),
            readiness.clone(),
            Duration::from_secs(1),
            tasks.stopping(),
        ),
    );
    if let Some(internal) = &config.internal {
        let routes = internal.routes(&pool)?;
        let listener = listen::bind(internal.listen).await?;
        tasks.try_spawn(
            "internal port",
            Policy::StopProcess,
            listen::serve(listener, routes, tasks.stopping()),
        );
    }
    let front = Arc::new(Box::pin(build(&config, &pool, &readiness, tasks)).await?);
    let router = Router::new().fallback(move |request: Request<axum::body::Body>| {
        let front = Arc::clone(&front);
        async move { front.answer(request.map(Body::new)).await }
    });
    tasks.spawn(
        "forget",
        Policy::StopProcess,
        forget(pool, config.forget, tasks.stopping()),
    );
    let stopping = tasks.stopping();
    tasks.try_spawn(
        "main port",
        Policy::StopProcess,
        listen::serve_anyone(listener, Routes::from(router), stopping),
    );
    tracing::info!(
        listen = %config.listen, schema, orchestrators = ?config.orchestrators, "serving"
    );
    Ok(())
}

async fn build(
    config: &Config,
    pool: &PgPool,
    readiness: &Readiness,
    tasks: &Tasks,
) -> Result<Front, Error> {
    let contract = Arc::new(Contract::read(candlefish_proto::DESCRIPTORS)?);
    let auth = auth::Auth::new(pool.clone(), config.remember_tokens);
    let backend = Backend::new(&config.endpoints());
    let signer = Signer::from_pem_file(auth::ISSUER, &config.identity_key)?;
    let memory = Memory::new(config.memory);
    let bus = candlefish_messaging::nats::connect(auth::ISSUER, &config.nats_url).await?;
    let relays = RelayConfig::of(delivery::SOURCE).replicated(config.nats_replicas);
    let nudge = tell(pool, &bus, relays, tasks);
    let secrets = config.github_webhook.clone();
    let webhooks = Webhooks::new(pool.clone(), secrets, nudge, config.call_timeout);
    let tail = follow(config, bus, &backend, &signer, &memory, tasks);
    let sites = Arc::new(feed::Deploy::new(backend.clone(), signer.clone()));
    let access = |tasks: Tasks| access::Rpc {
        pool: pool.clone(),
        auth: auth.clone(),
        tasks,
    };
    let events = events::Rpc::new(tail, sites, tasks.clone(), events::QUIET);
    let judged = own_services(access(tasks.judging()), events.clone());
    let own = own_services(access(tasks.clone()), events);
    let overview = Overview {
        backend: backend.clone(),
        signer: signer.clone(),
        own: config.listen,
        replicas: config.orchestrators.clone().into(),
        open: config.open_status,
        remembered: overview::memory(),
    };
    let pages = Pages::new(Arc::clone(&contract), auth.clone(), overview);
    let calls = Calls {
        contract: Arc::clone(&contract),
        auth,
        orchestrator: backend,
        memory,
        own,
        judged,
        signer,
        at_a_time: Arc::new(Semaphore::new(config.calls)),
        streams: Arc::new(Semaphore::new(config.streams)),
        bodies: Budget::of_kib(BODIES_KIB),
        timeout: config.call_timeout,
    };
    Ok(Front {
        rest: Rest {
            calls: calls.clone(),
            tasks: tasks.clone(),
        },
        grpc: Grpc {
            calls,
            stopping: tasks.stopping(),
        },
        webhooks,
        uploads: Uploads::new(&config.orchestrators).map_err(Error::Uploads)?,
        described: described(&contract, readiness, tasks).await?,
        watchers: Arc::new(Semaphore::new(front::WATCHERS)),
        pages,
    })
}

/// What the gateway itself answers.
fn own_services(access: access::Rpc, events: events::Rpc) -> Routes {
    let most = listen::MAX_MESSAGE_BYTES;
    Routes::new(
        AccessServiceServer::new(access)
            .max_decoding_message_size(most)
            .max_encoding_message_size(most),
    )
    .add_service(
        EventServiceServer::new(events)
            .max_decoding_message_size(most)
            .max_encoding_message_size(most),
    )
}

/// Follows the events of the services behind us.
fn follow(
    config: &Config,
    bus: async_nats::Client,
    backend: &Backend,
    signer: &Signer,
    memory: &Memory,
    tasks: &Tasks,
) -> events::Tail {
    let feed = feed::Deploy::new(backend.clone(), signer.clone());
    let tail = events::Tail::new(
        "deploy",
        Arc::new(feed),
        Arc::new(memory.clone()),
        config.poll,
    );
    let wake = Arc::new(Notify::new());
    let stop = Policy::StopProcess;
    tasks.spawn(
        "bus",
        stop,
        feed::wake(bus, Arc::clone(&wake), tasks.stopping()),
    );
    tasks.spawn("events", stop, tail.clone().run(tasks.stopping(), wake));
    tail
}

/// Relays our own facts; answers what wakes the relay.
fn tell(pool: &PgPool, bus: &async_nats::Client, config: RelayConfig, tasks: &Tasks) -> Nudge {
    let nudge = Nudge::new();
    let relay = Relay::new(pool.clone(), bus.clone(), config).nudged_by(nudge.clone());
    let stop = Policy::StopProcess;
    tasks.spawn("relay", stop, relay.run(tasks.stopping()));
    let kept = retention::RetentionConfig::default();
    let retained = retention::run(pool.clone(), kept, tasks.stopping());
    tasks.spawn("retention", stop, retained);
    nudge
}

/// Forgets answers kept for repeated calls once their day is over, and old deliveries.
async fn forget(pool: PgPool, every: Duration, stopping: CancellationToken) {
    while stopping
        .run_until_cancelled(tokio::time::sleep(every))
        .await
        .is_some()
    {
        let forgotten = async {
            let mut conn = pool.acquire().await?;
            while idempotency::forget(&mut conn, FORGET_AT_ONCE).await? > 0 {}
            Ok::<_, sqlx::Error>(())
        };
        if let Err(error) = forgotten.await {
            tracing::debug!(%error, "old answers were not forgotten");
        }
        if let Err(error) = delivery::forget::forget(&pool).await {
            tracing::debug!(%error, "old deliveries were not forgotten");
        }
    }
}

/// gRPC reflection and health, which say nothing that `/openapi.json` does not say.
async fn described(
    contract: &Contract,
    readiness: &Readiness,
    tasks: &Tasks,
) -> Result<Routes, Error> {
    let reflection = tonic_reflection::server::Builder::configure()
        .register_file_descriptor_set(contract.public_descriptors())
        .build_v1()
        .map_err(Error::Reflection)?
        .max_decoding_message_size(front::MOST_ASKED_BYTES);
    let (reporter, health) = tonic_health::server::health_reporter();
    let health = health.max_decoding_message_size(front::MOST_ASKED_BYTES);
    let methods = contract.methods().iter();
    let told = Health {
        reporter,
        services: methods.map(|method| method.service.clone()).collect(),
        readiness: readiness.clone(),
        stopping: tasks.stopping(),
    };
    told.tell().await;
    tasks.spawn("health", Policy::StopProcess, told.follow());
    Ok(Routes::new(reflection).add_service(health))
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
