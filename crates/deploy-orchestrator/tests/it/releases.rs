//! Releases: begun, uploaded over HTTP, sealed, cleared.

use std::time::Duration;

use candlefish_manifest::{Digest, Entry, Limits, Manifest, digest_of};
use candlefish_proto::deploy as pb;
use futures_util::future::join_all;
use http::StatusCode;
use tonic::Code;

use crate::{
    api::{Answer, Api, baking, fields, policy, reason},
    sandbox::{Orchestrator, SITE, Sandbox},
};

/// Files to upload, and the manifest that names them.
struct Content {
    manifest: Vec<u8>,
    files: Vec<Vec<u8>>,
}

impl Content {
    fn of(files: &[(&str, &str)]) -> Self {
        let entries = files.iter().map(|(path, text)| Entry {
            path: (*path).to_owned(),
            digest: digest_of(text.as_bytes()),
            size: u64::try_from(text.len()).unwrap(),
            content_type: "text/html".to_owned(),
        });
        Self {
            manifest: Manifest::build(entries.collect(), &Limits::default())
                .unwrap()
                .encode(),
            files: files
                .iter()
                .map(|(_, text)| text.as_bytes().to_vec())
                .collect(),
        }
    }

    fn digest(&self) -> Digest {
        digest_of(&self.manifest)
    }

    /// What a missing blob asks for.
    fn blob(&self, digest: &str) -> Vec<u8> {
        let mut all = self.files.iter().chain([&self.manifest]);
        all.find(|bytes| digest_of(bytes).to_string() == digest)
            .unwrap()
            .clone()
    }
}

struct World {
    sandbox: Sandbox,
    orchestrator: Orchestrator,
    api: Api,
}

