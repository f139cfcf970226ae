//! The proof that the releases to keep could come back.

use std::path::PathBuf;

use candlefish_proto::deploy as pb;
use candlefish_testkit::poll_until;

use crate::{
    api::{Api, policy},
    sandbox::{SOON, Sandbox},
};

const OFTEN: [(&str, &str); 1] = [("CANDLEFISH_RESTORABLE_MS", "200")];

/// Waits until the environment says this of its releases.
async fn says(api: &Api, environment: &str, words: &str) {
    poll_until(SOON, words, async || {
        let found = api.environment(environment).await;
        if found.restorable_checked_at.is_some() && found.not_restorable == words {
            Ok(())
        } else {
            Err(found.not_restorable)
        }
    })
    .await;
}

/// Where the store keeps a blob of this content.
fn file_of(sandbox: &Sandbox, content: &str) -> PathBuf {
    let digest = candlefish_manifest::digest_of(content.as_bytes()).to_string();
    let mut folders = vec![sandbox.blobs()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.to_string_lossy().replace('/', "").ends_with(&digest) {
                return path;
            }
        }
    }
    panic!("no blob {digest}");
}

#[tokio::test]
async fn what_a_release_lacks_is_named_until_it_is_there_again() {
    let (sandbox, _orchestrator, _edge, api) = Sandbox::started_with(&OFTEN).await;
    api.create_environment("production", policy()).await;
    let old = sandbox.release(&api, "old").await;
    api.deploy_whole("production", &old).await;
    let new = sandbox.release(&api, "new").await;
    api.deploy_whole("production", &new).await;
    says(&api, "production", "").await;
    let file = file_of(&sandbox, "old");
    let aside = file.with_extension("aside");
    std::fs::rename(&file, &aside).unwrap();
    says(&api, "production", &format!("{old} lacks /index.html")).await;
    std::fs::write(&file, "other").unwrap();
    let other_size = format!("{old} has 5 bytes of /index.html, not 3");
    says(&api, "production", &other_size).await;
    std::fs::rename(&aside, &file).unwrap();
    says(&api, "production", "").await;
}

#[tokio::test]
async fn content_that_rotted_and_kept_its_size_is_found_and_named_until_it_is_whole() {
    let (sandbox, _orchestrator, _edge, api) = Sandbox::started_with(&OFTEN).await;
    api.create_environment("production", policy()).await;
    let old = sandbox.release(&api, "old").await;
    api.deploy_whole("production", &old).await;
    let new = sandbox.release(&api, "new").await;
    api.deploy_whole("production", &new).await;
    says(&api, "production", "").await;
    let file = file_of(&sandbox, "old");
    std::fs::remove_file(&file).unwrap();
    std::fs::write(&file, "odd").unwrap();
    let digest = |content: &str| candlefish_manifest::digest_of(content.as_bytes());
    let (named, is) = (digest("old"), digest("odd"));
    let rotten =
        format!("{old} has a broken /index.html: content of blob {named} has the digest {is}");
    says(&api, "production", &rotten).await;
    sandbox
        .act("UPDATE environment SET restorable_checked_at = NULL")
        .await;
    says(&api, "production", &rotten).await;
    std::fs::remove_file(&file).unwrap();
    std::fs::write(&file, "old").unwrap();
    says(&api, "production", "").await;
}

#[tokio::test]
async fn a_release_to_keep_that_was_collected_is_named() {
    let (sandbox, _orchestrator, _edge, api) = Sandbox::started_with(&OFTEN).await;
    api.create_environment("production", policy()).await;
    let old = sandbox.release(&api, "old").await;
    api.deploy_whole("production", &old).await;
    let new = sandbox.release(&api, "new").await;
    api.deploy_whole("production", &new).await;
    says(&api, "production", "").await;
    let uuid = old.parse::<candlefish_ids::ReleaseId>().unwrap().uuid();
    let collects = format!("UPDATE release SET collected_at = clock() WHERE id = '{uuid}'");
    sandbox.act(&collects).await;
    says(&api, "production", &format!("{old} was collected")).await;
}

