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
        event_type: &'static str,
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
    let at = now.timestamp().to_sqlx();
    for fact in facts.iter().filter(|fact| fact.terminal) {
        let first = sqlx::query!(
            "INSERT INTO terminal (entity, event_type, at) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING",
            fact.entity,
            fact.event_type,
            at as _,
        )
        .execute(&mut *conn)
        .await?
        .rows_affected();
        if first == 0 {
            return Err(Error::TerminalTwice {
                entity: fact.entity.clone(),
                event_type: fact.event_type,
            });
        }
    }
    let mut rows = Rows::default();
    for fact in facts {
        rows.push(now, fact)?;
    }
    sqlx::query!(
        "INSERT INTO outbox (event_type, entity, entity_version, created_at, envelope)
         SELECT t, e, v, $5, x FROM unnest($1::text[], $2::text[], $3::int[], $4::bytea[])
             WITH ORDINALITY AS f (t, e, v, x, n) ORDER BY n",
        &rows.types,
        &rows.entities,
        &rows.versions,
        &rows.envelopes,
        at as _,
    )
    .execute(conn)
    .await?;
    Ok(())
}

#[derive(Debug, Default)]
struct Rows {
    types: Vec<String>,
    entities: Vec<String>,
    versions: Vec<i32>,
    envelopes: Vec<Vec<u8>>,
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
        self.types.push(fact.event_type.to_owned());
        self.entities.push(fact.entity.clone());
        self.versions.push(fact.entity_version);
        self.envelopes.push(envelope(now, fact).encode_to_vec());
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
