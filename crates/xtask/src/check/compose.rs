//! `docker-compose.yml` and `Dockerfile`, without an engine: compose's own reader takes the file,
//! and every port, image, program and variable in it is one that the services know.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

use crate::check::{Outcome, faultless};
use crate::workspace::{Metadata, Workspace};
use crate::{cargo, tools};

/// The image that our Dockerfile makes.
const IMAGE: &str = "candlefish:dev";

/// The services of others: name, image, its oldest version that we run with, and where it listens.
const FOREIGN: [(&str, &str, (u32, u32), u16); 5] = [
    ("postgres", "postgres", (15, 0), 5432),
    ("nats", "nats", (2, 9), 4222),
    // Its versions are days: of one of them, year and month.
    ("s3", "minio/minio", (2025, 4), 9000),
    ("jaeger", "jaegertracing/all-in-one", (1, 62), 4317),
    ("jaeger", "jaegertracing/all-in-one", (1, 62), 16686),
];

/// Read by the AWS SDK, not by us.
const AWS: [&str; 3] = ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_REGION"];

#[derive(Debug, Deserialize)]
struct Compose {
    services: BTreeMap<String, Service>,
}

#[derive(Debug, Deserialize)]
struct Service {
    image: String,
    #[serde(default)]
    command: Option<Vec<String>>,
    #[serde(default)]
    environment: BTreeMap<String, Option<String>>,
    #[serde(default)]
    ports: Vec<Port>,
    #[serde(default)]
    networks: BTreeMap<String, Option<Network>>,
}

#[derive(Debug, Deserialize)]
struct Port {
    #[serde(default)]
    host_ip: String,
    target: u16,
}

#[derive(Debug, Default, Deserialize)]
struct Network {
    #[serde(default)]
    aliases: Vec<String>,
}

pub(super) fn check(workspace: &Workspace) -> Outcome {
    let compose = read(workspace)?;
    let docker = workspace.read(Path::new("Dockerfile"))?;
    let toolchain = workspace.read(Path::new("rust-toolchain.toml"))?;
    let by_git = workspace.read(Path::new(".gitignore"))?;
    let by_docker = workspace.read(Path::new(".dockerignore"))?;
    cargo::build_programs(workspace)?;
    let mut faults = faults_of_image(&docker, &toolchain, &workspace.metadata()?)?;
    faults.extend(faults_of_context(&by_git, &by_docker));
    faults.extend(faults_of_images(&compose));
    faults.extend(faults_of_ports(&compose));
    faults.extend(faults_of_addresses(&compose));
    let ours = compose
        .services
        .iter()
        .filter(|(_, service)| service.image == IMAGE);
    for (name, service) in ours {
        let program = service.program().unwrap_or_default();
        if program == "sh" {
            continue;
        }
        if !docker.contains(&format!("target/release/{program} ")) {
            faults.push(format!("{name}: the image has no program {program:?}"));
            continue;
        }
        let sources = sources(workspace, program)?;
        let variables = service.environment.keys();
        let unknown = variables.filter(|key| !AWS.contains(&key.as_str()) && !knows(&sources, key));
        faults.extend(unknown.map(|key| format!("{name}: {program} does not know {key}")));
        if let Err(error) = accepts(workspace, program, service) {
            faults.push(format!("{name}: {error:#}"));
        }
    }
    faultless(faults)
}

fn read(workspace: &Workspace) -> Result<Compose> {
    let mut command = Command::new(tools::compose()?);
    command.current_dir(&workspace.root);
    command.args(["-f", "docker-compose.yml", "config", "--format", "json"]);
    command.env("CANDLEFISH_BOOTSTRAP_TOKEN", example_token());
    let text = cargo::output(command)?;
    serde_json::from_str(&text).context("what compose says the file means")
}

/// Well formed, and the secret of nothing.
fn example_token() -> String {
    format!("cft_{}_{}", "0".repeat(26), "0".repeat(64))
}

impl Service {
    fn program(&self) -> Option<&str> {
        self.command.as_ref()?.first().map(String::as_str)
    }

    /// The ports that it listens on, by its own configuration.
    fn listens(&self, name: &str) -> BTreeSet<u16> {
        let own = [
            "CANDLEFISH_LISTEN",
            "CANDLEFISH_OPS_LISTEN",
            "CANDLEFISH_INTERNAL_LISTEN",
        ];
        let own = own.into_iter();
        let own = own.filter_map(|key| self.environment.get(key)?.as_ref()?.rsplit(':').next());
        let own = own.filter_map(|port| port.parse().ok());
        own.chain(self.foreign(name)).collect()
    }

