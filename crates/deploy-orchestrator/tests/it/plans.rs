//! How Postgres reads: no call and no loop scans a table that grows, or reads much to keep little.
//!
//! The orchestrator's own connections tell the plans, of the real statements with the real parameters:
//! see [`candlefish_testkit::plan`].

use candlefish_proto::deploy::{
    self as pb, deployment::State, stop_service_client::StopServiceClient,
    trigger_service_client::TriggerServiceClient,
};
use candlefish_testkit::{
    OFFSET_CLOCK,
    github::Fake,
    plan::{Node, Plan, Plans, telling},
    poll_until, wait_until,
};
use serde_json::Value;

use crate::{
    api::{Api, baking, recreate},
    edge::Edge,
    gateway::Gateway,
    sandbox::{Orchestrator, SITE, SOON, Sandbox},
    stage::push,
};

/// Statements are planned anew five times; from the sixth on a plan for any parameters may serve.
const TIMES: usize = 7;
/// Rows that one node may read and throw away.
const WASTE: f64 = 2_000.0;
/// Pairs that a join may look at and throw away: of a small table that is cheaper than its index.
const JOIN_WASTE: f64 = 20_000.0;
/// A scan of all rows that keeps so many is what was asked for: a whole comparison.
const WHOLE: f64 = 0.9;

/// Statements that may read more than [`WASTE`] rows to give fewer, by words of their own, each with
/// its reason.
const READ_MUCH: [(&str, &str); 1] = [(
    "SELECT a.commit FROM commit_ancestry a",
    "hundreds of live releases among a table of them: a hash costs what as many look-ups do",
)];

