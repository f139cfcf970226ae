//! `candlefish deploy` of a thousand files of which ten changed, blue-green, until it is live.

use std::{
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use e2e::Sandbox;

use crate::{Row, millis, percentile};

const FILES: usize = 1000;
const CHANGED: usize = 10;
const TIMES: usize = 5;

pub(super) async fn run(sandbox: &Sandbox, binaries: &Path) -> Row {
    sandbox
        .api
        .create_site("files", &["production"])
        .await
        .unwrap();
    let policy = candlefish_proto::deploy::Policy::default();
    sandbox
        .api
        .set_policy("files", "production", policy)
        .await
        .unwrap();
    // As the platform has it: nobody said another one.
    let environment = sandbox.api.environment("files", "production").await;
    let settle = environment.unwrap().policy.and_then(|policy| policy.settle);
    let settle: Duration = settle.unwrap().try_into().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let page = |place: usize, turn: usize| {
        format!(
            "<h1>Page {place}</h1><p>turn {turn}</p>{}",
            "words ".repeat(500)
        )
    };
    std::fs::write(folder.path().join("index.html"), page(0, 0)).unwrap();
    for place in 1..FILES {
        std::fs::write(
            folder.path().join(format!("page-{place}.html")),
            page(place, 0),
        )
        .unwrap();
    }
    let mut samples = Vec::new();
    for turn in 0..=TIMES {
        for place in 1..=CHANGED {
            let path = folder.path().join(format!("page-{place}.html"));
            std::fs::write(path, page(place, turn)).unwrap();
        }
        let took = deploy(sandbox, binaries, folder.path());
        // The first brings all thousand; only those after it are of ten changed files.
        if turn > 0 {
            samples.push(took);
        }
    }
    Row {
        path: "`candlefish deploy`, 1,000 files, 10 changed, blue-green → live",
        target: "< 1 s",
        measured: format!(
            "median {}, slowest {}; {} of settling in each",
            millis(percentile(&mut samples, 0.5)),
            millis(percentile(&mut samples, 1.0)),
            millis(settle)
        ),
    }
}

fn deploy(sandbox: &Sandbox, binaries: &Path, folder: &Path) -> Duration {
    let begun = Instant::now();
    let output = Command::new(binaries.join("candlefish"))
        .arg("deploy")
        .arg(folder)
        .args([
            "--site",
            "files",
            "--env",
            "production",
            "--strategy",
            "blue-green",
        ])
        .env("CANDLEFISH_API", sandbox.stack.gateway_url())
        .env("CANDLEFISH_TOKEN", sandbox.stack.admin_token())
        .output()
        .unwrap();
    let took = begun.elapsed();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    took
}
