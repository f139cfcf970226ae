//! What a collector shows of a deployment, whatever died while it was carried out.

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use candlefish_devstack::Service;
use candlefish_testkit::{Collector, Span, poll_until};
use e2e::{Content, Sandbox, api::Commit};
use serde_json::Value;

/// A request's spans leave within the exporter's five seconds.
const SOON: Duration = Duration::from_secs(30);

#[tokio::test(flavor = "multi_thread")]
async fn a_deployment_is_one_whole_trace_whatever_died_meanwhile() {
    let collector = Collector::start().await;
    let endpoint = collector.endpoint();
    let sandbox = Sandbox::with(|builder| builder.replicas(1, 2, 2).otlp_endpoint(Some(endpoint)))
        .await
        .unwrap();
    let api = &sandbox.api;
    let commit = &Commit::chain(11, 1)[0];
    let release = api
        .release("docs", &Content::site("traced"), commit)
        .await
        .unwrap();
    let deployment = api
        .deploy("docs", "production", &release, None)
        .await
        .unwrap();
    // Whichever of them carries it, and whichever sends traces, is killed on the way.
    for victim in sandbox.stack.processes(Service::Orchestrator) {
        victim.kill().unwrap();
        victim.start().unwrap();
    }
    let ended = api.succeeds(&deployment.id).await.unwrap();

    let url = sandbox.stack.database_url("deploy").unwrap();
    let pool = sqlx::PgPool::connect(&url).await.unwrap();
    let steps: Vec<String> = sqlx::query_scalar(
        "SELECT span_id FROM step WHERE started_at IS NOT NULL
         UNION ALL SELECT a.span_id FROM step_attempt a",
    )
    .fetch_all(&pool)
    .await
    .unwrap();
    assert!(steps.len() > 4, "{steps:?}");
    let (trace, _call) = poll_until(SOON, "the whole trace", async || {
        whole(&collector.spans(), &ended.trace_id)
    })
    .await;
    let shown: HashSet<String> = trace.iter().map(|span| hex(&span.span.span_id)).collect();
    for step in &steps {
        assert!(shown.contains(step), "{step} is missing in {shown:?}");
    }
    sandbox.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deployment_leads_to_the_trace_of_the_call_that_asked_for_it() {
    let collector = Collector::start().await;
    let endpoint = collector.endpoint();
    let sandbox = Sandbox::with(|builder| builder.otlp_endpoint(Some(endpoint)))
        .await
        .unwrap();
    let api = &sandbox.api;
    let commit = &Commit::chain(12, 1)[0];
    let release = api
        .release("docs", &Content::site("traced"), commit)
        .await
        .unwrap();
    let deployment = api
        .deploy("docs", "production", &release, None)
        .await
        .unwrap();
    let (_trace, call) = poll_until(SOON, "the whole trace", async || {
        whole(&collector.spans(), &deployment.trace_id)
    })
    .await;
    // The call is a trace of its own, through both processes.
    poll_until(SOON, "the call's trace", async || {
        let spans = collector.spans();
        let of_call = spans.iter().filter(|span| hex(&span.span.trace_id) == call);
        let services: HashSet<String> = of_call.map(|span| span.service.clone()).collect();
        let both = ["gateway", "deploy-orchestrator"]
            .iter()
            .all(|name| services.iter().any(|service| service.contains(name)));
        if both { Ok(()) } else { Err(services) }
    })
    .await;
    // Its log lines name the deployment and that trace.
    let orchestrators = sandbox.stack.processes(Service::Orchestrator);
    poll_until(SOON, "a line with both", async || {
        let log = orchestrators[0].tail(usize::MAX);
        let lines = log
            .lines()
            .filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let mut about = lines.filter(|line| line["deployment.id"] == deployment.id.as_str());
        let told = about.any(|line| {
            let mut spans = line["spans"].as_array().into_iter().flatten();
            spans.any(|span| span["trace_id"] == call.as_str())
        });
        if told { Ok(()) } else { Err(log) }
    })
    .await;
    sandbox.stop().await.unwrap();
}

/// The spans of the trace, each once (a repeat has the same id), and the trace that its root links
/// to; what is wrong with it while it is not whole.
fn whole(spans: &[Span], trace_id: &str) -> Result<(Vec<Span>, String), String> {
    let trace: HashMap<String, Span> = spans
        .iter()
        .filter(|span| hex(&span.span.trace_id) == trace_id)
        .map(|span| (hex(&span.span.span_id), span.clone()))
        .collect();
    let roots: Vec<&Span> = trace
        .values()
        .filter(|span| span.span.parent_span_id.is_empty())
        .collect();
    let [root] = roots.as_slice() else {
        return Err(format!("{} roots of {} spans", roots.len(), trace.len()));
    };
    for span in trace.values() {
        let parent = hex(&span.span.parent_span_id);
        if !parent.is_empty() && !trace.contains_key(&parent) {
            return Err(format!("{} has no parent", span.span.name));
        }
    }
    let [link] = root.span.links.as_slice() else {
        return Err(format!("{} links", root.span.links.len()));
    };
    let asked = hex(&link.trace_id);
    Ok((trace.into_values().collect(), asked))
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    })
}
