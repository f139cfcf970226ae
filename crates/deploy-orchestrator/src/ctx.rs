//! What every command is given: the database, the blobs, the configuration and the nudges.
//!
//! A command owns one [`Tx`]. It locks its lane first, then reads the database's clock once
//! ([`Tx::read_clock`]); what it decides and writes uses that moment alone.

use std::{
    ops::{Deref, DerefMut},
    sync::Arc,
    time::Duration,
};

use candlefish_blobs::Store;
use candlefish_clock::Moment;
use jiff_sqlx::{Timestamp, ToSqlx};
use sqlx::{PgConnection, PgPool, Postgres, Transaction};
use tokio::sync::Notify;

use crate::{Config, observed::Observed};

/// Shared by all commands of one process; cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Ctx {
    pub(crate) pool: PgPool,
    pub(crate) config: Arc<Config>,
    pub(crate) blobs: Arc<dyn Store>,
    pub(crate) nudges: Nudges,
}

/// Wake-ups within this process. Each only makes prompt what a poll would find as well.
#[derive(Clone, Debug)]
pub(crate) struct Nudges {
    /// The outbox has new facts.
    pub(crate) relay: candlefish_messaging::Nudge,
    /// A step may be due.
    pub(crate) steps: Arc<Notify>,
    /// A route changed.
    pub(crate) routes: Arc<Notify>,
    /// A deployment changed.
    pub(crate) watchers: Arc<Notify>,
    /// The other replicas may want to look.
    pub(crate) poke: Arc<Notify>,
}

impl Nudges {
    /// Wakes the loops of this process.
    pub(crate) fn wake(&self) {
        self.steps.notify_waiters();
        self.routes.notify_waiters();
        self.watchers.notify_waiters();
    }
}

impl Ctx {
    /// Opens a transaction.
    pub(crate) async fn begin(&self) -> Result<Tx, sqlx::Error> {
        Ok(Tx {
            inner: self.pool.begin().await?,
            now: None,
            observed: Vec::new(),
        })
    }

    /// The database's clock, outside any transaction.
    pub(crate) async fn now(&self) -> Result<Moment, sqlx::Error> {
        let at = sqlx::query_scalar!(r#"SELECT clock() AS "at!: Timestamp""#)
            .fetch_one(&self.pool)
            .await?;
        Ok(read(at))
    }

    /// Wakes everything that a committed change may concern.
    pub(crate) fn nudge(&self) {
        self.nudges.relay.nudge();
        self.nudges.wake();
        self.nudges.poke.notify_one();
    }

    /// Commits and wakes what the change may concern.
    pub(crate) async fn commit(&self, tx: Tx) -> Result<(), sqlx::Error> {
        tx.inner.commit().await?;
        tx.observed.into_iter().for_each(Observed::count);
        self.nudge();
        Ok(())
    }
}

/// A moment as a column takes it.
pub(crate) fn stored(moment: Moment) -> Timestamp {
    moment.timestamp().to_sqlx()
}

/// A moment from a column.
pub(crate) fn read(column: Timestamp) -> Moment {
    Moment::from_database(column.to_jiff())
}

/// A moment as messages carry it.
pub(crate) fn shown(moment: Moment) -> prost_types::Timestamp {
    let at = moment.timestamp();
    prost_types::Timestamp {
        seconds: at.as_second(),
        nanos: at.subsec_nanosecond(),
    }
}

/// A duration as messages carry it.
pub(crate) fn shown_duration(duration: Duration) -> prost_types::Duration {
    prost_types::Duration {
        seconds: i64::try_from(duration.as_secs()).unwrap_or(i64::MAX),
        nanos: i32::try_from(duration.subsec_nanos()).expect("below a second fits"),
    }
}

/// One transaction and the moment it read.
#[derive(Debug)]
pub(crate) struct Tx {
    inner: Transaction<'static, Postgres>,
    now: Option<Moment>,
    observed: Vec<Observed>,
}

impl Tx {
    /// Reads the database's clock, once; later calls answer the same moment.
    pub(crate) async fn read_clock(&mut self) -> Result<Moment, sqlx::Error> {
        if let Some(now) = self.now {
            return Ok(now);
        }
        let at = sqlx::query_scalar!(r#"SELECT clock() AS "at!: Timestamp""#)
            .fetch_one(&mut *self.inner)
            .await?;
        let now = read(at);
        self.now = Some(now);
        Ok(now)
    }

    /// The clock, as the statement that locked the lane read it.
    pub(crate) fn set_clock(&mut self, now: Moment) {
        self.now.get_or_insert(now);
    }

    /// Counts for `/metrics` once this is committed.
    pub(crate) fn observe(&mut self, what: Observed) {
        self.observed.push(what);
    }

    /// The moment that [`Tx::read_clock`] read.
    pub(crate) fn now(&self) -> Moment {
        self.now
            .expect("a command reads the clock after its lane's lock, before it decides")
    }
}

impl Deref for Tx {
    type Target = PgConnection;

    fn deref(&self) -> &PgConnection {
        &self.inner
    }
}

impl DerefMut for Tx {
    fn deref_mut(&mut self) -> &mut PgConnection {
        &mut self.inner
    }
}
