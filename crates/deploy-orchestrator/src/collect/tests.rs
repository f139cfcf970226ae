use std::{
    collections::HashSet,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use async_trait::async_trait;
use candlefish_blobs::{Blob, Body, Options, Put, Store, Upload, body_of, open};
use candlefish_ids::{EnvironmentId, ReleaseId, SiteId};
use candlefish_manifest::{Entry, digest_of};
use candlefish_runtime::{
    config::Env,
    identity::{Caller, Kind, Role},
};
use candlefish_testkit::{Database, OFFSET_CLOCK, wait_until};
use sqlx::{
    AssertSqlSafe,
    postgres::{PgConnectOptions, PgPoolOptions},
};
use tokio::sync::{Notify, Semaphore};

use super::*;
use crate::{
    Config,
    ctx::Nudges,
    field::Faults,
    page::{Filter, Page, Sizes},
    release::{self, create::Create, missing, seal},
};

const SOON: Duration = Duration::from_secs(40);
const SITE: &str = "docs";

/// A store whose deletions a test lets through.
#[derive(Debug)]
struct Gate {
    store: Arc<dyn Store>,
    /// A deletion that has begun waits for one of these.
    lets: Semaphore,
    begun: Notify,
    /// How long a deletion takes, as in a store behind a network.
    takes: std::sync::Mutex<Duration>,
    fails: std::sync::Mutex<HashSet<Digest>>,
}

#[async_trait]
impl Store for Gate {
    async fn sizes(&self, digests: &[Digest]) -> Result<Vec<Option<u64>>, BlobError> {
        self.store.sizes(digests).await
    }

    async fn get(&self, digest: &Digest) -> Result<Blob, BlobError> {
        self.store.get(digest).await
    }

    async fn put(&self, digest: &Digest, size: u64, body: Body) -> Result<Put, BlobError> {
        self.store.put(digest, size, body).await
    }

    async fn delete(&self, digest: &Digest) -> Result<(), BlobError> {
        self.begun.notify_one();
        self.lets.acquire().await.unwrap().forget();
        let takes = *self.takes.lock().unwrap();
        tokio::time::sleep(takes).await;
        if self.fails.lock().unwrap().contains(digest) {
            return Err(BlobError::Body("the store is gone".into()));
        }
        self.store.delete(digest).await
    }

    async fn upload_url(
        &self,
        digest: &Digest,
        size: u64,
        ttl: Duration,
        now: u64,
    ) -> Result<Upload, BlobError> {
        self.store.upload_url(digest, size, ttl, now).await
    }
}

struct World {
    dir: tempfile::TempDir,
    ctx: Ctx,
    gate: Arc<Gate>,
    caller: Caller,
}

/// A release that is begun.
struct Begun {
    id: ReleaseId,
    /// Its manifest last.
    blobs: Vec<Vec<u8>>,
}

impl World {
    async fn new() -> Self {
        let database = Database::migrated(&sqlx::migrate!()).await;
        database.run(&[OFFSET_CLOCK]).await;
        let dir = tempfile::tempdir().unwrap();
        let blobs = format!("dir:{}", dir.path().display());
        let key = "5a".repeat(32);
        let options = Options {
            upload_key: candlefish_blobs::UploadKey::from_hex(&key).ok(),
            ..Options::default()
        };
        let gate = Arc::new(Gate {
            store: open(&blobs, options).await.unwrap(),
            lets: Semaphore::new(0),
            begun: Notify::new(),
            takes: std::sync::Mutex::default(),
            fails: std::sync::Mutex::default(),
        });
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
        let store = Arc::clone(&gate);
        let store: Arc<dyn Store> = store;
        let ctx = Ctx {
            pool: database.pool(),
            config: Arc::new(Config::read(Env::from_pairs(pairs)).unwrap()),
            blobs: store,
            nudges: Nudges::default(),
            rehearses: false,
        };
        let world = Self {
            dir,
            ctx,
            gate,
            caller: caller(),
        };
        let site = SiteId::new().uuid();
        world
            .act(&format!(
                "INSERT INTO site (id, slug, name, repository, created_at, created_by)
                 VALUES ('{site}', '{SITE}', '', '', clock(), 'erin')"
            ))
            .await;
        world
    }

    /// Deletions go through from now on.
    fn open(&self) {
        self.gate.lets.add_permits(Semaphore::MAX_PERMITS / 2);
    }

    async fn act(&self, statement: &str) {
        let statement = AssertSqlSafe(statement.to_owned());
        sqlx::raw_sql(statement)
            .execute(&self.ctx.pool)
            .await
            .unwrap();
    }

    async fn number(&self, question: &str) -> i64 {
        sqlx::query_scalar(AssertSqlSafe(question.to_owned()))
            .fetch_one(&self.ctx.pool)
            .await
            .unwrap()
    }

    /// Begins a release of files with these words; nothing is uploaded.
    async fn begin(&self, words: &[&str]) -> Begun {
        let mut blobs = Vec::new();
        let mut entries = Vec::new();
        for (number, word) in words.iter().enumerate() {
            blobs.push(word.as_bytes().to_vec());
            entries.push(Entry {
                path: format!("{number}.html"),
                digest: digest_of(word.as_bytes()),
                size: u64::try_from(word.len()).unwrap(),
                content_type: "text/html".to_owned(),
            });
        }
        let manifest = Manifest::build(entries, &Limits::default()).unwrap();
        let manifest = manifest.encode();
        let cmd = Create {
            site: SITE.to_owned(),
            manifest: digest_of(&manifest),
            manifest_size: i32::try_from(manifest.len()).unwrap(),
            commit: String::new(),
            parents: Vec::new(),
            ancestors: Vec::new(),
            branch: String::new(),
            message: String::new(),
            author: String::new(),
            author_email: String::new(),
            committed_at: None,
            dirty: false,
        };
        blobs.push(manifest);
        let made = release::create::create(&self.ctx, &self.caller, None, cmd).await;
        Begun {
            id: made
                .unwrap()
                .into_response()
                .into_inner()
                .id
                .parse()
                .unwrap(),
            blobs,
        }
    }

    /// What the API says is missing.
    async fn missing(&self, release: &Begun) -> Vec<Digest> {
        self.try_missing(release).await.unwrap()
    }

    async fn try_missing(&self, release: &Begun) -> Result<Vec<Digest>, release::Error> {
        let sizes = Sizes {
            default: 1000,
            most: 1000,
        };
        let page = Page::read(&mut Faults::default(), &Filter::of("test"), 0, "", sizes);
        let found = missing::list(&self.ctx, &self.caller, release.id, &page).await;
        let blobs = found?.blobs.into_iter();
        Ok(blobs.map(|blob| blob.digest.parse().unwrap()).collect())
    }

    /// Uploads what is missing, as often as something is; answers what that was.
    async fn upload(&self, release: &Begun) -> HashSet<Digest> {
        self.try_upload(release).await.unwrap()
    }

    async fn try_upload(&self, release: &Begun) -> Result<HashSet<Digest>, release::Error> {
        let mut sent = HashSet::new();
        loop {
            let missing = self.try_missing(release).await?;
            if missing.is_empty() {
                return Ok(sent);
            }
            for digest in missing {
                let mut all = release.blobs.iter();
                let bytes = all.find(|bytes| digest_of(bytes) == digest).unwrap();
                let size = u64::try_from(bytes.len()).unwrap();
                let body = body_of(bytes.clone());
                self.ctx.blobs.put(&digest, size, body).await.unwrap();
                sent.insert(digest);
            }
        }
    }

    async fn seal(&self, release: &Begun) -> Result<(), release::Error> {
        seal::seal(&self.ctx, &self.caller, None, release.id)
            .await
            .map(drop)
    }

    async fn sealed(&self, words: &[&str]) -> Begun {
        let release = self.begin(words).await;
        self.upload(&release).await;
        self.seal(&release).await.unwrap();
        release
    }

    /// A release that was sealed long ago, was collected since, and whose blobs are due.
    async fn collected(&self, words: &[&str]) -> Begun {
        let release = self.sealed(words).await;
        self.act("UPDATE release SET sealed_at = clock() - interval '2 days'")
            .await;
        assert!(self.collect(&release).await);
        self.act(DUE).await;
        release
    }

    async fn collect(&self, release: &Begun) -> bool {
        let manifest = digest_of(release.blobs.last().unwrap());
        let blobs = blobs_of(&self.ctx, manifest).await.unwrap();
        super::release::collect(&self.ctx, release.id, blobs.as_deref())
            .await
            .unwrap()
    }

    /// Everything that is in the store.
    fn files(&self) -> Vec<PathBuf> {
        let mut found = Vec::new();
        let mut folders = vec![self.dir.path().to_owned()];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                } else {
                    found.push(path);
                }
            }
        }
        found
    }

    /// The one claim: a release that can be deployed has all its content.
    async fn assert_whole(&self) {
        let rows: Vec<(uuid::Uuid, Vec<u8>)> = sqlx::query_as(
            "SELECT id, manifest_digest FROM release WHERE state = 'sealed' AND collected_at IS NULL",
        )
        .fetch_all(&self.ctx.pool)
        .await
        .unwrap();
        for (id, manifest) in rows {
            let manifest = Digest::from_bytes(manifest.try_into().unwrap());
            let blobs = blobs_of(&self.ctx, manifest).await.unwrap();
            let blobs = blobs.unwrap_or_else(|| panic!("{id} lacks its manifest"));
            let digests: Vec<Digest> = blobs.iter().map(|(digest, _)| *digest).collect();
            let there = self.ctx.blobs.exists(&digests).await.unwrap();
            assert!(!there.contains(&false), "{id} lacks blobs: {there:?}");
        }
    }

    /// Waits until a session waits for a row that another holds.
    async fn until_one_waits(&self) {
        let waits = "SELECT count(*) FROM pg_stat_activity
                     WHERE datname = current_database() AND wait_event_type = 'Lock'";
        wait_until(SOON, "a session to wait for a lock", async || {
            self.number(waits).await > 0
        })
        .await;
    }
}

