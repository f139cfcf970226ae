//! `wrk`, the load generator that others know.

use std::{fmt::Write as _, process::Command};

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
    told(command(connections, seconds, headers).arg(url))
}

/// The same for several paths of `origin`, which every connection asks for in turn.
pub(super) fn in_turn(
    origin: &str,
    paths: &[&str],
    connections: u32,
    seconds: u32,
    headers: &[String],
) -> Outcome {
    // The requests are made before the run: it measures whoever answers, not Lua.
    let mut script = "local all, turn = {}, 0\nfunction init(args)\n".to_owned();
    for path in paths {
        writeln!(script, "  all[#all + 1] = wrk.format(\"GET\", \"{path}\")").unwrap();
    }
    script.push_str("end\nfunction request()\n  turn = turn % #all + 1\n  return all[turn]\nend\n");
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), script).unwrap();
    let mut command = command(connections, seconds, headers);
    told(command.arg("-s").arg(file.path()).arg(origin))
}

fn command(connections: u32, seconds: u32, headers: &[String]) -> Command {
    let mut command = Command::new("wrk");
    command.args(["-t1", "--latency"]);
    command
        .arg(format!("-c{connections}"))
        .arg(format!("-d{seconds}s"));
    for header in headers {
        command.args(["-H", header]);
    }
    command
}

fn told(command: &mut Command) -> Outcome {
    let output = command.output().unwrap();
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
