//! How Postgres reads: no list scans a table that grows, or reads much to tell little.
//!
//! The gateway's own connections tell the plans, of the real statements with the real parameters: see
//! [`candlefish_testkit::plan`].

use candlefish_proto::delivery::ListDeliveriesRequest;
use candlefish_testkit::plan::{Node, Plan, Plans, telling};
use sqlx::{Connection, PgConnection};

use crate::{
    internal::{asked, client},
    stand::Stand,
};

/// Statements are planned anew five times; from the sixth on a plan for any parameters may serve.
const TIMES: usize = 7;
/// Rows that one node may read and throw away, or hand on for one page.
const WASTE: f64 = 2_000.0;

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

async fn with_years_behind_it() -> (Plans, Stand) {
    let plans = Plans::hear();
    let url = telling("DATABASE");
    let stand = Stand::start_with(&[("CANDLEFISH_DATABASE_URL", &url)]).await;
    stand.database.run(&[YEARS]).await;
    (plans, stand)
}

/// What is wrong with a plan of a list, in words.
fn faults(plan: &Plan) -> Vec<String> {
    let fault = |node: Node<'_>| {
        let (kept, removed) = (node.kept(), node.removed());
        (kept + removed > WASTE).then(|| format!("{node} keeps {kept} and removes {removed}"))
    };
    plan.nodes().into_iter().filter_map(fault).collect()
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
async fn assert_that_a_scan_is_noticed(plans: &Plans, stand: &Stand) {
    let url = telling(&stand.database.url());
    let mut conn = PgConnection::connect(&url).await.unwrap();
    drop(plans.take());
    let walk = "SELECT id FROM token WHERE sites <> '{}' AND sites <@ '{docs}' ORDER BY id";
    let found = sqlx::query(walk).fetch_all(&mut conn).await.unwrap();
    assert_eq!(found.len(), 7);
    assert!(plans.take().iter().any(|plan| !faults(plan).is_empty()));
    conn.close().await.unwrap();
}

#[tokio::test]
async fn no_list_scans_what_grows() {
    let (plans, stand) = with_years_behind_it().await;
    let docs = stand.token("lead", "ROLE_ADMIN", &["docs"]).await;
    let both = stand.token("head", "ROLE_ADMIN", &["docs", "shop"]).await;
    assert_that_a_scan_is_noticed(&plans, &stand).await;
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
    for of in [
        "FROM token t",
        "LATERAL",
        "FROM principal WHERE",
        "FROM delivery",
    ] {
        let seen = plans.count(of);
        assert!(seen >= TIMES, "{seen} plans {of}");
    }
    for plan in &plans.take() {
        assert_eq!(faults(plan), [""; 0], "{}", plan.query());
    }
}