    /// The ports of one of others, by its image.
    fn foreign(&self, name: &str) -> impl Iterator<Item = u16> {
        let image = self.image.as_str();
        let (own, tag) = image.split_once(':').unwrap_or((image, ""));
        let foreign = FOREIGN.iter().filter(move |(of, image, oldest, _)| {
            *of == name && own == *image && version(tag).is_some_and(|tag| tag >= *oldest)
        });
        foreign.map(|(.., port)| *port)
    }
}

/// Major and minor version by an image's tag; none of one that names no version, as `latest`. A tag
/// without a minor version is the newest of its major one.
fn version(tag: &str) -> Option<(u32, u32)> {
    let tag = tag.strip_prefix("RELEASE.").unwrap_or(tag);
    let mut numbers = tag.split(['.', '-']).map(str::parse::<u32>);
    let major = numbers.next()?.ok()?;
    let minor = numbers.next().and_then(Result::ok).unwrap_or(u32::MAX);
    Some((major, minor))
}

/// What is no business of git's, secrets among it, is none of an image's either.
fn faults_of_context(by_git: &str, by_docker: &str) -> Vec<String> {
    let kept_out: BTreeSet<&str> = by_docker.lines().map(str::trim).collect();
    let lines = by_git.lines().map(str::trim);
    let lines = lines.filter(|line| !line.is_empty() && !line.starts_with('#'));
    let missing = lines.filter(|line| !kept_out.contains(line));
    missing
        .map(|line| format!(".dockerignore: lacks {line}, which .gitignore has"))
        .collect()
}

/// What our image is built with and of: the pinned toolchain, and packages and programs that the
/// workspace has.
fn faults_of_image(docker: &str, toolchain: &str, metadata: &Metadata) -> Result<Vec<String>> {
    let pinned = toolchain
        .lines()
        .find_map(|line| line.strip_prefix("channel = \"")?.strip_suffix('"'))
        .context("rust-toolchain.toml has a channel")?;
    let words = || docker.split_whitespace();
    let after = |key: &'static str| words().filter_map(move |word| word.strip_prefix(key));
    let mut faults = Vec::new();
    let base = after("rust:").filter_map(|tag| tag.split('-').next());
    // Exactly: a shorter tag moves with time, and brings another toolchain than the one that is named.
    let other = base.filter(|base| *base != pinned);
    faults.extend(other.map(|base| format!("Dockerfile: rust:{base} is not {pinned}")));
    let named = after("RUSTUP_TOOLCHAIN=").filter(|named| *named != pinned);
    faults.extend(named.map(|named| format!("Dockerfile: {named} is not {pinned}")));
    let packages = words()
        .zip(words().skip(1))
        .filter_map(|(flag, name)| (flag == "--package").then_some(name));
    let unknown = packages.filter(|name| metadata.packages.iter().all(|one| one.name != **name));
    faults.extend(unknown.map(|name| format!("Dockerfile: there is no package {name}")));
    let targets = || metadata.packages.iter().flat_map(|one| &one.targets);
    let is_program = |name: &str| {
        targets().any(|one| one.name == name && one.kind.iter().any(|kind| kind == "bin"))
    };
    let unknown = after("target/release/").filter(|name| !is_program(name));
    faults.extend(unknown.map(|name| format!("Dockerfile: there is no program {name}")));
    faults.extend(faults_of_last_stage(docker));
    Ok(faults)
}

/// What is shipped is the last stage: small, and of nobody who may do everything. A number, because
/// Kubernetes cannot tell of a name that it is not root's.
fn faults_of_last_stage(docker: &str) -> Vec<String> {
    let lines: Vec<&str> = docker.lines().map(str::trim).collect();
    let last = |key: &str| lines.iter().rev().find_map(|line| line.strip_prefix(key));
    let mut faults = Vec::new();
    let base = last("FROM ").unwrap_or_default();
    if !base.contains("-slim") {
        faults.push(format!(
            "Dockerfile: the image is built on {base:?}, which is not a slim one"
        ));
    }
    let mut stage = lines
        .iter()
        .rev()
        .take_while(|line| !line.starts_with("FROM "));
    let user = stage.find_map(|line| line.strip_prefix("USER "));
    if user
        .and_then(|user| user.trim().parse::<u32>().ok())
        .is_none_or(|user| user == 0)
    {
        faults.push(format!(
            "Dockerfile: runs as {:?}, not as the number of an ordinary user",
            user.unwrap_or("root")
        ));
    }
    faults
}

/// Whatever runs is ours or known.
fn faults_of_images(compose: &Compose) -> Vec<String> {
    let services = compose.services.iter();
    let unknown = services
        .filter(|(name, service)| service.image != IMAGE && service.foreign(name).next().is_none());
    unknown
        .map(|(name, service)| format!("{name}: the image {} is unknown or too old", service.image))
        .collect()
}

