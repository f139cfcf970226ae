//! Every SQL string that shows deliveries.

use candlefish_clock::Moment;
use candlefish_ids::DeliveryId;
use jiff_sqlx::Timestamp;
use sqlx::PgConnection;

use crate::ctx::read;

/// What is known of a delivery as a whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::trigger) struct Noted {
    pub(in crate::trigger) id: DeliveryId,
    /// Empty while only the gateway knows of it.
    pub(in crate::trigger) event: String,
    pub(in crate::trigger) received_at: Moment,
    /// None while it is tried again.
    pub(in crate::trigger) decided_at: Option<Moment>,
    /// What became of it, or what went wrong at the last try.
    pub(in crate::trigger) note: String,
}

/// The delivery; none when it never came here, or is forgotten.
pub(in crate::trigger) async fn find_noted(
    conn: &mut PgConnection,
    id: DeliveryId,
) -> Result<Option<Noted>, sqlx::Error> {
    let row = sqlx::query!(
        r#"SELECT event, received_at AS "received_at: Timestamp", done_at AS "done_at: Timestamp", note
           FROM delivery WHERE id = $1"#,
        id.uuid()
    )
    .fetch_optional(conn)
    .await?;
    Ok(row.map(|row| Noted {
        id,
        event: row.event,
        received_at: read(row.received_at),
        decided_at: row.done_at.map(read),
        note: row.note,
    }))
}