fn caller() -> Caller {
    Caller {
        principal: "erin".to_owned(),
        kind: Kind::Person,
        role: Role::Admin,
        sites: Vec::new(),
        request_id: String::new(),
        issuer: String::new(),
    }
}

/// Whatever nothing names could go now.
const DUE: &str = "UPDATE blob SET unnamed_since = clock() - interval '2 days' WHERE names = 0";

#[tokio::test]
async fn what_is_named_while_it_is_collected_is_uploaded_again() {
    let world = World::new().await;
    world.collected(&["shared", "old"]).await;
    let new = world.begin(&["shared", "new"]).await;
    let (shared, manifest) = (digest_of(b"shared"), digest_of(new.blobs.last().unwrap()));
    // Its manifest is there already: naming is the first that the listing does.
    let bytes = new.blobs.last().unwrap();
    let size = u64::try_from(bytes.len()).unwrap();
    let stored = world.gate.put(&manifest, size, body_of(bytes.clone()));
    stored.await.unwrap();
    let collecting = collect_some_blobs(&world.ctx);
    let naming = async {
        world.gate.begun.notified().await;
        let listing = world.missing(&new);
        let opening = async {
            world.until_one_waits().await;
            world.open();
        };
        tokio::join!(listing, opening).0
    };
    let (gone, missing) = tokio::join!(collecting, naming);
    assert_eq!(gone.unwrap(), 3, "two files and a manifest");
    assert!(missing.contains(&shared), "{missing:?}");
    assert!(world.upload(&new).await.contains(&shared));
    world.seal(&new).await.unwrap();
    world.assert_whole().await;
    assert_eq!(collect_some_blobs(&world.ctx).await.unwrap(), 0);
}

