//! What a service offers about its own events, for its `FeedService`: where it stands, and events
//! again from a number on.

use candlefish_proto::event::{Envelope, HeadResponse, ReplayResponse};
use prost::Message;
use sqlx::PgConnection;

use crate::epoch;

/// The most events of one replay.
pub const REPLAY_LIMIT: i32 = 1000;

/// Why a feed cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The database.
    #[error("read the feed")]
    Database(#[from] sqlx::Error),
    /// A peer names an epoch that it cannot know.
    #[error("epoch {asked} was never given: none is above {most} yet")]
    Ahead {
        /// What it named.
        asked: i32,
        /// The greatest that can be known now.
        most: i32,
    },
    /// A row.
    #[error("the envelope of event {epoch}:{seq} is broken")]
    Envelope {
        /// Its epoch.
        epoch: i32,
        /// Its number.
        seq: i64,
        /// Why.
        #[source]
        source: prost::DecodeError,
    },
}

/// Where the feed of `source` stands. Numbers that were stamped count, published or not: the bus
/// may be down for long.
pub async fn head(conn: &mut PgConnection, source: &str) -> Result<HeadResponse, Error> {
    let epoch = epoch::current(&mut *conn).await?;
    let seq = sqlx::query_scalar!(
        "SELECT next_seq - 1 AS \"seq!\" FROM relay WHERE epoch = $1",
        epoch
    )
    .fetch_optional(conn)
    .await?
    .unwrap_or(0);
    Ok(HeadResponse {
        source: source.to_owned(),
        epoch,
        seq,
    })
}

/// Events from a number on, dense, at most `limit` (1 to 1000). A caller that knows numbers which
/// were never given begins a new epoch: this database is older than what it published. An epoch that
/// nobody can know yet is refused.
///
/// Of an epoch that is over, the answer has what is kept; when that is nothing more, the one event with
/// which what is kept of later epochs begins, so that the caller goes on with it. Several epochs may have
/// begun since, and each has events of its own. What a restore undid was never told, as far as this
/// database knows, and an epoch of which nothing is kept any more leaves no trace: who was away for as
/// long as facts are kept cannot know that it missed nothing.
pub async fn replay(
    conn: &mut PgConnection,
    asked: i32,
    from_seq: i64,
    limit: i32,
) -> Result<ReplayResponse, Error> {
    let mut epoch = epoch::current(&mut *conn).await?;
    let (next, mut oldest_seq) = range(&mut *conn, epoch).await?;
    if asked > epoch {
        let most = epoch::most(&mut *conn).await?;
        if asked > most {
            return Err(Error::Ahead { asked, most });
        }
    }
    if asked > epoch || (asked == epoch && from_seq > next) {
        tracing::warn!(
            asked,
            from_seq,
            epoch,
            next,
            "a peer is ahead of us: beginning a new epoch"
        );
        // Above what the peer knows, so that it notices.
        epoch = epoch::bump(&mut *conn, asked).await?;
        (_, oldest_seq) = range(&mut *conn, epoch).await?;
    }
    // What an epoch before told is told as long as it is kept: nobody who missed its end is at a loss.
    let mut events = if asked <= epoch {
        page(
            &mut *conn,
            asked,
            from_seq,
            i64::from(limit.clamp(1, REPLAY_LIMIT)),
        )
        .await?
    } else {
        Vec::new()
    };
    if events.is_empty() && asked < epoch {
        events.extend(first_after(conn, asked).await?);
    }
    Ok(ReplayResponse {
        epoch,
        events,
        oldest_seq,
    })
}

/// The number that is given next, and the oldest of an epoch that is kept: the same when none is.
async fn range(conn: &mut PgConnection, epoch: i32) -> Result<(i64, i64), sqlx::Error> {
    let row = sqlx::query!(
        r#"SELECT next_seq, coalesce((SELECT min(seq) FROM outbox WHERE epoch = $1), next_seq)
               AS "oldest_seq!"
           FROM relay"#,
        epoch
    )
    .fetch_one(conn)
    .await?;
    Ok((row.next_seq, row.oldest_seq))
}

/// Stamped events of one epoch from `from_seq` on, in order.
pub(crate) async fn page(
    conn: &mut PgConnection,
    epoch: i32,
    from_seq: i64,
    limit: i64,
) -> Result<Vec<Envelope>, Error> {
    let rows = sqlx::query!(
        r#"SELECT seq AS "seq!", envelope FROM outbox
           WHERE epoch = $1 AND seq >= $2 ORDER BY seq LIMIT $3"#,
        epoch,
        from_seq,
        limit
    )
    .fetch_all(conn)
    .await?;
    rows.into_iter()
        .map(|row| stamped(epoch, row.seq, &row.envelope))
        .collect()
}

/// The first event that is kept of the epochs after one.
async fn first_after(conn: &mut PgConnection, epoch: i32) -> Result<Option<Envelope>, Error> {
    // The last condition is the one of the index.
    let row = sqlx::query!(
        r#"SELECT epoch AS "epoch!", seq AS "seq!", envelope FROM outbox
           WHERE epoch > $1 AND seq IS NOT NULL ORDER BY epoch, seq LIMIT 1"#,
        epoch
    )
    .fetch_optional(conn)
    .await?;
    row.map(|row| stamped(row.epoch, row.seq, &row.envelope))
        .transpose()
}

fn stamped(epoch: i32, seq: i64, encoded: &[u8]) -> Result<Envelope, Error> {
    let envelope =
        Envelope::decode(encoded).map_err(|source| Error::Envelope { epoch, seq, source })?;
    Ok(Envelope {
        epoch,
        seq,
        ..envelope
    })
}