impl World {
    async fn with(settings: &[(&'static str, &str)]) -> Self {
        let sandbox = Sandbox::with(settings).await;
        let orchestrator = sandbox.start().await;
        let api = sandbox.api(orchestrator.running.address);
        api.create_site(SITE).await;
        Self {
            sandbox,
            orchestrator,
            api,
        }
    }

    async fn new() -> Self {
        Self::with(&[]).await
    }

    async fn create(
        &self,
        change: impl FnOnce(&mut pb::CreateReleaseRequest),
    ) -> Answer<pb::Release> {
        let mut message = pb::CreateReleaseRequest {
            site: SITE.to_owned(),
            manifest_size: 100,
            ..pb::CreateReleaseRequest::default()
        };
        change(&mut message);
        let request = self.api.request(message);
        Ok(self
            .api
            .releases()
            .create_release(request)
            .await?
            .into_inner())
    }

    async fn begin(&self, content: &Content) -> pb::Release {
        self.create(|message| {
            message.manifest_digest = content.digest().to_string();
            message.manifest_size = i32::try_from(content.manifest.len()).unwrap();
        })
        .await
        .unwrap()
    }

    async fn missing(
        &self,
        id: &str,
        size: i32,
        token: &str,
    ) -> Answer<pb::ListMissingBlobsResponse> {
        let request = self.api.request(pb::ListMissingBlobsRequest {
            id: id.to_owned(),
            page_size: size,
            page_token: token.to_owned(),
        });
        Ok(self
            .api
            .releases()
            .list_missing_blobs(request)
            .await?
            .into_inner())
    }

    /// Digest and address of all that is missing but the manifest, and how many pages said so.
    async fn missing_by_two(&self, id: &str) -> (Vec<(String, String)>, usize) {
        let (mut asked, mut token, mut pages) = (Vec::new(), String::new(), 0);
        loop {
            let page = self.missing(id, 2, &token).await.unwrap();
            assert!(!page.manifest_missing);
            let blobs = page.blobs.into_iter();
            asked.extend(blobs.map(|blob| (blob.digest, blob.upload_url)));
            (token, pages) = (page.next_page_token, pages + 1);
            if token.is_empty() {
                return (asked, pages);
            }
        }
    }

    async fn put(&self, path: &str, bytes: Vec<u8>) -> (StatusCode, String) {
        let url = format!("http://{}{path}", self.orchestrator.running.address);
        let answer = reqwest::Client::new()
            .put(url)
            .body(bytes)
            .send()
            .await
            .unwrap();
        (answer.status(), answer.text().await.unwrap())
    }

    async fn seal(&self, id: &str) -> Answer<pb::Release> {
        let request = self
            .api
            .request(pb::SealReleaseRequest { id: id.to_owned() });
        Ok(self
            .api
            .releases()
            .seal_release(request)
            .await?
            .into_inner())
    }

    /// Uploads whatever is missing.
    async fn upload(&self, id: &str, content: &Content) {
        loop {
            let page = self.missing(id, 0, "").await.unwrap();
            if page.blobs.is_empty() {
                return;
            }
            for blob in page.blobs {
                let (status, words) = self.put(&blob.upload_url, content.blob(&blob.digest)).await;
                assert_eq!(status, StatusCode::CREATED, "{words}");
            }
        }
    }

    /// Types and versions of the release's events.
    async fn told(&self) -> Vec<(String, i32)> {
        sqlx::query_as(
            "SELECT event_type, entity_version FROM outbox
             WHERE event_type LIKE 'deploy.release.%' ORDER BY id",
        )
        .fetch_all(&self.sandbox.pool)
        .await
        .unwrap()
    }
}

#[tokio::test]
async fn the_same_content_of_the_same_commit_is_one_release() {
    let world = World::new().await;
    let on = async |branch: &str, commit: &str| {
        let made = world.create(|message| {
            message.manifest_digest = "ab".repeat(32);
            branch.clone_into(&mut message.branch);
            commit.clone_into(&mut message.commit);
        });
        made.await.unwrap()
    };
    let commit = "4a".repeat(20);
    let first = on("main", &commit).await;
    let second = on("release", &commit).await;
    assert_eq!(second.id, first.id);
    assert_eq!(second.branches, ["main", "release"]);
    let other = on("main", &"4b".repeat(20)).await;
    assert_ne!(other.id, first.id);
    // The same again is nothing new.
    assert_eq!(on("release", &commit).await, second);
    let told = world.told().await;
    let told: Vec<(&str, i32)> = told.iter().map(|(kind, v)| (kind.as_str(), *v)).collect();
    assert_eq!(
        told,
        [
            ("deploy.release.created.v1", 2),
            ("deploy.release.branched.v1", 3),
            ("deploy.release.created.v1", 2),
        ]
    );
}

/// An answer about an ended deployment is kept by who read it, until its release is told of.
#[tokio::test]
async fn a_rejection_is_told_of_the_release() {
    let (sandbox, _orchestrator, _edge, api) = Sandbox::started().await;
    api.create_environment("production", policy()).await;
    api.create_environment("staging", policy()).await;
    let release = sandbox.release(&api, "one").await;
    let elsewhere = api.deploy_whole("staging", &release).await.id;
    let told = "SELECT count(*) FROM outbox WHERE event_type = 'deploy.release.rejected.v1'
         AND entity = (SELECT entity FROM outbox WHERE event_type = 'deploy.release.sealed.v1')
         AND entity_version > (SELECT entity_version FROM outbox
                               WHERE event_type = 'deploy.release.sealed.v1')";
    assert_eq!(sandbox.number(told).await, 0);
    let made = api.create("production", &release, Some(baking())).await;
    let id = made.unwrap().into_inner().id;
    api.wait_in(&id, pb::step::Kind::Bake).await;
    let before = api.deployment(&elsewhere).await;
    api.abort(&id).await.unwrap();
    let after = api.deployment(&elsewhere).await;
    assert_eq!(after.version, before.version);
    let rejections = after.release.unwrap().rejections;
    assert_eq!(rejections.len(), 1);
    assert_eq!(rejections[0].deployment_id, id);
    assert_eq!(sandbox.number(told).await, 1);
}

#[tokio::test]
async fn a_draft_says_what_is_missing_in_pages_and_is_sealed_once_it_is_there() {
    let world = World::new().await;
    let names = ["index.html", "a.html", "b.html", "c.html", "d.html"];
    let content = Content::of(&names.map(|name| (name, name)));
    let id = world.begin(&content).await.id;

    let page = world.missing(&id, 0, "").await.unwrap();
    assert!(page.manifest_missing);
    assert_eq!(page.blobs.len(), 1);
    assert_eq!(page.blobs[0].digest, content.digest().to_string());
    assert_eq!(
        reason(&world.seal(&id).await.unwrap_err()),
        "manifest-missing"
    );
    let (status, words) = world
        .put(&page.blobs[0].upload_url, content.manifest.clone())
        .await;
    assert_eq!(status, StatusCode::CREATED, "{words}");

    let status = world.seal(&id).await.unwrap_err();
    assert_eq!(
        (status.code(), reason(&status)),
        (Code::FailedPrecondition, "content-missing".to_owned())
    );
    // By path, the first of the manifest's.
    assert!(
        status.message().contains("\"a.html\" and 4 more"),
        "{status}"
    );

    let (asked, pages) = world.missing_by_two(&id).await;
    assert_eq!((asked.len(), pages), (5, 3));
    assert!(asked.is_sorted(), "{asked:?}");
    for (digest, url) in asked {
        assert_eq!(
            world.put(&url, content.blob(&digest)).await.0,
            StatusCode::CREATED
        );
        assert_eq!(
            world.put(&url, content.blob(&digest)).await.0,
            StatusCode::OK
        );
    }
    let page = world.missing(&id, 0, "").await.unwrap();
    assert_eq!((page.blobs.len(), page.looked_at), (0, 5));

    let sealed = world.seal(&id).await.unwrap();
    assert_eq!(sealed.state(), pb::release::State::Sealed);
    assert_eq!((sealed.file_count, sealed.byte_count), (5, 34));
    assert_eq!(world.seal(&id).await.unwrap(), sealed);
    assert_eq!(
        world.told().await.last().unwrap(),
        &("deploy.release.sealed.v1".to_owned(), 2)
    );
    assert_eq!(world.told().await.len(), 2);
}

#[tokio::test]
async fn of_seals_at_the_same_time_one_freezes() {
    let world = World::new().await;
    let content = Content::of(&[("index.html", "hello")]);
    let id = world.begin(&content).await.id;
    world.upload(&id, &content).await;
    let sealed = join_all((0..8).map(|_| world.seal(&id))).await;
    let first = sealed[0].as_ref().unwrap();
    assert!(sealed.iter().all(|one| one.as_ref().unwrap() == first));
    assert_eq!(world.told().await.len(), 2);
}

#[tokio::test]
async fn the_size_said_last_is_the_one_that_is_signed() {
    let world = World::new().await;
    let content = Content::of(&[("index.html", "hello")]);
    let wrong = world.create(|message| message.manifest_digest = content.digest().to_string());
    let id = wrong.await.unwrap().id;
    let url = world
        .missing(&id, 0, "")
        .await
        .unwrap()
        .blobs
        .remove(0)
        .upload_url;
    let (status, words) = world.put(&url, content.manifest.clone()).await;
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY);
    let problem: serde_json::Value = serde_json::from_str(&words).unwrap();
    assert_eq!(problem["reason"], "content-differs", "{words}");
    assert!(problem["detail"].is_string(), "{words}");
    assert_eq!(world.begin(&content).await.id, id);
    world.upload(&id, &content).await;
    world.seal(&id).await.unwrap();
}

#[tokio::test]
async fn what_was_not_signed_is_not_stored() {
    let world = World::new().await;
    let content = Content::of(&[("index.html", "hello")]);
    let id = world.begin(&content).await.id;
    let blob = world.missing(&id, 0, "").await.unwrap().blobs.remove(0);
    let url = blob.upload_url;

    let other = content.manifest.iter().rev().copied().collect();
    let (status, words) = world.put(&url, other).await;
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY);
    assert!(words.contains("has the digest"), "{words}");

