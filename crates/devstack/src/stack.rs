//! The whole platform on one machine, as processes of its own.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::http;
use crate::nats::Nats;
use crate::ports::Port;
use crate::postgres::{Account, Postgres};
use crate::process::Process;
use crate::wait::wait_until;
use crate::warden::Warden;

mod builder;
mod environment;
mod home;

pub use builder::Builder;
use environment::Secrets;
use home::Home;

/// The database of the platform.
const DATABASE: &str = "candlefish";

/// How long a service may take to stop in an orderly way before it is killed.
const GRACE: Duration = Duration::from_mins(1);

/// A kind of process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Service {
    Gateway,
    Orchestrator,
    Edge,
}

impl Service {
    pub const ALL: [Self; 3] = [Self::Orchestrator, Self::Gateway, Self::Edge];

    /// The file name of its program, which is also its name as an issuer of identities.
    pub const fn binary(self) -> &'static str {
        match self {
            Self::Gateway => "gateway",
            Self::Orchestrator => "deploy-orchestrator",
            Self::Edge => "edge",
        }
    }

    /// The role and schema it owns.
    pub const fn role(self) -> Option<&'static str> {
        match self {
            Self::Gateway => Some("gateway"),
            Self::Orchestrator => Some("deploy"),
            Self::Edge => None,
        }
    }

    /// What its replicas are called, with a number behind.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Gateway => "gateway",
            Self::Orchestrator => "orchestrator",
            Self::Edge => "edge",
        }
    }
}

/// Where release content is kept.
#[derive(Debug, Clone)]
pub enum Blobs {
    /// In a folder of the stack.
    Directory,
    /// In a bucket that exists.
    S3 {
        endpoint: String,
        bucket: String,
        access_key: String,
        secret_key: String,
    },
}

/// Where one replica listens.
#[derive(Debug)]
pub(crate) struct Ports {
    pub(crate) main: Port,
    pub(crate) ops: Port,
    /// The gateways' port for our own processes.
    pub(crate) internal: Option<Port>,
}

/// One replica of a service.
#[derive(Debug)]
pub(crate) struct Replica {
    pub(crate) service: Service,
    pub(crate) ports: Ports,
    pub(crate) process: Arc<Process>,
}

/// A process that is not of the platform, and is restarted with it.
#[derive(Debug)]
pub(crate) struct Companion {
    pub(crate) process: Arc<Process>,
    /// Takes connections when it is ready.
    pub(crate) address: SocketAddr,
}

/// An edge, as a visitor and a killer see it.
#[derive(Debug, Clone)]
pub struct Edge {
    /// As it names itself to the platform.
    pub id: String,
    /// Where it serves.
    pub address: SocketAddr,
    pub process: Arc<Process>,
}

/// A running platform. Dropped, it ends everything at once; [`Stack::stop`] ends it in order.
#[derive(Debug)]
pub struct Stack {
    replicas: Vec<Replica>,
    companions: Vec<Companion>,
    nats: Nats,
    postgres: Postgres,
    secrets: Secrets,
    home: Home,
    ready_within: Duration,
    // Last: it tidies up what the others left.
    warden: Arc<Warden>,
}

impl Stack {
    pub fn builder() -> Builder {
        Builder::new()
    }

    /// The API of the first gateway: `http://127.0.0.1:8090`.
    pub fn gateway_url(&self) -> String {
        self.urls(Service::Gateway).swap_remove(0)
    }

    pub fn gateway_urls(&self) -> Vec<String> {
        self.urls(Service::Gateway)
    }

    /// The internal ports, which take calls with a signed identity only.
    pub fn orchestrator_urls(&self) -> Vec<String> {
        self.urls(Service::Orchestrator)
    }

    pub fn edges(&self) -> Vec<Edge> {
        let edges = self.of(Service::Edge);
        let edges = edges.map(|replica| Edge {
            id: replica.process.name().to_owned(),
            address: replica.ports.main.address(),
            process: Arc::clone(&replica.process),
        });
        edges.collect()
    }

    /// Where each replica answers `/healthz`, `/readyz` and `/metrics`.
    pub fn ops_address(&self, name: &str) -> Option<SocketAddr> {
        let mut replicas = self.replicas.iter();
        let replica = replicas.find(|replica| replica.process.name() == name)?;
        Some(replica.ports.ops.address())
    }

    /// Every replica of a service, in the order of their numbers.
    pub fn processes(&self, service: Service) -> Vec<Arc<Process>> {
        let replicas = self.of(service);
        replicas
            .map(|replica| Arc::clone(&replica.process))
            .collect()
    }

    /// A replica by name, such as `orchestrator-1`.
    pub fn process(&self, name: &str) -> Option<Arc<Process>> {
        let mut replicas = self.replicas.iter();
        let replica = replicas.find(|replica| replica.process.name() == name)?;
        Some(Arc::clone(&replica.process))
    }

    pub const fn nats(&self) -> &Nats {
        &self.nats
    }

