use std::sync::Arc;

use candlefish_blobs::{Options, UploadKey, open};
use candlefish_runtime::config::Env;
use candlefish_testkit::Database;
use tokio::sync::Notify;

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
    let notify = || Arc::new(Notify::new());
    Ctx {
        pool: database.pool(),
        config: Arc::new(Config::read(Env::from_pairs(pairs)).unwrap()),
        blobs: open(&blobs, options).await.unwrap(),
        nudges: Nudges {
            relay: candlefish_messaging::Nudge::new(),
            steps: notify(),
            lanes: notify(),
            routes: notify(),
            watchers: notify(),
            poke: notify(),
        },
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