/// Sites with years behind them, in SQL: one with most of it, many with a little. Meanwhile the clock is
/// as migrations define it: Postgres puts that in place of a call. The one that a test can move is called
/// for each of some two million times.
const YEARS: &str = "
    SET session_replication_role = replica;
    CREATE OR REPLACE FUNCTION clock() RETURNS timestamptz LANGUAGE sql VOLATILE
        AS 'SELECT clock_timestamp()';
    CREATE FUNCTION uid(kind int, n bigint) RETURNS uuid LANGUAGE sql IMMUTABLE AS
        $$ SELECT ('0190' || lpad(to_hex(n), 8, '0') || '7' || lpad(to_hex(kind), 3, '0')
                   || '8000' || lpad(to_hex(n), 12, '0'))::uuid $$;
    INSERT INTO site SELECT uid(1, n), CASE n WHEN 1 THEN 'docs' ELSE 'site-' || n END, '', '',
        clock(), 'erin' FROM generate_series(1, 200) n;
    INSERT INTO environment (id, site_id, slug, kind, policy, created_at, created_by)
        SELECT uid(2, n), uid(1, CASE WHEN n % 4 = 3 THEN 1 + n % 200 ELSE 1 END),
               CASE n WHEN 1 THEN 'production' ELSE 'e' || n END,
               CASE WHEN n <= 400 THEN 'standard' ELSE 'preview' END, '{}', clock(), 'erin'
        FROM generate_series(1, 20000) n;
    INSERT INTO lane (environment_id) SELECT id FROM environment;
    INSERT INTO release (id, site_id, manifest_digest, manifest_size, state, commit, message, author,
            author_email, dirty, created_at, created_by, sealed_at)
        SELECT uid(3, n), uid(1, CASE WHEN n % 4 = 0 THEN 1 + n % 200 ELSE 1 END),
               sha256(n::text::bytea), 100, 'sealed', left(md5(n::text) || md5(n::text), 40), 'words',
               'erin', '', false, clock(), 'erin', clock()
        FROM generate_series(1, 50001) n;
    INSERT INTO release_branch SELECT id, 'main', clock() FROM release;
    INSERT INTO commit_ancestry SELECT site_id, commit, '{}', '{}' FROM release;
    INSERT INTO deployment (id, site_id, environment_id, release_id, kind, strategy, policy, state,
            cause, created_at, created_by, started_at, pivoted_at, live_at, finished_at, trace_id,
            span_id, leaves_release_id)
        SELECT uid(4, n), e.site_id, e.id, uid(3, 1 + n / 2), CASE WHEN n % 97 = 0 THEN 'rollback'
               ELSE 'standard' END, '{\"kind\": \"recreate\"}', '{}',
               CASE WHEN n = 5 THEN 'failed' WHEN n % 11 = 0 THEN 'superseded' ELSE 'succeeded' END,
               '', clock(), 'erin', clock(), clock(), clock(),
               clock() - (100000 - n) * interval '10 minutes', md5(n::text), 's',
               CASE WHEN n % 97 = 0 THEN uid(3, n / 2) END
        FROM generate_series(1, 100000) n
        JOIN environment e ON e.id = uid(2, CASE WHEN n % 2 = 1 THEN 1 ELSE 1 + n % 20000 END)
        ORDER BY n;
    INSERT INTO step (id, deployment_id, ord, kind, plan_version, state, span_id, started_at, finished_at)
        SELECT uid(5 + o, n), uid(4, n), o, 'switch', 1, 'done', 's', clock(), clock()
        FROM generate_series(1, 100000) n, generate_series(1, 1) o;
    INSERT INTO blocker (deployment_id, kind, since, owner, message, action, cleared_at)
        SELECT uid(4, n), 'lane', clock(), 'platform', '', '', clock()
        FROM generate_series(1, 100000) n;
    -- One that waited often.
    INSERT INTO blocker (deployment_id, kind, since, owner, message, action, cleared_at)
        SELECT uid(4, 100000), 'lane', clock(), 'platform', '', '', clock()
        FROM generate_series(1, 500) n;
    INSERT INTO deployment_log (deployment_id, at, step_ord, message)
        SELECT uid(4, n), clock(), 0, 'a line' FROM generate_series(1, 100000) n, generate_series(1, 2);
    UPDATE environment e SET live_release_id = d.release_id, live_deployment_id = d.id,
            live_since = clock(), restorable_due_at = clock() + interval '1 hour'
        FROM (SELECT DISTINCT ON (environment_id) environment_id, release_id, id FROM deployment
              WHERE state = 'succeeded' ORDER BY environment_id, id DESC) d
        WHERE d.environment_id = e.id AND e.kind = 'standard';
    INSERT INTO stop (id, site_id, pauses, reason, set_at, set_by, until, ended_at, ended_by, end_reason)
        SELECT uid(6, n), CASE WHEN n % 10 > 0 THEN uid(1, 1 + n % 200) END, true, 'r', clock(), 'erin',
               clock(), clock(), 'erin', 'r'
        FROM generate_series(1, 20000) n;
    INSERT INTO ban SELECT uid(3, n), clock(), 'erin', 'r', clock(), 'erin', 'r'
        FROM generate_series(1, 50001) n;
    INSERT INTO record (at, kind, by, reason, site_id, environment_id)
        SELECT clock(), 'hold', 'erin', 'r', CASE WHEN n % 50 > 0 THEN uid(1, 1 + n % 200) END,
               CASE WHEN n % 50 > 1 THEN uid(2, CASE WHEN n % 2 = 1 THEN 1 ELSE 1 + n % 20000 END) END
        FROM generate_series(1, 100000) n;
    INSERT INTO route (host, environment_id, site, environment, epoch, version, releases, noindex)
        SELECT 'h' || n || '.localhost', uid(2, n), 's', 'e', 1, 1, '[]', true
        FROM generate_series(1, 20000) n;
    INSERT INTO outbox (event_type, entity, entity_version, created_at, envelope, epoch, seq)
        SELECT 'a.b.c.v1', 'x', 1, clock(), '', 1, n FROM generate_series(1, 50000) n;
    UPDATE site SET repository = 'example/' || slug;
    UPDATE environment SET push_branch = 'main' WHERE slug = 'production';
    INSERT INTO delivery SELECT uid(9, n), 'push', clock(), 0, clock(), clock(), ''
        FROM generate_series(1, 50000) n;
    INSERT INTO trigger (id, delivery_id, repository, branch, commit, before_commit, pushed_at, sender,
            site_id, environment_id, outcome, reason, message, deployment_id, received_at, created_at,
            content_until, joined_at)
        SELECT uid(10, n), uid(9, n), 'example/docs', 'main', r.commit, '', n, 'erin', d.site_id,
               d.environment_id, 'created', '', '', d.id, clock(), clock(),
               CASE WHEN n <= 2000 THEN clock() + interval '1 hour' END, clock()
        FROM generate_series(1, 100000) n JOIN deployment d ON d.id = uid(4, n)
        JOIN release r ON r.id = d.release_id;
    INSERT INTO github_deployment (deployment_id, repository, commit, github_id, told, retry_at, done_at)
        SELECT deployment_id, repository, commit, pushed_at, 'inactive', clock(), clock() FROM trigger
        WHERE pushed_at <= 99000;
    UPDATE relay SET next_seq = 50001, published_upto = 50000;
    INSERT INTO idempotency SELECT 'erin', 'CreateDeployment', n::text, '', '', clock()
        FROM generate_series(1, 50000) n;
    INSERT INTO traffic (host, release_id, edge_id, boot, seq, requests, server_errors, lost_paths,
            client_errors, latency, at)
        SELECT 'h' || n || '.localhost', uid(3, n), 'edge-1', 'b', 1, 1, 0, 0, 0, '{}', clock()
        FROM generate_series(1, 20000) n;
    RESET session_replication_role;";