#[tokio::test]
async fn what_is_named_before_it_is_collected_stays() {
    let world = World::new().await;
    world.open();
    let old = world.collected(&["shared", "old"]).await;
    let new = world.begin(&["shared", "new"]).await;
    let sent = world.upload(&new).await;
    assert!(!sent.contains(&digest_of(b"shared")));
    // Of the old one its own file and its manifest go.
    assert_eq!(collect_some_blobs(&world.ctx).await.unwrap(), 2);
    world.seal(&new).await.unwrap();
    world.assert_whole().await;
    assert_eq!(world.files().len(), 3);

    // The same content again is the same release, a draft that says what is gone.
    let again = world.begin(&["shared", "old"]).await;
    assert_eq!(again.id, old.id);
    assert_eq!(world.upload(&again).await.len(), 2);
    world.seal(&again).await.unwrap();
    world.assert_whole().await;
    assert_eq!(world.number("SELECT sum(names) FROM blob").await, 6);
}

#[tokio::test]
async fn a_seal_that_comes_while_its_content_is_collected_finds_it_missing() {
    let world = World::new().await;
    world.collected(&["shared", "old"]).await;
    let new = world.begin(&["shared", "old", "shared"]).await;
    let bytes = new.blobs.last().unwrap();
    let size = u64::try_from(bytes.len()).unwrap();
    let manifest = digest_of(bytes);
    let stored = world.gate.put(&manifest, size, body_of(bytes.clone()));
    stored.await.unwrap();
    let collecting = collect_some_blobs(&world.ctx);
    let sealing = async {
        world.gate.begun.notified().await;
        let sealing = world.seal(&new);
        let opening = async {
            world.until_one_waits().await;
            world.open();
        };
        tokio::join!(sealing, opening).0
    };
    let (gone, sealed) = tokio::join!(collecting, sealing);
    assert_eq!(gone.unwrap(), 3);
    let refused = sealed.unwrap_err();
    assert!(
        matches!(refused, release::Error::BlobsMissing { .. }),
        "{refused}"
    );
    world.upload(&new).await;
    world.seal(&new).await.unwrap();
    world.assert_whole().await;
}

