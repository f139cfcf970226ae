//! The configuration: the only reader of the environment.

use std::{fmt::Display, net::SocketAddr, path::PathBuf, str::FromStr, time::Duration};

use candlefish_blobs::UploadKey;
use candlefish_manifest::Limits;
use candlefish_messaging::streams::Replicas;
use candlefish_runtime::{
    config::{Env, without_secrets},
    telemetry::TelemetryConfig,
};
use tonic::transport::Uri;

use crate::{
    github::{Credentials, Settings},
    site::host,
};

/// Bytes of a path that fit into what edges take as a URL's (4,096), each written as three after a slash.
const LONGEST_PATH: usize = (4_096 - 1) / 3;
/// Longer than a signed upload works, many times over.
const LEAST_KEPT: Duration = Duration::from_hours(1);
/// An edge that answers at all does within this.
const LEAST_SILENCE: Duration = Duration::from_secs(1);

/// Everything that can be set, validated.
#[derive(Debug, Clone)]
pub struct Config {
    /// gRPC and blob uploads.
    pub listen: SocketAddr,
    /// `/healthz`, `/readyz`, `/metrics`.
    pub ops_listen: SocketAddr,
    /// The role's own; its search path is the schema `deploy`.
    pub database_url: String,
    /// Connections of the pool.
    pub database_connections: u32,
    /// `nats://host:port`.
    pub nats_url: String,
    /// Copies of our stream, should we create it.
    pub nats_replicas: Replicas,
    /// PEM file of this process's own key.
    pub identity_key: PathBuf,
    /// The internal ports of the gateways; without them no webhook makes anything happen.
    pub gateways: Vec<Uri>,
    /// How GitHub is reached; without it only deliveries tell of repositories.
    pub github: Option<Settings>,
    /// Directory of `<issuer>.pub.pem`.
    pub trusted_keys: PathBuf,
    /// `dir:/path` or `s3://bucket`.
    pub blobs: String,
    /// Another S3 than AWS's.
    pub s3_endpoint: Option<String>,
    /// Signs upload URLs of a directory.
    pub upload_key: Option<UploadKey>,
    /// How large a release may be when it is sealed.
    pub limits: Limits,
    /// Below which sites have their host names.
    pub domain: String,
    /// Where people reach the edges: 80, 443 through TLS, or another without it.
    pub site_port: u16,
    /// How long a claim of a step holds without a sign of life.
    pub lease: Duration,
    /// How long a worker waits for a nudge before it looks.
    pub poll: Duration,
    /// How often deadlines and idle lanes are looked at.
    pub sweep: Duration,
    /// How often the gateways are asked whether the bus lost a delivery.
    pub heal: Duration,
    /// How often what the edges serve is compared with what should be live.
    pub reconcile: Duration,
    /// How often the releases to keep are proven restorable.
    pub restorable: Duration,
    /// How often what only time bounds is forgotten.
    pub forget: Duration,
    /// How often content that nothing needs is looked for.
    pub collect: Duration,
    /// How long content stays that nothing names.
    pub collect_after: Duration,
    /// Deployments carried on at a time.
    pub workers: usize,
    /// Errors after which a step fails.
    pub attempts: i32,
    /// Lost workers after which a step is quarantined.
    pub quarantine_after: i32,
    /// Deployments that may wait in one environment; calls for more are refused.
    pub max_waiting: u32,
    /// How long an edge may lag behind before it is set aside.
    pub edge_patience: Duration,
    /// The same in a rollback or an undo.
    pub edge_patience_hurried: Duration,
    /// How long a deployment's own address stays after its end.
    pub keep_addresses: Duration,
    /// In a verification: how long an edge may take to be connected, to begin its answer, and between
    /// two pieces of it. A whole page may take longer. What holds is [`Config::silence`].
    pub fetch_timeout: Duration,
    /// Telemetry.
    pub telemetry: TelemetryConfig,
}

impl Config {
    /// Reads and validates everything; all faults at once.
    pub fn from_process() -> Result<Self, candlefish_runtime::config::Error> {
        Self::read(Env::from_process())
    }

