//! Puts the rooms together.

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use candlefish_blobs::Options;
use candlefish_ids::RequestId;
use candlefish_runtime::{
    identity::{KeyError, Signer},
    listen, ops,
    ops::Readiness,
    process,
    tasks::{Policy, Tasks},
};
use tokio::sync::mpsc;

use crate::{
    Config,
    contact::Contact,
    disk::{self, Disk},
    release::Shelf,
    report::Report,
    route::{
        keeper::{Keeper, Told},
        table::Table,
    },
    serve::{Server, descriptors, listener},
    stream::Watch,
    traffic::{
        Traffic,
        publish::{self, Teller},
    },
};

/// Messages of routes that may wait for the one in hand.
const ROUTES_WAITING: usize = 16;

/// Why an edge does not start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The state directory.
    #[error(transparent)]
    Disk(#[from] disk::Error),
    /// The blob store's location.
    #[error(transparent)]
    Blobs(#[from] candlefish_blobs::Error),
    /// The identity key.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// A port.
    #[error(transparent)]
    Listen(#[from] listen::Error),
    /// The operations port.
    #[error(transparent)]
    Ops(#[from] ops::Error),
    /// NATS's address.
    #[error("cannot use the NATS address")]
    Nats(#[from] async_nats::ConnectError),
}

/// A running edge.
#[derive(Debug)]
pub struct Running {
    /// Its id.
    pub edge: String,
    /// Where visitors come.
    pub address: SocketAddr,
    /// Health, readiness, metrics.
    pub ops_address: SocketAddr,
}

/// Starts an edge; it runs until the tasks are stopped.
pub async fn run(config: Config, tasks: &Tasks, readiness: Readiness) -> Result<Running, Error> {
    process::configured(&config.show());
    let ops_address = ops::serve(config.ops_listen, readiness.clone(), tasks.clone()).await?;
    let rooms = Rooms::open(&config).await?;
    let mut keeper = rooms.keeper();
    // Before the port opens: no visitor is told that a site is unknown that was served before.
    let restored = keeper.restore().await?;
    tracing::info!(
        edge = rooms.edge,
        routes = restored,
        "took up the routes of the last run"
    );
    readiness.set("routes", Err(waits_for(restored)));
    descriptors::make_room(config.connections);
    let listener = listen::bind(config.listen).await?;
    let address = listen::local_addr(&listener)?;

    let (sender, routes) = mpsc::channel(ROUTES_WAITING);
    let watch = rooms.watch(&config, address, sender, readiness.clone())?;
    let stopping = tasks.stopping();
    if restored > 0 {
        let alone = ready_alone(Arc::clone(&rooms.contact), readiness, config.catch_up);
        spawn("readiness", Policy::Ignore, tasks, alone);
    }
    let server = Arc::new(Server::new(
        Arc::clone(&rooms.table),
        Arc::clone(&rooms.shelf),
        Arc::clone(&rooms.contact),
    ));
    let (most, stall) = (config.connections, config.stall);
    let served = listener::serve(listener, server, most, stall, stopping.clone());
    drop(tasks.spawn("visitors", Policy::StopProcess, served));
    drop(tasks.spawn(
        "routes",
        Policy::StopProcess,
        keeper.run(routes, stopping.clone()),
    ));
    drop(tasks.spawn("stream", Policy::StopProcess, watch.run(stopping.clone())));
    if let Some(url) = &config.nats_url {
        let nats = publish::connect(url).await?;
        let teller = Teller {
            edge: rooms.edge.clone(),
            boot: rooms.boot,
            period: config.report_period,
        };
        let told = publish::run(rooms.traffic, nats, teller, stopping);
        drop(tasks.spawn("traffic", Policy::StopProcess, told));
    }
    spawn("shelf", Policy::StopProcess, tasks, rooms.shelf.tend());
    tracing::info!(
        edge = rooms.edge, listen = %address, ops = %ops_address, routes = restored, "serving"
    );
    Ok(Running {
        edge: rooms.edge,
        address,
        ops_address,
    })
}

/// Spawns what may be given up at any moment; it ends with the first token.
fn spawn(
    name: &'static str,
    policy: Policy,
    tasks: &Tasks,
    work: impl Future<Output = ()> + Send + 'static,
) {
    let stopping = tasks.stopping();
    drop(tasks.spawn(name, policy, async move {
        tokio::select! {
            () = work => {}
            () = stopping.cancelled() => {}
        }
    }));
}

/// What a balancer waits for.
fn waits_for(restored: usize) -> String {
    match restored {
        0 => "no routes yet: waiting for the orchestrator".to_owned(),
        _ => "routes of the last run: waiting for what changed since".to_owned(),
    }
}

/// Says that it is ready once no orchestrator was heard for so long: to serve what the last run served
/// is better than nothing. While one is heard, that is the stream's to say.
async fn ready_alone(contact: Arc<Contact>, readiness: Readiness, patience: Duration) {
    let began = Instant::now();
    loop {
        let silent = contact.silent_for(began, Instant::now());
        let rest = patience.saturating_sub(silent);
        if rest.is_zero() {
            tracing::warn!("no orchestrator is heard: serving the routes of the last run");
            readiness.set("routes", Ok(()));
            return;
        }
        tokio::time::sleep(rest).await;
        if readiness.waiting().is_empty() {
            return;
        }
    }
}

/// What the tasks share.
struct Rooms {
    edge: String,
    boot: String,
    disk: Disk,
    shelf: Arc<Shelf>,
    table: Arc<Table>,
    traffic: Arc<Traffic>,
    report: Arc<Report>,
    contact: Arc<Contact>,
}

impl Rooms {
    async fn open(config: &Config) -> Result<Self, Error> {
        let disk = Disk::open(&config.state_dir)?;
        let edge = match &config.edge_id {
            Some(id) => id.clone(),
            None => disk.edge_id()?,
        };
        let options = Options {
            s3_endpoint: config.s3_endpoint.clone(),
            ..Options::default()
        };
        let store = candlefish_blobs::open(&config.blobs, options).await?;
        Ok(Self {
            edge,
            boot: RequestId::new().suffix(),
            shelf: Arc::new(Shelf::new(store, disk.clone(), config.memory_bytes)),
            disk,
            table: Arc::default(),
            traffic: Arc::default(),
            report: Arc::new(Report::new()),
            contact: Arc::new(Contact::new(config.previews)),
        })
    }

    fn keeper(&self) -> Keeper {
        Keeper::new(
            self.edge.clone(),
            Arc::clone(&self.shelf),
            Arc::clone(&self.table),
            Arc::clone(&self.traffic),
            self.disk.clone(),
            Arc::clone(&self.report),
        )
    }

    fn watch(
        &self,
        config: &Config,
        address: SocketAddr,
        routes: mpsc::Sender<Told>,
        readiness: Readiness,
    ) -> Result<Watch, KeyError> {
        let key = config.identity_key.as_ref();
        let advertised = config.advertise.clone();
        Ok(Watch {
            orchestrators: config.orchestrators.clone(),
            signer: key
                .map(|path| Signer::from_pem_file("edge", path))
                .transpose()?,
            edge: self.edge.clone(),
            boot: self.boot.clone(),
            address: advertised.unwrap_or_else(|| address.to_string()),
            period: config.report_period,
            report: Arc::clone(&self.report),
            routes,
            contact: Arc::clone(&self.contact),
            readiness,
        })
    }
}
