//! The gateway as a process of its own: what its log says.

use std::process::Stdio;

use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
};

use crate::stand::{SOON, Stand};

/// One more replica of the gateway, on ports of its own.
fn replica(stand: &Stand) -> Child {
    let environment = stand.environment.iter().map(|(name, value)| {
        let value = if name.ends_with("LISTEN") {
            "127.0.0.1:0"
        } else {
            value.as_str()
        };
        (name, value)
    });
    Command::new(env!("CARGO_BIN_EXE_gateway"))
        .env_clear()
        .envs(environment)
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap()
}

/// The lines of its log up to the one that says this, or to its end.
async fn log_until(replica: &mut Child, message: &str) -> Vec<String> {
    let mut lines = BufReader::new(replica.stderr.take().unwrap()).lines();
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
    (fields["message"] == message).then_some(fields)
}

#[tokio::test]
async fn a_start_says_with_what_it_runs_and_no_secret() {
    let secret = "a-secret-of-the-webhook";
    let stand = Stand::start_with(&[("CANDLEFISH_GITHUB_WEBHOOK_SECRET", secret)]).await;
    let mut replica = replica(&stand);
    let log = log_until(&mut replica, "serving").await;
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
        "; database_connections 10; ",
        "; nats nats://127.0.0.1:9; ",
        "; bootstrap_token set; ",
        "; poll 20ms; ",
    ] {
        assert!(config.contains(words), "{words:?} in {config}");
    }
    let schema = find("serving")["schema"].as_i64();
    assert!(schema.is_some_and(|newest| newest >= 6), "{schema:?}");

    let database = stand.database.url();
    let (_, login) = database.split_once("://").unwrap();
    let (login, _) = login.rsplit_once('@').unwrap();
    // A database of one's own may want none.
    let password = login.split_once(':').map(|(_, password)| password);
    let log = log.concat();
    let secrets = [secret, stand.admin.as_str()];
    for hidden in secrets.into_iter().chain(password) {
        assert!(!log.contains(hidden), "{hidden} in {log}");
    }
}