    /// Reads from an environment that a test may have made.
    pub fn read(mut env: Env) -> Result<Self, candlefish_runtime::config::Error> {
        let any_port = SocketAddr::from(([127, 0, 0, 1], 0));
        let upload_key = env.optional("CANDLEFISH_BLOB_SIGNING_KEY");
        let upload_key = upload_key.and_then(|text| {
            UploadKey::from_hex(&text)
                .map_err(|error| env.fault("CANDLEFISH_BLOB_SIGNING_KEY", error))
                .ok()
        });
        let gateways = gateways(&mut env);
        let github = github(&mut env);
        let config = Self {
            listen: env.parse_required("CANDLEFISH_LISTEN").unwrap_or(any_port),
            ops_listen: env
                .parse_required("CANDLEFISH_OPS_LISTEN")
                .unwrap_or(any_port),
            database_url: env.required("CANDLEFISH_DATABASE_URL"),
            database_connections: env.parse_or("CANDLEFISH_DATABASE_CONNECTIONS", 20),
            nats_url: env.required("CANDLEFISH_NATS_URL"),
            nats_replicas: env.parse_or("CANDLEFISH_NATS_REPLICAS", Replicas::default()),
            identity_key: env.required("CANDLEFISH_IDENTITY_KEY").into(),
            gateways,
            github,
            trusted_keys: env.required("CANDLEFISH_TRUSTED_KEYS").into(),
            blobs: env.required("CANDLEFISH_BLOBS"),
            s3_endpoint: env.optional("CANDLEFISH_S3_ENDPOINT"),
            upload_key,
            limits: limits(&mut env),
            domain: domain(&mut env),
            site_port: env.parse_or("CANDLEFISH_SITE_PORT", 80),
            lease: env.duration_ms_or("CANDLEFISH_LEASE_MS", 15_000),
            poll: env.duration_ms_or("CANDLEFISH_POLL_MS", 250),
            sweep: env.duration_ms_or("CANDLEFISH_SWEEP_MS", 5_000),
            heal: env.duration_ms_or("CANDLEFISH_HEAL_MS", 5_000),
            reconcile: env.duration_ms_or("CANDLEFISH_RECONCILE_MS", 60_000),
            restorable: env.duration_ms_or("CANDLEFISH_RESTORABLE_MS", 600_000),
            forget: env.duration_ms_or("CANDLEFISH_FORGET_MS", 60_000),
            collect: env.duration_ms_or("CANDLEFISH_COLLECT_MS", 600_000),
            collect_after: collect_after(&mut env),
            workers: env.parse_or("CANDLEFISH_WORKERS", 128),
            attempts: env.parse_or("CANDLEFISH_STEP_ATTEMPTS", 8),
            quarantine_after: env.parse_or("CANDLEFISH_QUARANTINE_AFTER", 6),
            max_waiting: max_waiting(&mut env),
            edge_patience: env.duration_ms_or("CANDLEFISH_EDGE_PATIENCE_MS", 30_000),
            edge_patience_hurried: env.duration_ms_or("CANDLEFISH_EDGE_PATIENCE_HURRIED_MS", 3_000),
            // A week.
            keep_addresses: env.duration_ms_or("CANDLEFISH_KEEP_ADDRESSES_MS", 604_800_000),
            fetch_timeout: env.duration_ms_or("CANDLEFISH_FETCH_TIMEOUT_MS", 5_000),
            telemetry: TelemetryConfig::from_env(&mut env),
        };
        if config.workers == 0 {
            env.fault("CANDLEFISH_WORKERS", "must be at least 1");
        }
        if config.blobs.starts_with("dir:") && config.upload_key.is_none() {
            env.fault(
                "CANDLEFISH_BLOB_SIGNING_KEY",
                "is needed with a directory: 64 hex digits",
            );
        }
        env.finish()?;
        Ok(config)
    }

    /// How long an edge may be silent in a verification: a claim whose lease is short is not spent on one edge.
    /// Where even a third of it is less than a healthy edge may need on a busy machine, that.
    pub(crate) fn silence(&self) -> Duration {
        self.fetch_timeout.min((self.lease / 3).max(LEAST_SILENCE))
    }

