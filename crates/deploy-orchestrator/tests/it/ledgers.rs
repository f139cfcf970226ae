//! The ledger of what kept a deployment: summed up by cause, and read a page at a time.

use std::time::Duration;

use candlefish_proto::deploy::{self as pb, blocker::Kind, deployment::State};

use crate::{
    api::{Api, fields, policy},
    sandbox::Sandbox,
};

/// Another deployment, whose ledger nobody asked for.
const OTHER: &str = "dep_01k8qw4f9cfk2t0v1e6m7r8x9a";

/// The only deployment was accepted at midnight, live ten minutes later and over after twenty. What it
/// waited for, in seconds after midnight: holds that overlap, and one apart; a bake that began before it
/// was live; what was cleared at once, and by a clock that had been set back; and what nobody cleared.
const SPANS: &str = "
    DELETE FROM blocker;
    UPDATE deployment SET created_at = '2026-01-01T00:00:00Z', live_at = '2026-01-01T00:10:00Z',
        finished_at = '2026-01-01T00:20:00Z';
    INSERT INTO blocker (deployment_id, kind, since, owner, message, action, cleared_at)
        SELECT d.id, s.kind, d.created_at + s.since * interval '1 second', 'time', '', '',
               d.created_at + s.cleared * interval '1 second'
        FROM deployment d, (VALUES
            ('hold', 0, 120), ('hold', 60, 180), ('hold', 300, 360), ('lane', 180, 300),
            ('timer', 540, 900), ('provider', 420, 420), ('edge', 400, 390),
            ('quarantine', 1140, NULL)) AS s(kind, since, cleared);";

/// 450 waits of the only deployment, of half a second each, before what stands and before it was asked
/// for.
const OFTEN: &str = "
    INSERT INTO blocker (deployment_id, kind, since, owner, message, action, cleared_at)
        SELECT d.id, 'provider', d.created_at - (1000 - s.n) * interval '1 second', 'time', s.n::text, '',
               d.created_at - (999.5 - s.n) * interval '1 second'
        FROM deployment d, generate_series(1, 450) s(n) ORDER BY s.n;
    UPDATE blocker SET id = DEFAULT WHERE cleared_at IS NULL;";

fn seconds(duration: Option<prost_types::Duration>) -> i64 {
    duration.unwrap().seconds
}

/// Kind, seconds in all, seconds of the lead time, and how often.
fn told(waited: &[pb::Waited]) -> Vec<(Kind, i64, i64, i32)> {
    let one = |one: &pb::Waited| {
        let (total, of_lead) = (seconds(one.total), seconds(one.of_lead_time));
        (one.kind(), total, of_lead, one.count)
    };
    waited.iter().map(one).collect()
}

async fn whole(api: &Api, id: &str) -> pb::ListBlockersResponse {
    api.ledger(id, 0, "").await.unwrap()
}

#[tokio::test]
async fn what_overlaps_counts_once_and_a_bake_is_no_lead_time() {
    let (sandbox, _orchestrator, _edge, api) = Sandbox::started().await;
    api.create_environment("production", policy()).await;
    let release = sandbox.release(&api, "one").await;
    let id = api.deploy_whole("production", &release).await.id;
    sandbox.act(SPANS).await;
    let ledger = whole(&api, &id).await;
    assert_eq!(
        told(&ledger.waited),
        [
            (Kind::Timer, 360, 60, 1),
            (Kind::Hold, 240, 240, 3),
            (Kind::Lane, 120, 120, 1),
            // Nobody waits once it is over.
            (Kind::Quarantine, 60, 0, 1),
            (Kind::Edge, 0, 0, 1),
            (Kind::Provider, 0, 0, 1),
        ]
    );
    assert_eq!(seconds(ledger.lead_time), 600);
    assert_eq!(seconds(ledger.unblocked), 180);
    assert_eq!(ledger.blockers.len(), 8);
    assert_eq!(ledger.next_page_token, "");
    // Where it was never live, until it ended.
    sandbox.act("UPDATE deployment SET live_at = NULL").await;
    let ledger = whole(&api, &id).await;
    assert_eq!(seconds(ledger.lead_time), 1200);
    assert_eq!(seconds(ledger.unblocked), 420);
    // Where it never waited, all of it.
    sandbox.act("DELETE FROM blocker").await;
    let ledger = whole(&api, &id).await;
    assert!(ledger.waited.is_empty(), "{ledger:?}");
    assert_eq!(ledger.unblocked, ledger.lead_time);
}

