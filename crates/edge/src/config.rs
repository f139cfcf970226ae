//! What an edge is told by its environment.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use candlefish_runtime::{
    config::{Env, Error, without_secrets},
    telemetry::TelemetryConfig,
};
use tonic::transport::Endpoint;

use crate::stream;

/// A stream says every report period that it stands, on a busy machine a few of them late. One that
/// stands must not count as silent meanwhile.
const BEATS: u32 = 5;
const ADVERTISE: &str = "CANDLEFISH_ADVERTISE";

/// An edge's configuration.
#[derive(Debug, Clone)]
pub struct Config {
    /// `CANDLEFISH_LISTEN`: where visitors come.
    pub listen: SocketAddr,
    /// `CANDLEFISH_OPS_LISTEN`: health, readiness, metrics.
    pub ops_listen: SocketAddr,
    /// `CANDLEFISH_ADVERTISE`: `host:port` where others reach it; where it listens when unset.
    pub advertise: Option<String>,
    /// `CANDLEFISH_EDGE_ID`; made at the first start and kept when unset.
    pub edge_id: Option<String>,
    /// `CANDLEFISH_ORCHESTRATOR_URL`: one or more, with commas between.
    pub orchestrators: Vec<Endpoint>,
    /// `CANDLEFISH_BLOBS`: `dir:/path` or `s3://bucket`.
    pub blobs: String,
    /// `CANDLEFISH_S3_ENDPOINT`: another S3 than AWS's.
    pub s3_endpoint: Option<String>,
    /// `CANDLEFISH_STATE_DIR`.
    pub state_dir: PathBuf,
    /// `CANDLEFISH_NATS_URL`: where samples of traffic go; nowhere when unset.
    pub nats_url: Option<String>,
    /// `CANDLEFISH_IDENTITY_KEY`: the private key by which orchestrators know it.
    pub identity_key: Option<PathBuf>,
    /// `CANDLEFISH_EDGE_MEMORY_MIB`: bodies kept in memory.
    pub memory_bytes: u64,
    /// `CANDLEFISH_EDGE_CONNECTIONS`: visitors at a time.
    pub connections: usize,
    /// `CANDLEFISH_EDGE_STALL_MS`: a visitor who reads nothing of its answer for so long is given up.
    pub stall: Duration,
    /// `CANDLEFISH_EDGE_PREVIEWS_MS`: previews are served for so long after an orchestrator was heard last;
    /// at least five report periods.
    pub previews: Duration,
    /// `CANDLEFISH_EDGE_CATCH_UP_MS`: after a start with routes of the last run it is not ready for so long
    /// while no orchestrator is heard; what it holds may have been replaced meanwhile.
    pub catch_up: Duration,
    /// `CANDLEFISH_EDGE_REPORT_MS`: how often it is heard, and tells its traffic.
    pub report_period: Duration,
    /// Logs and traces.
    pub telemetry: TelemetryConfig,
}