    let size = format!("size={}", content.manifest.len());
    let longer = url.replace(&size, "size=999999");
    assert_ne!(longer, url);
    for (forged, why) in [
        (longer, "was not signed here"),
        (
            url.replace(&blob.digest, &"00".repeat(32)),
            "was not signed here",
        ),
        (url.split('?').next().unwrap().to_owned(), "no valid size"),
    ] {
        let (status, words) = world.put(&forged, content.manifest.clone()).await;
        assert_eq!(status, StatusCode::FORBIDDEN, "{forged}");
        assert!(words.contains(why), "{forged}: {words}");
        assert!(words.contains("PERMISSION_DENIED"), "{words}");
    }

    world
        .sandbox
        .database
        .advance(Duration::from_mins(16))
        .await;
    let (status, words) = world.put(&url, content.manifest.clone()).await;
    assert_eq!(status, StatusCode::FORBIDDEN);
    assert!(words.contains("expired"), "{words}");
    assert!(world.missing(&id, 0, "").await.unwrap().manifest_missing);
}

#[tokio::test]
async fn what_is_no_manifest_is_refused_with_its_line() {
    let world = World::new().await;
    let content = Content {
        manifest: b"candlefish-manifest 1\n../x\n".to_vec(),
        files: vec![],
    };
    let id = world.begin(&content).await.id;
    let url = world
        .missing(&id, 0, "")
        .await
        .unwrap()
        .blobs
        .remove(0)
        .upload_url;
    assert_eq!(
        world.put(&url, content.manifest.clone()).await.0,
        StatusCode::CREATED
    );
    for status in [
        world.missing(&id, 0, "").await.unwrap_err(),
        world.seal(&id).await.unwrap_err(),
    ] {
        assert_eq!(
            (status.code(), reason(&status)),
            (Code::InvalidArgument, "manifest-invalid".to_owned())
        );
        assert!(status.message().contains("line 2"), "{status}");
    }
}

