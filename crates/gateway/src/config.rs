//! The configuration: the only reader of the environment.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use candlefish_messaging::streams::Replicas;
use candlefish_runtime::{
    config::{Env, without_secrets},
    telemetry::TelemetryConfig,
};
use tokio::sync::Semaphore;
use tonic::transport::{Endpoint, Uri};

use crate::{delivery::Secrets, internal::Internal, memory, token::Presented};

/// The platform's promise for what is served from memory.
const MOST_REMEMBERED: Duration = Duration::from_mins(5);

/// A replica that is frozen, or gone without a word, is noticed within the sum of these: its calls end then,
/// and go to another one where that is safe.
const PING: Duration = Duration::from_secs(2);
/// A busy one answers late.
const PING_ANSWER: Duration = Duration::from_secs(3);

/// Everything that can be set, validated.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where everybody comes in.
    pub listen: SocketAddr,
    /// `/healthz`, `/readyz`, `/metrics`.
    pub ops_listen: SocketAddr,
    /// The port for our own processes.
    pub(crate) internal: Option<Internal>,
    /// The role's own; its search path is the schema `gateway`.
    pub database_url: String,
    /// Connections of the pool.
    pub database_connections: u32,
    /// `nats://host:port`.
    pub nats_url: String,
    /// Copies of our stream, should we create it.
    pub nats_replicas: Replicas,
    /// PEM file of this process's own key.
    pub identity_key: PathBuf,
    /// Replicas of the deploy-orchestrator.
    pub orchestrators: Vec<Uri>,
    /// The first admin's token, cut up; its text is not kept.
    pub(crate) bootstrap: Option<Presented>,
    /// What GitHub signs its deliveries with; without it none are taken.
    pub(crate) github_webhook: Option<Secrets>,
    /// `/` shows sites without a token: for development.
    pub open_status: bool,
    /// How long a verified token is remembered.
    pub remember_tokens: Duration,
    /// How long, and how much of, answers are kept in memory.
    pub(crate) memory: memory::Limits,
    /// The longest a call may take that does not stream.
    pub call_timeout: Duration,
    /// Calls in hand at a time; more are answered 503.
    pub calls: usize,
    /// Streams at a time; more are answered 503.
    pub streams: usize,
    /// How often the feeds are looked at without a wake-up.
    pub poll: Duration,
    /// How often what is too old is forgotten.
    pub forget: Duration,
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
        let bootstrap = env.optional("CANDLEFISH_BOOTSTRAP_TOKEN").and_then(|text| {
            let presented = Presented::parse(&text);
            if presented.is_none() {
                let words =
                    "must be cft_, 26 characters of an id, _, and 32 to 128 letters and digits";
                env.fault("CANDLEFISH_BOOTSTRAP_TOKEN", words);
            }
            presented
        });
        let github_webhook = github_webhook(&mut env);
        let internal = internal(&mut env, github_webhook.is_some());
        let config = Self {
            listen: env.parse_required("CANDLEFISH_LISTEN").unwrap_or(any_port),
            ops_listen: env
                .parse_required("CANDLEFISH_OPS_LISTEN")
                .unwrap_or(any_port),
            internal,
            database_url: env.required("CANDLEFISH_DATABASE_URL"),
            database_connections: env.parse_or("CANDLEFISH_DATABASE_CONNECTIONS", 10),
            nats_url: env.required("CANDLEFISH_NATS_URL"),
            nats_replicas: env.parse_or("CANDLEFISH_NATS_REPLICAS", Replicas::default()),
            identity_key: env.required("CANDLEFISH_IDENTITY_KEY").into(),
            orchestrators: orchestrators(&mut env),
            bootstrap,
            github_webhook,
            open_status: env.parse_or("CANDLEFISH_OPEN_STATUS", false),
            remember_tokens: env.duration_ms_or("CANDLEFISH_REMEMBER_TOKENS_MS", 5_000),
            memory: memory::Limits {
                bytes: env.parse_or("CANDLEFISH_REMEMBER_ANSWERS_BYTES", 16 * 1024 * 1024),
                time: env.duration_ms_or("CANDLEFISH_REMEMBER_ANSWERS_MS", 300_000),
            },
            call_timeout: env.duration_ms_or("CANDLEFISH_CALL_TIMEOUT_MS", 30_000),
            calls: env.parse_or("CANDLEFISH_CALLS", 2_048),
            streams: env.parse_or("CANDLEFISH_STREAMS", 1_024),
            poll: env.duration_ms_or("CANDLEFISH_POLL_MS", 1_000),
            forget: env.duration_ms_or("CANDLEFISH_FORGET_MS", 60_000),
            telemetry: TelemetryConfig::from_env(&mut env),
        };
        let places = [
            ("CANDLEFISH_CALLS", config.calls),
            ("CANDLEFISH_STREAMS", config.streams),
        ];
        for (name, places) in places {
            if !(1..=Semaphore::MAX_PERMITS).contains(&places) {
                env.fault(name, format!("must be 1 to {}", Semaphore::MAX_PERMITS));
            }
        }
        if config.memory.time > MOST_REMEMBERED {
            let words = format!("must be at most {}", MOST_REMEMBERED.as_millis());
            env.fault("CANDLEFISH_REMEMBER_ANSWERS_MS", words);
        }
        env.finish()?;
        Ok(config)
    }

    /// How to reach each replica of the deploy-orchestrator.
    pub(crate) fn endpoints(&self) -> Vec<Endpoint> {
        self.orchestrators
            .iter()
            .map(|uri| {
                Endpoint::from(uri.clone())
                    .connect_timeout(Duration::from_secs(1))
                    .tcp_nodelay(true)
                    .initial_stream_window_size(1024 * 1024)
                    .initial_connection_window_size(8 * 1024 * 1024)
                    .http2_keep_alive_interval(PING)
                    .keep_alive_timeout(PING_ANSWER)
                    .keep_alive_while_idle(true)
            })
            .collect()
    }

    /// What `--check-config` prints, and the log at the start: everything but secrets.
    pub fn describe(&self) -> String {
        let database = without_secrets(&self.database_url);
        let orchestrators: Vec<String> = self
            .orchestrators
            .iter()
            .map(|uri| without_secrets(&uri.to_string()).to_owned())
            .collect();
        format!(
            "listen {}\nops_listen {}\ninternal_listen {}\ndatabase {database}\ndatabase_connections {}\nnats {}\nnats_replicas {}\n\
             orchestrators {}\nbootstrap_token {}\ngithub_webhook_secret {}\nopen_status {}\n\
             remember_tokens {:?}\nremember_answers {:?}, {} bytes\ncall_timeout {:?}\ncalls {}\n\
             streams {}\npoll {:?}\nforget {:?}\n",
            self.listen,
            self.ops_listen,
            self.internal
                .as_ref()
                .map_or_else(|| "none".to_owned(), |own| own.listen.to_string()),
            self.database_connections,
            without_secrets(&self.nats_url),
            self.nats_replicas,
            orchestrators.join(", "),
            if self.bootstrap.is_some() {
                "set"
            } else {
                "none"
            },
            self.github_webhook.as_ref().map_or("none", Secrets::words),
            self.open_status,
            self.remember_tokens,
            self.memory.time,
            self.memory.bytes,
            self.call_timeout,
            self.calls,
            self.streams,
            self.poll,
            self.forget,
        )
    }
}