#[tokio::test]
async fn a_collection_cut_short_is_repeated_and_what_was_gone_is_uploaded() {
    let world = World::new().await;
    world.open();
    world.collected(&["shared", "old"]).await;
    // Everything is deleted but one, and nothing of that is committed.
    let kept = digest_of(b"old");
    world.gate.fails.lock().unwrap().insert(kept);
    collect_some_blobs(&world.ctx).await.unwrap_err();
    assert_eq!(world.number("SELECT count(*) FROM blob").await, 3);
    assert_eq!(world.ctx.blobs.exists(&[kept]).await.unwrap(), [true]);
    let new = world.begin(&["shared", "new"]).await;
    assert!(world.upload(&new).await.contains(&digest_of(b"shared")));
    world.seal(&new).await.unwrap();
    world.gate.fails.lock().unwrap().clear();
    assert_eq!(collect_some_blobs(&world.ctx).await.unwrap(), 2);
    world.assert_whole().await;
    assert_eq!(world.files().len(), 3);
}

#[tokio::test]
async fn rows_are_held_for_as_long_as_the_store_takes() {
    let world = World::new().await;
    world.collected(&["old"]).await;
    let options = PgConnectOptions::clone(&world.ctx.pool.connect_options());
    let ends_idle = [("idle_in_transaction_session_timeout", "5s")];
    let pool = PgPoolOptions::new()
        .acquire_timeout(SOON)
        .connect_lazy_with(options.options(ends_idle));
    let ctx = Ctx {
        pool,
        ..world.ctx.clone()
    };
    let opening = async {
        let held = "SELECT count(*) FROM pg_stat_activity
                    WHERE datname = current_database() AND state = 'idle in transaction'
                      AND xact_start < clock_timestamp() - interval '6 seconds'";
        wait_until(SOON, "a transaction that lasts", async || {
            world.number(held).await == 1
        })
        .await;
        world.open();
    };
    let (gone, ()) = tokio::join!(collect_some_blobs(&ctx), opening);
    assert_eq!(gone.unwrap(), 2, "a file and a manifest");
}