async fn with_years_behind_it() -> (Plans, Sandbox, Gateway, Orchestrator, Api) {
    let plans = Plans::hear();
    let settings = [
        ("CANDLEFISH_RECONCILE_MS", "500"),
        ("CANDLEFISH_HEAL_MS", "50"),
        ("CANDLEFISH_FORGET_MS", "100"),
        ("CANDLEFISH_EDGE_PATIENCE_HURRIED_MS", "600000"),
    ];
    let mut sandbox = Sandbox::with(&settings).await;
    let gateway = Gateway::start(&sandbox.keys).await;
    sandbox.set("CANDLEFISH_GATEWAY_URL", &gateway.url);
    sandbox.act(YEARS).await;
    sandbox.act(OFFSET_CLOCK).await;
    sandbox.act("ANALYZE").await;
    // Else the disk is busy with all that while the orchestrator makes its connections, for each of
    // which it has less than a second.
    sandbox.act("CHECKPOINT").await;
    let url = telling(&sandbox.database.url());
    let orchestrator = sandbox.start_on(&url).await;
    let api = sandbox.api(orchestrator.running.address);
    (plans, sandbox, gateway, orchestrator, api)
}

/// What a statement was for: the rows that it answered or wrote.
fn given(root: Node<'_>) -> f64 {
    if root.kind() == "ModifyTable" {
        root.sources().map(Node::rows).sum()
    } else {
        root.rows()
    }
}

/// What is wrong with a plan, in words.
fn faults(plan: &Plan) -> Vec<String> {
    let may_read_much = READ_MUCH
        .iter()
        .any(|(words, _)| plan.query().contains(words));
    let for_few = given(plan.root()) < WASTE && !may_read_much;
    let fault = |node: Node<'_>| {
        let (kept, removed, unpaired) = (node.kept(), node.removed(), node.unpaired());
        let read = kept + removed;
        let whole = kept >= WHOLE * read;
        let wasteful = (removed > WASTE && !whole) || unpaired > JOIN_WASTE;
        let scan = node.kind() == "Seq Scan" && read > WASTE && !whole;
        // A join or sort of a whole table for one page is as bad as a scan. In one go: a small table
        // that is read again for each row of another is judged by its pairs. A bitmap's entries are
        // no rows yet.
        let wide = node.rows() > WASTE && node.kind() != "Bitmap Index Scan";
        (wasteful || scan || (wide && for_few))
            .then(|| format!("{node} keeps {kept} of {read} and {unpaired} pairs"))
    };
    plan.nodes().into_iter().filter_map(fault).collect()
}

/// The most rows that any node of a plan gave.
fn widest(plan: &Plan) -> f64 {
    plan.nodes().into_iter().map(Node::kept).fold(0.0, f64::max)
}

async fn listed(
    api: &Api,
    change: impl Fn(&mut pb::ListDeploymentsRequest),
) -> Vec<pb::Deployment> {
    let mut answer = Vec::new();
    for _time in 0..TIMES {
        let mut message = pb::ListDeploymentsRequest::default();
        change(&mut message);
        let request = api.request(message);
        let listed = api.deployments().list_deployments(request).await;
        answer = listed.unwrap().into_inner().deployments;
    }
    answer
}

