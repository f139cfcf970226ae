//! The edge as a process of its own: what its log says.

use std::process::Stdio;

use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::{Child, Command},
};

use crate::sandbox::{SOON, Sandbox};

const SECRET: &str = "a-secret-of-the-bus";

/// An edge in this environment and no other.
fn process(sandbox: &Sandbox) -> Child {
    Command::new(env!("CARGO_BIN_EXE_edge"))
        .env_clear()
        .envs(sandbox.environment("edge-1"))
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap()
}

/// Whether a line, which is an object of JSON, says this.
fn says(line: &str, message: &str) -> bool {
    line.contains(&format!("\"message\":\"{message}\""))
}

/// The lines of its log up to the one that says this, or to its end.
async fn log_until(process: &mut Child, message: &str) -> Vec<String> {
    let mut lines = BufReader::new(process.stderr.take().unwrap()).lines();
    let mut log = Vec::new();
    let reading = async {
        while let Some(line) = lines.next_line().await.unwrap() {
            let found = says(&line, message);
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

#[tokio::test]
async fn a_start_says_with_what_it_runs_and_no_secret() {
    let mut sandbox = Sandbox::new().await;
    let nats = format!("nats://edge:{SECRET}@127.0.0.1:9");
    sandbox.settings.push(("CANDLEFISH_NATS_URL", nats));
    let mut process = process(&sandbox);
    let log = log_until(&mut process, "serving").await;
    let find = |message: &str| {
        let found: Vec<&String> = log.iter().filter(|line| says(line, message)).collect();
        assert_eq!(found.len(), 1, "{message:?} in {log:?}");
        found[0]
    };
    let configured = find("configured");
    for words in [
        "\"level\":\"INFO\"",
        "CANDLEFISH_LISTEN=127.0.0.1:0; ",
        "; CANDLEFISH_EDGE_ID=edge-1; ",
        "; CANDLEFISH_NATS_URL=127.0.0.1:9; ",
        "; CANDLEFISH_EDGE_REPORT_MS=100; ",
    ] {
        assert!(configured.contains(words), "{words:?} in {configured}");
    }
    // It has no database: what it took up of the last run is what it starts from.
    for words in ["\"edge\":\"edge-1\"", "\"routes\":0"] {
        let serving = find("serving");
        assert!(serving.contains(words), "{words:?} in {serving}");
    }
    let log = log.concat();
    assert!(!log.contains(SECRET), "{log}");
}