#[tokio::test]
async fn nothing_more_is_deleted_once_nobody_holds_the_rows() {
    let world = World::new().await;
    let words: Vec<String> = (0..DELETIONS + 3)
        .map(|page| format!("page {page}"))
        .collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    world.collected(&words).await;
    let ending = async {
        world.gate.begun.notified().await;
        let end = "SELECT pg_terminate_backend(pid, 10000)::int::bigint FROM pg_stat_activity
                   WHERE datname = current_database() AND state = 'idle in transaction'";
        assert_eq!(world.number(end).await, 1);
        world.open();
    };
    let (gone, ()) = tokio::join!(collect_some_blobs(&world.ctx), ending);
    gone.unwrap_err();
    // Those that had begun by then may be gone: all of them are there to be looked for.
    assert!(world.files().len() >= words.len() + 1 - DELETIONS);
    let rows = world.number("SELECT count(*) FROM blob").await;
    assert_eq!(usize::try_from(rows).unwrap(), words.len() + 1);
}

#[tokio::test]
async fn a_draft_keeps_what_it_lists_for_a_day_after_somebody_worked_on_it() {
    let world = World::new().await;
    world.open();
    let draft = world.begin(&["one", "two"]).await;
    world.upload(&draft).await;
    world
        .act("UPDATE clock_offset SET by = interval '23 hours'")
        .await;
    // Somebody works on it.
    assert_eq!(world.missing(&draft).await, []);
    world
        .act("UPDATE clock_offset SET by = interval '46 hours'")
        .await;
    round(&world.ctx, &CancellationToken::new()).await.unwrap();
    assert_eq!(world.number("SELECT sum(names) FROM blob").await, 3);
    // From then on nothing names them; a day after that they go, and not before.
    for (hours, left) in [(72, 3), (95, 3), (98, 0)] {
        let later = format!("UPDATE clock_offset SET by = interval '{hours} hours'");
        world.act(&later).await;
        round(&world.ctx, &CancellationToken::new()).await.unwrap();
        let named = "SELECT count(*) FROM blob WHERE names > 0";
        assert_eq!(world.number(named).await, 0, "after {hours} h");
        assert_eq!(world.files().len(), left, "after {hours} h");
    }
    assert_eq!(world.upload(&draft).await.len(), 3);
    world.seal(&draft).await.unwrap();
    world.assert_whole().await;
}

#[tokio::test]
async fn a_draft_whose_manifest_is_lost_takes_no_other_s_place() {
    let world = World::new().await;
    world.open();
    let draft = world.begin(&["one"]).await;
    world.upload(&draft).await;
    let manifest = draft.blobs.last().unwrap();
    let digest = digest_of(manifest);
    world.ctx.blobs.delete(&digest).await.unwrap();
    world
        .act("UPDATE clock_offset SET by = interval '25 hours'")
        .await;
    round(&world.ctx, &CancellationToken::new()).await.unwrap();
    let names = "SELECT sum(names) FROM blob";
    assert_eq!(world.number(names).await, 2);
    let mut conn = world.ctx.pool.acquire().await.unwrap();
    let after = world.ctx.config.collect_after;
    let idle = store::list_idle_drafts(&mut conn, after).await.unwrap();
    assert!(idle.is_empty(), "{idle:?}");
    drop(conn);
    // It comes again, and its manifest may be there by then.
    let size = u64::try_from(manifest.len()).unwrap();
    let body = body_of(manifest.clone());
    world.ctx.blobs.put(&digest, size, body).await.unwrap();
    world
        .act("UPDATE clock_offset SET by = interval '50 hours'")
        .await;
    round(&world.ctx, &CancellationToken::new()).await.unwrap();
    assert_eq!(world.number(names).await, 0);
}

