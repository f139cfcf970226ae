//! Traffic samples of edges: lost, late, repeated and reordered ones change no judgement.
//!
//! One test in one process: every orchestrator takes its share of the samples on a bus.

use candlefish_ids::ReleaseId;
use candlefish_proto::deploy::{TrafficCounters, TrafficSample};
use candlefish_testkit::{nats_url, poll_until};
use prost::Message as _;

use crate::sandbox::{SOON, Sandbox};

const SUBJECT: &str = "telemetry.edge.traffic";

fn counters(host: &str, release: &str, requests: i64) -> TrafficCounters {
    TrafficCounters {
        host: host.to_owned(),
        release_id: release.to_owned(),
        requests,
        server_errors: requests / 10,
        lost_paths: requests / 100,
        latency: vec![requests, 0],
        ..TrafficCounters::default()
    }
}

fn sample_of(boot: &str, seq: i64, counters: Vec<TrafficCounters>) -> Vec<u8> {
    let sample = TrafficSample {
        edge: "edge-1".to_owned(),
        boot: boot.to_owned(),
        seq,
        counters,
    };
    sample.encode_to_vec()
}

fn sample(release: &str, boot: &str, seq: i64, requests: i64) -> Vec<u8> {
    let one = counters("docs.localhost", release, requests);
    sample_of(boot, seq, vec![one])
}

/// Several in one sample: each counts for itself, of one host and release the first.
fn several(release: &str) -> Vec<u8> {
    let all = vec![
        counters("b.localhost", release, 7),
        counters("a.localhost", "rel_none", 9),
        counters("b.localhost", release, 8),
        counters("a.localhost", release, 5),
    ];
    sample_of("several", 1, all)
}

async fn assert_several(sandbox: &Sandbox) {
    for (host, requests) in [("a.localhost", 5), ("b.localhost", 7)] {
        for column in ["requests", "latency[1]"] {
            let kept =
                format!("SELECT {column} FROM traffic WHERE boot = 'several' AND host = '{host}'");
            assert_eq!(sandbox.number(&kept).await, requests, "{column} on {host}");
        }
    }
}

#[tokio::test]
async fn the_newest_sample_of_each_boot_counts_whatever_comes_after_it() {
    let nats = async_nats::connect(nats_url()).await.unwrap();
    let sandbox = Sandbox::with(&[("CANDLEFISH_NATS_URL", &nats_url())]).await;
    let _orchestrator = sandbox.start().await;
    let release = ReleaseId::new().to_string();
    let told = async |payload: Vec<u8>| {
        nats.publish(SUBJECT, payload.into()).await.unwrap();
        nats.flush().await.unwrap();
    };
    // The subscription comes a moment after the start.
    let kept = "SELECT COALESCE(max(seq), 0) FROM traffic WHERE boot = 'one'";
    poll_until(SOON, "the first sample", async || {
        told(sample(&release, "one", 1, 100)).await;
        match sandbox.number(kept).await {
            1 => Ok(()),
            other => Err(other),
        }
    })
    .await;
    for (boot, seq, requests) in [
        ("one", 3, 300),
        // Late, repeated, late again.
        ("one", 2, 200),
        ("one", 3, 300),
        ("one", 1, 100),
        // The edge began anew, and a sample of before comes after that.
        ("two", 1, 10),
        ("one", 2, 200),
        ("two", 1, 10),
    ] {
        told(sample(&release, boot, seq, requests)).await;
    }
    // Not a sample, and one of a release that is none: passed over.
    told(b"\xff\xff".to_vec()).await;
    told(sample("rel_none", "one", 9, 9)).await;
    told(several(&release)).await;
    told(sample(&release, "last", 1, 1)).await;
    poll_until(SOON, "the last sample", async || {
        let last = "SELECT count(*) FROM traffic WHERE boot = 'last'";
        match sandbox.number(last).await {
            1 => Ok(()),
            other => Err(other),
        }
    })
    .await;
    let sum = |column: &str| {
        format!("SELECT sum({column})::bigint FROM traffic WHERE boot NOT IN ('last', 'several')")
    };
    assert_eq!(sandbox.number(&sum("requests")).await, 310);
    assert_eq!(sandbox.number(&sum("server_errors + lost_paths")).await, 34);
    assert_several(&sandbox).await;
    assert_eq!(sandbox.number("SELECT count(*) FROM traffic").await, 5);
    let rate = "SELECT count(*) FROM traffic WHERE rate < 0";
    assert_eq!(sandbox.number(rate).await, 0);
}
