//! What a collector shows of a deployment, whatever died while it was carried out.

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use candlefish_devstack::Service;
use candlefish_proto::deploy as pb;
use candlefish_testkit::{Collector, Span, github::Push, poll_until};
use e2e::{
    Api, Content, Sandbox,
    api::{Commit, quick_policy},
};
use serde_json::Value;

/// A request's spans leave within the exporter's five seconds.
const SOON: Duration = Duration::from_secs(30);
const REPOSITORY: &str = "example/handbook";

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
    // Nothing goes live without them.
    let edges = sandbox.stack.processes(Service::Edge);
    for edge in &edges {
        edge.freeze().unwrap();
    }
    let deployment = api
        .deploy("docs", "production", &release, None)
        .await
        .unwrap();
    let url = sandbox.stack.database_url("deploy").unwrap();
    let pool = sqlx::PgPool::connect(&url).await.unwrap();
    let begun = async || -> i64 {
        let begun =
            "SELECT count(*) FROM step WHERE started_at IS NOT NULL AND finished_at IS NULL";
        sqlx::query_scalar(begun).fetch_one(&pool).await.unwrap()
    };
    let a_step = "a step that waits for the edges";
    candlefish_testkit::wait_until(SOON, a_step, async || begun().await == 1).await;
    // Whichever of them carries it, and whichever sends traces, is killed on the way.
    let victims = sandbox.stack.processes(Service::Orchestrator);
    for victim in &victims {
        victim.kill().unwrap();
    }
    assert_eq!(begun().await, 1, "all are dead in the middle of a step");
    for victim in victims {
        victim.start().unwrap();
    }
    for edge in edges {
        edge.thaw().unwrap();
    }
    let ended = api.succeeds(&deployment.id).await.unwrap();
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

#[tokio::test(flavor = "multi_thread")]
async fn the_deployment_of_a_push_leads_to_its_webhook_and_its_log_lines_to_its_trace() {
    let collector = Collector::start().await;
    let endpoint = collector.endpoint();
    let sandbox = Sandbox::with(|builder| builder.otlp_endpoint(Some(endpoint)))
        .await
        .unwrap();
    let api = &sandbox.api;
    follow_pushes(api).await;
    let commit = &Commit::chain(13, 1)[0];
    let push = Push {
        repository: REPOSITORY,
        branch: "main",
        before: &"0".repeat(40),
        commits: &[&commit.id],
        changes: &["docs/a.md"],
        pushed_at: 1_790_000_000,
    };
    let told = sandbox.delivers("guid-traced", &push.example()).await;
    told.unwrap();
    let id = poll_until(SOON, "the push's deployment", async || {
        let triggers = api.triggers(&commit.id).await;
        let mut triggers = triggers.map_err(|status| status.to_string())?;
        let decided = triggers.pop().ok_or("nothing is known yet")?;
        Ok::<_, String>(decided.deployment_id)
    })
    .await;
    let content = Content::site("traced");
    api.release("handbook", &content, commit).await.unwrap();
    let ended = api.succeeds(&id).await.unwrap();
    let (_trace, call) = poll_until(SOON, "the whole trace", async || {
        whole(&collector.spans(), &ended.trace_id)
    })
    .await;
    poll_until(SOON, "the webhook's span", async || {
        let spans = collector.spans();
        let mut of_call = spans.iter().filter(|span| hex(&span.span.trace_id) == call);
        let told = of_call.any(|span| span.service.contains("gateway"));
        if told { Ok(()) } else { Err(call.clone()) }
    })
    .await;
    // What a worker says of it has both as well.
    let orchestrators = sandbox.stack.processes(Service::Orchestrator);
    poll_until(SOON, "a line of its end", async || {
        let log = orchestrators[0].tail(usize::MAX);
        let lines = log
            .lines()
            .filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let mut about = lines.filter(|line| line["deployment.id"] == id.as_str());
        let told = about.any(|line| {
            let trace = &line["span"]["trace_id"];
            line["state"] == "succeeded" && *trace == ended.trace_id.as_str()
        });
        if told { Ok(()) } else { Err(log) }
    })
    .await;
    sandbox.stop().await.unwrap();
}

/// A site whose production takes pushes.
async fn follow_pushes(api: &Api) {
    let site = pb::CreateSiteRequest {
        slug: "handbook".to_owned(),
        repository: REPOSITORY.to_owned(),
        ..Default::default()
    };
    api.sites().create_site(site).await.unwrap();
    let environment = pb::CreateEnvironmentRequest {
        site: "handbook".to_owned(),
        slug: "production".to_owned(),
        policy: Some(quick_policy()),
        pushes: Some(pb::PushRule {
            branch: "main".to_owned(),
            paths: Vec::new(),
        }),
        ..Default::default()
    };
    api.sites().create_environment(environment).await.unwrap();
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
