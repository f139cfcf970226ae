use std::sync::Arc;

use candlefish_blobs::{Options, UploadKey, open};
use candlefish_runtime::config::Env;
use candlefish_testkit::Database;

use super::*;
use crate::{Config, ctx::Nudges};

/// A deployment that ended long ago has seven addresses of its own, for want of seven deployments.
const ADDRESSES: &str = "
    INSERT INTO site (id, slug, name, repository, created_at, created_by)
    VALUES ('01900000-0000-7000-8000-00000000000a', 'docs', 'Docs', '', clock(), 'erin');
    INSERT INTO environment (id, site_id, slug, kind, policy, created_at, created_by)
    VALUES ('01900000-0000-7000-8000-00000000000b', '01900000-0000-7000-8000-00000000000a',
            'production', 'standard', '{}', clock(), 'erin');
    INSERT INTO release (id, site_id, manifest_digest, manifest_size, state, commit, message, author,
                         author_email, dirty, created_at, created_by)
    VALUES ('01900000-0000-7000-8000-00000000000c', '01900000-0000-7000-8000-00000000000a',
            decode(repeat('00', 32), 'hex'), 1, 'draft', '', '', '', '', false, clock(), 'erin');
    INSERT INTO deployment (id, site_id, environment_id, release_id, kind, strategy, policy, state,
                            created_at, created_by, started_at, finished_at, trace_id, span_id)
    VALUES ('01900000-0000-7000-8000-000000000001', '01900000-0000-7000-8000-00000000000a',
            '01900000-0000-7000-8000-00000000000b', '01900000-0000-7000-8000-00000000000c',
            'standard', '{}', '{}', 'failed', clock(), 'erin', clock(), clock() - interval '8 days',
            '01900000000070008000000000000001', '8000000000000001');
    INSERT INTO route (host, site, environment, epoch, version, releases, noindex, deployment_id)
    SELECT n || '.localhost', 'docs', 'production', 1, 1, '[{}]', true,
           '01900000-0000-7000-8000-000000000001' FROM generate_series(1, 7) n;";

async fn ctx(database: &Database, dir: &tempfile::TempDir) -> Ctx {
    let blobs = format!("dir:{}", dir.path().display());
    let key = "5a".repeat(32);
    let options = Options {
        upload_key: UploadKey::from_hex(&key).ok(),
        ..Options::default()
    };
    let pairs = [
        ("CANDLEFISH_LISTEN", "127.0.0.1:0"),
        ("CANDLEFISH_OPS_LISTEN", "127.0.0.1:0"),
        ("CANDLEFISH_DATABASE_URL", "unused"),
        ("CANDLEFISH_NATS_URL", "unused"),
        ("CANDLEFISH_IDENTITY_KEY", "unused"),
        ("CANDLEFISH_TRUSTED_KEYS", "unused"),
        ("CANDLEFISH_BLOBS", &blobs),
        ("CANDLEFISH_BLOB_SIGNING_KEY", &key),
    ];
    let pairs = pairs.map(|(name, value)| (name, value.to_owned()));
    Ctx {
        pool: database.pool(),
        config: Arc::new(Config::read(Env::from_pairs(pairs)).unwrap()),
        blobs: open(&blobs, options).await.unwrap(),
        nudges: Nudges::default(),
        rehearses: false,
    }
}

async fn number(ctx: &Ctx, question: &'static str) -> i64 {
    let asked = sqlx::query_scalar(question).fetch_one(&ctx.pool);
    asked.await.unwrap()
}

#[tokio::test]
async fn one_round_takes_all_old_addresses_away_however_many_there_are() {
    let database = Database::migrated(&sqlx::migrate!()).await;
    database.run(&[ADDRESSES]).await;
    let dir = tempfile::tempdir().unwrap();
    let ctx = ctx(&database, &dir).await;
    addresses(&ctx, 3).await.unwrap();
    let left = "SELECT count(*) FROM route WHERE releases <> '[]'";
    assert_eq!(number(&ctx, left).await, 0);
}

/// Two edges that were not heard of for long, one that may come back, and what they hold.
const SILENT: &str = "
    INSERT INTO edge (id, boot, address, heard_at)
    SELECT 'edge-' || n, 'boot', '127.0.0.1:1',
           clock() - CASE n WHEN 3 THEN interval '29 days' ELSE n * interval '31 days' END
    FROM generate_series(1, 3) n;
    INSERT INTO edge_route (edge_id, host, epoch, version)
    SELECT e.id, n || '.localhost', 1, 1 FROM edge e, generate_series(1, 5) n;
    INSERT INTO edge_release (edge_id, release_id, staged, at)
    SELECT e.id, gen_random_uuid(), true, clock() FROM edge e, generate_series(1, 5) n;";

/// The edges that have a row left in any table.
async fn known(ctx: &Ctx) -> Vec<String> {
    let edges = "SELECT id FROM edge UNION SELECT edge_id FROM edge_route
                 UNION SELECT edge_id FROM edge_release ORDER BY 1";
    let asked = sqlx::query_scalar(edges).fetch_all(&ctx.pool);
    asked.await.unwrap()
}

#[tokio::test]
async fn an_edge_that_two_rounds_find_gone_is_forgotten_with_what_it_held() {
    let database = Database::migrated(&sqlx::migrate!()).await;
    database.run(&[SILENT]).await;
    let dir = tempfile::tempdir().unwrap();
    let ctx = ctx(&database, &dir).await;
    let first = edges(&ctx, &[], 2).await.unwrap();
    assert_eq!(first, ["edge-2", "edge-1"]);
    assert_eq!(known(&ctx).await, ["edge-1", "edge-2", "edge-3"]);
    // One came back meanwhile.
    database
        .run(&["UPDATE edge SET heard_at = clock() WHERE id = 'edge-1'"])
        .await;
    let second = edges(&ctx, &first, 2).await.unwrap();
    assert_eq!(second, ["edge-2"]);
    assert_eq!(known(&ctx).await, ["edge-1", "edge-3"]);
    let held = "SELECT count(*) FROM edge_route";
    assert_eq!(number(&ctx, held).await, 10);
}

#[tokio::test]
async fn no_statement_forgets_more_of_an_edge_than_it_may() {
    let database = Database::migrated(&sqlx::migrate!()).await;
    database.run(&[SILENT]).await;
    let pool = database.pool();
    let mut conn = pool.acquire().await.unwrap();
    let edges = ["edge-1".to_owned()];
    let mut gone = Vec::new();
    while gone.last() != Some(&0) {
        gone.push(
            edge::store::forget_gone(&mut conn, &edges, 2)
                .await
                .unwrap(),
        );
    }
    // Two of each table at a time, and the edge with the last.
    assert_eq!(gone, [4, 4, 3, 0]);
}
