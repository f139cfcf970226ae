//! Where the commands happen: a site, its lanes, an edge, releases and a store.

use std::{sync::Arc, time::Duration};

use candlefish_blobs::{Options, Store, UploadKey, body_of, open};
use candlefish_ids::{Digest, EnvironmentId, ReleaseId, SiteId};
use candlefish_manifest::{Entry, Limits, Manifest, digest_of};
use candlefish_runtime::{
    config::Env,
    identity::{Caller, Kind, Role},
    refusal::{Code, Refusal},
};
use candlefish_testkit::{Database, OFFSET_CLOCK};
use sqlx::AssertSqlSafe;

use super::{PLACE, REPOSITORY, SITE, crash, delivery::GitHub, work::Edge};
use crate::{
    Config,
    ctx::{Ctx, Nudges},
    release::{self, seal},
    site::{
        policy::{Order, Policy},
        strategy::Strategy,
    },
    step::worker::chain,
};

/// The first commits of `main`, one after the other.
pub(super) const LINE: usize = 5;
/// Releases from the beginning. The one after the line is of another branch, the last has no commit.
pub(super) const BEGUN: usize = 7;

/// Nobody pulls the plug of this server: no commit has to wait for its disk.
const HURRY: &str = "
    SET synchronous_commit = off;
    DO $$ BEGIN
        EXECUTE format('ALTER DATABASE %I SET synchronous_commit = off', current_database());
    END $$;";

/// Numbers that a seed tells (splitmix64).
#[derive(Debug)]
pub(super) struct Dice(u64);

impl Dice {
    pub(super) fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let limit = u64::try_from(limit).unwrap();
        usize::try_from((mixed ^ (mixed >> 31)) % limit).unwrap()
    }

    pub(super) fn of<T: Clone>(&mut self, all: &[T]) -> Option<T> {
        (!all.is_empty()).then(|| all[self.below(all.len())].clone())
    }
}

pub(super) struct World {
    _dir: tempfile::TempDir,
    pub(super) database: Database,
    pub(super) ctx: Ctx,
    pub(super) caller: Caller,
    /// Those that somebody began; their content is in the store.
    pub(super) releases: Vec<ReleaseId>,
    pub(super) github: GitHub,
    pub(super) edge: Edge,
    pub(super) dice: Dice,
    /// What was done, for the one who reads a failure.
    story: Vec<String>,
}

impl World {
    pub(super) async fn new(seed: u64, order: Order) -> Self {
        let database = Database::migrated(&sqlx::migrate!()).await;
        database.run(&[HURRY, OFFSET_CLOCK, &crash::script()]).await;
        let dir = tempfile::tempdir().unwrap();
        let mut dice = Dice(seed);
        let quarantine_after = dice.below(3);
        let mut world = Self {
            ctx: ctx(&database, &dir, quarantine_after).await,
            database,
            _dir: dir,
            caller: Caller {
                principal: "erin".to_owned(),
                kind: Kind::Person,
                role: Role::Admin,
                sites: Vec::new(),
                request_id: String::new(),
                issuer: String::new(),
            },
            releases: Vec::new(),
            github: GitHub::new(),
            edge: Edge::Follows,
            dice,
            story: Vec::new(),
        };
        world.settle(order).await;
        world
    }

