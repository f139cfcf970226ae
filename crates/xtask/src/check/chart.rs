//! The Helm chart: lints, and renders with and without what can be left out.

use std::process::Command;

use anyhow::{Result, ensure};

use crate::check::Outcome;
use crate::workspace::Workspace;
use crate::{cargo, tools};

const CHART: &str = "helm/candlefish";

/// What every rendering must contain, by kind and the end of the name.
const PARTS: [(&str, &str); 5] = [
    ("Job", "deploy-orchestrator-migrate"),
    ("Job", "gateway-migrate"),
    ("Deployment", "gateway"),
    ("Deployment", "deploy-orchestrator"),
    ("StatefulSet", "edge"),
];

pub(super) fn check(workspace: &Workspace) -> Outcome {
    let program = tools::helm()?;
    let helm = |args: &[&str]| {
        let mut command = Command::new(&program);
        command.current_dir(&workspace.root).args(args);
        cargo::output(command)
    };
    helm(&["lint", "--strict", CHART])?;
    let template = ["template", "check", CHART, "--kube-version", "1.32"];
    let plain = helm(&template)?;
    holds(&plain)?;
    let adjusted = [
        "s3.endpoint=http://s3:9000",
        "otlpEndpoint=http://jaeger:4317",
        "networkPolicy.enabled=false",
        "edge.storageClassName=fast",
        "image.tag=v9",
        "secrets.githubWebhook=hooks",
        "secrets.github=github",
        "github.appId=7",
        "nats.replicas=5",
        "orchestrator.env.CANDLEFISH_RELEASE_FILES=9",
        "gateway.env.CANDLEFISH_CALLS=7",
        "edge.env.CANDLEFISH_EDGE_MEMORY_MIB=5",
        "secrets.s3=keys",
        "secrets.nats=bus",
    ];
    let adjusted: Vec<&str> = adjusted.iter().flat_map(|set| ["--set", *set]).collect();
    let adjusted = helm(&[&template[..], &adjusted[..]].concat())?;
    holds(&adjusted)?;
    ensure!(
        adjusted.contains("image: candlefish:v9"),
        "image.tag is not used"
    );
    ensure!(
        adjusted.contains("name: CANDLEFISH_GITHUB_WEBHOOK_SECRET")
            && !plain.contains("CANDLEFISH_GITHUB_WEBHOOK_SECRET"),
        "the webhooks' secret is not taken from where it is"
    );
    ensure!(
        adjusted.contains("{name: github, mountPath: /github, readOnly: true}")
            && adjusted.contains("{name: CANDLEFISH_GITHUB_APP_ID, value: \"7\"}")
            && !plain.contains("CANDLEFISH_GITHUB"),
        "the App's key is not taken from where it is"
    );
    // As `helm upgrade --reuse-values` renders it with the values of a chart that had none.
    let unsaid = ["--set", "nats.replicas=null"];
    let unsaid = helm(&[&template[..], &unsaid[..]].concat())?;
    reach_the_services(&plain, &adjusted, &unsaid)?;
    ensure!(
        !adjusted.contains("kind: NetworkPolicy"),
        "a policy although it is off"
    );
    Ok(())
}

/// Whether what is set for the services arrives in their environment.
fn reach_the_services(plain: &str, adjusted: &str, unsaid: &str) -> Result<()> {
    let copies = |rendered: &str, count: &str| {
        let line = format!("{{name: CANDLEFISH_NATS_REPLICAS, value: \"{count}\"}}");
        rendered.contains(&line)
    };
    ensure!(
        copies(plain, "3") && copies(adjusted, "5") && copies(unsaid, "1"),
        "nats.replicas is not used"
    );
    for (values, line) in [
        (
            "orchestrator",
            "{name: CANDLEFISH_RELEASE_FILES, value: \"9\"}",
        ),
        ("gateway", "{name: CANDLEFISH_CALLS, value: \"7\"}"),
        ("edge", "{name: CANDLEFISH_EDGE_MEMORY_MIB, value: \"5\"}"),
    ] {
        ensure!(adjusted.contains(line), "{values}.env is not used");
    }
    let secrets = [
        "{name: keys, key: secret-access-key}",
        "{name: bus, key: url}",
    ];
    ensure!(
        secrets.iter().all(|one| adjusted.contains(one))
            && !adjusted.contains("nats://")
            && !plain.contains("AWS_SECRET_ACCESS_KEY"),
        "the secrets of S3 and NATS are not taken from where they are"
    );
    Ok(())
}

fn holds(rendered: &str) -> Result<()> {
    let documents: Vec<&str> = rendered.split("\n---").collect();
    for (kind, name) in PARTS {
        let kind_line = format!("kind: {kind}\n");
        let name_line = format!("name: check-{name}\n");
        let found = documents
            .iter()
            .any(|one| one.contains(&kind_line) && one.contains(&name_line));
        ensure!(found, "the chart renders no {kind} {name}");
    }
    Ok(())
}