impl Config {
    /// Reads the environment; all faults at once.
    pub fn read(mut env: Env) -> Result<Self, Error> {
        let loopback = |port| SocketAddr::from(([127, 0, 0, 1], port));
        let urls = env.required("CANDLEFISH_ORCHESTRATOR_URL");
        let mut orchestrators = Vec::new();
        for url in urls.split(',').map(str::trim).filter(|url| !url.is_empty()) {
            match stream::endpoint(url) {
                Ok(endpoint) => orchestrators.push(endpoint),
                Err(problem) => {
                    env.fault("CANDLEFISH_ORCHESTRATOR_URL", format!("{url}: {problem}"));
                }
            }
        }
        let edge_id = env.optional("CANDLEFISH_EDGE_ID");
        if edge_id.as_deref().is_some_and(|id| !is_id(id)) {
            env.fault(
                "CANDLEFISH_EDGE_ID",
                "has letters, digits, dots, dashes; 1 to 63 of them",
            );
        }
        let previews = env.duration_ms_or("CANDLEFISH_EDGE_PREVIEWS_MS", 5 * 60 * 1000);
        let report_period = env.duration_ms_or("CANDLEFISH_EDGE_REPORT_MS", 1000);
        let mib: u64 = env.parse_or("CANDLEFISH_EDGE_MEMORY_MIB", 64);
        let config = Self {
            listen: env.parse_or("CANDLEFISH_LISTEN", loopback(8080)),
            ops_listen: env.parse_or("CANDLEFISH_OPS_LISTEN", loopback(7390)),
            advertise: env.optional(ADVERTISE),
            edge_id,
            orchestrators,
            blobs: env.required("CANDLEFISH_BLOBS"),
            s3_endpoint: env.optional("CANDLEFISH_S3_ENDPOINT"),
            state_dir: env.required("CANDLEFISH_STATE_DIR").into(),
            nats_url: env.optional("CANDLEFISH_NATS_URL"),
            identity_key: env.optional("CANDLEFISH_IDENTITY_KEY").map(PathBuf::from),
            memory_bytes: mib.saturating_mul(1024 * 1024),
            connections: env.parse_or("CANDLEFISH_EDGE_CONNECTIONS", 10_000),
            stall: env.duration_ms_or("CANDLEFISH_EDGE_STALL_MS", 30_000),
            previews: previews.max(report_period.saturating_mul(BEATS)),
            catch_up: env.duration_ms_or("CANDLEFISH_EDGE_CATCH_UP_MS", 10_000),
            report_period,
            telemetry: TelemetryConfig::from_env(&mut env),
        };
        match &config.advertise {
            Some(address) if !is_address(address) => {
                env.fault(
                    ADVERTISE,
                    "is not an address such as edge-1.example.org:8080",
                );
            }
            None if config.listen.ip().is_unspecified() => {
                let words = "must be set where CANDLEFISH_LISTEN is on all interfaces: orchestrators fetch \
                             from it";
                env.fault(ADVERTISE, words);
            }
            Some(_) | None => {}
        }
        env.finish()?;
        Ok(config)
    }

    /// The effective values; there are no secrets among them.
    pub fn show(&self) -> String {
        let orchestrators: Vec<_> = self
            .orchestrators
            .iter()
            .map(|o| without_secrets(&o.uri().to_string()).to_owned())
            .collect();
        let or_unset =
            |value: &Option<String>| value.clone().unwrap_or_else(|| "(unset)".to_owned());
        let address = |value: &Option<String>| {
            let shown = value.as_deref().map_or("(unset)", without_secrets);
            shown.to_owned()
        };
        let key = self
            .identity_key
            .as_ref()
            .map(|path| path.display().to_string());
        [
            ("CANDLEFISH_LISTEN", self.listen.to_string()),
            ("CANDLEFISH_OPS_LISTEN", self.ops_listen.to_string()),
            (ADVERTISE, or_unset(&self.advertise)),
            ("CANDLEFISH_EDGE_ID", or_unset(&self.edge_id)),
            ("CANDLEFISH_ORCHESTRATOR_URL", orchestrators.join(",")),
            ("CANDLEFISH_BLOBS", self.blobs.clone()),
            ("CANDLEFISH_S3_ENDPOINT", address(&self.s3_endpoint)),
            ("CANDLEFISH_STATE_DIR", self.state_dir.display().to_string()),
            ("CANDLEFISH_NATS_URL", address(&self.nats_url)),
            ("CANDLEFISH_IDENTITY_KEY", or_unset(&key)),
            (
                "CANDLEFISH_EDGE_MEMORY_MIB",
                (self.memory_bytes / 1024 / 1024).to_string(),
            ),
            ("CANDLEFISH_EDGE_CONNECTIONS", self.connections.to_string()),
            (
                "CANDLEFISH_EDGE_STALL_MS",
                self.stall.as_millis().to_string(),
            ),
            (
                "CANDLEFISH_EDGE_PREVIEWS_MS",
                self.previews.as_millis().to_string(),
            ),
            (
                "CANDLEFISH_EDGE_CATCH_UP_MS",
                self.catch_up.as_millis().to_string(),
            ),
            (
                "CANDLEFISH_EDGE_REPORT_MS",
                self.report_period.as_millis().to_string(),
            ),
        ]
        .into_iter()
        .chain(self.telemetry.shown())
        .map(|(name, value)| format!("{name}={value}\n"))
        .collect::<Vec<_>>()
        .concat()
    }
}

