//! The events of each deployment: one for each version, one that is terminal, in the order in which
//! they happened, and all of them handed to the bus.

use std::collections::BTreeMap;

use candlefish_ids::DeploymentId;
use candlefish_proto::{
    deploy::{DeploymentChanged, deployment::State},
    event::Envelope,
};
use prost::Message;
use sqlx::{PgConnection, Row};

use super::Fault;

const ENDED: &str = "deploy.deployment.ended.v1";

/// What a deployment's row says of its own history.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Told {
    state: String,
    version: i32,
    ended: bool,
}

/// One event of a deployment.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Event {
    kind: String,
    version: i32,
    /// Epoch and number; none before it is numbered.
    seq: Option<(i32, i64)>,
    /// The state that it tells.
    state: String,
}

pub(super) async fn judge(connection: &mut PgConnection) -> Vec<Fault> {
    let mut faults = relay(connection).await;
    let terminal = terminal(connection).await;
    let mut events = events(connection).await;
    for (id, told) in deployments(connection).await {
        let own = events.remove(&id).unwrap_or_default();
        let rows = terminal.get(&id).copied().unwrap_or(0);
        faults.extend(judge_one(&id, &told, &own, rows));
    }
    for id in events.keys() {
        faults.push(("an event is of a deployment that there is", id.clone()));
    }
    faults
}

fn judge_one(id: &str, told: &Told, events: &[Event], terminal: i64) -> Vec<Fault> {
    let mut faults = Vec::new();
    let versions: Vec<i32> = events.iter().map(|event| event.version).collect();
    if versions.iter().copied().ne(1..=told.version) {
        let words = format!(
            "{id} is at version {}, events of {versions:?}",
            told.version
        );
        faults.push(("each version of a deployment has one event", words));
    }
    let ends = events.iter().filter(|event| event.kind == ENDED).count();
    let wanted = usize::from(told.ended);
    if ends != wanted || terminal != i64::from(told.ended) {
        let words = format!(
            "{id} is {}: {ends} ended events, {terminal} terminal rows",
            told.state
        );
        faults.push(("exactly one terminal event for each that ended", words));
    }
    if let Some(last) = events.last()
        && last.state != told.state
    {
        let words = format!(
            "{id} is {}, its last event tells {}",
            told.state, last.state
        );
        faults.push(("the last event tells how it ended", words));
    }
    if !events.iter().map(|event| event.seq).is_sorted() {
        faults.push(("events are numbered as they happened", id.to_owned()));
    }
    faults
}

/// Every event is numbered without a gap, and published.
async fn relay(connection: &mut PgConnection) -> Vec<Fault> {
    let rows = sqlx::query(
        "SELECT 'every event is numbered, densely',
                format('epoch %s: %s events numbered %s to %s', epoch, count(*), min(seq), max(seq))
         FROM deploy.outbox GROUP BY epoch
         HAVING epoch IS NULL OR max(seq) - min(seq) + 1 <> count(*)
         UNION ALL
         SELECT 'every event is published',
                format('published up to %s, the next number is %s', published_upto, next_seq)
         FROM deploy.relay WHERE published_upto <> next_seq - 1",
    )
    .fetch_all(connection)
    .await
    .expect("the outbox is read");
    rows.iter()
        .map(|row| match row.get::<&str, _>(0) {
            "every event is published" => ("every event is published", row.get(1)),
            _ => ("every event is numbered, densely", row.get(1)),
        })
        .collect()
}

async fn deployments(connection: &mut PgConnection) -> Vec<(String, Told)> {
    let rows =
        sqlx::query("SELECT id, state, version, finished_at IS NOT NULL FROM deploy.deployment")
            .fetch_all(connection)
            .await
            .expect("the deployments are read");
    rows.iter()
        .map(|row| {
            let told = Told {
                state: row.get(1),
                version: row.get(2),
                ended: row.get(3),
            };
            (DeploymentId::from_uuid(row.get(0)).to_string(), told)
        })
        .collect()
}