#[tokio::test]
async fn hostile_paths_are_refused_by_name_whoever_wrote_the_manifest() {
    let world = World::new().await;
    let line = |path: &[u8]| {
        let start = format!("{}\t1\ttext/html\t", digest_of(b"a"));
        [start.as_bytes(), path, b"\n"].concat()
    };
    let hostile: [(&[&[u8]], &str); 6] = [
        (&[b"../x.html"], "../x.html"),
        (&[b"/etc/passwd"], "/etc/passwd"),
        (&[b"nul\0.html"], "nul\\0.html"),
        (&[b"back\\slash.html"], "slash.html"),
        (&[b"no\xfftext.html"], "text.html"),
        (&[b"A.html", b"a.html"], "a.html"),
    ];
    for (paths, named) in hostile {
        let lines: Vec<u8> = paths.iter().copied().flat_map(line).collect();
        let content = Content {
            manifest: [b"candlefish-manifest 1\n".as_slice(), &lines].concat(),
            files: vec![],
        };
        let id = world.begin(&content).await.id;
        let url = world
            .missing(&id, 0, "")
            .await
            .unwrap()
            .blobs
            .remove(0)
            .upload_url;
        let (status, words) = world.put(&url, content.manifest.clone()).await;
        assert_eq!(status, StatusCode::CREATED, "{words}");
        let refused = world.seal(&id).await.unwrap_err();
        assert_eq!(reason(&refused), "manifest-invalid", "{refused}");
        assert!(refused.message().contains(named), "{named}: {refused}");
    }
}

#[tokio::test]
async fn a_release_without_a_file_is_not_sealed() {
    let world = World::new().await;
    let content = Content::of(&[]);
    let id = world.begin(&content).await.id;
    world.upload(&id, &content).await;
    assert_eq!(reason(&world.seal(&id).await.unwrap_err()), "release-empty");
}

#[tokio::test]
async fn limits_are_configuration_and_bind_only_what_is_not_sealed_yet() {
    let mut world = World::with(&[]).await;
    let content = Content::of(&[("a/b/c/deep.html", "deep"), ("index.html", "hello")]);
    let before = world.begin(&content).await.id;
    world.upload(&before, &content).await;
    world.seal(&before).await.unwrap();

    world.orchestrator.stop().await;
    world.sandbox.set("CANDLEFISH_RELEASE_DEPTH", "3");
    world.orchestrator = world.sandbox.start().await;
    world.api = world.sandbox.api(world.orchestrator.running.address);
    assert_eq!(world.seal(&before).await.unwrap().file_count, 2);
    let later = world.create(|message| {
        message.manifest_digest = content.digest().to_string();
        message.commit = "4a".repeat(20);
    });
    let later = later.await.unwrap().id;
    let status = world.seal(&later).await.unwrap_err();
    assert_eq!(reason(&status), "manifest-invalid");
    assert!(status.message().contains("a/b/c/deep.html"), "{status}");
}

#[tokio::test]
async fn every_fault_of_a_new_release_is_named_at_once() {
    let world = World::new().await;
    let status = world.create(|message| {
        message.manifest_digest = "AB".repeat(32);
        message.manifest_size = 0;
        message.parents = vec!["4a".repeat(20)];
        message.ancestors = vec!["main".to_owned()];
        message.branch = "b".repeat(251);
        message.author_email = "a\0b".to_owned();
        message.committed_at = Some(prost_types::Timestamp {
            seconds: i64::MAX,
            nanos: 0,
        });
    });
    let mut named = fields(&status.await.unwrap_err());
    named.sort_unstable();
    assert_eq!(
        named,
        [
            "ancestors",
            "ancestors[0]",
            "author_email",
            "branch",
            "committed_at",
            "manifest_digest",
            "manifest_size",
            "parents",
        ]
    );
    assert_eq!(
        world.sandbox.number("SELECT count(*) FROM release").await,
        0
    );
}

