use std::collections::HashMap;

use candlefish_runtime::telemetry::{Format, TelemetryConfig, span_exporter};
use candlefish_testkit::{Collector, Database, Log, OFFSET_CLOCK, Span, wait_until};
use sqlx::{AssertSqlSafe, Executor};

use super::*;

const SOON: Duration = Duration::from_secs(40);
const DEPLOYMENT: &str = "01900000-0000-7000-8000-000000000001";

/// A deployment that waits in its second step; `act` moves it on.
struct World {
    database: Database,
    pool: PgPool,
    collector: Collector,
}

impl World {
    async fn new() -> Self {
        let database = Database::migrated(&sqlx::migrate!()).await;
        database
            .run(&[OFFSET_CLOCK, include_str!("tests/deployment.sql")])
            .await;
        Self {
            pool: database.pool(),
            database,
            collector: Collector::start().await,
        }
    }

    fn exporter(&self) -> telemetry::SpanExporter {
        let config = TelemetryConfig {
            filter: "info".to_owned(),
            format: Format::Json,
            otlp_endpoint: Some(self.collector.endpoint()),
        };
        span_exporter("deploy-orchestrator", &config)
            .unwrap()
            .unwrap()
    }

    async fn turn(&self, owner: &str) -> Result<bool, Error> {
        let mut past = Past::default();
        turn(
            &self.pool,
            &self.exporter(),
            &TraceConfig::of(owner),
            &mut past,
        )
        .await
    }

    async fn act(&self, statement: &str) {
        self.pool
            .execute(AssertSqlSafe(statement.to_owned()))
            .await
            .unwrap();
    }

    /// The second step is claimed, lost, claimed again, errs once, then is done; the third never
    /// begins; the deployment ends.
    async fn end(&self) {
        for statement in [
            "UPDATE step SET state = 'running', owner = 'one', claim = nextval('claim_seq'),
                 lease_until = clock() + interval '1 s', started_at = clock() WHERE ord = 2",
            "UPDATE step SET state = 'running', owner = 'two', claim = nextval('claim_seq'),
                 lease_until = clock() + interval '1 s', lost_leases = 1 WHERE ord = 2",
            "UPDATE step SET state = 'ready', run_at = clock(), attempt = attempt + 1,
                 message = 'reset by peer', lease_until = NULL, claim = NULL WHERE ord = 2",
            "UPDATE step SET state = 'running', owner = 'two', claim = nextval('claim_seq'),
                 lease_until = clock() + interval '1 s' WHERE ord = 2",
            "UPDATE step SET state = 'done', finished_at = clock(), lease_until = NULL,
                 message = '12 of 12 files' WHERE ord = 2",
            "UPDATE step SET state = 'abandoned', finished_at = clock() WHERE ord = 3",
            "UPDATE deployment SET state = 'failed', finished_at = clock(), message = 'refused'",
        ] {
            self.act(statement).await;
        }
    }

    /// Deployments whose own span arrived, each as often as it did.
    fn arrived(&self) -> usize {
        let names = self.names();
        let of_deployments = names.iter().filter(|name| name.starts_with("deployment "));
        of_deployments.count()
    }

    fn names(&self) -> Vec<String> {
        self.spans()
            .into_iter()
            .map(|span| span.span.name)
            .collect()
    }

    fn spans(&self) -> Vec<Span> {
        self.collector.spans()
    }
}

