//! What each process is told: the one place that knows the services' variables.

use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use anyhow::{Context, Result};

use super::{Blobs, Ports, Service};
use crate::identity::Keys;
use crate::ports::Port;
use crate::postgres::Account;

/// Secrets of one stack; made once and kept with its data.
#[derive(Debug, Clone)]
pub(super) struct Secrets {
    pub(super) superuser: String,
    pub(super) accounts: Vec<Account>,
    /// 32 bytes in hex: signs upload URLs of the directory store.
    pub(super) blob_signing_key: String,
    pub(super) bootstrap_token: String,
    /// What deliveries of GitHub's webhook are signed with.
    pub(super) github_webhook_secret: String,
}

/// Lines of the file of secrets.
const SECRETS: usize = 6;

impl Secrets {
    /// Reads the stack's secrets, or makes them.
    pub(super) fn ensure(folder: &Path) -> Result<Self> {
        let path = folder.join("secrets");
        let mut text = if path.exists() {
            fs::read_to_string(&path)?
        } else {
            String::new()
        };
        // A stack that was kept from before has fewer.
        if text.lines().count() < SECRETS {
            while text.lines().count() < SECRETS {
                text.push_str(&random_hex()?);
                text.push('\n');
            }
            let draft = folder.join("secrets.new");
            fs::write(&draft, &text)?;
            fs::set_permissions(&draft, fs::Permissions::from_mode(0o600))?;
            fs::rename(&draft, &path)?;
        }
        let mut lines = text.lines().map(str::to_owned);
        let mut next = || {
            let line = lines.next().filter(|line| line.len() == 64);
            line.with_context(|| format!("{} is not whole; remove it", path.display()))
        };
        let superuser = next()?;
        let roles = Service::ALL.iter().filter_map(|service| service.role());
        let accounts = roles.map(|role| {
            Ok(Account {
                role: role.to_owned(),
                password: next()?,
            })
        });
        let accounts = accounts.collect::<Result<_>>()?;
        let (blob_signing_key, drawn) = (next()?, next()?);
        // A token's text: the 26 characters of an id, the first at most 7, and a secret. Hex digits
        // are among the letters of both.
        let (id, secret) = drawn.split_at(25);
        Ok(Self {
            superuser,
            accounts,
            blob_signing_key,
            bootstrap_token: format!("cft_0{id}_{secret}"),
            github_webhook_secret: next()?,
        })
    }

    pub(super) fn account(&self, role: &str) -> Result<&Account> {
        let mut accounts = self.accounts.iter();
        let account = accounts.find(|account| account.role == role);
        account.with_context(|| format!("no role {role}"))
    }
}

/// 32 bytes of the system's randomness.
fn random_hex() -> Result<String> {
    let mut bytes = [0; 32];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(hex::encode(bytes))
}

/// Everything that is the same for all replicas.
#[derive(Debug)]
pub(super) struct Shared<'a> {
    pub(super) secrets: &'a Secrets,
    pub(super) keys: &'a Keys,
    pub(super) folder: &'a Path,
    pub(super) blobs: &'a Blobs,
    pub(super) nats_url: String,
    pub(super) orchestrator_urls: String,
    /// The gateways' ports for our own processes.
    pub(super) gateway_urls: String,
    pub(super) site_port: u16,
    pub(super) lease_ms: Option<u64>,
    pub(super) otlp_endpoint: Option<String>,
    pub(super) log_format: &'static str,
    /// What the caller adds or replaces, for one kind of process each.
    pub(super) extra: &'a [(Service, String, String)],
}