async fn terminal(connection: &mut PgConnection) -> BTreeMap<String, i64> {
    let rows = sqlx::query("SELECT entity, count(*) FROM deploy.terminal GROUP BY entity")
        .fetch_all(connection)
        .await
        .expect("the terminal facts are read");
    rows.iter().map(|row| (row.get(0), row.get(1))).collect()
}

/// The events of each deployment, by version.
async fn events(connection: &mut PgConnection) -> BTreeMap<String, Vec<Event>> {
    let rows = sqlx::query(
        "SELECT entity, event_type, entity_version, epoch, seq, envelope FROM deploy.outbox
         WHERE entity LIKE 'dep\\_%' ORDER BY entity_version, id",
    )
    .fetch_all(connection)
    .await
    .expect("the events are read");
    let mut all: BTreeMap<String, Vec<Event>> = BTreeMap::new();
    for row in &rows {
        let epoch: Option<i32> = row.get(3);
        let event = Event {
            kind: row.get(1),
            version: row.get(2),
            seq: epoch.zip(row.get(4)),
            state: state_in(row.get(5)),
        };
        all.entry(row.get(0)).or_default().push(event);
    }
    all
}

/// The state that an envelope tells, as the database writes it.
fn state_in(envelope: &[u8]) -> String {
    let read = || {
        let envelope = Envelope::decode(envelope).ok()?;
        let body = envelope.body?;
        let changed = DeploymentChanged::decode(body.value.as_slice()).ok()?;
        let state = State::try_from(changed.deployment?.state).ok()?;
        Some(state.as_str_name().to_lowercase())
    };
    let word = read().unwrap_or_else(|| "unreadable".to_owned());
    word.trim_start_matches("state_").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(version: i32, kind: &str, state: &str) -> Event {
        Event {
            kind: kind.to_owned(),
            version,
            seq: Some((1, i64::from(version) * 10)),
            state: state.to_owned(),
        }
    }

    fn whole() -> (Told, Vec<Event>) {
        let told = Told {
            state: "succeeded".to_owned(),
            version: 3,
            ended: true,
        };
        let events = vec![
            event(1, "deploy.deployment.created.v1", "pending"),
            event(2, "deploy.deployment.granted.v1", "running"),
            event(3, ENDED, "succeeded"),
        ];
        (told, events)
    }

    fn claims(told: &Told, events: &[Event], terminal: i64) -> Vec<&'static str> {
        let faults = judge_one("dep_1", told, events, terminal);
        faults.into_iter().map(|(claim, _)| claim).collect()
    }

    #[test]
    fn a_whole_story_has_no_fault() {
        let (told, events) = whole();
        assert_eq!(claims(&told, &events, 1), Vec::<&str>::new());
    }

    #[test]
    fn a_missing_event_and_a_second_end_are_faults() {
        let (told, mut events) = whole();
        events.remove(1);
        assert_eq!(
            claims(&told, &events, 1),
            ["each version of a deployment has one event"]
        );
        let (told, mut events) = whole();
        events[1] = event(2, ENDED, "failed");
        assert_eq!(
            claims(&told, &events, 1),
            ["exactly one terminal event for each that ended"]
        );
        let (told, events) = whole();
        assert_eq!(
            claims(&told, &events, 0),
            ["exactly one terminal event for each that ended"]
        );
    }

    #[test]
    fn an_end_that_tells_another_state_is_a_fault() {
        let (told, mut events) = whole();
        events[2].state = "failed".to_owned();
        assert_eq!(
            claims(&told, &events, 1),
            ["the last event tells how it ended"]
        );
    }

    #[test]
    fn numbers_that_fall_are_a_fault() {
        let (told, mut events) = whole();
        events[1].seq = Some((1, 99));
        assert_eq!(
            claims(&told, &events, 1),
            ["events are numbered as they happened"]
        );
    }
}
