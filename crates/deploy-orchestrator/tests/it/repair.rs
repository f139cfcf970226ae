//! Content that rotted in the store is uploaded again.

use candlefish_blobs::body_of;
use candlefish_manifest::{Digest, digest_of};
use candlefish_proto::deploy::{self as pb, deployment::State};
use candlefish_testkit::wait_until;

use crate::{
    api::{Api, policy, reason},
    sandbox::{SOON, Sandbox},
};

const PAGE: &str = "hello";

async fn missing(api: &Api, release: &str) -> pb::ListMissingBlobsResponse {
    let request = api.request(pb::ListMissingBlobsRequest {
        id: release.to_owned(),
        ..pb::ListMissingBlobsRequest::default()
    });
    let found = api.releases().list_missing_blobs(request).await;
    found.unwrap().into_inner()
}

fn digests(page: &pb::ListMissingBlobsResponse) -> Vec<Digest> {
    let blobs = page.blobs.iter();
    blobs.map(|blob| blob.digest.parse().unwrap()).collect()
}

/// As a failing disk leaves it.
fn rot(sandbox: &Sandbox, digest: Digest, content: &str) {
    let file = sandbox.store.local_path(&digest).unwrap();
    std::fs::write(file, content).unwrap();
}

#[tokio::test]
async fn what_a_verification_found_corrupt_is_uploaded_again() {
    let (sandbox, _orchestrator, edge, api) = Sandbox::started().await;
    api.create_environment("production", policy()).await;
    let files = [("index.html", PAGE), ("style.css", "blue")];
    let content = sandbox.put_content(&files).await;
    let release = api.create_release(content, "", &[]).await;
    api.seal(&release).await;
    let page = digest_of(PAGE.as_bytes());
    rot(&sandbox, page, "jello");
    // Nobody has read it: that it is there is all that is known.
    assert_eq!(digests(&missing(&api, &release).await), []);
    edge.act(|script| "index.html: corrupt".clone_into(&mut script.refuses));
    let failed = api.deploy("production", &release).await;
    let failed = api.wait_for(&failed, &[State::Failed]).await;
    assert_eq!(failed.cause, "verification");

    // What a new deployment of the same content does first.
    assert_eq!(api.create_release(content, "", &[]).await, release);
    assert_eq!(digests(&missing(&api, &release).await), [page]);
    let request = api.request(pb::SealReleaseRequest {
        id: release.clone(),
    });
    let refused = api.releases().seal_release(request).await.unwrap_err();
    assert_eq!(reason(&refused), "content-missing");
    let stored = sandbox.store.put(&page, 5, body_of(PAGE)).await.unwrap();
    assert_eq!(stored, candlefish_blobs::Put::Stored);
    assert_eq!(digests(&missing(&api, &release).await), []);
    api.seal(&release).await;
    edge.act(|script| script.refuses.clear());
    // As an edge reports when a release's address is taken away: it has nothing of it, and no fault.
    edge.tell(pb::WatchRoutesRequest {
        staged: vec![pb::StagedRelease {
            release_id: release.clone(),
            ..pb::StagedRelease::default()
        }],
        ..pb::WatchRoutesRequest::default()
    });
    let faults = "SELECT count(*) FROM edge_release WHERE error <> ''";
    wait_until(SOON, "the fault to be forgotten", async || {
        sandbox.number(faults).await == 0
    })
    .await;
    let again = api.retry(&failed.id).await.unwrap().into_inner().id;
    api.wait_for(&again, &[State::Succeeded]).await;

    // It is trusted again: a listing reads nothing.
    rot(&sandbox, page, "jello");
    assert_eq!(digests(&missing(&api, &release).await), []);
}

#[tokio::test]
async fn what_a_sealed_release_lost_is_uploaded_again() {
    let (sandbox, _orchestrator, _edge, api) = Sandbox::started().await;
    let content = sandbox
        .put_content(&[("index.html", PAGE), ("a", "b")])
        .await;
    let release = api.create_release(content, "", &[]).await;
    api.seal(&release).await;
    let (page, other) = (digest_of(PAGE.as_bytes()), digest_of(b"b"));
    rot(&sandbox, page, "hell");
    sandbox.store.delete(&other).await.unwrap();
    let mut lost = [page, other];
    lost.sort_unstable();
    assert_eq!(digests(&missing(&api, &release).await), lost);
    let (manifest, _) = content;
    rot(&sandbox, manifest, "no manifest");
    let page = missing(&api, &release).await;
    assert!(page.manifest_missing);
    assert_eq!(digests(&page), [manifest]);
}