/// What is published is listened on, and by nobody outside of this machine.
fn faults_of_ports(compose: &Compose) -> Vec<String> {
    let mut faults = Vec::new();
    for (name, service) in &compose.services {
        let listens = service.listens(name);
        for Port { host_ip, target } in &service.ports {
            if !listens.contains(target) {
                faults.push(format!(
                    "{name}: publishes {target}, and listens on {listens:?}"
                ));
            }
            if host_ip != "127.0.0.1" {
                faults.push(format!("{name}: publishes {target} to the whole network"));
            }
        }
    }
    faults
}

/// Whoever is called by name exists, and listens on the port that is called.
fn faults_of_addresses(compose: &Compose) -> Vec<String> {
    let mut listeners: BTreeMap<String, BTreeSet<u16>> = BTreeMap::new();
    for (name, service) in &compose.services {
        let networks = service.networks.values().flatten();
        let aliases = networks.flat_map(|network| network.aliases.iter());
        for called in aliases.chain([name]) {
            listeners.insert(called.clone(), service.listens(name));
        }
    }
    let mut faults = Vec::new();
    for (name, service) in &compose.services {
        for (key, value) in &service.environment {
            let Some((host, port)) = value.as_deref().and_then(address) else {
                continue;
            };
            if host == "0.0.0.0" {
                continue;
            }
            match listeners.get(host) {
                None => faults.push(format!("{name}: {key} calls {host}, which is no service")),
                Some(ports) if !ports.contains(&port) => {
                    faults.push(format!(
                        "{name}: {key} calls {host}:{port}; it listens on {ports:?}"
                    ));
                }
                Some(_) => {}
            }
        }
    }
    faults
}

/// Host and port of a URL, or of a bare `host:port`.
fn address(value: &str) -> Option<(&str, u16)> {
    let behind = value.split_once("://").map_or(value, |(_, behind)| behind);
    let behind = behind.rsplit_once('@').map_or(behind, |(_, behind)| behind);
    let (host, port) = behind.split('/').next()?.rsplit_once(':')?;
    Some((host, port.parse().ok()?))
}

/// The sources in which a program names its variables.
fn sources(workspace: &Workspace, program: &str) -> Result<Vec<String>> {
    let config = format!("crates/{program}/src/config.rs");
    let files = [config.as_str(), "crates/runtime/src/telemetry.rs"];
    files
        .iter()
        .map(|path| workspace.read(Path::new(path)))
        .collect()
}

fn knows(sources: &[String], key: &str) -> bool {
    let quoted = format!("\"{key}\"");
    sources.iter().any(|source| source.contains(&quoted))
}

/// The program with what a container sets, and nothing of whoever runs the check.
fn contained(program: &Path, service: &Service) -> Command {
    let mut command = Command::new(program);
    let set = service.environment.iter();
    command.env_clear();
    command.envs(set.filter_map(|(key, value)| Some((key, value.as_ref()?))));
    command
}

