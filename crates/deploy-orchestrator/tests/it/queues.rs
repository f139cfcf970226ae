//! What waits for a person: one list of two kinds.

use candlefish_ids::DeadLetterId;
use candlefish_proto::deploy as pb;
use tonic::Code;
use tonic_types::StatusExt as _;

use crate::{
    api::{Api, blockers, millis, policy, reason},
    sandbox::Sandbox,
};

/// A message that could not be applied, as a consumer parks it.
async fn parked(sandbox: &Sandbox, event_type: &str) -> String {
    let id = DeadLetterId::new();
    sandbox
        .act(&format!(
            "INSERT INTO dead_letter (id, consumer, source, epoch, seq, event_type, payload, error,
                 deliveries, created_at)
             VALUES ('{}', 'deploy-orchestrator-test-v1', 'health', 1, 7, '{event_type}', '\\x00',
                 'no such environment', 8, clock())",
            id.uuid()
        ))
        .await;
    id.to_string()
}

async fn listed(api: &Api, page_size: i32, page_token: &str) -> pb::ListQueueItemsResponse {
    let request = api.request(pb::ListQueueItemsRequest {
        page_size,
        page_token: page_token.to_owned(),
        ..Default::default()
    });
    let listed = api.queues().list_queue_items(request).await;
    listed.unwrap().into_inner()
}

/// The ids of those of a consumer whose errors have a text in them.
async fn wanted(api: &Api, consumer: &str, error: &str) -> Vec<String> {
    let request = api.request(pb::ListQueueItemsRequest {
        consumer: consumer.to_owned(),
        error: error.to_owned(),
        ..Default::default()
    });
    let listed = api.queues().list_queue_items(request).await.unwrap();
    let items = listed.into_inner().items;
    items.into_iter().map(|item| item.id).collect()
}

async fn replay(api: &Api, id: &str) -> Result<tonic::Response<pb::QueueItem>, tonic::Status> {
    let request = api.request(pb::ReplayQueueItemRequest {
        id: id.to_owned(),
        reason: "it was the network".to_owned(),
    });
    api.queues().replay_queue_item(request).await
}

async fn discard(api: &Api, id: &str) -> Result<tonic::Response<pb::QueueItem>, tonic::Status> {
    let request = api.request(pb::DiscardQueueItemRequest {
        id: id.to_owned(),
        reason: "nobody needs it".to_owned(),
    });
    api.queues().discard_queue_item(request).await
}

#[tokio::test]
async fn steps_and_letters_are_one_list_in_pages_oldest_first() {
    let (sandbox, _orchestrator, _edge, api) = Sandbox::started().await;
    let first = parked(&sandbox, "health.outage.began.v1").await;
    let settling = pb::Policy {
        settle: Some(millis(600_000)),
        ..policy()
    };
    api.create_environment("production", settling).await;
    let release = sandbox.release(&api, "one").await;
    let deployment = api.deploy("production", &release).await;
    api.wait_in(&deployment, pb::step::Kind::VerifyCandidate)
        .await;
    sandbox
        .act(
            "UPDATE step SET state = 'running', run_at = clock(), claim = nextval('claim_seq'),
                 lease_until = clock() - interval '1 second', lost_leases = 6
             WHERE kind = 'verify_candidate'",
        )
        .await;
    let waits = |one: &pb::Deployment| blockers(one) == [pb::blocker::Kind::Quarantine];
    api.wait_until(&deployment, "quarantine", waits).await;
    let last = parked(&sandbox, "health.outage.ended.v1").await;
    let page = listed(&api, 2, "").await;
    let rest = listed(&api, 2, &page.next_page_token).await;
    assert!(rest.next_page_token.is_empty());
    let items: Vec<_> = page.items.iter().chain(&rest.items).collect();
    let kinds: Vec<_> = items.iter().map(|item| item.kind()).collect();
    let letter = pb::queue_item::Kind::DeadLetter;
    assert_eq!(kinds, [letter, pb::queue_item::Kind::Step, letter]);
    assert_eq!(items[0].id, first);
    assert_eq!(items[0].summary, "health.outage.began.v1");
    assert_eq!(items[0].error, "no such environment");
    assert_eq!(items[1].deployment_id, deployment);
    assert_eq!(items[2].id, last);
}

