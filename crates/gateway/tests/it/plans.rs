//! How Postgres reads: no list scans a table that grows, or reads much to tell little.
//!
//! The gateway's own connections load `auto_explain`, which tells the plan of every statement as it was
//! carried out; so the plans are of the real statements, with the real parameters.

use std::{
    fmt::Debug,
    sync::{Mutex, OnceLock},
};

use candlefish_proto::delivery::ListDeliveriesRequest;
use serde_json::Value;
use sqlx::{Connection, PgConnection};
use tracing_subscriber::{Layer, layer::Context, layer::SubscriberExt as _};

use crate::{
    internal::{asked, client},
    stand::Stand,
};

/// Statements are planned anew five times; from the sixth on a plan for any parameters may serve.
const TIMES: usize = 7;
/// Rows that one node may read and throw away, or hand on for one page.
const WASTE: f64 = 2_000.0;

const EXPLAIN: &str = "session_preload_libraries=auto_explain auto_explain.log_min_duration=0 \
    auto_explain.log_analyze=on auto_explain.log_timing=off auto_explain.log_level=notice \
    auto_explain.log_format=json";

/// What Postgres told: plans as JSON.
static TOLD: OnceLock<Mutex<Vec<Value>>> = OnceLock::new();

struct Notices;

impl<S: tracing::Subscriber> Layer<S> for Notices {
    fn on_event(&self, event: &tracing::Event<'_>, _context: Context<'_, S>) {
        if event.metadata().target() == "sqlx::postgres::notice" {
            event.record(&mut Notice);
        }
    }
}

struct Notice;

impl tracing::field::Visit for Notice {
    fn record_debug(&mut self, _field: &tracing::field::Field, value: &dyn Debug) {
        read(&format!("{value:?}"));
    }

    fn record_str(&mut self, _field: &tracing::field::Field, value: &str) {
        read(value);
    }
}

fn read(text: &str) {
    let Some((_, plan)) = text.split_once("plan:") else {
        return;
    };
    let plan = serde_json::from_str(plan.trim()).unwrap();
    TOLD.get().unwrap().lock().unwrap().push(plan);
}

/// What was told since the last time.
fn told() -> Vec<Value> {
    std::mem::take(&mut *TOLD.get().unwrap().lock().unwrap())
}

/// Years of tokens: of the site `docs` a third, nearly all of them for `shop` too.
const YEARS: &str = "
    SET session_replication_role = replica;
    CREATE FUNCTION uid(kind int, n bigint) RETURNS uuid LANGUAGE sql IMMUTABLE AS
        $$ SELECT ('0190' || lpad(to_hex(n), 8, '0') || '7' || lpad(to_hex(kind), 3, '0')
                   || '8000' || lpad(to_hex(n), 12, '0'))::uuid $$;
    INSERT INTO principal SELECT uid(1, n), 'p-' || n, 'machine', '{}', clock_timestamp()
        FROM generate_series(1, 20000) n;
    INSERT INTO token (id, principal_id, name, hash, role, sites, created_at)
        SELECT uid(2, n), uid(1, CASE WHEN n % 2 = 0 THEN 1 ELSE 1 + n % 20000 END), 'ci',
               sha256(n::text::bytea), 'deployer',
               CASE WHEN n % 10000 = 0 THEN '{docs}'::text[] WHEN n % 3 = 0 THEN '{docs,shop}'
                    WHEN n % 3 = 1 THEN '{shop}' ELSE '{}' END, clock_timestamp()
        FROM generate_series(1, 60000) n;
    INSERT INTO delivery SELECT uid(3, n), 'github', n::text, 'push', sha256(n::text::bytea), '{}',
               clock_timestamp()
        FROM generate_series(1, 20000) n;
    ANALYZE";

/// An address of a database at which sessions tell their plans.
fn telling(url: &str) -> String {
    let options = EXPLAIN
        .split(' ')
        .map(|one| format!("-c%20{}", one.replace('=', "%3D")));
    let options = options.collect::<Vec<_>>().join("%20");
    format!("{url}?options={options}")
}

async fn with_years_behind_it() -> Stand {
    let told_before = TOLD.set(Mutex::default());
    told_before.expect("one test in this process reads plans");
    let registry = tracing_subscriber::registry().with(Notices);
    tracing::subscriber::set_global_default(registry).unwrap();
    let url = telling("DATABASE");
    let stand = Stand::start_with(&[("CANDLEFISH_DATABASE_URL", &url)]).await;
    stand.database.run(&[YEARS]).await;
    stand
}

/// Every node of a plan.
fn nodes<'a>(plan: &'a Value, all: &mut Vec<&'a Value>) {
    all.push(plan);
    for child in plan["Plans"].as_array().into_iter().flatten() {
        nodes(child, all);
    }
}

fn number(node: &Value, key: &str) -> f64 {
    node[key].as_f64().unwrap_or(0.0)
}