    /// What `--check-config` prints: everything but secrets.
    pub fn describe(&self) -> String {
        let address = |uri: &Uri| without_secrets(&uri.to_string()).to_owned();
        let gateways: Vec<String> = self.gateways.iter().map(address).collect();
        let gateways = gateways.join(", ");
        let github = self.github.as_ref();
        let github = github.map_or_else(|| "off".to_owned(), shown);
        let telemetry = self.telemetry.shown();
        let telemetry = telemetry.map(|(name, value)| format!("{name}={value}\n"));
        let telemetry = telemetry.concat();
        let database = without_secrets(&self.database_url);
        let s3_endpoint = self.s3_endpoint.as_deref().map_or("AWS", without_secrets);
        format!(
            "listen {}\nops_listen {}\ndatabase {database}\ndatabase_connections {}\nnats {}\nnats_replicas {}\n\
             gateways {gateways}\ngithub {github}\nblobs {}\ns3_endpoint {s3_endpoint}\nrelease {}\ndomain {}\nsite_port {}\nlease {:?}\npoll {:?}\nsweep {:?}\nheal {:?}\nreconcile {:?}\n\
             restorable {:?}\nforget {:?}\ncollect {:?}\ncollect_after {:?}\n\
             workers {}\nattempts {}\nquarantine_after {}\nmax_waiting {}\nedge_patience {:?}\n\
             edge_patience_hurried {:?}\nkeep_addresses {:?}\nfetch_timeout {:?}\n\
             identity_key {}\ntrusted_keys {}\n{telemetry}",
            self.listen,
            self.ops_listen,
            self.database_connections,
            without_secrets(&self.nats_url),
            self.nats_replicas,
            self.blobs,
            described(&self.limits),
            self.domain,
            self.site_port,
            self.lease,
            self.poll,
            self.sweep,
            self.heal,
            self.reconcile,
            self.restorable,
            self.forget,
            self.collect,
            self.collect_after,
            self.workers,
            self.attempts,
            self.quarantine_after,
            self.max_waiting,
            self.edge_patience,
            self.edge_patience_hurried,
            self.keep_addresses,
            self.silence(),
            self.identity_key.display(),
            self.trusted_keys.display(),
        )
    }
}

fn domain(env: &mut Env) -> String {
    const NAME: &str = "CANDLEFISH_DOMAIN";
    let domain = env.optional(NAME);
    let domain = domain.unwrap_or_else(|| "localhost".to_owned());
    if let Err(why) = host::check_domain(&domain) {
        env.fault(NAME, why);
    }
    domain
}

fn collect_after(env: &mut Env) -> Duration {
    const NAME: &str = "CANDLEFISH_COLLECT_AFTER_MS";
    // A day.
    let after = env.duration_ms_or(NAME, 86_400_000);
    if after < LEAST_KEPT {
        env.fault(
            NAME,
            "must be at least an hour: an upload takes part of that",
        );
    }
    after
}

fn max_waiting(env: &mut Env) -> u32 {
    const NAME: &str = "CANDLEFISH_MAX_WAITING";
    // A choice of a lane in which so many wait takes a part of a second, far from a statement's limit.
    let most = env.parse_or(NAME, 1_000);
    if most == 0 {
        env.fault(NAME, "must be at least 1");
    }
    most
}

fn gateways(env: &mut Env) -> Vec<Uri> {
    const URLS: &str = "CANDLEFISH_GATEWAY_URL";
    let urls = env.optional(URLS).unwrap_or_default();
    urls.split(',')
        .map(str::trim)
        .filter(|url| !url.is_empty())
        .filter_map(|url| {
            let parsed = url.parse::<Uri>().ok();
            let parsed = parsed.filter(|uri| uri.authority().is_some());
            if parsed.is_none() {
                let words = format!("{url:?} is not an address such as http://127.0.0.1:7180");
                env.fault(URLS, words);
            }
            parsed
        })
        .collect()
}