/// `host:port`, as it is put into a URL.
fn is_address(text: &str) -> bool {
    let authority = text.parse::<http::uri::Authority>();
    authority.is_ok_and(|parsed| {
        parsed.port_u16().is_some_and(|port| port > 0)
            && !parsed.host().is_empty()
            && !text.contains('@')
    })
}

fn is_id(id: &str) -> bool {
    (1..=63).contains(&id.len())
        && id
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'.')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_faults_are_reported_at_once() {
        let error = Config::read(Env::from_pairs([
            ("CANDLEFISH_LISTEN", "nowhere"),
            ("CANDLEFISH_EDGE_ID", "no spaces please"),
            ("CANDLEFISH_BLOBS", "dir:/tmp"),
        ]))
        .unwrap_err();
        let named: Vec<_> = error.faults.iter().map(|f| f.variable.as_str()).collect();
        assert_eq!(
            named,
            [
                "CANDLEFISH_ORCHESTRATOR_URL",
                "CANDLEFISH_EDGE_ID",
                "CANDLEFISH_LISTEN",
                "CANDLEFISH_STATE_DIR"
            ]
        );
    }

    #[test]
    fn previews_are_served_for_no_less_than_a_stream_that_stands_may_be_late() {
        let config = Config::read(Env::from_pairs([
            ("CANDLEFISH_ORCHESTRATOR_URL", "http://127.0.0.1:7201"),
            ("CANDLEFISH_BLOBS", "dir:/blobs"),
            ("CANDLEFISH_STATE_DIR", "/state"),
            ("CANDLEFISH_EDGE_REPORT_MS", "200"),
            ("CANDLEFISH_EDGE_PREVIEWS_MS", "1"),
        ]))
        .unwrap();
        assert_eq!(config.previews, Duration::from_secs(1));
    }

    #[test]
    fn the_effective_values_are_shown() {
        let config = Config::read(Env::from_pairs([
            (
                "CANDLEFISH_ORCHESTRATOR_URL",
                "http://127.0.0.1:7201, http://127.0.0.1:7202",
            ),
            ("CANDLEFISH_BLOBS", "dir:/blobs"),
            ("CANDLEFISH_STATE_DIR", "/state"),
        ]))
        .unwrap();
        let shown = config.show();
        assert!(
            shown.contains("CANDLEFISH_LISTEN=127.0.0.1:8080\n"),
            "{shown}"
        );
        assert!(
            shown.contains("CANDLEFISH_EDGE_STALL_MS=30000\n"),
            "{shown}"
        );
        assert!(
            shown.contains("CANDLEFISH_EDGE_PREVIEWS_MS=300000\n"),
            "{shown}"
        );
        assert!(
            shown.contains("http://127.0.0.1:7201/,http://127.0.0.1:7202/\n"),
            "{shown}"
        );
    }

    #[test]
    fn who_fetches_from_an_edge_is_told_where() {
        let read = |listen: &str, advertise: &str| {
            Config::read(Env::from_pairs([
                ("CANDLEFISH_ORCHESTRATOR_URL", "http://127.0.0.1:7201"),
                ("CANDLEFISH_BLOBS", "dir:/blobs"),
                ("CANDLEFISH_STATE_DIR", "/state"),
                ("CANDLEFISH_LISTEN", listen),
                (ADVERTISE, advertise),
            ]))
        };
        for (listen, advertise, good) in [
            ("127.0.0.1:8080", "", true),
            ("0.0.0.0:8080", "", false),
            ("[::]:8080", "", false),
            ("0.0.0.0:8080", "edge-1:8080", true),
            ("0.0.0.0:8080", "[::1]:8080", true),
            ("127.0.0.1:8080", "edge-1", false),
            ("127.0.0.1:8080", "edge-1:0", false),
            ("127.0.0.1:8080", "http://edge-1:8080", false),
            ("127.0.0.1:8080", "me@edge-1:8080", false),
        ] {
            let config = read(listen, advertise);
            let is_read = config.is_ok();
            assert_eq!(is_read, good, "{listen} {advertise} {config:?}");
        }
    }
}