/// The program itself says whether its configuration is whole.
fn accepts(workspace: &Workspace, program: &str, service: &Service) -> Result<()> {
    let mut command = contained(&cargo::programs()?.join(program), service);
    command.arg("--check-config").current_dir(&workspace.root);
    let shown = cargo::output(command)?;
    let secret = example_token();
    ensure!(
        !shown.contains(&secret),
        "--check-config shows the bootstrap token"
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn compose(text: &str) -> Compose {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn an_address_is_found_in_every_form() {
        assert_eq!(
            address("postgres://u:p@postgres:5432/db"),
            Some(("postgres", 5432))
        );
        assert_eq!(
            address("http://s3.localhost:9000"),
            Some(("s3.localhost", 9000))
        );
        assert_eq!(address("0.0.0.0:8080"), Some(("0.0.0.0", 8080)));
        assert_eq!(address("/keys/edge.pem"), None);
        assert_eq!(address("json"), None);
    }

    #[test]
    fn an_image_that_is_neither_ours_nor_known_is_a_fault() {
        let text = |name, image| {
            compose(&format!(
                r#"{{"services": {{"{name}": {{"image": "{image}"}}}}}}"#
            ))
        };
        for (name, image, faults) in [
            ("gateway", "candlefish:dev", 0),
            ("nats", "nats:2.12-alpine", 0),
            ("gateway", "candlefish:latest", 1),
            ("nats", "nats-streaming:2", 1),
            ("broker", "nats:2.12-alpine", 1),
            ("nats", "nats:2.1", 1),
            ("nats", "nats:2", 0),
            ("nats", "nats:latest", 1),
            ("nats", "nats", 1),
            ("postgres", "postgres:15", 0),
            ("postgres", "postgres:17-bookworm", 0),
            ("postgres", "postgres:14.9", 1),
            ("s3", "minio/minio:RELEASE.2025-04-22T22-12-26Z", 0),
            ("s3", "minio/minio:RELEASE.2024-12-18T13-15-44Z", 1),
        ] {
            let found = faults_of_images(&text(name, image));
            assert_eq!(found.len(), faults, "{name} {image}: {found:?}");
        }
    }

    #[test]
    fn an_image_of_another_toolchain_or_of_what_is_not_here_is_a_fault() {
        let metadata: Metadata = serde_json::from_str(
            r#"{"packages": [{"name": "candlefish-cli", "manifest_path": "", "dependencies": [],
                "targets": [{"name": "candlefish", "kind": ["bin"]}, {"name": "it", "kind": ["test"]}]}]}"#,
        )
        .unwrap();
        let pinned = "[toolchain]\nchannel = \"1.95.0\"\n";
        let shipped = "\nFROM debian:bookworm-slim\nUSER 10001\n";
        for (docker, faults) in [
            (
                "FROM rust:1.95.0-bookworm AS build\nENV RUSTUP_TOOLCHAIN=1.95.0 X=0",
                0,
            ),
            ("FROM rust:1.95-bookworm AS build", 1),
            ("FROM rust:1.9-bookworm AS build", 1),
            ("ENV RUSTUP_TOOLCHAIN=1.94.0", 1),
            (
                "cargo build --package candlefish-cli \\\n && cp target/release/candlefish /out/",
                0,
            ),
            ("cargo build --package candlefish", 1),
            ("cp target/release/it /out/", 1),
        ] {
            let docker = format!("{docker}{shipped}");
            let found = faults_of_image(&docker, pinned, &metadata).unwrap();
            assert_eq!(found.len(), faults, "{docker}: {found:?}");
        }
    }

    #[test]
    fn a_program_is_asked_in_the_environment_of_its_container_alone() {
        let text = r#"{"image": "candlefish:dev", "environment": {"CANDLEFISH_LOG": "info"}}"#;
        let service: Service = serde_json::from_str(text).unwrap();
        // A test of cargo's has more variables than this one.
        let shown = cargo::output(contained(Path::new("/usr/bin/env"), &service)).unwrap();
        assert_eq!(shown, "CANDLEFISH_LOG=info\n");
    }

    #[test]
    fn what_git_leaves_out_and_an_image_does_not_is_a_fault() {
        let by_git = "/target\n\n# secrets\n/.env\n";
        assert!(faults_of_context(by_git, "/.git\n/.env\n/target\n").is_empty());
        assert_eq!(
            faults_of_context(by_git, "/target\n"),
            [".dockerignore: lacks /.env, which .gitignore has"]
        );
    }

    #[test]
    fn an_image_that_is_large_or_runs_as_root_is_a_fault() {
        let build = "FROM rust:1.95.0-bookworm AS build\nUSER 1000\n";
        for (last, faults) in [
            (
                "FROM debian:bookworm-slim\nUSER 10001\nCMD [\"candlefish\"]",
                0,
            ),
            ("FROM debian:bookworm\nUSER 10001", 1),
            // The user of an earlier stage is not that of this one.
            ("FROM debian:bookworm-slim", 1),
            ("FROM debian:bookworm-slim\nUSER root", 1),
            ("FROM debian:bookworm-slim\nUSER 0", 1),
            ("FROM debian:bookworm-slim\nUSER 10001\nUSER 0", 1),
        ] {
            let found = faults_of_last_stage(&format!("{build}{last}"));
            assert_eq!(found.len(), faults, "{last}: {found:?}");
        }
    }

    #[test]
    fn a_port_that_nobody_listens_on_and_one_for_everybody_are_faults() {
        let text = |published, address| {
            format!(
                r#"{{"services": {{"edge": {{"image": "candlefish:dev",
                "environment": {{"CANDLEFISH_LISTEN": "0.0.0.0:8080"}},
                "ports": [{{"target": {published}, "host_ip": "{address}"}}]}}}}}}"#
            )
        };
        assert!(faults_of_ports(&compose(&text(8080, "127.0.0.1"))).is_empty());
        assert_eq!(faults_of_ports(&compose(&text(8081, "127.0.0.1"))).len(), 1);
        assert_eq!(faults_of_ports(&compose(&text(8080, "0.0.0.0"))).len(), 1);
    }

    #[test]
    fn a_call_to_a_stranger_or_to_a_wrong_port_is_a_fault() {
        let text = |url| {
            format!(
                r#"{{"services": {{"nats": {{"image": "nats:2.12-alpine"}},
                "edge": {{"image": "candlefish:dev", "environment": {{"CANDLEFISH_NATS_URL": "{url}"}}}}}}}}"#
            )
        };
        assert!(faults_of_addresses(&compose(&text("nats://nats:4222"))).is_empty());
        assert_eq!(
            faults_of_addresses(&compose(&text("nats://nats:4223"))).len(),
            1
        );
        assert_eq!(
            faults_of_addresses(&compose(&text("nats://broker:4222"))).len(),
            1
        );
    }
}