    pub const fn postgres(&self) -> &Postgres {
        &self.postgres
    }

    /// The platform's database as the role `deploy` or `gateway` sees it.
    pub fn database_url(&self, role: &str) -> Option<String> {
        let mut accounts = self.secrets.accounts.iter();
        let account: &Account = accounts.find(|account| account.role == role)?;
        Some(self.postgres.url(account, DATABASE))
    }

    /// The platform's database as the superuser sees it: for checkers, never for a service.
    pub fn superuser_database_url(&self) -> String {
        self.postgres.superuser_url(DATABASE)
    }

    /// A token with the role admin, for every site.
    pub fn admin_token(&self) -> &str {
        &self.secrets.bootstrap_token
    }

    /// What deliveries of GitHub's webhook are signed with.
    pub fn github_webhook_secret(&self) -> &str {
        &self.secrets.github_webhook_secret
    }

    /// The stack's own folder.
    pub fn folder(&self) -> &Path {
        self.home.folder()
    }

    /// The blob store's folder, when it is a directory.
    pub fn blobs_folder(&self) -> PathBuf {
        self.home.folder().join("blobs")
    }

    /// The private identity key of a kind of process: a PEM file, PKCS#8, Ed25519.
    pub fn identity_key(&self, service: Service) -> PathBuf {
        let name = format!("{}.pem", service.binary());
        self.home.folder().join("keys").join(name)
    }

    /// Waits until `name` says on `/readyz` that it is ready.
    pub async fn ready(&self, name: &str) -> Result<()> {
        let address = self.ops_address(name).context("no such replica")?;
        let process = self.process(name).context("no such replica")?;
        wait_until(self.ready_within, &format!("{name} ready"), || async {
            if let Some(status) = process.lost() {
                return Err(format!("it ended, {status}:\n{}", process.tail(15)));
            }
            readiness(address).await
        })
        .await
    }

    /// Waits until everything that should run is ready.
    pub async fn all_ready(&self) -> Result<()> {
        for replica in &self.replicas {
            if replica.process.is_running() || replica.process.lost().is_some() {
                self.ready(replica.process.name()).await?;
            }
        }
        Ok(())
    }

    /// Lets [`supervise`](crate::supervise()) restart a process of somebody else too, which is ready
    /// when it takes connections at `address`. Ending it stays its owner's.
    pub fn accompany(&mut self, process: Arc<Process>, address: SocketAddr) {
        self.companions.push(Companion { process, address });
    }

    /// Ends everything in order: the way in first, the stores last. The error names what did not
    /// end by itself or not with success.
    pub async fn stop(self) -> Result<()> {
        let mut faults = Vec::new();
        for service in [Service::Gateway, Service::Edge, Service::Orchestrator] {
            let asked: Vec<_> = self.processes(service);
            let ends = asked.iter().map(|process| process.stop(GRACE));
            let ends = futures_util::future::join_all(ends).await;
            for (process, end) in asked.iter().zip(ends) {
                match end {
                    Ok(Some(status)) if !status.success() => {
                        faults.push(format!("{} ended with {status}", process.name()));
                    }
                    Ok(_) => {}
                    Err(error) => faults.push(format!("{error:#}")),
                }
            }
        }
        for process in [self.nats.process(), self.postgres.process()] {
            if let Err(error) = process.stop(GRACE).await {
                faults.push(format!("{error:#}"));
            }
        }
        anyhow::ensure!(faults.is_empty(), faults.join("; "));
        Ok(())
    }

    fn of(&self, service: Service) -> impl Iterator<Item = &Replica> {
        let replicas = self.replicas.iter();
        replicas.filter(move |replica| replica.service == service)
    }

    fn urls(&self, service: Service) -> Vec<String> {
        let replicas = self.of(service);
        let urls = replicas.map(|replica| format!("http://{}", replica.ports.main.address()));
        urls.collect()
    }

    pub(crate) fn replicas(&self) -> &[Replica] {
        &self.replicas
    }

    pub(crate) fn companions(&self) -> &[Companion] {
        &self.companions
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for replica in &self.replicas {
                let tail = replica.process.tail(25);
                if !tail.is_empty() {
                    use std::io::Write;
                    let name = replica.process.name();
                    drop(writeln!(
                        std::io::stderr(),
                        "--- {name}, last lines ---\n{tail}"
                    ));
                }
            }
        }
        for replica in &self.replicas {
            drop(replica.process.kill());
        }
        drop(self.nats.process().kill());
        drop(self.postgres.end());
        self.home.leave();
    }
}

/// What `/readyz` says: `Err` is the body of a refusal, or why there was no answer.
pub(crate) async fn readiness(address: SocketAddr) -> Result<(), String> {
    let timeout = Duration::from_secs(2);
    match http::get(address, "127.0.0.1", "/readyz", &[], timeout).await {
        Ok(answer) if answer.status.is_success() => Ok(()),
        Ok(answer) => Err(format!("{} {}", answer.status, answer.text())),
        Err(error) => Err(format!("{error:#}")),
    }
}