#[tokio::test]
async fn no_blob_goes_while_a_release_is_not_counted() {
    let world = World::new().await;
    world.open();
    let old = world.sealed(&["shared", "old"]).await;
    let new = world.sealed(&["shared", "new"]).await;
    // As a replica of the release before sealed it.
    world
        .act(&format!(
            "DELETE FROM blob; UPDATE release SET named_at = NULL;
             UPDATE release SET sealed_at = clock() - interval '2 days' WHERE id = '{}'",
            old.id.uuid()
        ))
        .await;
    let manifest = digest_of(new.blobs.last().unwrap());
    world.gate.store.delete(&manifest).await.unwrap();
    round(&world.ctx, &CancellationToken::new()).await.unwrap();
    let collected = "SELECT count(*) FROM release WHERE collected_at IS NOT NULL";
    assert_eq!(world.number(collected).await, 1);
    world.act(DUE).await;
    world.act("UPDATE collector SET due_at = '-infinity'").await;
    round(&world.ctx, &CancellationToken::new()).await.unwrap();
    assert_eq!(world.files().len(), 4, "the old manifest and three files");
    let bytes = new.blobs.last().unwrap();
    let size = u64::try_from(bytes.len()).unwrap();
    let back = world.gate.put(&manifest, size, body_of(bytes.clone()));
    back.await.unwrap();
    world.act("UPDATE collector SET due_at = '-infinity'").await;
    round(&world.ctx, &CancellationToken::new()).await.unwrap();
    assert_eq!(world.files().len(), 3);
    world.assert_whole().await;
}

#[tokio::test]
async fn what_waits_keeps_its_content_until_it_ends_whether_or_not_it_is_pinned() {
    let world = World::new().await;
    let release = world.sealed(&["waits"]).await;
    let (id, environment) = (release.id.uuid(), EnvironmentId::new().uuid());
    world
        .act(&format!(
            "INSERT INTO environment (id, site_id, slug, kind, policy, created_at, created_by)
             SELECT '{environment}', id, 'production', 'standard', '{{}}', clock(), 'erin' FROM site;
             INSERT INTO deployment (id, site_id, environment_id, release_id, kind, strategy, policy,
                                     state, created_at, created_by, trace_id, span_id)
             SELECT gen_random_uuid(), id, '{environment}', '{id}', 'standard', '{{}}', '{{}}',
                    'pending', clock(), 'erin', '', '' FROM site;
             UPDATE release SET sealed_at = clock() - interval '30 days'"
        ))
        .await;
    for pinned in [false, true] {
        world
            .act(&format!("UPDATE deployment SET pinned = {pinned}"))
            .await;
        assert!(!world.collect(&release).await);
        world.assert_whole().await;
    }
    // Nothing else kept it.
    world
        .act("UPDATE deployment SET state = 'cancelled', finished_at = clock()")
        .await;
    assert!(world.collect(&release).await);
}

#[tokio::test]
async fn what_the_undo_of_a_rollback_would_go_to_past_a_banned_release_stays() {
    let world = World::new().await;
    let [one, two, three] = [
        world.sealed(&["one"]).await,
        world.sealed(&["two"]).await,
        world.sealed(&["three"]).await,
    ];
    let environment = EnvironmentId::new().uuid();
    let deployed = |release: &Begun, kind: &str, state: &str, finished: &str, leaves: &str| {
        format!(
            "INSERT INTO deployment (id, site_id, environment_id, release_id, kind, strategy, policy,
                                     state, created_at, created_by, trace_id, span_id, started_at,
                                     pivoted_at, finished_at, leaves_release_id)
             SELECT gen_random_uuid(), id, '{environment}', '{}', '{kind}', '{{}}', '{{}}', '{state}',
                    clock(), 'erin', '', '', clock(), clock(), {finished}, {leaves} FROM site;",
            release.id.uuid()
        )
    };
    let left = three.id.uuid();
    let statements = [
        format!(
            "INSERT INTO environment (id, site_id, slug, kind, policy, created_at, created_by,
                                      live_release_id, live_since)
             SELECT '{environment}', id, 'production', 'standard', '{{\"keep_releases\": 1}}', clock(),
                    'erin', '{left}', clock() FROM site;"
        ),
        deployed(&one, "standard", "succeeded", "clock()", "NULL"),
        deployed(&two, "standard", "succeeded", "clock()", "NULL"),
        deployed(&three, "standard", "succeeded", "clock()", "NULL"),
        deployed(&two, "rollback", "running", "NULL", &format!("'{left}'")),
        format!(
            "INSERT INTO ban (release_id, at, by, reason) VALUES ('{left}', clock(), 'erin', '');
             UPDATE release SET sealed_at = clock() - interval '30 days'"
        ),
    ];
    world.act(&statements.concat()).await;
    assert!(!world.collect(&one).await);
    // Nor does the undo go to what the rollback failed to reach.
    world
        .act(
            "UPDATE ban SET cleared_at = clock();
             UPDATE deployment SET pivoted_at = NULL WHERE finished_at IS NULL",
        )
        .await;
    assert!(!world.collect(&one).await);
    // Nothing else kept it.
    world
        .act("UPDATE deployment SET state = 'succeeded', finished_at = clock()")
        .await;
    assert!(world.collect(&one).await);
}

