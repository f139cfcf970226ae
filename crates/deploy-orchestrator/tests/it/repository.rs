//! Sites that are folders of their repositories: the content of a push is fetched from GitHub, whatever
//! goes wrong on the way.

use std::time::Duration;

use candlefish_manifest::digest_of;
use candlefish_proto::deploy::{self as pb, Deployment, deployment::State};
use candlefish_testkit::{
    github::{Example, Fake, Fault, Push, archive},
    poll_until, wait_until,
};
use sqlx::Connection as _;

use crate::{
    api::{Api, blockers, policy},
    edge::Edge,
    gateway::Gateway,
    previews::{self, allow, pull},
    sandbox::{Orchestrator, SITE, SOON, Sandbox},
    stage::{self, NONE, REPOSITORY},
};

const HOST: &str = "docs.localhost";
/// Whoever dies is followed soon.
const SHORT: [(&str, &str); 1] = [("CANDLEFISH_LEASE_MS", "2000")];

/// A site that is the folder `site` of [`REPOSITORY`], with `production` on `main`, and GitHub.
struct Stage {
    github: Fake,
    sandbox: Sandbox,
    gateway: Gateway,
    orchestrator: Orchestrator,
    edge: Edge,
    api: Api,
}

impl Stage {
    async fn new() -> Self {
        Self::with(&[]).await
    }

