use super::*;

#[test]
fn what_the_documents_tell_to_set_is_shown() {
    let config = Config::read(Env::from_pairs([
        ("CANDLEFISH_LISTEN", "127.0.0.1:7201"),
        ("CANDLEFISH_OPS_LISTEN", "127.0.0.1:7290"),
        (
            "CANDLEFISH_DATABASE_URL",
            "postgres://deploy:secret@db/main",
        ),
        ("CANDLEFISH_NATS_URL", "nats://nats:4222"),
        ("CANDLEFISH_IDENTITY_KEY", "/key.pem"),
        ("CANDLEFISH_TRUSTED_KEYS", "/trusted"),
        ("CANDLEFISH_BLOBS", "s3://candlefish"),
        ("CANDLEFISH_S3_ENDPOINT", "http://s3:9000"),
        ("CANDLEFISH_KEEP_ADDRESSES_MS", "7000"),
        ("CANDLEFISH_MAX_WAITING", "70"),
        ("CANDLEFISH_NATS_REPLICAS", "3"),
    ]));
    let shown = config.unwrap().describe();
    for line in [
        "s3_endpoint http://s3:9000\n",
        "keep_addresses 7s\n",
        "max_waiting 70\n",
        "nats_replicas 3\n",
    ] {
        assert!(shown.contains(line), "{shown}");
    }
    assert!(!shown.contains("secret"), "{shown}");
}

#[test]
fn no_fetch_outlasts_a_third_of_a_lease_but_each_has_a_second() {
    for (lease, timeout, silence) in [
        ("15000", "5000", 5_000),
        ("15000", "60000", 5_000),
        ("15000", "200", 200),
        ("6000", "5000", 2_000),
        ("1000", "5000", 1_000),
    ] {
        let config = Config::read(Env::from_pairs([
            ("CANDLEFISH_LISTEN", "127.0.0.1:7201"),
            ("CANDLEFISH_OPS_LISTEN", "127.0.0.1:7290"),
            ("CANDLEFISH_DATABASE_URL", "postgres://deploy@db/main"),
            ("CANDLEFISH_NATS_URL", "nats://nats:4222"),
            ("CANDLEFISH_IDENTITY_KEY", "/key.pem"),
            ("CANDLEFISH_TRUSTED_KEYS", "/trusted"),
            ("CANDLEFISH_BLOBS", "s3://candlefish"),
            ("CANDLEFISH_LEASE_MS", lease),
            ("CANDLEFISH_FETCH_TIMEOUT_MS", timeout),
        ]));
        let config = config.unwrap();
        assert_eq!(
            config.silence(),
            Duration::from_millis(silence),
            "{lease} {timeout}"
        );
    }
}

/// Reads what is set besides what must be.
fn with(set: &[(&str, &str)]) -> Result<Config, candlefish_runtime::config::Error> {
    let needed = [
        ("CANDLEFISH_LISTEN", "127.0.0.1:7201"),
        ("CANDLEFISH_OPS_LISTEN", "127.0.0.1:7290"),
        ("CANDLEFISH_DATABASE_URL", "postgres://db/main"),
        ("CANDLEFISH_NATS_URL", "nats://nats:4222"),
        ("CANDLEFISH_IDENTITY_KEY", "/key.pem"),
        ("CANDLEFISH_TRUSTED_KEYS", "/trusted"),
        ("CANDLEFISH_BLOBS", "s3://candlefish"),
    ];
    Config::read(Env::from_pairs(needed.iter().chain(set).copied()))
}

#[test]
fn each_limit_of_releases_has_a_variable_of_its_own() {
    let usual = Limits::default();
    for (name, expected) in [
        ("CANDLEFISH_RELEASE_FILES", Limits { files: 5, ..usual }),
        (
            "CANDLEFISH_RELEASE_BYTES",
            Limits {
                total_bytes: 5,
                ..usual
            },
        ),
        (
            "CANDLEFISH_RELEASE_FILE_BYTES",
            Limits {
                file_bytes: 5,
                ..usual
            },
        ),
        (
            "CANDLEFISH_RELEASE_PATH_BYTES",
            Limits {
                path_bytes: 5,
                ..usual
            },
        ),
        ("CANDLEFISH_RELEASE_DEPTH", Limits { depth: 5, ..usual }),
    ] {
        let limits = with(&[(name, "5")]).unwrap().limits;
        assert_eq!(described(&limits), described(&expected), "{name}");
        let refused = with(&[(name, "0")]).unwrap_err();
        let named: Vec<_> = refused.faults.iter().map(|f| f.variable.as_str()).collect();
        assert_eq!(named, [name]);
    }
}

#[test]
fn a_path_that_no_edge_would_serve_is_no_limit() {
    let path = "CANDLEFISH_RELEASE_PATH_BYTES";
    assert_eq!(with(&[(path, "1365")]).unwrap().limits.path_bytes, 1365);
    let refused = with(&[(path, "1366")]).unwrap_err();
    assert!(refused.to_string().contains("at most 1365"), "{refused}");
}

#[test]
fn what_is_set_for_github_is_shown_without_its_secret() {
    let config = with(&[
        ("CANDLEFISH_GITHUB_TOKEN", "sesame"),
        ("CANDLEFISH_GITHUB_SWEEP_MS", "7000"),
        ("CANDLEFISH_PUBLIC_URL", "https://candlefish.example.org/"),
    ]);
    let shown = config.unwrap().describe();
    let github = "github https://api.github.com, as a token, timeout 10s, write_pause 1s, rest 30s, \
                  sweep 7s, head_start 10s, archive 600s, public_url https://candlefish.example.org\n";
    assert!(shown.contains(github), "{shown}");
    assert!(!shown.contains("sesame"), "{shown}");
}

#[test]
fn an_address_that_leads_nowhere_is_refused_at_the_start() {
    let domain = "CANDLEFISH_DOMAIN";
    for (name, value) in [
        (domain, "Example.org"),
        (domain, "example.org."),
        (domain, "localhost:8080"),
        (domain, "-.org"),
        (domain, &"a.".repeat(100)),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "jaeger:4317"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "not an address"),
    ] {
        let refused = with(&[(name, value)]).unwrap_err();
        let named: Vec<_> = refused.faults.iter().map(|f| f.variable.as_str()).collect();
        assert_eq!(named, [name], "{value}");
    }
    for good in ["localhost", "example.org", "pages.xn--bcher-kva.example"] {
        assert_eq!(with(&[(domain, good)]).unwrap().domain, good);
    }
}