/// Rounds of the race, at the most: by chance one may leave nothing to collect.
const MOST_ROUNDS: u64 = 20;

/// Numbers that a seed tells (splitmix64).
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: u64) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((mixed ^ (mixed >> 31)) % limit).unwrap()
    }
}

/// One who begins, uploads and seals releases out of a few words that all share.
async fn work(world: &World, mut dice: Dice) {
    for _turn in 0..25 {
        let some: Vec<&str> = (0..3)
            .map(|_| ["a", "b", "c", "d", "e", "f"][dice.below(6)])
            .collect();
        let release = world.begin(&some).await;
        // Another may have sealed the same release, and it may be collected already.
        if dice.below(5) > 0
            && let Err(error) = world.try_upload(&release).await
        {
            let collected = matches!(error, release::Error::Collected(_));
            assert!(collected, "{}", chain(&error));
            continue;
        }
        match world.seal(&release).await {
            Ok(())
            | Err(
                release::Error::ManifestMissing(_)
                | release::Error::BlobsMissing { .. }
                | release::Error::Uncounted(_)
                | release::Error::Collected(_),
            ) => {}
            Err(error) => panic!("{}", chain(&error)),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn whatever_races_a_release_that_can_be_deployed_has_all_its_content() {
    let seed = u64::from(uuid::Uuid::new_v4().as_fields().0);
    println!("seed {seed}");
    let world = World::new().await;
    world.open();
    *world.gate.takes.lock().unwrap() = Duration::from_millis(20);
    let over = CancellationToken::new();
    let gone = AtomicUsize::new(0);
    let working = async {
        // Until something was collected: without that there is no race.
        for round in 0..MOST_ROUNDS {
            let all = (0..4).map(|number| work(&world, Dice(seed + 4 * round + number)));
            join_all(all).await;
            if gone.load(Ordering::Relaxed) > 0 {
                break;
            }
        }
        over.cancel();
    };
    let collecting = async {
        while !over.is_cancelled() {
            // Time passes: whatever could be old is.
            world
                .act(
                    "UPDATE release SET collect_due_at = '-infinity',
                         sealed_at = clock() - interval '2 days' WHERE state = 'sealed'",
                )
                .await;
            collect_releases(&world.ctx, &CancellationToken::new())
                .await
                .unwrap();
            world.act(DUE).await;
            while let Ok(some @ 1..) = collect_some_blobs(&world.ctx).await {
                gone.fetch_add(some, Ordering::Relaxed);
            }
            world.assert_whole().await;
        }
    };
    tokio::join!(working, collecting);
    let gone = gone.load(Ordering::Relaxed);
    assert!(gone > 0, "nothing was collected: the race was none");
    world.assert_whole().await;
    let names = "SELECT count(*) FROM blob b WHERE names <> 0 AND unnamed_since IS NOT NULL";
    assert_eq!(world.number(names).await, 0);
}