#[tokio::test]
async fn a_release_tells_the_parents_of_its_commit() {
    let world = World::new().await;
    let parents = ["4a", "5b"].map(|two| two.repeat(20)).to_vec();
    let made = world.create(|message| {
        message.manifest_digest = "ab".repeat(32);
        message.commit = "6c".repeat(20);
        message.parents.clone_from(&parents);
        message.ancestors.clone_from(&parents);
    });
    let made = made.await.unwrap();
    assert_eq!(made.parents, parents);
    let request = world.api.request(pb::GetReleaseRequest {
        id: made.id.clone(),
    });
    let found = world.api.releases().get_release(request).await.unwrap();
    assert_eq!(found.into_inner(), made);
    let request = world.api.request(pb::ListReleasesRequest {
        site: SITE.to_owned(),
        ..pb::ListReleasesRequest::default()
    });
    let listed = world.api.releases().list_releases(request).await.unwrap();
    assert_eq!(listed.into_inner().releases, [made]);
}

#[tokio::test]
async fn the_longest_list_of_ancestors_is_kept() {
    let world = World::new().await;
    let commit = |place: usize| format!("{place:040x}");
    for count in [2, 5, 3] {
        let made = world.create(|message| {
            message.manifest_digest = "ab".repeat(32);
            message.commit = commit(100);
            message.ancestors = (0..count).map(commit).collect();
        });
        made.await.unwrap();
    }
    let kept = "SELECT cardinality(ancestors)::bigint FROM commit_ancestry";
    assert_eq!(world.sandbox.number(kept).await, 5);
}

#[tokio::test]
async fn a_cleared_rejection_is_told_each_time_with_a_later_version() {
    let world = World::new().await;
    world.api.create_environment("production", policy()).await;
    let release = world.sandbox.release(&world.api, "one").await;
    assert_eq!(
        reason(&world.api.clear("production", &release).await.unwrap_err()),
        "not-rejected"
    );
    for _ in 0..2 {
        let reject = "INSERT INTO rejection (environment_id, release_id, at, reason, deployment_id)
             SELECT e.id, r.id, clock(), 'it hurts', r.id FROM environment e, release r";
        world.sandbox.act(reject).await;
        let request = world.api.request(pb::GetReleaseRequest {
            id: release.clone(),
        });
        let shown = world
            .api
            .releases()
            .get_release(request)
            .await
            .unwrap()
            .into_inner();
        assert_eq!(shown.rejections.len(), 1);
        assert_eq!(shown.rejections[0].environment, "production");
        let cleared = world
            .api
            .clear("production", &release)
            .await
            .unwrap()
            .into_inner();
        assert_eq!(cleared.rejections, []);
    }
    let told = world.told().await;
    let versions: Vec<i32> = told.iter().map(|(_, version)| *version).collect();
    // Rejected by hand, which nobody tells: each counts all the same.
    assert_eq!(versions, [1, 2, 4, 6], "{told:?}");
    let because = "SELECT count(*) FROM rejection WHERE clear_reason = 'it was the network'
         AND cleared_by = 'erin'";
    assert_eq!(world.sandbox.number(because).await, 2);
}

#[tokio::test]
async fn a_release_of_a_site_of_others_is_not_there() {
    let world = World::new().await;
    world.api.create_environment("production", policy()).await;
    let release = world.sandbox.release(&world.api, "one").await;
    let stranger = World {
        api: world.api.seeing(&["partners"]),
        ..world
    };
    for status in [
        stranger.seal(&release).await.unwrap_err(),
        stranger.missing(&release, 0, "").await.unwrap_err(),
        stranger
            .api
            .clear("production", &release)
            .await
            .unwrap_err(),
    ] {
        assert_eq!(
            (status.code(), reason(&status)),
            (Code::NotFound, "release-unknown".to_owned())
        );
    }
    let request = stranger.api.request(pb::ListReleasesRequest {
        site: SITE.to_owned(),
        ..pb::ListReleasesRequest::default()
    });
    let status = stranger
        .api
        .releases()
        .list_releases(request)
        .await
        .unwrap_err();
    assert_eq!(reason(&status), "unknown-site");
}