#[tokio::test]
async fn a_lost_manifest_is_named() {
    let (sandbox, _orchestrator, _edge, api) = Sandbox::started_with(&OFTEN).await;
    api.create_environment("production", policy()).await;
    let release = sandbox.release(&api, "one").await;
    api.deploy_whole("production", &release).await;
    let digest: Vec<u8> = sqlx::query_scalar("SELECT manifest_digest FROM release")
        .fetch_one(&sandbox.pool)
        .await
        .unwrap();
    let digest = candlefish_manifest::Digest::from_bytes(digest.try_into().unwrap());
    let bytes = sandbox.store.read(&digest, 1 << 20).await.unwrap();
    let file = file_of(&sandbox, std::str::from_utf8(&bytes).unwrap());
    std::fs::remove_file(file).unwrap();
    says(&api, "production", &format!("{release} lacks its manifest")).await;
}

#[tokio::test]
async fn only_as_many_releases_as_the_policy_keeps_are_proven() {
    let (sandbox, _orchestrator, _edge, api) = Sandbox::started_with(&OFTEN).await;
    let keep_one = pb::Policy {
        keep_releases: 1,
        ..policy()
    };
    api.create_environment("production", keep_one).await;
    for words in ["old", "new"] {
        let release = sandbox.release(&api, words).await;
        api.deploy_whole("production", &release).await;
    }
    std::fs::remove_file(file_of(&sandbox, "old")).unwrap();
    sandbox
        .act("UPDATE environment SET restorable_checked_at = NULL")
        .await;
    says(&api, "production", "").await;
}

#[tokio::test]
async fn replicas_share_the_environments_and_each_is_proven_once_a_period() {
    let (sandbox, first, _edge, api) = Sandbox::started().await;
    let release = sandbox.release(&api, "one").await;
    for number in 0..6 {
        let environment = format!("place-{number}");
        api.create_environment(&environment, policy()).await;
        api.deploy_whole(&environment, &release).await;
    }
    first.stop().await;
    // Counts each proof in the database itself.
    sandbox
        .act(
            "CREATE TABLE proof (environment uuid NOT NULL);
             CREATE FUNCTION count_proof() RETURNS trigger LANGUAGE plpgsql AS
             'BEGIN INSERT INTO proof VALUES (new.id); RETURN new; END';
             CREATE TRIGGER proven AFTER UPDATE OF restorable_checked_at ON environment
             FOR EACH ROW EXECUTE FUNCTION count_proof();",
        )
        .await;
    let (first, second) = (sandbox.start().await, sandbox.start().await);
    let proven = "SELECT count(DISTINCT environment) FROM proof";
    poll_until(SOON, "all to be proven", async || {
        match sandbox.number(proven).await {
            6 => Ok(()),
            count => Err(count),
        }
    })
    .await;
    assert!(first.stop().await && second.stop().await);
    assert_eq!(sandbox.number("SELECT count(*) FROM proof").await, 6);
}

#[tokio::test]
async fn a_proof_that_a_crash_cut_short_is_taken_up_again() {
    let sandbox = Sandbox::with(&OFTEN).await;
    let orchestrator = sandbox.start().await;
    let edge = crate::edge::Edge::start(&sandbox, "edge-1", orchestrator.running.address).await;
    let api = sandbox.api(orchestrator.running.address);
    api.create_site("docs").await;
    api.wait_for_live_edges(1).await;
    api.create_environment("production", policy()).await;
    let release = sandbox.release(&api, "one").await;
    api.deploy_whole("production", &release).await;
    says(&api, "production", "").await;
    // Taken by a replica that is gone.
    sandbox
        .act(
            "UPDATE environment SET restorable_checked_at = NULL,
                 restorable_due_at = clock() + interval '2 minutes'",
        )
        .await;
    sandbox
        .database
        .advance(std::time::Duration::from_mins(2))
        .await;
    says(&api, "production", "").await;
    drop(edge);
}
