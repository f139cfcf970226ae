//! `wrk`, the load generator that others know.

use std::process::Command;

/// What a run of `wrk` says.
#[derive(Debug)]
pub(super) struct Outcome {
    pub(super) per_second: f64,
    /// As `wrk` writes it: `1.23ms`.
    pub(super) p50: String,
    pub(super) p99: String,
    /// Answers that were not 2xx or 3xx.
    pub(super) errors: String,
}

/// Runs `wrk` on one thread.
pub(super) fn run(url: &str, connections: u32, seconds: u32, headers: &[String]) -> Outcome {
    let mut command = Command::new("wrk");
    command.args(["-t1", "--latency"]);
    command
        .arg(format!("-c{connections}"))
        .arg(format!("-d{seconds}s"));
    for header in headers {
        command.args(["-H", header]);
    }
    let output = command.arg(url).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let after = |name: &str| {
        let line = text
            .lines()
            .find(|line| line.trim_start().starts_with(name));
        line.and_then(|line| line.split_whitespace().last())
            .unwrap_or("?")
            .to_owned()
    };
    Outcome {
        per_second: after("Requests/sec:").parse().unwrap_or(0.0),
        p50: after("50%"),
        p99: after("99%"),
        errors: if text.contains("Non-2xx") {
            after("Non-2xx")
        } else {
            "0".to_owned()
        },
    }
}
