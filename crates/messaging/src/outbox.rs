//! Writes facts in the transaction of the act that made them true.

use candlefish_clock::Moment;
use candlefish_ids::EventId;
use candlefish_proto::event::Envelope;
use jiff_sqlx::ToSqlx;
use prost::Message;
use sqlx::PgConnection;

/// The largest fact; what is larger travels by reference.
pub const MAX_BODY_BYTES: usize = 256 * 1024;

/// Something that became true.
#[derive(Debug, Clone, PartialEq)]
pub struct Fact {
    /// The id of what it is about, as text (`dep_…`).
    pub entity: String,
    /// The entity's version after the change.
    pub entity_version: i32,
    /// `<area>.<noun>.<past verb>.v1`; also the subject.
    pub event_type: &'static str,
    /// The slug of the site; empty when it concerns none.
    pub site: String,
    /// The slug of the environment; empty when it concerns none.
    pub environment: String,
    /// The principal who caused it, by name, or `system`.
    pub actor: String,
    /// The trace context of the cause; may be empty.
    pub traceparent: String,
    /// The last fact of its entity that changes its state: there is exactly one.
    pub terminal: bool,
    /// The entity after the change.
    pub body: prost_types::Any,
}

/// Why facts cannot be written. The transaction must be given up.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The entity ended before.
    #[error("{entity} has had its terminal event: {event_type} would be the second")]
    TerminalTwice {
        /// The entity.
        entity: String,
        /// The event that was refused.
        event_type: String,
    },
    /// The body.
    #[error("the body of {event_type} has {bytes} bytes, more than {MAX_BODY_BYTES}")]
    TooLarge {
        /// The event.
        event_type: &'static str,
        /// Its size.
        bytes: usize,
    },
    /// The database.
    #[error("write facts to the outbox")]
    Database(#[from] sqlx::Error),
}

/// Writes facts, in order. `now` is the transaction's moment. The event's source is the part of
/// its type before the first dot.
pub async fn append(conn: &mut PgConnection, now: Moment, facts: Vec<Fact>) -> Result<(), Error> {
    if facts.is_empty() {
        return Ok(());
    }
    let mut rows = Rows::default();
    for fact in facts {
        rows.push(now, fact)?;
    }
    let first = sqlx::query_scalar!(
        r#"WITH ended AS (
               INSERT INTO terminal (entity, event_type, at)
               SELECT e, t, $7 FROM unnest($1::text[], $2::text[]) AS ended (e, t)
               ON CONFLICT DO NOTHING RETURNING entity),
           written AS (
               INSERT INTO outbox (event_type, entity, entity_version, created_at, envelope)
               SELECT t, e, v, $7, x
               FROM unnest($3::text[], $4::text[], $5::int[], $6::bytea[])
                   WITH ORDINALITY AS f (t, e, v, x, n) ORDER BY n)
           SELECT entity AS "entity!" FROM ended"#,
        &rows.ended,
        &rows.ended_by,
        &rows.types,
        &rows.entities,
        &rows.versions,
        &rows.envelopes,
        now.timestamp().to_sqlx() as _,
    )
    .fetch_all(conn)
    .await?;
    rows.all_ended_once(&first)
}

#[derive(Debug, Default)]
struct Rows {
    types: Vec<String>,
    entities: Vec<String>,
    versions: Vec<i32>,
    envelopes: Vec<Vec<u8>>,
    /// What has its terminal fact among these, and which.
    ended: Vec<String>,
    ended_by: Vec<String>,
}

impl Rows {
    fn push(&mut self, now: Moment, fact: Fact) -> Result<(), Error> {
        let bytes = fact.body.encoded_len();
        if bytes > MAX_BODY_BYTES {
            return Err(Error::TooLarge {
                event_type: fact.event_type,
                bytes,
            });
        }
        if fact.terminal {
            self.ended.push(fact.entity.clone());
            self.ended_by.push(fact.event_type.to_owned());
        }
        self.types.push(fact.event_type.to_owned());
        self.entities.push(fact.entity.clone());
        self.versions.push(fact.entity_version);
        self.envelopes.push(envelope(now, fact).encode_to_vec());
        Ok(())
    }

    /// Refuses a second terminal fact: only those in `first` had none before.
    fn all_ended_once(&self, first: &[String]) -> Result<(), Error> {
        let mut left: Vec<&str> = first.iter().map(String::as_str).collect();
        for (entity, event_type) in self.ended.iter().zip(&self.ended_by) {
            let Some(place) = left.iter().position(|one| one == entity) else {
                return Err(Error::TerminalTwice {
                    entity: entity.clone(),
                    event_type: event_type.clone(),
                });
            };
            left.swap_remove(place);
        }
        Ok(())
    }
}

fn envelope(now: Moment, fact: Fact) -> Envelope {
    let at = now.timestamp();
    Envelope {
        id: EventId::new().to_string(),
        source: fact
            .event_type
            .split('.')
            .next()
            .unwrap_or_default()
            .to_owned(),
        epoch: 0,
        seq: 0,
        r#type: fact.event_type.to_owned(),
        entity: fact.entity,
        entity_version: fact.entity_version,
        site: fact.site,
        environment: fact.environment,
        time: Some(prost_types::Timestamp {
            seconds: at.as_second(),
            nanos: at.subsec_nanosecond(),
        }),
        actor: fact.actor,
        traceparent: fact.traceparent,
        body: Some(fact.body),
    }
}