    async fn with(settings: &[(&'static str, &str)]) -> Self {
        // Longer than the database's clock is moved while somebody fetches.
        let mut all = vec![("CANDLEFISH_LEASE_MS", "60000")];
        all.extend_from_slice(settings);
        let (github, stage) = stage::Stage::asking(&all).await;
        let api = &stage.api;
        let site = api.request(pb::CreateSiteRequest {
            slug: SITE.to_owned(),
            repository: REPOSITORY.to_owned(),
            source: pb::site::Source::Repository.into(),
            folder: "site/".to_owned(),
            ..pb::CreateSiteRequest::default()
        });
        let made = api.sites().create_site(site).await.unwrap().into_inner();
        assert_eq!(
            (made.source(), made.folder.as_str()),
            (pb::site::Source::Repository, "site")
        );
        stage::environment(api, SITE, "production", "main", &[], policy()).await;
        let stage::Stage {
            sandbox,
            gateway,
            orchestrator,
            edge,
            api,
        } = stage;
        Self {
            github,
            sandbox,
            gateway,
            orchestrator,
            edge,
            api,
        }
    }

    /// GitHub packs a commit with this page in the site's folder.
    fn packs(&self, number: usize, words: &str) {
        packs(
            &self.github,
            number,
            &[("site/index.html", words), ("README.md", "# Docs")],
        );
    }

    /// Delivers a push of a commit; answers its deployment.
    async fn pushed(&self, number: usize) -> Deployment {
        self.gateway.receives(&push(number));
        made(&self.sandbox, &self.api, number).await
    }

    /// Longer than content may take that somebody is to bring; every try fails.
    async fn waits_for_more_than_an_hour(&self, deployment: &str) {
        let failed = |one: &Deployment| {
            let mut words = one.blockers.iter().map(|blocker| &blocker.message);
            words.any(|words| words.contains("again at"))
        };
        self.api
            .wait_until(deployment, "a failed try", failed)
            .await;
        for _turn in 0..25 {
            self.sandbox.database.advance(Duration::from_mins(3)).await;
            let prolonged = "SELECT count(*) FROM trigger
                             WHERE content_until > clock() + interval '4 minutes'";
            poll_until(SOON, "the next try to fail", async || {
                if self.sandbox.number(prolonged).await == 1 {
                    return Ok(());
                }
                Err(crate::api::shown(&self.api.deployment(deployment).await))
            })
            .await;
        }
        let waits = self.api.deployment(deployment).await;
        assert_eq!(waits.state(), State::Pending);
        assert_eq!(blockers(&waits), [pb::blocker::Kind::Content]);
    }

    async fn goes_live_at_its_next_try(&self, deployment: &str) {
        wait_until(SOON, "the next try", async || {
            let half = Duration::from_secs(30);
            self.sandbox.database.advance(half).await;
            self.api.deployment(deployment).await.state() == State::Succeeded
        })
        .await;
        self.is_live(deployment).await;
    }

    async fn is_live(&self, deployment: &str) -> Deployment {
        let live = self.api.wait_for(deployment, &[State::Succeeded]).await;
        self.edge.wait_until_it_serves(HOST, &live.release_id).await;
        live
    }
}

fn packs(github: &Fake, number: usize, files: &[(&str, &str)]) {
    let files: Vec<(&str, &[u8])> = files
        .iter()
        .map(|(path, text)| (*path, text.as_bytes()))
        .collect();
    github.packs(
        REPOSITORY,
        &commit(number),
        archive(&commit(number), &files),
    );
}

fn commit(number: usize) -> String {
    format!("{number:040x}")
}

fn push(number: usize) -> Example {
    Push {
        repository: REPOSITORY,
        branch: "main",
        before: NONE,
        commits: &[&commit(number)],
        changes: &["site/index.html"],
        pushed_at: 1_790_000_000 + i64::try_from(number).unwrap(),
    }
    .example()
}

/// The deployment that the push of a commit made.
async fn made(sandbox: &Sandbox, api: &Api, number: usize) -> Deployment {
    let commit = commit(number);
    let id = poll_until(SOON, "a push to be decided", async || {
        let found: Option<uuid::Uuid> = sqlx::query_scalar(
            "SELECT deployment_id FROM trigger WHERE commit = $1 AND outcome = 'created'",
        )
        .bind(&commit)
        .fetch_optional(&sandbox.pool)
        .await
        .unwrap();
        found.ok_or(())
    })
    .await;
    let id = candlefish_ids::DeploymentId::from_uuid(id).to_string();
    api.deployment(&id).await
}

/// Nothing is to be fetched any more.
async fn is_done(sandbox: &Sandbox) {
    wait_until(SOON, "nothing to be fetched", async || {
        sandbox.number("SELECT count(*) FROM github_archive").await == 0
    })
    .await;
}

#[tokio::test]
async fn a_push_to_a_site_in_its_repository_goes_live_by_itself() {
    let stage = Stage::new().await;
    stage.packs(1, "one");
    let made = stage.pushed(1).await;
    let live = stage.is_live(&made.id).await;
    let release = live.release.unwrap();
    assert_eq!((release.file_count, release.byte_count), (1, 3));
    assert_eq!(
        (release.commit.as_str(), release.author.as_str()),
        (&*commit(1), "Codertocat")
    );
    assert_eq!(release.branches, ["main"]);
    let digests = [digest_of(b"one"), digest_of(b"# Docs")];
    let there = stage.sandbox.store.exists(&digests).await;
    assert_eq!(there.unwrap(), [true, false]);
    let told = stage.api.triggers(&commit(1)).await.unwrap();
    assert_eq!(told[0].message, "is live on docs/production");
    is_done(&stage.sandbox).await;
    assert_eq!(stage.github.calls("codeload"), 1);
    // CI that asks for the same all the same is one with it.
    let asked = stage.api.deploy("production", &release.id).await;
    assert_eq!(asked, made.id);
}

#[tokio::test]
async fn a_pull_request_to_a_site_in_its_repository_has_its_preview_without_an_upload() {
    let stage = Stage::new().await;
    allow(&stage.api, pb::preview_rule::From::Repository).await;
    for (number, action, words) in [(1, "opened", "one"), (2, "synchronize", "two")] {
        stage.packs(number, words);
        let at = u32::try_from(number).unwrap();
        let delivery = pull(action, number - 1, number, at);
        stage.gateway.receives(&delivery);
        let preview = made(&stage.sandbox, &stage.api, number).await;
        assert_eq!(preview.environment, previews::SLUG);
        let live = stage.api.wait_for(&preview.id, &[State::Succeeded]).await;
        stage
            .edge
            .wait_until_it_serves(previews::HOST, &live.release_id)
            .await;
        let there = [digest_of(words.as_bytes()), digest_of(b"# Docs")];
        let there = stage.sandbox.store.exists(&there).await;
        assert_eq!(there.unwrap(), [true, false]);
        let told = stage.api.triggers(&commit(number)).await.unwrap();
        assert_eq!(told[0].message, "is live on docs/pr-12");
    }
    is_done(&stage.sandbox).await;
    assert_eq!(stage.github.calls("codeload"), 2);
}

#[tokio::test]
async fn whatever_goes_wrong_on_the_way_the_blocker_says_so_and_it_is_fetched_again() {
    let stage = Stage::new().await;
    let (asked, sent) = ("repos/download-tarball-archive", "codeload");
    let faults = [
        (asked, Fault::Fails, "GitHub failed at archive with 500"),
        (asked, Fault::Silent, "did not answer archive within 500ms"),
        (asked, Fault::Limited(1), "GitHub's limit is reached"),
        (asked, Fault::Pause(1), "GitHub's limit is reached"),
        (sent, Fault::Fails, "GitHub failed at archive with 502"),
        (sent, Fault::Silent, "did not answer archive within 500ms"),
        (sent, Fault::Secondary(1), "GitHub's limit is reached"),
        (sent, Fault::Cut, "broke off"),
    ];
    for (place, (operation, fault, words)) in faults.into_iter().enumerate() {
        let number = place + 1;
        stage.packs(number, &format!("page {number}"));
        stage.github.fails(operation, fault);
        let made = stage.pushed(number).await;
        let says = |one: &Deployment| {
            one.blockers
                .iter()
                .any(|blocker| blocker.message.contains(words))
        };
        let waits = stage.api.wait_until(&made.id, words, says).await;
        assert_eq!(blockers(&waits), [pb::blocker::Kind::Content]);
        let blocker = &waits.blockers[0];
        assert_eq!(blocker.owner, "github", "{fault:?}");
        assert!(
            blocker.message.contains("; again at "),
            "{}",
            blocker.message
        );
        assert!(!blocker.message.contains("token="), "{}", blocker.message);
        assert!(blocker.until.is_some());
        wait_until(SOON, "the next try", async || {
            // Each waits for a while of the database's clock.
            stage.sandbox.database.advance(Duration::from_secs(1)).await;
            let one = stage.api.deployment(&made.id).await;
            one.state() == State::Succeeded
        })
        .await;
        stage.is_live(&made.id).await;
    }
}

#[tokio::test]
async fn the_last_call_that_is_allowed_brings_its_archive_and_no_other_is_asked_for() {
    const ASKED: &str = "repos/download-tarball-archive";
    let stage = Stage::new().await;
    stage.github.fails(ASKED, Fault::Spent(600));
    stage.packs(1, "one");
    let first = stage.pushed(1).await;
    stage.is_live(&first.id).await;
    let limited = "SELECT count(*) FROM github_budget
                   WHERE account = 'token' AND free_at > clock()";
    assert_eq!(stage.sandbox.number(limited).await, 1);
    stage.packs(2, "two");
    let second = stage.pushed(2).await;
    let words = "GitHub's limit is reached";
    let says = |one: &Deployment| {
        let mut blockers = one.blockers.iter();
        blockers.any(|blocker| blocker.message.contains(words))
    };
    stage.api.wait_until(&second.id, words, says).await;
    assert_eq!(stage.github.calls(ASKED), 1);
}

#[tokio::test]
async fn what_is_not_the_site_s_content_ends_the_deployment_with_words() {
    let stage = Stage::new().await;
    let nothing: &[(&str, &str)] = &[("README.md", "# Docs")];
    let twice: &[(&str, &str)] = &[("site/a", "x"), ("site/A", "x")];
    let wrong = [
        (
            Some(archive(&commit(1), &[])),
            "there is no file below \"site\"",
        ),
        (
            Some(archive(&commit(2), &[("site", b"x")])),
            "is no folder in the repository",
        ),
        (Some(b"<html>".to_vec()), "the archive is broken"),
        (None, "GitHub refuses archive with 404: Not Found"),
    ];
    for (place, (packed, words)) in wrong.into_iter().enumerate() {
        let number = place + 1;
        if let Some(packed) = packed {
            stage.github.packs(REPOSITORY, &commit(number), packed);
        }
        let made = stage.pushed(number).await;
        ends_with(&stage, &made.id, number, words).await;
    }
    for (number, files, words) in [
        (5, nothing, "there is no file below \"site\""),
        (6, twice, "differs from"),
    ] {
        packs(&stage.github, number, files);
        let made = stage.pushed(number).await;
        ends_with(&stage, &made.id, number, words).await;
    }
    // Nothing was asked for again that is what it is; what may be on its way was, twice.
    assert_eq!(
        stage.github.calls("repos/download-tarball-archive"),
        4 + 2 * 3
    );
    // Mended, it is the same once more.
    stage.packs(6, "mended");
    let ended = made(&stage.sandbox, &stage.api, 6).await;
    let again = stage.api.retry(&ended.id).await.unwrap().into_inner();
    stage.is_live(&again.id).await;
}

async fn ends_with(stage: &Stage, id: &str, number: usize, words: &str) {
    wait_until(SOON, "the end", async || {
        stage.sandbox.database.advance(Duration::from_secs(1)).await;
        stage.api.deployment(id).await.finished_at.is_some()
    })
    .await;
    let ended = stage.api.deployment(id).await;
    assert_eq!(
        (ended.state(), ended.cause.as_str()),
        (State::Failed, "content")
    );
    assert!(ended.message.contains(words), "{}", ended.message);
    assert!(ended.message.contains("push again"), "{}", ended.message);
    let told = stage.api.triggers(&commit(number)).await.unwrap();
    assert_eq!(told.first().map(|one| &one.message), Some(&ended.message));
    is_done(&stage.sandbox).await;
}

#[tokio::test]
async fn without_a_token_the_blocker_says_whose_business_it_is() {
    let stage = Stage::with(&[("CANDLEFISH_GITHUB_TOKEN", "")]).await;
    stage.packs(1, "one");
    let waits = stage.pushed(1).await;
    assert_eq!(blockers(&waits), [pb::blocker::Kind::Content]);
    let blocker = &waits.blockers[0];
    assert_eq!(blocker.owner, "admin");
    assert!(
        blocker.message.contains("set CANDLEFISH_GITHUB_TOKEN"),
        "{}",
        blocker.message
    );
    assert!(
        blocker.action.starts_with("candlefish deploy DIR"),
        "{}",
        blocker.action
    );
    assert_eq!(stage.github.calls("repos/download-tarball-archive"), 0);
}

#[tokio::test]
async fn an_upload_that_is_faster_is_the_content() {
    let stage = Stage::new().await;
    stage.packs(1, "packed");
    stage.github.goes_down();
    let made = stage.pushed(1).await;
    let content = stage.sandbox.put_content(&[("index.html", "built")]).await;
    let draft = stage.api.create_release(content, &commit(1), &[]).await;
    let built = stage.api.seal(&draft).await;
    let live = stage.is_live(&made.id).await;
    assert_eq!(live.release_id, built);
    stage.github.comes_back();
    wait_until(SOON, "nothing to be fetched", async || {
        stage.sandbox.database.advance(Duration::from_mins(1)).await;
        stage
            .sandbox
            .number("SELECT count(*) FROM github_archive")
            .await
            == 0
    })
    .await;
    assert_eq!(stage.github.calls("codeload"), 0);
}

#[tokio::test]
async fn what_was_begun_by_an_upload_that_was_given_up_goes_with_what_github_packs() {
    let stage = Stage::new().await;
    stage.packs(1, "packed");
    let content = stage
        .sandbox
        .put_content(&[("index.html", "given up")])
        .await;
    let left = stage.api.create_release(content, &commit(1), &[]).await;
    let made = stage.pushed(1).await;
    let live = stage.is_live(&made.id).await;
    assert_ne!(live.release_id, left);
    let there = stage.sandbox.store.exists(&[digest_of(b"packed")]).await;
    assert_eq!(there.unwrap(), [true]);
    is_done(&stage.sandbox).await;
}

#[tokio::test]
async fn while_github_is_down_a_push_waits_however_long_and_goes_live_then() {
    let stage = Stage::new().await;
    stage.packs(1, "one");
    stage.github.goes_down();
    let made = stage.pushed(1).await;
    stage.waits_for_more_than_an_hour(&made.id).await;
    stage.github.comes_back();
    stage.goes_live_at_its_next_try(&made.id).await;
}

#[tokio::test]
async fn an_archive_that_is_slower_than_its_limit_is_waited_for_as_in_an_outage() {
    let settings = [
        ("CANDLEFISH_GITHUB_TIMEOUT_MS", "60000"),
        ("CANDLEFISH_GITHUB_ARCHIVE_TIMEOUT_MS", "1000"),
    ];
    let stage = Stage::with(&settings).await;
    stage.packs(1, "one");
    for _try in 0..2 {
        stage.github.fails("codeload", Fault::Silent);
    }
    let made = stage.pushed(1).await;
    let says = |one: &Deployment| {
        let mut words = one.blockers.iter().map(|blocker| &blocker.message);
        words.any(|words| words.contains("it took longer than 1s; again at "))
    };
    stage.api.wait_until(&made.id, "a slow try", says).await;
    // Longer than content may take that somebody is to bring.
    stage
        .sandbox
        .database
        .advance(Duration::from_mins(61))
        .await;
    stage.goes_live_at_its_next_try(&made.id).await;
}

#[tokio::test]
async fn while_the_store_is_down_a_push_waits_however_long_and_goes_live_then() {
    let stage = Stage::new().await;
    stage.packs(1, "one");
    let blobs = stage.sandbox.blobs();
    let aside = blobs.with_extension("aside");
    std::fs::create_dir_all(&blobs).unwrap();
    std::fs::rename(&blobs, &aside).unwrap();
    std::fs::write(&blobs, "no directory").unwrap();
    let made = stage.pushed(1).await;
    stage.waits_for_more_than_an_hour(&made.id).await;
    std::fs::remove_file(&blobs).unwrap();
    std::fs::rename(&aside, &blobs).unwrap();
    stage.goes_live_at_its_next_try(&made.id).await;
}

#[tokio::test]
async fn content_that_nobody_may_fetch_ends_its_deployment_in_time_and_can_be_tried_again() {
    let stage = Stage::with(&[("CANDLEFISH_GITHUB_TOKEN", "")]).await;
    let made = stage.pushed(1).await;
    stage
        .sandbox
        .database
        .advance(Duration::from_mins(61))
        .await;
    let ended = stage.api.wait_for(&made.id, &[State::Failed]).await;
    assert_eq!(ended.cause, "deadline");
    for words in ["was not fetched in time", "candlefish retry dep_"] {
        assert!(ended.message.contains(words), "{}", ended.message);
    }
}

/// Where a process dies: at a change that the database holds back for as long as it lives.
const POINTS: [(&str, &str); 5] = [
    ("the row is claimed", "BEFORE UPDATE ON github_archive"),
    ("the release is begun", "BEFORE UPDATE ON release"),
    ("its blobs are named", "BEFORE INSERT ON blob"),
    ("it is sealed", "BEFORE UPDATE OF state ON release"),
    ("the row is forgotten", "BEFORE DELETE ON github_archive"),
];

const WAITING: &str = "FROM pg_locks l JOIN pg_database d ON d.oid = l.database
    WHERE d.datname = current_database() AND l.locktype = 'advisory' AND l.objid = 77
      AND NOT l.granted";

/// From now on whoever makes such a change waits for whoever holds the lock: the answered connection.
async fn hold(sandbox: &Sandbox, event: &str) -> sqlx::PgConnection {
    let options = sandbox.database.options();
    let mut holder = sqlx::PgConnection::connect_with(&options).await.unwrap();
    let statements = format!(
        "CREATE FUNCTION held() RETURNS trigger LANGUAGE plpgsql AS
         $$ BEGIN PERFORM pg_advisory_xact_lock(77); RETURN coalesce(NEW, OLD); END $$;
         CREATE TRIGGER held {event} FOR EACH ROW EXECUTE FUNCTION held();"
    );
    sandbox.act(&statements).await;
    let taken = sqlx::query("SELECT pg_advisory_lock(77)");
    taken.execute(&mut holder).await.unwrap();
    holder
}

/// One of each, whatever was done twice.
async fn is_once(sandbox: &Sandbox, point: &str) {
    let told = "SELECT count(*) FROM outbox WHERE event_type = 'deploy.release";
    for (what, question) in [
        ("deployment", "SELECT count(*) FROM deployment".to_owned()),
        ("release", "SELECT count(*) FROM release".to_owned()),
        ("begun", format!("{told}.created.v1'")),
        ("sealed", format!("{told}.sealed.v1'")),
    ] {
        assert_eq!(sandbox.number(&question).await, 1, "{point}: {what}");
    }
}

#[tokio::test]
async fn a_process_that_dies_anywhere_changes_when_it_goes_live_and_nothing_else() {
    for (point, event) in POINTS {
        let stage = Stage::with(&SHORT).await;
        let holder = hold(&stage.sandbox, event).await;
        stage.packs(1, "one");
        stage.gateway.receives(&push(1));
        let waiting = format!("SELECT count(*) {WAITING}");
        wait_until(SOON, point, async || {
            stage.sandbox.number(&waiting).await > 0
        })
        .await;
        let Stage {
            github,
            sandbox,
            gateway: _gateway,
            orchestrator,
            edge,
            api: _api,
        } = stage;
        orchestrator.kill().await;
        let ended = format!("SELECT pg_terminate_backend(l.pid) {WAITING}");
        sandbox.act(&ended).await;
        holder.close().await.unwrap();
        let next = sandbox.start().await;
        edge.turn_to(next.running.address);
        let api = sandbox.api(next.running.address);
        let made = made(&sandbox, &api, 1).await;
        let live = api.wait_for(&made.id, &[State::Succeeded]).await;
        edge.wait_until_it_serves(HOST, &live.release_id).await;
        is_done(&sandbox).await;
        is_once(&sandbox, point).await;
        let calls = github.calls("codeload");
        assert!((1..=2).contains(&calls), "{point}: {calls}");
    }
}

#[tokio::test]
async fn a_process_that_dies_while_it_fetches_is_followed_by_another() {
    let stage = Stage::with(&[("CANDLEFISH_GITHUB_TIMEOUT_MS", "60000"), SHORT[0]]).await;
    stage.packs(1, "one");
    stage.github.fails("codeload", Fault::Silent);
    let made = stage.pushed(1).await;
    wait_until(SOON, "the archive to be asked for", async || {
        stage.github.calls("codeload") == 1
    })
    .await;
    let second = stage.sandbox.start().await;
    // As long as the first lives it keeps its turn.
    stage
        .sandbox
        .database
        .advance(Duration::from_millis(500))
        .await;
    stage.orchestrator.kill().await;
    stage.edge.turn_to(second.running.address);
    // Its lease runs out by itself: a clock that is moved would take the second one's away as well.
    let api = stage.sandbox.api(second.running.address);
    let live = api.wait_for(&made.id, &[State::Succeeded]).await;
    stage
        .edge
        .wait_until_it_serves(HOST, &live.release_id)
        .await;
    assert_eq!(stage.github.calls("codeload"), 2);
}
