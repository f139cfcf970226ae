//! What a stack consists of, and how it comes up.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::environment::{Secrets, Shared};
use super::home::Home;
use super::{Blobs, DATABASE, Ports, Replica, Service, Stack};
use crate::identity::Keys;
use crate::install::Programs;
use crate::nats::Nats;
use crate::output::{Console, Output};
use crate::ports::Port;
use crate::postgres::Postgres;
use crate::process::{Launch, Process};
use crate::warden::Warden;

/// Where the stores listen in development.
const POSTGRES_PORT: u16 = 7432;
const NATS_PORT: u16 = 7422;

/// Wide enough for `orchestrator-10`.
const NAME_WIDTH: usize = 15;

/// A stack to come. By default: one of each service, free ports, a folder of its own that
/// vanishes with it, a directory as blob store, output in files.
pub struct Builder {
    gateways: u16,
    orchestrators: u16,
    edges: u16,
    kept: Option<PathBuf>,
    fixed_ports: bool,
    or_free_ports: bool,
    console: bool,
    blobs: Blobs,
    lease_ms: Option<u64>,
    otlp_endpoint: Option<String>,
    binaries: Option<PathBuf>,
    nats_server: Option<PathBuf>,
    ready_within: Duration,
    extra: Vec<(Service, String, String)>,
    progress: Box<dyn Fn(&str) + Send + Sync>,
}

impl fmt::Debug for Builder {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Builder")
            .field("gateways", &self.gateways)
            .field("orchestrators", &self.orchestrators)
            .field("edges", &self.edges)
            .field("kept", &self.kept)
            .field("blobs", &self.blobs)
            .field("otlp_endpoint", &self.otlp_endpoint)
            .finish_non_exhaustive()
    }
}

impl Builder {
    pub(super) fn new() -> Self {
        Self {
            gateways: 1,
            orchestrators: 1,
            edges: 1,
            kept: None,
            fixed_ports: false,
            or_free_ports: false,
            console: false,
            blobs: Blobs::Directory,
            lease_ms: None,
            otlp_endpoint: None,
            binaries: None,
            nats_server: None,
            ready_within: Duration::from_secs(30),
            extra: Vec::new(),
            progress: Box::new(|_| {}),
        }
    }

    /// How many replicas of each; all 0 gives Postgres and NATS alone.
    #[must_use]
    pub fn replicas(mut self, gateways: u16, orchestrators: u16, edges: u16) -> Self {
        (self.gateways, self.orchestrators, self.edges) = (gateways, orchestrators, edges);
        self
    }

    /// Keeps everything in this folder; a later stack there continues with the same data.
    #[must_use]
    pub fn keep_in(mut self, folder: &Path) -> Self {
        self.kept = Some(folder.to_owned());
        self
    }

    /// Uses the ports of development, which stay the same from run to run.
    #[must_use]
    pub const fn fixed_ports(mut self) -> Self {
        self.fixed_ports = true;
        self
    }

    /// Uses free ports instead of those of development where somebody has one of these.
    #[must_use]
    pub const fn or_free_ports(mut self, or_free_ports: bool) -> Self {
        self.or_free_ports = or_free_ports;
        self
    }

    /// Shows the services' lines on standard error, each with its process's name.
    #[must_use]
    pub const fn console(mut self) -> Self {
        self.console = true;
        self
    }

    #[must_use]
    pub fn blobs(mut self, blobs: Blobs) -> Self {
        self.blobs = blobs;
        self
    }

    /// The lease of a step: how long a killed worker's step stays without an owner.
    #[must_use]
    pub const fn lease_ms(mut self, lease_ms: u64) -> Self {
        self.lease_ms = Some(lease_ms);
        self
    }

    /// Where the services send their traces.
    #[must_use]
    pub fn otlp_endpoint(mut self, url: Option<String>) -> Self {
        self.otlp_endpoint = url;
        self
    }

    /// The folder of the services' programs; that of the running program by default.
    #[must_use]
    pub fn binaries(mut self, folder: PathBuf) -> Self {
        self.binaries = Some(folder);
        self
    }

    /// Another NATS server than the distribution's.
    #[must_use]
    pub fn nats_server(mut self, program: PathBuf) -> Self {
        self.nats_server = Some(program);
        self
    }

    /// How long each process may take to become ready; 30 s by default.
    #[must_use]
    pub const fn ready_within(mut self, deadline: Duration) -> Self {
        self.ready_within = deadline;
        self
    }

    /// Adds or replaces a variable of every replica of a service.
    #[must_use]
    pub fn env(mut self, service: Service, key: &str, value: &str) -> Self {
        self.extra.push((service, key.to_owned(), value.to_owned()));
        self
    }