/// Every listing of deployments, with what it must find.
async fn list_deployments(api: &Api, commit: &str) {
    let production = |message: &mut pb::ListDeploymentsRequest| {
        SITE.clone_into(&mut message.site);
        "production".clone_into(&mut message.environment);
    };
    let of_site = |message: &mut pb::ListDeploymentsRequest| SITE.clone_into(&mut message.site);
    let failed = State::Failed.into();
    assert_eq!(listed(api, production).await.len(), 50);
    let found = listed(api, |message| {
        production(message);
        message.state = failed;
    });
    assert_eq!(found.await.len(), 1);
    let found = listed(api, |message| {
        production(message);
        commit.clone_into(&mut message.commit);
    });
    assert_eq!(found.await.len(), 1);
    assert_eq!(listed(api, of_site).await.len(), 50);
    let found = listed(api, |message| {
        of_site(message);
        message.state = failed;
    });
    assert_eq!(found.await.len(), 1);
    let found = listed(api, |message| {
        of_site(message);
        commit.clone_into(&mut message.commit);
    });
    assert!(!found.await.is_empty());
    let of_commit =
        |message: &mut pb::ListDeploymentsRequest| commit.clone_into(&mut message.commit);
    assert!(!listed(api, of_commit).await.is_empty());
    let seen = api.seeing(&[SITE, "site-4", "site-8"]);
    assert!(!listed(&seen, of_commit).await.is_empty());
    assert_eq!(listed(api, |_| {}).await.len(), 50);
    assert_eq!(listed(api, |message| message.state = failed).await.len(), 1);
    let narrow = api.seeing(&["site-4", "site-8"]);
    assert_eq!(listed(&narrow, |_| {}).await.len(), 50);
    let narrow = api.seeing(&["site-2"]);
    assert!(listed(&narrow, |_| {}).await.is_empty());
    assert!(
        listed(&narrow, |message| message.state = failed)
            .await
            .is_empty()
    );
}

/// Stops and histories.
async fn look_at_acts(api: &Api) {
    for (site, include_ended) in [("", false), ("", true), (SITE, false), (SITE, true)] {
        let request = api.request(pb::ListStopsRequest {
            site: site.to_owned(),
            include_ended,
            ..pb::ListStopsRequest::default()
        });
        let mut client = StopServiceClient::new(api.channel.clone());
        client.list_stops(request).await.unwrap();
    }
    let request = api.request(pb::ListHistoryRequest {
        site: SITE.to_owned(),
        environment: "production".to_owned(),
        ..pb::ListHistoryRequest::default()
    });
    let found = api.sites().list_history(request).await.unwrap();
    assert_eq!(found.into_inner().records.len(), 50);
}

/// The other lists and looks.
async fn look_around(api: &Api, deployment: &str, commit: &str) {
    for _time in 0..TIMES {
        let id = deployment.to_owned();
        api.deployment(deployment).await;
        assert_eq!(api.logged(deployment).await.len(), 2);
        let request = api.request(pb::ListStepsRequest { id: id.clone() });
        api.deployments().list_steps(request).await.unwrap();
        let first = api.ledger(&id, 0, "").await.unwrap();
        assert_eq!((first.blockers.len(), first.waited.len()), (200, 1));
        let older = api.ledger(&id, 0, &first.next_page_token).await.unwrap();
        assert_eq!(older.blockers.len(), 200);
        for commit in ["", commit] {
            let request = api.request(pb::ListReleasesRequest {
                site: SITE.to_owned(),
                commit: commit.to_owned(),
                ..pb::ListReleasesRequest::default()
            });
            api.releases().list_releases(request).await.unwrap();
        }
        api.environment("production").await;
        api.lane("production").await;
        for include_previews in [false, true] {
            let request = api.request(pb::ListEnvironmentsRequest {
                site: SITE.to_owned(),
                include_previews,
                ..pb::ListEnvironmentsRequest::default()
            });
            api.sites().list_environments(request).await.unwrap();
        }
        let request = api.request(pb::ListSitesRequest::default());
        api.sites().list_sites(request).await.unwrap();
        let pushed = api.triggers(&commit[..7]).await.unwrap();
        let pushed = pushed.first().unwrap();
        let told = api.delivered(&pushed.delivery_id).await.unwrap();
        assert!(told.triggers.len() == 1 && told.delivery.is_some());
        let request = api.request(pb::ListTriggersRequest {
            site: SITE.to_owned(),
            ..pb::ListTriggersRequest::default()
        });
        let mut client = TriggerServiceClient::new(api.channel.clone());
        client.list_triggers(request).await.unwrap();
        let request = api.request(pb::ListQueueItemsRequest::default());
        api.queues().list_queue_items(request).await.unwrap();
        look_at_acts(api).await;
        for (release, commit) in [("", ""), ("", commit)] {
            let request = api.request(pb::CreateRollbackRequest {
                site: SITE.to_owned(),
                environment: "production".to_owned(),
                to_release_id: release.to_owned(),
                to_commit: commit.to_owned(),
                validate_only: true,
                ..pb::CreateRollbackRequest::default()
            });
            api.deployments().create_rollback(request).await.unwrap();
        }
    }
}