/// What is wrong with a plan of a list, in words.
fn faults(told: &Value) -> Vec<String> {
    let mut all = Vec::new();
    nodes(&told["Plan"], &mut all);
    let fault = |node: &&Value| {
        let loops = number(node, "Actual Loops");
        let kept = number(node, "Actual Rows") * loops;
        let removed = ["Rows Removed by Filter", "Rows Removed by Index Recheck"]
            .iter()
            .map(|key| number(node, key) * loops)
            .sum::<f64>();
        (kept + removed > WASTE).then(|| {
            format!(
                "{} on {} {} keeps {kept} and removes {removed}",
                node["Node Type"], node["Relation Name"], node["Index Name"]
            )
        })
    };
    all.iter().filter_map(fault).collect()
}

/// One page of a list: how many it shows, and the token of the next page.
async fn page(stand: &Stand, token: &str, path: &str, items: &str) -> (usize, String) {
    let answer = stand.get(path, token).await;
    assert_eq!(answer.status, 200, "{path}: {answer:?}");
    let shown = answer.body[items].as_array().map_or(0, Vec::len);
    let next = answer.body["next_page_token"].as_str();
    (shown, next.unwrap_or_default().to_owned())
}

/// Two pages of a list, as often as a plan may become another.
async fn two_pages(stand: &Stand, token: &str, path: &str, items: &str) {
    for _time in 0..TIMES {
        let (shown, next) = page(stand, token, path, items).await;
        assert_eq!(shown, 50, "{path}");
        let path = format!("{path}&page_token={next}");
        assert_eq!(page(stand, token, &path, items).await.0, 50, "{path}");
    }
}

/// Every token that a caller may see, and by how many calls.
async fn all_tokens(stand: &Stand, token: &str, path: &str) -> (usize, usize) {
    let (mut shown, mut next) = page(stand, token, path, "tokens").await;
    let mut calls = 1;
    while !next.is_empty() {
        let path = format!("{path}&page_token={next}");
        let (more, then) = page(stand, token, &path, "tokens").await;
        shown += more;
        next = then;
        calls += 1;
    }
    (shown, calls)
}

/// By the same measure a list that filters what it walks is at fault. Nothing is left told.
async fn assert_that_a_scan_is_noticed(stand: &Stand) {
    let url = telling(&stand.database.url());
    let mut conn = PgConnection::connect(&url).await.unwrap();
    drop(told());
    let walk = "SELECT id FROM token WHERE sites <> '{}' AND sites <@ '{docs}' ORDER BY id";
    let found = sqlx::query(walk).fetch_all(&mut conn).await.unwrap();
    assert_eq!(found.len(), 7);
    assert!(told().iter().any(|plan| !faults(plan).is_empty()));
    conn.close().await.unwrap();
}

#[tokio::test]
async fn no_list_scans_what_grows() {
    let stand = with_years_behind_it().await;
    let docs = stand.token("lead", "ROLE_ADMIN", &["docs"]).await;
    let both = stand.token("head", "ROLE_ADMIN", &["docs", "shop"]).await;
    assert_that_a_scan_is_noticed(&stand).await;
    let all = "/v1/tokens?page_size=50";
    let of_one = format!("{all}&principal=p-1");
    let principals = "/v1/principals?page_size=50";
    two_pages(&stand, &stand.admin, all, "tokens").await;
    two_pages(&stand, &stand.admin, &of_one, "tokens").await;
    two_pages(&stand, &stand.admin, principals, "principals").await;
    two_pages(&stand, &both, all, "tokens").await;
    two_pages(&stand, &both, &of_one, "tokens").await;
    // Six among twenty thousand, and the caller's own.
    let (shown, calls) = all_tokens(&stand, &docs, all).await;
    assert_eq!(shown, 7);
    assert!((10..=60).contains(&calls), "{calls} calls");
    // All six are of one principal, and each call sees hundreds of its tokens.
    assert_eq!(all_tokens(&stand, &docs, &of_one).await.0, 6);
    let mut after_id = String::new();
    for _time in 0..TIMES {
        let limit = ListDeliveriesRequest {
            after_id: after_id.clone(),
            limit: 50,
        };
        let page = client(&stand).list_deliveries(asked(&stand, limit)).await;
        let page = page.unwrap().into_inner().deliveries;
        assert_eq!(page.len(), 50);
        after_id.clone_from(&page[49].id);
    }
    let told = told();
    let words = |plan: &Value| plan["Query Text"].as_str().unwrap_or_default().to_owned();
    for of in [
        "FROM token t",
        "LATERAL",
        "FROM principal WHERE",
        "FROM delivery",
    ] {
        let seen = told.iter().filter(|plan| words(plan).contains(of)).count();
        assert!(seen >= TIMES, "{seen} plans {of}");
    }
    for plan in &told {
        assert_eq!(faults(plan), [""; 0], "{}", words(plan));
    }
}