    /// Told what takes time, as it begins.
    #[must_use]
    pub fn progress(mut self, tell: impl Fn(&str) + Send + Sync + 'static) -> Self {
        self.progress = Box::new(tell);
        self
    }

    /// Brings everything up and waits until it is ready.
    pub async fn start(mut self) -> Result<Stack> {
        self.settle_ports();
        let programs = Programs::install(&self.progress)?;
        let binaries = self.programs()?;
        let home = match &self.kept {
            Some(folder) => Home::kept(folder)?,
            None => Home::temporary()?,
        };
        let warden = Arc::new(Warden::start()?);
        if home.is_temporary() {
            warden.remove(home.folder())?;
        }
        let output = self.output(&home)?;
        let secrets = Secrets::ensure(home.folder())?;

        (self.progress)("starting Postgres and NATS");
        let postgres = Postgres::start(
            &programs.postgres,
            home.postgres(),
            self.port(POSTGRES_PORT)?,
            &secrets.superuser,
            output.clone(),
            Arc::clone(&warden),
        );
        let nats = Nats::start(
            self.nats_server.as_ref().unwrap_or(&programs.nats_server),
            home.folder(),
            self.port(NATS_PORT)?,
            output.clone(),
            Arc::clone(&warden),
        );
        let (postgres, nats) = tokio::try_join!(postgres, nats)?;
        postgres.provision(DATABASE, &secrets.accounts).await?;

        let issuers = Service::ALL.map(Service::binary);
        let keys = Keys::ensure(home.folder().join("keys"), &programs.openssl, &issuers)?;
        let mut stack = Stack {
            replicas: Vec::new(),
            companions: Vec::new(),
            nats,
            postgres,
            secrets,
            home,
            ready_within: self.ready_within,
            warden,
        };
        self.services(&mut stack, &keys, &binaries, &output)?;
        (self.progress)("applying migrations");
        stack.migrate().await?;
        (self.progress)("starting the services");
        for replica in &stack.replicas {
            replica.process.start()?;
        }
        stack.all_ready().await?;
        Ok(stack)
    }

    /// Makes every replica, without starting it.
    fn services(
        &self,
        stack: &mut Stack,
        keys: &Keys,
        binaries: &Path,
        output: &Output,
    ) -> Result<()> {
        let mut slots = Vec::new();
        for (service, count) in self.counts() {
            for number in 0..count {
                let ports = self.ports_of(service, number)?;
                slots.push((service, number + 1, ports));
            }
        }
        let addresses = |service: Service| {
            let ports = slots.iter().filter(move |(of, ..)| *of == service);
            ports.map(|(_, _, ports)| &ports.main)
        };
        let urls = addresses(Service::Orchestrator);
        let urls: Vec<_> = urls
            .map(|port| format!("http://{}", port.address()))
            .collect();
        let internal = slots
            .iter()
            .filter_map(|(_, _, ports)| ports.internal.as_ref());
        let gateways: Vec<_> = internal
            .map(|port| format!("http://{}", port.address()))
            .collect();
        let site_port = addresses(Service::Edge).next().map_or(8080, Port::number);
        let shared = Shared {
            secrets: &stack.secrets,
            keys,
            folder: stack.home.folder(),
            blobs: &self.blobs,
            nats_url: stack.nats.url(),
            orchestrator_urls: urls.join(","),
            gateway_urls: gateways.join(","),
            site_port,
            lease_ms: self.lease_ms,
            otlp_endpoint: self.otlp_endpoint.clone(),
            log_format: if self.console { "text" } else { "json" },
            extra: &self.extra,
        };
        let mut replicas = Vec::new();
        for (service, number, ports) in slots {
            let name = format!("{}-{number}", service.label());
            let database = service.role().map(|role| stack.secrets.account(role));
            let database = database.transpose()?;
            let database = database.map(|account| stack.postgres.url(account, DATABASE));
            let mut launch = Launch::new(binaries.join(service.binary()));
            launch.env = shared.of(service, &name, &ports, database);
            let warden = Arc::clone(&stack.warden);
            let process = Arc::new(Process::new(&name, launch, output.clone(), warden));
            replicas.push(Replica {
                service,
                ports,
                process,
            });
        }
        stack.replicas = replicas;
        Ok(())
    }

    const fn counts(&self) -> [(Service, u16); 3] {
        [
            (Service::Orchestrator, self.orchestrators),
            (Service::Gateway, self.gateways),
            (Service::Edge, self.edges),
        ]
    }

    /// Decides once for all ports: what is printed of them is about the same stack.
    fn settle_ports(&mut self) {
        if !(self.fixed_ports && self.or_free_ports) {
            return;
        }
        if let Err(error) = self.look_for_ports() {
            (self.progress)(&format!("{error:#}; so it takes others"));
            self.fixed_ports = false;
        }
    }