impl Shared<'_> {
    /// The environment of one replica.
    pub(super) fn of(
        &self,
        service: Service,
        name: &str,
        ports: &Ports,
        database_url: Option<String>,
    ) -> Vec<(String, String)> {
        let mut all: Vec<(&str, String)> = vec![
            ("CANDLEFISH_LISTEN", ports.main.address().to_string()),
            ("CANDLEFISH_OPS_LISTEN", ports.ops.address().to_string()),
            ("CANDLEFISH_NATS_URL", self.nats_url.clone()),
            ("CANDLEFISH_LOG_FORMAT", self.log_format.to_owned()),
            (
                "CANDLEFISH_IDENTITY_KEY",
                self.keys.private(service.binary()).display().to_string(),
            ),
            ("RUST_BACKTRACE", "1".to_owned()),
        ];
        all.extend(database_url.map(|url| ("CANDLEFISH_DATABASE_URL", url)));
        let otlp = self.otlp_endpoint.clone();
        all.extend(otlp.map(|url| ("OTEL_EXPORTER_OTLP_ENDPOINT", url)));
        all.extend(match service {
            Service::Gateway => self.gateway(ports),
            Service::Orchestrator => self.orchestrator(),
            Service::Edge => self.edge(name),
        });
        let owned = all.into_iter().map(|(key, value)| (key.to_owned(), value));
        let mut all: Vec<(String, String)> = owned.collect();
        for (_, key, value) in self.extra.iter().filter(|(of, ..)| *of == service) {
            all.retain(|(known, _)| known != key);
            all.push((key.clone(), value.clone()));
        }
        all
    }

    fn gateway(&self, ports: &Ports) -> Vec<(&'static str, String)> {
        let token = self.secrets.bootstrap_token.clone();
        let internal = ports.internal.as_ref().map(Port::address);
        let mut all = vec![
            (
                "CANDLEFISH_ORCHESTRATOR_URL",
                self.orchestrator_urls.clone(),
            ),
            ("CANDLEFISH_BOOTSTRAP_TOKEN", token),
            (
                "CANDLEFISH_TRUSTED_KEYS",
                self.keys.trusted().display().to_string(),
            ),
            (
                "CANDLEFISH_GITHUB_WEBHOOK_SECRET",
                self.secrets.github_webhook_secret.clone(),
            ),
        ];
        all.extend(internal.map(|at| ("CANDLEFISH_INTERNAL_LISTEN", at.to_string())));
        all
    }

    fn orchestrator(&self) -> Vec<(&'static str, String)> {
        let signing_key = self.secrets.blob_signing_key.clone();
        let trusted = self.keys.trusted().display().to_string();
        let mut all = vec![
            ("CANDLEFISH_TRUSTED_KEYS", trusted),
            ("CANDLEFISH_GATEWAY_URL", self.gateway_urls.clone()),
            ("CANDLEFISH_BLOB_SIGNING_KEY", signing_key),
            ("CANDLEFISH_DOMAIN", "localhost".to_owned()),
            ("CANDLEFISH_SITE_PORT", self.site_port.to_string()),
        ];
        let lease = self.lease_ms.map(|ms| ms.to_string());
        all.extend(lease.map(|ms| ("CANDLEFISH_LEASE_MS", ms)));
        all.extend(self.blobs_of());
        all
    }

    fn edge(&self, name: &str) -> Vec<(&'static str, String)> {
        let state = self.folder.join(name);
        let mut all = vec![
            (
                "CANDLEFISH_ORCHESTRATOR_URL",
                self.orchestrator_urls.clone(),
            ),
            ("CANDLEFISH_EDGE_ID", name.to_owned()),
            ("CANDLEFISH_STATE_DIR", state.display().to_string()),
        ];
        all.extend(self.blobs_of());
        all
    }

    fn blobs_of(&self) -> Vec<(&'static str, String)> {
        match self.blobs {
            Blobs::Directory => {
                let folder = self.folder.join("blobs");
                vec![("CANDLEFISH_BLOBS", format!("dir:{}", folder.display()))]
            }
            Blobs::S3 {
                endpoint,
                bucket,
                access_key,
                secret_key,
            } => vec![
                ("CANDLEFISH_BLOBS", format!("s3://{bucket}")),
                ("CANDLEFISH_S3_ENDPOINT", endpoint.clone()),
                ("AWS_ACCESS_KEY_ID", access_key.clone()),
                ("AWS_SECRET_ACCESS_KEY", secret_key.clone()),
                ("AWS_REGION", "us-east-1".to_owned()),
            ],
        }
    }
}