/// Where the replicas of the deploy-orchestrator are.
fn orchestrators(env: &mut Env) -> Vec<Uri> {
    let urls = env.required("CANDLEFISH_ORCHESTRATOR_URL");
    urls.split(',')
        .map(str::trim)
        .filter(|url| !url.is_empty())
        .filter_map(|url| {
            let parsed = url
                .parse::<Uri>()
                .ok()
                .filter(|uri| uri.authority().is_some());
            if parsed.is_none() {
                let words = format!("{url:?} is not an address such as http://127.0.0.1:7201");
                env.fault("CANDLEFISH_ORCHESTRATOR_URL", words);
            }
            parsed
        })
        .collect()
}

/// The port for our own processes, with whom it trusts: both or neither. Without it nobody would act
/// on what webhooks bring.
fn internal(env: &mut Env, needed: bool) -> Option<Internal> {
    const LISTEN: &str = "CANDLEFISH_INTERNAL_LISTEN";
    const TRUSTED: &str = "CANDLEFISH_TRUSTED_KEYS";
    let (listen, trusted) = (env.optional(LISTEN), env.optional(TRUSTED));
    match (listen, trusted) {
        (Some(listen), Some(trusted_keys)) => listen
            .parse()
            .map_err(|_unread| env.fault(LISTEN, "must be an address such as 127.0.0.1:7180"))
            .ok()
            .map(|listen| Internal {
                listen,
                trusted_keys: trusted_keys.into(),
            }),
        (None, None) => {
            if needed {
                let words = "is needed with CANDLEFISH_GITHUB_WEBHOOK_SECRET: the orchestrators fetch \
                             deliveries there";
                env.fault(LISTEN, words);
            }
            None
        }
        (Some(_), None) => {
            env.fault(TRUSTED, format!("is needed with {LISTEN}"));
            None
        }
        (None, Some(_)) => {
            env.fault(LISTEN, format!("is needed with {TRUSTED}"));
            None
        }
    }
}

fn github_webhook(env: &mut Env) -> Option<Secrets> {
    const CURRENT: &str = "CANDLEFISH_GITHUB_WEBHOOK_SECRET";
    const PREVIOUS: &str = "CANDLEFISH_GITHUB_WEBHOOK_SECRET_PREVIOUS";
    let (current, previous) = (env.optional(CURRENT), env.optional(PREVIOUS));
    let Some(current) = current else {
        if previous.is_some() {
            env.fault(PREVIOUS, format!("is of no use without {CURRENT}"));
        }
        return None;
    };
    Secrets::new(&current, previous.as_deref())
        .map_err(|error| env.fault(CURRENT, format!("{error}, as the one before it")))
        .ok()
}