/// GitHub, when it is said who asks.
fn github(env: &mut Env) -> Option<Settings> {
    const API: &str = "CANDLEFISH_GITHUB_API";
    const TOKEN: &str = "CANDLEFISH_GITHUB_TOKEN";
    const APP: &str = "CANDLEFISH_GITHUB_APP_ID";
    const KEY: &str = "CANDLEFISH_GITHUB_APP_KEY";
    let token = env.optional(TOKEN);
    let app = env
        .optional(APP)
        .and_then(|_| env.parse_required::<u64>(APP));
    let key = env.optional(KEY);
    let timeout = env.duration_ms_or("CANDLEFISH_GITHUB_TIMEOUT_MS", 10_000);
    // GitHub asks for a second between calls that write.
    let write_pause = env.duration_ms_or("CANDLEFISH_GITHUB_WRITE_PAUSE_MS", 1_000);
    let rest = env.duration_ms_or("CANDLEFISH_GITHUB_REST_MS", 30_000);
    let sweep = env.duration_ms_or("CANDLEFISH_GITHUB_SWEEP_MS", 300_000);
    // GitHub sends at once what it brings once more, and waits ten seconds for an answer itself.
    let head_start = env.duration_ms_or("CANDLEFISH_GITHUB_HEAD_START_MS", 10_000);
    let archive = env.duration_ms_or("CANDLEFISH_GITHUB_ARCHIVE_TIMEOUT_MS", 600_000);
    let url = |env: &mut Env, name: &str| {
        let url = env.optional(name)?;
        let parsed = url.parse::<url::Url>().ok();
        if parsed.is_none_or(|url| !matches!(url.scheme(), "http" | "https")) {
            env.fault(
                name,
                "is not an address such as https://candlefish.example.org",
            );
        }
        Some(url.trim_end_matches('/').to_owned())
    };
    let api = url(env, API).unwrap_or_else(|| "https://api.github.com".to_owned());
    let public_url = url(env, "CANDLEFISH_PUBLIC_URL");
    let credentials = match (token, app, key) {
        (None, None, None) => return None,
        (Some(token), None, None) => Credentials::Token(token),
        (None, Some(id), Some(key)) => Credentials::App {
            id,
            key: key.into(),
        },
        (Some(_), ..) => {
            env.fault(
                TOKEN,
                format!("is one way and {APP} another: set one of them"),
            );
            return None;
        }
        (None, ..) => {
            env.fault(KEY, format!("and {APP} are needed together"));
            return None;
        }
    };
    Some(Settings {
        api,
        credentials,
        timeout,
        write_pause,
        rest,
        sweep,
        head_start,
        archive,
        public_url,
    })
}

fn limits(env: &mut Env) -> Limits {
    const PATH: &str = "CANDLEFISH_RELEASE_PATH_BYTES";
    let usual = Limits::default();
    let path_bytes = at_least_one(env, PATH, usual.path_bytes);
    if path_bytes > LONGEST_PATH {
        let words = format!(
            "must be at most {LONGEST_PATH}: edges take URLs of 4,096 bytes, and each byte of a path may \
             be written as three in one"
        );
        env.fault(PATH, words);
    }
    Limits {
        files: at_least_one(env, "CANDLEFISH_RELEASE_FILES", usual.files),
        total_bytes: at_least_one(env, "CANDLEFISH_RELEASE_BYTES", usual.total_bytes),
        file_bytes: at_least_one(env, "CANDLEFISH_RELEASE_FILE_BYTES", usual.file_bytes),
        path_bytes,
        depth: at_least_one(env, "CANDLEFISH_RELEASE_DEPTH", usual.depth),
        // The API fixes it.
        manifest_bytes: usual.manifest_bytes,
    }
}

/// A limit; none at all would let no release be sealed.
fn at_least_one<T>(env: &mut Env, name: &str, usual: T) -> T
where
    T: FromStr + PartialEq + From<u8>,
    T::Err: Display,
{
    let limit = env.parse_or(name, usual);
    if limit == T::from(0) {
        env.fault(name, "must be at least 1");
    }
    limit
}

fn shown(github: &Settings) -> String {
    format!(
        "{}, as {:?}, timeout {:?}, write_pause {:?}, rest {:?}, sweep {:?}, head_start {:?}, \
         archive {:?}, public_url {}",
        without_secrets(&github.api),
        github.credentials,
        github.timeout,
        github.write_pause,
        github.rest,
        github.sweep,
        github.head_start,
        github.archive,
        github.public_url.as_deref().map_or("none", without_secrets),
    )
}

fn described(limits: &Limits) -> String {
    format!(
        "{} files, {} bytes, {} a file, paths of {} bytes, {} deep",
        limits.files, limits.total_bytes, limits.file_bytes, limits.path_bytes, limits.depth
    )
}

#[cfg(test)]
mod tests;
