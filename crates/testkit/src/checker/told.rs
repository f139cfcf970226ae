//! What others were told while the run went on, against what the database says: a follower of the
//! events gets each of them once and in order; the bus carries nothing that is not committed.

use std::collections::HashSet;

use candlefish_ids::DeploymentId;
use candlefish_proto::event::Envelope;
use prost::Message;
use sqlx::{PgConnection, Row};

use super::{Broken, Fault};

/// An event as somebody was told it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    pub epoch: i32,
    pub seq: i64,
    /// Its own id.
    pub id: String,
}

impl From<&Envelope> for Told {
    fn from(event: &Envelope) -> Self {
        Self {
            epoch: event.epoch,
            seq: event.seq,
            id: event.id.clone(),
        }
    }
}

/// Compares what a follower was told with the outbox from its first event on.
///
/// # Panics
///
/// When the database does not answer.
pub async fn told(url: &str, told: &[Told]) -> Broken {
    let Some(first) = told.first() else {
        return Broken::from([(
            CLAIM.to_owned(),
            vec!["no event was told at all".to_owned()],
        )]);
    };
    let rows = sqlx::query(
        "SELECT epoch, seq, envelope FROM deploy.outbox
         WHERE (epoch, seq) >= ($1, $2) ORDER BY epoch, seq",
    )
    .bind(first.epoch)
    .bind(first.seq)
    .fetch_all(&mut super::connect(url).await)
    .await
    .expect("the outbox is read");
    let kept: Vec<Told> = rows
        .iter()
        .map(|row| Told {
            epoch: row.get(0),
            seq: row.get(1),
            id: id_in(row.get(2)),
        })
        .collect();
    match compare(&kept, told) {
        Some(words) => Broken::from([(CLAIM.to_owned(), vec![words])]),
        None => Broken::new(),
    }
}

const CLAIM: &str = "a follower is told every event once, in order";

fn compare(kept: &[Told], told: &[Told]) -> Option<String> {
    let place = kept.iter().zip(told).position(|(kept, told)| kept != told);
    if let Some(place) = place {
        let (kept, told) = (kept.get(place), told.get(place));
        return Some(format!(
            "event {place} was told as {told:?}, it is {kept:?}"
        ));
    }
    (kept.len() != told.len()).then(|| format!("{} events, {} told", kept.len(), told.len()))
}

/// Looks whether what the bus carries is committed: the event under its number, and what it tells.
/// Answers the claim that does not hold, and why.
///
/// # Errors
///
/// When the database does not answer.
pub async fn is_committed(
    connection: &mut PgConnection,
    event: &Envelope,
) -> Result<Result<(), Fault>, sqlx::Error> {
    let id = event.entity.parse::<DeploymentId>();
    let row = sqlx::query(
        "SELECT (SELECT envelope FROM deploy.outbox WHERE epoch = $1 AND seq = $2),
                (SELECT version FROM deploy.deployment WHERE id = $3)",
    )
    .bind(event.epoch)
    .bind(event.seq)
    .bind(id.as_ref().ok().map(|id| id.uuid()))
    .fetch_one(connection)
    .await?;
    let kept = row.get::<Option<&[u8]>, _>(0).map(id_in);
    if kept.as_ref() != Some(&event.id) {
        let words = format!(
            "{} is {kept:?} under {}:{}",
            event.id, event.epoch, event.seq
        );
        return Ok(Err(("the bus carries only committed events", words)));
    }
    let version = row.get::<Option<i32>, _>(1).unwrap_or(0);
    if id.is_ok() && version < event.entity_version {
        let words = format!(
            "{} tells version {} of {}, which is at {version}",
            event.r#type, event.entity_version, event.entity
        );
        return Ok(Err(("an event is committed with what it tells", words)));
    }
    Ok(Ok(()))
}

/// Looks whether everything that the bus carried is there yet, under whatever number. Answers the claim
/// that does not hold, and why.
///
/// # Errors
///
/// When the database does not answer.
pub async fn is_kept(
    connection: &mut PgConnection,
    heard: &[Told],
) -> Result<Result<(), Fault>, sqlx::Error> {
    if heard.is_empty() {
        return Ok(Ok(()));
    }
    let rows = sqlx::query("SELECT envelope FROM deploy.outbox")
        .fetch_all(connection)
        .await?;
    let kept: HashSet<String> = rows.iter().map(|row| id_in(row.get(0))).collect();
    let lost = heard.iter().filter(|told| !kept.contains(&told.id));
    let lost: Vec<&str> = lost.map(|told| told.id.as_str()).collect();
    if lost.is_empty() {
        return Ok(Ok(()));
    }
    Ok(Err(("what the bus carried is never lost", lost.join(", "))))
}

fn id_in(envelope: &[u8]) -> String {
    Envelope::decode(envelope).map_or_else(|error| error.to_string(), |event| event.id)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbered(seqs: &[i64]) -> Vec<Told> {
        seqs.iter()
            .map(|seq| Told {
                epoch: 1,
                seq: *seq,
                id: format!("evt_{seq}"),
            })
            .collect()
    }

    #[test]
    fn what_was_told_must_be_what_is_kept() {
        let kept = numbered(&[4, 5, 6]);
        assert_eq!(compare(&kept, &numbered(&[4, 5, 6])), None);
        for told in [
            &[4, 5][..],
            &[4, 6],
            &[4, 5, 5, 6],
            &[5, 4, 6],
            &[4, 5, 6, 7],
        ] {
            assert!(compare(&kept, &numbered(told)).is_some(), "{told:?}");
        }
    }

    #[test]
    fn another_event_under_the_same_number_is_a_fault() {
        let kept = numbered(&[4, 5]);
        let mut told = kept.clone();
        told[1].id = "evt_other".to_owned();
        assert!(compare(&kept, &told).unwrap().contains("evt_other"));
    }
}
