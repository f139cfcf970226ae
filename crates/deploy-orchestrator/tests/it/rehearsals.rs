//! Calls that are carried out and taken back.

use candlefish_proto::deploy::{self as pb, deployment::State};
use candlefish_runtime::listen::VALIDATED_ONLY;
use tonic::{Code, Response};

use crate::{
    api::{policy, reason},
    inputs::picture,
    sandbox::Sandbox,
};

/// What was answered, by one who did nothing.
fn tried<T>(answer: Response<T>) -> T {
    let mark = answer.metadata().get(VALIDATED_ONLY);
    assert_eq!(mark.unwrap(), "true");
    answer.into_inner()
}

fn is_replayed<T>(answer: &Response<T>) -> bool {
    answer.metadata().get("idempotent-replayed").is_some()
}

#[tokio::test]
async fn what_the_state_allows_is_told_and_taken_back() {
    let (sandbox, _orchestrator, _edge, api) = Sandbox::started().await;
    api.create_environment("production", policy()).await;
    let release = sandbox.release(&api, "one").await;
    api.deploy_whole("production", &release).await;
    let other = sandbox.release(&api, "two").await;
    let preview = api.preview(&other).await.unwrap().into_inner();
    api.wait_for(&preview.id, &[State::Succeeded]).await;
    api.hold("production").await.unwrap();
    let waits = api.deploy("production", &other).await;
    let before = picture(&sandbox).await;

    let tries = api.rehearsing();
    let lifted = tried(tries.lift("production").await.unwrap());
    // All that the lift would do, up to the turn of what waits.
    assert_eq!(
        (lifted.hold, lifted.acting_deployment_id),
        (None, waits.clone())
    );
    let cancelled = tried(tries.cancel(&waits).await.unwrap());
    assert_eq!(cancelled.state(), State::Cancelled);
    let pinned = tried(tries.pin(&waits, false).await.unwrap());
    assert!(pinned.pin.is_some());
    let banned = tried(tries.ban(&other).await.unwrap());
    assert!(banned.ban.is_some());
    let closed = tried(tries.close(&preview.environment).await.unwrap());
    assert!(closed.closed.is_some());
    assert_eq!(picture(&sandbox).await, before);
    assert!(api.environment("production").await.hold.is_some());
    assert_eq!(api.deployment(&waits).await.state(), State::Pending);

    // What the state forbids is refused in the same words.
    let real = api.advance(&waits, 1).await.unwrap_err();
    let rehearsed = tries.advance(&waits, 1).await.unwrap_err();
    assert_eq!(reason(&rehearsed), "nothing-to-pass");
    assert_eq!(rehearsed.message(), real.message());
    let request = tries.request(pb::SealReleaseRequest { id: other });
    let refused = tries.releases().seal_release(request).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unimplemented);
    assert_eq!(reason(&refused), "not-rehearsed");
}

#[tokio::test]
async fn a_rehearsal_keeps_no_key_and_is_answered_by_one_that_is_kept() {
    let (sandbox, _orchestrator, _edge, api) = Sandbox::started().await;
    api.create_environment("production", policy()).await;
    let release = sandbox.release(&api, "one").await;
    let keyed = api.keyed("k1");
    let tries = keyed.rehearsing();
    let first = tries.create("production", &release, None).await.unwrap();
    let first = tried(first);
    let made = keyed.create("production", &release, None).await.unwrap();
    assert!(!is_replayed(&made));
    let made = made.into_inner();
    assert_ne!(first.id, made.id);
    assert_eq!(first.steps.len(), made.steps.len());
    let again = tries.create("production", &release, None).await.unwrap();
    assert!(is_replayed(&again));
    assert_eq!(tried(again).id, made.id);
}
