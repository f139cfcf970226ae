//! The orchestrator as a process of its own: what its log says.

use std::{path::PathBuf, process::Stdio};

use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::{Child, Command},
};

use crate::sandbox::{SOON, Sandbox};

const NATS_SECRET: &str = "a-secret-of-the-bus";
const GITHUB_SECRET: &str = "a-secret-of-github";

/// Where cargo put the program, beside the folder of this test. By the name that cargo gives it in the
/// environment it is not found where a shell runs the compiler: that drops names with a hyphen.
fn program() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let built = test.parent().and_then(|deps| deps.parent()).unwrap();
    built.join("deploy-orchestrator")
}

/// An orchestrator in this environment and no other.
fn process(sandbox: &Sandbox) -> Child {
    Command::new(program())
        .env_clear()
        .envs(sandbox.environment(&sandbox.database.url()))
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap()
}

/// The lines of its log up to the one that says this, or to its end.
async fn log_until(process: &mut Child, message: &str) -> Vec<String> {
    let mut lines = BufReader::new(process.stderr.take().unwrap()).lines();
    let mut log = Vec::new();
    let reading = async {
        while let Some(line) = lines.next_line().await.unwrap() {
            let found = said(&line, message).is_some();
            log.push(line);
            if found {
                break;
            }
        }
    };
    let read = tokio::time::timeout(SOON, reading).await;
    assert!(read.is_ok(), "no {message:?} in {log:?}");
    log
}

/// The fields of a line that says this.
fn said(line: &str, message: &str) -> Option<Value> {
    let fields: Value = serde_json::from_str(line).ok()?;
    (fields.get("message")? == message).then_some(fields)
}

#[tokio::test]
async fn a_start_says_with_what_it_runs_and_on_which_schema_and_no_secret() {
    let nats = format!("nats://deploy:{NATS_SECRET}@127.0.0.1:1");
    let sandbox = Sandbox::with(&[
        ("CANDLEFISH_NATS_URL", &nats),
        ("CANDLEFISH_GITHUB_TOKEN", GITHUB_SECRET),
        // Nobody is asked there.
        ("CANDLEFISH_GITHUB_API", "http://127.0.0.1:1"),
    ])
    .await;
    let mut process = process(&sandbox);
    let log = log_until(&mut process, "serving").await;
    let find = |message: &str| {
        let found: Vec<Value> = log.iter().filter_map(|line| said(line, message)).collect();
        assert_eq!(found.len(), 1, "{message:?} in {log:?}");
        found[0].clone()
    };
    let configured = find("configured");
    assert_eq!(configured["level"], "INFO");
    let config = configured["config"].as_str().unwrap();
    for words in [
        "listen 127.0.0.1:0; ",
        "; database_connections 8; ",
        "; nats 127.0.0.1:1; ",
        "; github http://127.0.0.1:1, as ",
        "; poll 50ms; ",
    ] {
        assert!(config.contains(words), "{words:?} in {config}");
    }
    let migrator = sqlx::migrate!();
    let newest = migrator.iter().map(|one| one.version).max();
    assert_eq!(find("serving")["schema"].as_i64(), newest);

    let database = sandbox.database.url();
    let (_, login) = database.split_once("://").unwrap();
    let (login, _) = login.rsplit_once('@').unwrap();
    // A database of one's own may want none.
    let password = login.split_once(':').map(|(_, password)| password);
    let signing_key = "5a".repeat(32);
    let log = log.concat();
    let secrets = [NATS_SECRET, GITHUB_SECRET, signing_key.as_str()];
    for hidden in secrets.into_iter().chain(password) {
        assert!(!log.contains(hidden), "{hidden} in {log}");
    }
}