#[tokio::test]
async fn a_letter_is_put_back_to_work_or_given_up_once() {
    let (sandbox, _orchestrator, _edge, api) = Sandbox::started().await;
    let (tried, hopeless) = (
        parked(&sandbox, "a.b.c.v1").await,
        parked(&sandbox, "a.b.c.v1").await,
    );
    let keyed = api.keyed("once");
    let first = replay(&keyed, &tried).await.unwrap();
    assert_eq!(first.get_ref().id, tried);
    let again = replay(&keyed, &tried).await.unwrap();
    assert_eq!(again.metadata().get("idempotent-replayed").unwrap(), "true");
    discard(&api, &hopeless).await.unwrap();
    for id in [&tried, &hopeless] {
        for refused in [replay(&api, id).await, discard(&api, id).await] {
            assert_eq!(reason(&refused.unwrap_err()), "queue-item-unknown");
        }
    }
    let states = "SELECT count(*) FROM dead_letter WHERE state IN ('replaying', 'discarded')
                  AND decided_by = 'erin' AND reason <> ''";
    assert_eq!(sandbox.number(states).await, 2);
    // One that is to be tried again still waits; one given up does not.
    let waiting: Vec<_> = listed(&api, 0, "").await.items;
    assert_eq!(waiting.len(), 1);
    assert_eq!(waiting[0].id, tried);
}

#[tokio::test]
async fn letters_are_narrowed_to_a_consumer_and_an_error() {
    let (sandbox, _orchestrator, _edge, api) = Sandbox::started().await;
    let one = parked(&sandbox, "a.b.c.v1").await;
    let other = parked(&sandbox, "a.b.c.v1").await;
    let last: DeadLetterId = other.parse().unwrap();
    sandbox
        .act(&format!(
            "UPDATE dead_letter SET consumer = 'deploy-orchestrator-other-v1', error = 'a 100% loss'
             WHERE id = '{}'",
            last.uuid()
        ))
        .await;
    let consumer = "deploy-orchestrator-other-v1";
    assert_eq!(wanted(&api, "", "").await, [&*one, &*other]);
    assert_eq!(wanted(&api, consumer, "").await, [&*other]);
    assert_eq!(wanted(&api, "", "no such").await, [&*one]);
    // It is a text, no pattern.
    assert_eq!(wanted(&api, "", "100%").await, [&*other]);
    assert!(wanted(&api, "", "%loss").await.is_empty());
    assert!(wanted(&api, consumer, "no such").await.is_empty());
    let items = listed(&api, 0, "").await.items;
    assert_eq!(items[1].consumer, consumer);
}

#[tokio::test]
async fn a_letter_is_of_no_site() {
    let (sandbox, _orchestrator, _edge, api) = Sandbox::started().await;
    let letter = parked(&sandbox, "a.b.c.v1").await;
    let stranger = api.seeing(&["docs"]);
    assert!(listed(&stranger, 0, "").await.items.is_empty());
    let refused = discard(&stranger, &letter).await.unwrap_err();
    assert_eq!(reason(&refused), "queue-item-unknown");
}

#[tokio::test]
async fn an_id_of_neither_kind_is_named() {
    let (_sandbox, _orchestrator, _edge, api) = Sandbox::started().await;
    for id in ["", "dep_01m88n4fa9empv46t7hqvvm5ar", "step_1", "dl_"] {
        let refused = replay(&api, id).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument);
        let details = refused.get_details_bad_request().unwrap();
        let fields: Vec<_> = details
            .field_violations
            .iter()
            .map(|one| &*one.field)
            .collect();
        assert_eq!(fields, ["id"]);
    }
}