#[tokio::test]
async fn what_stands_counts_up_to_the_answer_and_what_is_over_no_further() {
    let (sandbox, _orchestrator, _edge, api) = Sandbox::started().await;
    api.create_environment("production", policy()).await;
    let release = sandbox.release(&api, "one").await;
    api.hold("production").await.unwrap();
    let id = api.deploy("production", &release).await;
    sandbox.database.advance(Duration::from_hours(1)).await;
    let waits = whole(&api, &id).await;
    let [held] = &*waits.waited else {
        panic!("{waits:?}");
    };
    assert_eq!((held.kind(), held.count), (Kind::Hold, 1));
    assert!(seconds(held.total) >= 3600, "{held:?}");
    assert_eq!(held.total, held.of_lead_time);
    assert_eq!(held.total, waits.lead_time);
    assert_eq!(waits.unblocked, Some(prost_types::Duration::default()));
    api.lift("production").await.unwrap();
    api.wait_for(&id, &[State::Succeeded]).await;
    let ended = whole(&api, &id).await;
    let first = told(&ended.waited).remove(0);
    assert!(
        first.0 == Kind::Hold && first.1 >= 3600 && first.3 == 1,
        "{first:?}"
    );
    sandbox.database.advance(Duration::from_hours(1)).await;
    assert_eq!(whole(&api, &id).await, ended);
}

#[tokio::test]
async fn a_long_ledger_is_read_page_by_page_and_summed_up_whole() {
    let (sandbox, _orchestrator, _edge, api) = Sandbox::started().await;
    api.create_environment("production", policy()).await;
    api.hold("production").await.unwrap();
    let content = sandbox.put_content(&[("index.html", "late")]).await;
    let draft = api.create_release(content, "late", &[]).await;
    let id = api.deploy("production", &draft).await;
    sandbox.act(OFTEN).await;
    let mut pages = vec![api.ledger(&id, 200, "").await.unwrap()];
    while let Some(token) = pages.last().map(|page| page.next_page_token.clone())
        && !token.is_empty()
    {
        pages.push(api.ledger(&id, 200, &token).await.unwrap());
    }
    // The first also says what keeps it besides.
    let lengths: Vec<_> = pages.iter().map(|page| page.blockers.len()).collect();
    assert_eq!(lengths, [201, 200, 51]);
    let all: Vec<_> = pages.iter().rev().flat_map(|page| &page.blockers).collect();
    let was = |one: &&&pb::Blocker| one.kind() == Kind::Provider;
    let said = all.iter().filter(was).map(|one| one.message.clone());
    let numbers = (1..=450).map(|number| number.to_string());
    assert_eq!(said.collect::<Vec<_>>(), numbers.collect::<Vec<_>>());
    let stand = all.iter().skip(450).map(|one| one.kind());
    assert_eq!(stand.collect::<Vec<_>>(), [Kind::Content, Kind::Hold]);

    let [first, later @ ..] = &*pages else {
        unreachable!("one was read");
    };
    let often = (Kind::Provider, 225, 0, 450);
    assert_eq!(told(&first.waited).first(), Some(&often));
    assert_eq!(first.waited.len(), 2, "a hold besides has no time");
    for page in later {
        assert!(page.waited.is_empty(), "{:?}", page.waited);
        assert_eq!((page.lead_time, page.unblocked), (None, None));
    }
    assert_eq!(whole(&api, &id).await.blockers, first.blockers);

    let refused = |answer: Result<_, tonic::Status>| fields(&answer.unwrap_err());
    assert_eq!(refused(api.ledger(&id, 1001, "").await), ["page_size"]);
    let token = &first.next_page_token;
    assert_eq!(refused(api.ledger(OTHER, 0, token).await), ["page_token"]);
}