    /// An error where somebody has one of the ports that this stack would take. None of them is kept.
    fn look_for_ports(&self) -> Result<()> {
        drop([self.port(POSTGRES_PORT)?, self.port(NATS_PORT)?]);
        for (service, count) in self.counts() {
            for number in 0..count {
                drop(self.ports_of(service, number)?);
            }
        }
        Ok(())
    }

    fn port(&self, fixed: u16) -> Result<Port> {
        if self.fixed_ports {
            Port::fixed(fixed)
        } else {
            Port::free()
        }
    }

    /// The ports of the replica with this number, from 0.
    fn ports_of(&self, service: Service, number: u16) -> Result<Ports> {
        let (main, ops) = development_ports(service, number);
        let internal = matches!(service, Service::Gateway).then(|| self.port(7180 + number));
        Ok(Ports {
            main: self.port(main)?,
            ops: self.port(ops)?,
            internal: internal.transpose()?,
        })
    }

    fn output(&self, home: &Home) -> Result<Output> {
        let logs = home.folder().join("logs");
        if self.console {
            let quiet = logs.join("stores.log");
            return Ok(Output::Console(Console::new(NAME_WIDTH, &quiet)?));
        }
        Ok(Output::Folder(logs))
    }

    fn programs(&self) -> Result<PathBuf> {
        let folder = match &self.binaries {
            Some(folder) => folder.clone(),
            None => own_folder()?,
        };
        for (service, _) in self.counts().into_iter().filter(|(_, count)| *count > 0) {
            let program = folder.join(service.binary());
            ensure!(
                program.is_file(),
                "{} is not built; `cargo xtask test` builds what tests run",
                program.display()
            );
        }
        Ok(folder)
    }
}

/// The ports of development: where it listens, and its operations port. Eight replicas of each fit
/// beside each other.
fn development_ports(service: Service, number: u16) -> (u16, u16) {
    match service {
        Service::Gateway => (8090 + number, 7190 + number),
        Service::Orchestrator => (7201 + number, 7290 + number),
        // 8081 is left to whoever has it.
        Service::Edge => (8080 + number + number.min(1), 7390 + number),
    }
}

/// The folder that cargo puts programs in: ours, or the one above when we are a test.
fn own_folder() -> Result<PathBuf> {
    let own = std::env::current_exe()?;
    let folder = own.parent().context("a program is in a folder")?;
    if folder.ends_with("deps") {
        let above = folder.parent().context("deps is in a folder")?;
        return Ok(above.to_owned());
    }
    Ok(folder.to_owned())
}

impl Stack {
    /// Lets each service that owns a schema bring it up to date.
    async fn migrate(&self) -> Result<()> {
        for service in Service::ALL {
            let mut owners = self.of(service);
            let Some(replica) = owners.next().filter(|_| service.role().is_some()) else {
                continue;
            };
            let mut launch = replica.process.launch().clone();
            launch.args.insert(0, "migrate".to_owned());
            let mut command = tokio::process::Command::from(launch.command());
            let out = command.kill_on_drop(true).output().await?;
            let words = String::from_utf8_lossy(&out.stderr);
            let said = String::from_utf8_lossy(&out.stdout);
            ensure!(
                out.status.success(),
                "{} migrate: {}\n{said}{words}",
                service.binary(),
                out.status
            );
        }
        Ok(())
    }

    /// Removes what a kept stack left in `folder`. True when there was something.
    pub fn wipe(folder: &Path) -> Result<bool> {
        Home::wipe(folder)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn who_may_have_other_ports_takes_them_where_one_of_development_is_held() {
        // Where somebody else has it, it is held as well.
        let _held = Port::fixed(POSTGRES_PORT);
        let builder = || Builder::new().replicas(0, 0, 0).fixed_ports();
        for (or_free_ports, fixed) in [(false, true), (true, false)] {
            let mut builder = builder().or_free_ports(or_free_ports);
            builder.settle_ports();
            assert_eq!(builder.fixed_ports, fixed);
        }
    }

    #[test]
    fn eight_replicas_of_each_have_ports_of_their_own() {
        let mut ports = Vec::new();
        for number in 0..8 {
            for service in Service::ALL {
                let (main, ops) = development_ports(service, number);
                ports.extend([main, ops]);
            }
        }
        let all: BTreeSet<_> = ports.iter().collect();
        assert_eq!(all.len(), ports.len(), "{ports:?}");
        assert_eq!(development_ports(Service::Edge, 0).0, 8080);
        assert_eq!(development_ports(Service::Edge, 1).0, 8082);
    }
}