/// Pushes, each decided and waiting for its content.
async fn take_pushes(sandbox: &Sandbox, gateway: &Gateway) {
    for number in 1..=TIMES {
        gateway.receives(&push(number - 1, number));
    }
    let count = i64::try_from(TIMES).unwrap();
    poll_until(SOON, "the pushes to be decided", async || {
        let decided = "SELECT count(*) FROM trigger WHERE joined_at IS NULL";
        match sandbox.number(decided).await {
            all if all == count => Ok(()),
            some => Err(some),
        }
    })
    .await;
}

/// Rollbacks that end before they moved traffic, and take back what they preempted.
async fn take_back(plans: &Plans, sandbox: &Sandbox, edge: &Edge, api: &Api, release: &str) {
    for _time in 0..TIMES {
        let made = api.create("production", release, Some(baking())).await;
        let acting = made.unwrap().into_inner().id;
        api.wait_until(&acting, "the pivot", |one| one.pivoted_at.is_some())
            .await;
        // It has forgotten what is not live, and follows no further: the rollback waits for it.
        edge.act(|script| script.frozen = true);
        sandbox.act("DELETE FROM edge_release").await;
        let made = api.roll_back("production").await.unwrap();
        let back = made.into_inner().deployment.unwrap().id;
        api.cancel(&back).await.unwrap();
        edge.act(|script| script.frozen = false);
        api.wait_for(&back, &[State::Cancelled]).await;
        api.lift("production").await.unwrap();
    }
    // What it preempted was looked for, and by what it is that is live again.
    for words in ["AND cause = 'preempted'", "AND target_confirmed IS NULL"] {
        let asked = plans.count(words);
        assert!(asked >= TIMES, "{words}: {asked}");
    }
}

/// What GitHub is asked and told. Another orchestrator does so when all else is done: what GitHub says
/// bears on what becomes of pushes.
async fn tell_github(plans: &Plans, sandbox: &mut Sandbox) {
    let github = Fake::start().await;
    sandbox.set("CANDLEFISH_GITHUB_API", &github.url());
    sandbox.set("CANDLEFISH_GITHUB_TOKEN", "ghp_secret");
    sandbox.set("CANDLEFISH_GITHUB_WRITE_PAUSE_MS", "1");
    let url = telling(&sandbox.database.url());
    let orchestrator = sandbox.start_on(&url).await;
    wait_until(SOON, "GitHub to be told of the newest", async || {
        let looks = plans.count("INSERT INTO github_deployment");
        looks >= TIMES && github.calls("repos/create-deployment-status") > 0
    })
    .await;
    orchestrator.stop().await;
}