    /// Makes the site, `production`, the edge and the first releases.
    async fn settle(&mut self, order: Order) {
        let policy = serde_json::to_string(&policy(order)).unwrap();
        let (site, environment) = (SiteId::new().uuid(), EnvironmentId::new().uuid());
        // Previews live for three hours.
        self.act(&format!(
            "INSERT INTO site (id, slug, name, repository, preview_from, preview_max_age_ms,
                     created_at, created_by)
                 VALUES ('{site}', '{SITE}', '', '{REPOSITORY}', 'repository', 10800000,
                     clock(), 'erin');
             INSERT INTO environment (id, site_id, slug, kind, policy, push_branch,
                     created_at, created_by)
                 VALUES ('{environment}', '{site}', '{PLACE}', 'standard', '{policy}', 'main',
                     clock(), 'erin');
             INSERT INTO lane (environment_id) VALUES ('{environment}');
             INSERT INTO edge (id, boot, address, heard_at, joined_at)
                 VALUES ('edge-1', 'boot', '127.0.0.1:1', clock(), clock());"
        ))
        .await;
        for number in 0..BEGUN {
            self.begin(number).await.unwrap();
        }
        for number in [0, 1, 3, 5] {
            self.seal(self.releases[number]).await.unwrap();
        }
    }

    pub(super) async fn act(&self, statement: &str) {
        let statement = AssertSqlSafe(statement.to_owned());
        sqlx::raw_sql(statement)
            .execute(&self.ctx.pool)
            .await
            .unwrap();
    }

    pub(super) async fn texts(&self, question: &str) -> Vec<String> {
        sqlx::query_scalar(AssertSqlSafe(question.to_owned()))
            .fetch_all(&self.ctx.pool)
            .await
            .unwrap()
    }

    /// The release of a commit, begun once; all its content is in the store.
    pub(super) async fn begin(&mut self, number: usize) -> Result<ReleaseId, Refusal> {
        let page = format!("page {number}");
        let digest = self.put(page.as_bytes()).await;
        let entry = Entry {
            path: "index.html".to_owned(),
            digest,
            size: u64::try_from(page.len()).unwrap(),
            content_type: "text/html".to_owned(),
        };
        let manifest = Manifest::build(vec![entry], &Limits::default()).unwrap();
        let manifest = manifest.encode();
        let ancestors: Vec<String> = match number {
            0..LINE => (0..number).rev().map(commit).collect(),
            _ => Vec::new(),
        };
        let cmd = release::create::Create {
            site: SITE.to_owned(),
            manifest: self.put(&manifest).await,
            manifest_size: i32::try_from(manifest.len()).unwrap(),
            commit: commit(number),
            parents: ancestors.iter().take(1).cloned().collect(),
            ancestors,
            branch: String::new(),
            message: String::new(),
            author: String::new(),
            author_email: String::new(),
            committed_at: None,
            dirty: false,
        };
        let made = release::create::create(&self.ctx, &self.caller, None, cmd).await?;
        let id: ReleaseId = made.message.id.parse().unwrap();
        if !self.releases.contains(&id) {
            self.releases.push(id);
        }
        Ok(id)
    }

    async fn put(&self, bytes: &[u8]) -> Digest {
        let digest = digest_of(bytes);
        let size = u64::try_from(bytes.len()).unwrap();
        let put = self.ctx.blobs.put(&digest, size, body_of(bytes.to_vec()));
        put.await.unwrap();
        digest
    }

    pub(super) async fn seal(&self, release: ReleaseId) -> Result<(), Refusal> {
        let sealed = seal::seal(&self.ctx, &self.caller, None, release).await;
        Ok(sealed.map(drop)?)
    }

    pub(super) fn say(&mut self, words: impl Into<String>) {
        self.story.push(words.into());
    }

    pub(super) fn told(&self) -> String {
        self.story.join("\n")
    }
}

/// A commit by its number; the last of the first releases has none.
pub(super) fn commit(number: usize) -> String {
    if number == BEGUN - 1 {
        return String::new();
    }
    format!("{:040x}", number + 1)
}

pub(super) fn policy(order: Order) -> Policy {
    Policy {
        order,
        settle: Duration::ZERO,
        strategy: Strategy::Recreate,
        ..Policy::default()
    }
}

/// What no command may answer when nobody refused it.
pub(super) fn broken(error: impl std::error::Error) -> Refusal {
    Refusal::new(Code::Internal, "broken", chain(&error))
}

async fn ctx(database: &Database, dir: &tempfile::TempDir, quarantine_after: usize) -> Ctx {
    let blobs = format!("dir:{}", dir.path().display());
    let key = "5a".repeat(32);
    let quarantine_after = quarantine_after.to_string();
    let options = Options {
        upload_key: UploadKey::from_hex(&key).ok(),
        ..Options::default()
    };
    let store: Arc<dyn Store> = open(&blobs, options).await.unwrap();
    let pairs = [
        ("CANDLEFISH_LISTEN", "127.0.0.1:0"),
        ("CANDLEFISH_OPS_LISTEN", "127.0.0.1:0"),
        ("CANDLEFISH_DATABASE_URL", "unused"),
        ("CANDLEFISH_NATS_URL", "unused"),
        ("CANDLEFISH_IDENTITY_KEY", "unused"),
        ("CANDLEFISH_TRUSTED_KEYS", "unused"),
        ("CANDLEFISH_BLOBS", &blobs),
        ("CANDLEFISH_BLOB_SIGNING_KEY", &key),
        ("CANDLEFISH_QUARANTINE_AFTER", &quarantine_after),
    ];
    let pairs = pairs.map(|(name, value)| (name, value.to_owned()));
    Ctx {
        pool: database.pool(),
        config: Arc::new(Config::read(Env::from_pairs(pairs)).unwrap()),
        blobs: store,
        nudges: Nudges::default(),
        rehearses: false,
    }
}