fn is_one_whole_tree(spans: &[Span]) {
    let by_id: HashMap<_, _> = spans.iter().map(|s| (s.span.span_id.clone(), s)).collect();
    assert_eq!(by_id.len(), spans.len(), "a span twice");
    let roots = spans.iter().filter(|s| s.span.parent_span_id.is_empty());
    assert_eq!(roots.count(), 1, "one root");
    for Span { span, .. } in spans {
        assert_eq!(span.trace_id, spans[0].span.trace_id);
        assert!(
            span.end_time_unix_nano >= span.start_time_unix_nano,
            "{span:?}"
        );
        if !span.parent_span_id.is_empty() {
            let parent = by_id
                .get(&span.parent_span_id)
                .expect("a parent is missing");
            assert!(
                parent.span.start_time_unix_nano <= span.start_time_unix_nano,
                "{span:?}"
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deployment_is_one_trace_of_its_steps_and_their_attempts() {
    let world = World::new().await;
    world.end().await;
    world.turn("one").await.unwrap();
    let spans = world.spans();
    is_one_whole_tree(&spans);
    let mut names = world.names();
    names.sort();
    assert_eq!(
        names,
        [
            "deployment docs/production",
            "prepare",
            "verify_candidate",
            "verify_candidate attempt",
            "verify_candidate attempt",
            "verify_candidate attempt",
        ]
    );
    let root = &spans
        .iter()
        .find(|s| s.span.parent_span_id.is_empty())
        .unwrap()
        .span;
    assert_eq!(root.links.len(), 1, "the request is linked, not the parent");
    assert_ne!(root.links[0].trace_id, root.trace_id);
    assert_eq!(root.status.as_ref().unwrap().message, "refused");
    let said: Vec<_> = root
        .events
        .iter()
        .map(|event| event.name.as_str())
        .collect();
    assert_eq!(said, ["accepted from erin"]);
    let outcomes: Vec<String> = spans
        .iter()
        .filter(|s| s.span.name.ends_with("attempt"))
        .map(|s| {
            format!(
                "{:?}",
                s.span
                    .attributes
                    .iter()
                    .find(|a| a.key == "attempt.outcome")
            )
        })
        .collect();
    for (outcome, word) in outcomes.iter().zip(["lost", "error", "done"]) {
        assert!(outcome.contains(word), "{outcomes:?}");
    }
    assert!(
        spans
            .iter()
            .all(|s| s.service.contains("deploy-orchestrator"))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn steps_are_sent_as_they_end_and_nothing_is_sent_twice() {
    let world = World::new().await;
    world.turn("one").await.unwrap();
    assert_eq!(world.names(), ["prepare"]);
    world.turn("one").await.unwrap();
    assert_eq!(world.names(), ["prepare"]);
    world.end().await;
    world.turn("one").await.unwrap();
    world.turn("one").await.unwrap();
    is_one_whole_tree(&world.spans());
    assert_eq!(world.spans().len(), 6);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_collector_refused_is_sent_again() {
    let world = World::new().await;
    world.end().await;
    world.collector.refuse(true);
    assert!(world.turn("one").await.is_err());
    world.collector.refuse(false);
    world.turn("one").await.unwrap();
    is_one_whole_tree(&world.spans());
    assert_eq!(world.spans().len(), 6);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kill_between_sending_and_marking_repeats_the_same_ids() {
    let world = World::new().await;
    world.end().await;
    world.turn("one").await.unwrap();
    let first: Vec<_> = world
        .spans()
        .iter()
        .map(|s| s.span.span_id.clone())
        .collect();
    world.act("UPDATE deployment SET traced = false").await;
    world.turn("one").await.unwrap();
    let both: Vec<_> = world
        .spans()
        .iter()
        .map(|s| s.span.span_id.clone())
        .collect();
    assert_eq!(both, [first.clone(), first].concat());
}

#[tokio::test(flavor = "multi_thread")]
async fn one_process_sends_at_a_time_and_another_takes_over() {
    let world = World::new().await;
    world.turn("one").await.unwrap();
    world.end().await;
    world.turn("two").await.unwrap();
    assert_eq!(world.names(), ["prepare"], "the other one holds the lease");
    world.database.advance(Duration::from_secs(11)).await;
    world.turn("two").await.unwrap();
    is_one_whole_tree(&world.spans());
}

/// More than a collector takes in one message, though not more than it takes of any one deployment.
const LARGE: [&str; 2] = [
    "INSERT INTO deployment (id, site_id, environment_id, release_id, kind, strategy, policy, state,
         created_at, created_by, started_at, finished_at, trace_id, span_id)
     SELECT gen_random_uuid(), site_id, environment_id, release_id, kind, strategy, policy, 'failed',
         created_at, created_by, started_at, clock(), replace(gen_random_uuid()::text, '-', ''),
         left(md5(n::text), 16)
     FROM deployment, generate_series(1, 60) n",
    "INSERT INTO deployment_log (deployment_id, at, step_ord, message)
     SELECT id, clock(), 0, repeat('x', 2000) FROM deployment, generate_series(1, 200)
     WHERE finished_at IS NOT NULL",
];

#[tokio::test(flavor = "multi_thread")]
async fn what_is_too_much_for_one_message_is_sent_in_several() {
    let world = World::new().await;
    for statement in LARGE {
        world.act(statement).await;
    }
    let (exporter, config) = (world.exporter(), TraceConfig::of("one"));
    let mut past = Past::default();
    let first = turn(&world.pool, &exporter, &config, &mut past).await;
    assert!(matches!(first, Err(Error::Export(_))), "{first:?}");
    assert!(world.spans().is_empty());
    wait_until(SOON, "every deployment's span", async || {
        // One that is refused is no end: the next one is smaller.
        let _refused = turn(&world.pool, &exporter, &config, &mut past).await;
        world.arrived() == 60
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_too_much_is_no_warning_and_a_collector_that_takes_nothing_is_one() {
    let world = World::new().await;
    for statement in LARGE {
        world.act(statement).await;
    }
    let config = TraceConfig {
        every: Duration::from_millis(20),
        ..TraceConfig::of("one")
    };
    let stopping = CancellationToken::new();
    // What is joined here runs on the test's own thread, which the log hears.
    let log = Log::hear();
    let sending = run(
        world.pool.clone(),
        world.exporter(),
        config,
        stopping.clone(),
    );
    let watching = async {
        wait_until(SOON, "every deployment's span", async || {
            world.arrived() == 60
        })
        .await;
        assert_eq!(log.count("WARN traces"), 0);
        world.collector.refuse(true);
        world
            .act("UPDATE deployment SET traced = false WHERE finished_at IS NOT NULL")
            .await;
        let fails = "WARN traces exporter: sending fails";
        wait_until(SOON, fails, async || log.count(fails) == 1).await;
        world.collector.refuse(false);
        let works = "INFO traces exporter: sending works again";
        wait_until(SOON, works, async || log.count(works) == 1).await;
        assert_eq!(log.count("WARN traces"), 1);
        stopping.cancel();
    };
    tokio::join!(sending, watching);
}

#[test]
fn a_batch_halves_down_to_one_and_grows_again() {
    let mut past = Past::default();
    let mut batches = Vec::new();
    for taken in [[false; 8].as_slice(), &[true; 8]].concat() {
        past.sent(taken);
        batches.push(past.batch);
    }
    assert_eq!(batches[..8], [50, 25, 12, 6, 3, 1, 1, 1]);
    assert_eq!(batches[8..], [2, 4, 8, 16, 32, 64, 100, 100]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_loop_sends_until_it_stops() {
    let world = World::new().await;
    let config = TraceConfig {
        every: Duration::from_millis(20),
        ..TraceConfig::of("one")
    };
    let tasks = candlefish_runtime::tasks::Tasks::new();
    let sending = run(
        world.pool.clone(),
        world.exporter(),
        config,
        tasks.stopping(),
    );
    drop(tasks.spawn(
        "trace",
        candlefish_runtime::tasks::Policy::StopProcess,
        sending,
    ));
    wait_until(SOON, "the first step", async || world.spans().len() == 1).await;
    world.end().await;
    wait_until(SOON, "the whole trace", async || world.spans().len() == 6).await;
    is_one_whole_tree(&world.spans());
    assert!(tasks.drain(SOON).await);
    let root = uuid::Uuid::parse_str(DEPLOYMENT).unwrap();
    assert_eq!(world.spans()[0].span.trace_id, root.as_bytes());
}