#[tokio::test]
async fn nothing_scans_what_grows() {
    let (plans, mut sandbox, gateway, orchestrator, api) = with_years_behind_it().await;
    // A live edge, so that deployments are carried through.
    let edge = Edge::start(&sandbox, "edge-1", orchestrator.running.address).await;
    let commit: String = sqlx::query_scalar(
        "SELECT r.commit FROM deployment d JOIN release r ON r.id = d.release_id
         WHERE d.environment_id = uid(2, 1) AND r.site_id = d.site_id AND d.state = 'succeeded'
         ORDER BY d.id LIMIT 1 OFFSET 1000",
    )
    .fetch_one(&sandbox.pool)
    .await
    .unwrap();
    list_deployments(&api, &commit).await;
    let newest = listed(&api, |_| {}).await.remove(0).id;
    look_around(&api, &newest, &commit).await;
    take_pushes(&sandbox, &gateway).await;
    // With what keeps them.
    let pending = State::Pending.into();
    let waiting = listed(&api, |message| message.state = pending).await;
    assert!(!waiting.is_empty());
    let release = sandbox.release(&api, "the newest").await;
    for _time in 0..TIMES {
        let made = api.create("production", &release, Some(recreate())).await;
        let id = made.unwrap().into_inner().id;
        api.cancel(&id).await.unwrap();
        let stop = crate::stops::set(&sandbox, &api, "", true).await.unwrap();
        crate::stops::lift(&api, &stop.id).await.unwrap();
        api.ban(&release).await.unwrap();
        api.clear("", &release).await.unwrap();
    }
    let whole = api.deploy_whole("e8", &release);
    tokio::time::timeout(SOON, whole).await.ok();
    take_back(&plans, &sandbox, &edge, &api, &release).await;
    // The last thing that a round of forgetting does.
    wait_until(SOON, "what is old to be forgotten", async || {
        plans.count("DELETE FROM idempotency") >= TIMES
    })
    .await;
    orchestrator.stop().await;
    tell_github(&plans, &mut sandbox).await;
    let told = plans.take();
    assert!(told.len() > 200, "only {} plans were told", told.len());
    let mut wrong = std::collections::BTreeMap::new();
    for plan in &told {
        let query = plan.query().split_whitespace().collect::<Vec<_>>();
        let query = query.join(" ");
        let faults = faults(plan);
        if !faults.is_empty() {
            wrong.insert(query, (widest(plan), faults));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// A plan as `auto_explain` tells it: nodes from the root down, each with the rows that it gave.
fn recorded(query: &str, nodes: &[(&str, f64)]) -> Plan {
    let plan = nodes.iter().rfold(Value::Null, |inner, (kind, rows)| {
        serde_json::json!({
            "Node Type": kind, "Actual Rows": rows, "Actual Loops": 1,
            "Plans": if inner.is_null() { vec![] } else { vec![inner] },
        })
    });
    Plan::from(serde_json::json!({ "Query Text": query, "Plan": plan }))
}

#[test]
fn a_whole_table_that_is_sorted_joined_or_counted_for_a_few_rows_is_a_fault() {
    const ALL: f64 = 100_000.0;
    let sorted = [("Limit", 50.0), ("Sort", 50.0), ("Seq Scan", ALL)];
    let by_index = [("Limit", 50.0), ("Sort", 50.0), ("Index Scan", ALL)];
    let joined = [("Limit", 50.0), ("Hash Join", 50.0), ("Hash", ALL)];
    let counted = [("Aggregate", 1.0), ("Seq Scan", ALL)];
    let picked = [("ModifyTable", 0.0), ("Hash Join", 3.0), ("Seq Scan", ALL)];
    for nodes in [&sorted[..], &by_index, &joined, &counted, &picked] {
        let plan = recorded("SELECT", nodes);
        assert_eq!(faults(&plan).len(), 1, "{nodes:?}: {:?}", faults(&plan));
        let plan = recorded(READ_MUCH[0].0, nodes);
        assert_eq!(faults(&plan), [""; 0], "{nodes:?}");
    }
}

#[test]
fn what_answers_or_writes_as_much_as_it_reads_is_no_fault() {
    let page = [("Limit", 50.0), ("Index Scan", 51.0)];
    let everything = [("Sort", 20_000.0), ("Seq Scan", 20_000.0)];
    let written = [("ModifyTable", 0.0), ("Seq Scan", 5_000.0)];
    let few = [("Aggregate", 1.0), ("Seq Scan", 1_999.0)];
    let bitmap = [("Bitmap Heap Scan", 3.0), ("Bitmap Index Scan", 9_000.0)];
    for nodes in [&page[..], &everything, &written, &few, &bitmap] {
        let plan = recorded("SELECT", nodes);
        assert_eq!(faults(&plan), [""; 0], "{nodes:?}");
    }
}
