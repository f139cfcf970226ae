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
use candlefish_ids::DeploymentId;
use candlefish_messaging::{Fact, outbox};
use candlefish_runtime::{
    database,
    refusal::{Code, Refusal},
};
use jiff_sqlx::{Timestamp, ToSqlx};
use sqlx::{PgConnection, PgPool, Postgres, Transaction};
use tokio::{sync::Notify, time::Instant};

use crate::{
    Config, deployment,
    observed::Observed,
    step::{shared::Shared, worker::chain},
};

/// Shared by all commands of one process; cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Ctx {
    pub(crate) pool: PgPool,
    pub(crate) config: Arc<Config>,
    pub(crate) blobs: Arc<dyn Store>,
    pub(crate) nudges: Nudges,
    /// Nothing is committed: see [`Ctx::rehearsing`].
    pub(crate) rehearses: bool,
}

/// Wake-ups within this process. Each only makes prompt what a poll would find as well. The default ones
/// wake nobody until somebody waits for their clones.
#[derive(Clone, Debug, Default)]
pub(crate) struct Nudges {
    /// The outbox has new facts.
    pub(crate) relay: candlefish_messaging::Nudge,
    /// A step may be due.
    pub(crate) steps: Arc<Notify>,
    /// Lanes may choose again: the sweep looks at once.
    pub(crate) lanes: Arc<Notify>,
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
    /// The same for calls that are only rehearsed: every transaction is taken back where it would be
    /// committed, nothing of it is counted, and nobody is woken. What acts outside of a transaction must
    /// ask [`Ctx::refuse_rehearsal`] first.
    #[must_use]
    pub(crate) fn rehearsing(&self) -> Self {
        Self {
            nudges: Nudges::default(),
            rehearses: true,
            ..self.clone()
        }
    }

    /// Refuses where a command is only rehearsed and would act outside of its transaction; `why` says
    /// how, as in `SealRelease counts …`.
    pub(crate) fn refuse_rehearsal(&self, why: &str) -> Result<(), Refusal> {
        if self.rehearses {
            let words = format!("{why}: it cannot be tried without being done");
            return Err(Refusal::new(Code::Unimplemented, "not-rehearsed", words));
        }
        Ok(())
    }

    /// Opens a transaction.
    pub(crate) async fn begin(&self) -> Result<Tx, sqlx::Error> {
        Ok(Tx {
            inner: database::begin(&self.pool).await?,
            begun: Instant::now(),
            now: None,
            observed: Vec::new(),
            facts: Vec::new(),
            lines: Vec::new(),
            moves_traffic: false,
            shared: None,
        })
    }

    /// The database's clock, outside any transaction.
    pub(crate) async fn now(&self) -> Result<Moment, sqlx::Error> {
        let at = sqlx::query_scalar!(r#"SELECT clock() AS "at!: Timestamp""#)
            .fetch_one(&self.pool)
            .await?;
        Ok(read(at))
    }

    /// Writes what the transaction tells, commits, and wakes what the change may concern. Takes all of it
    /// back instead where it was only rehearsed.
    pub(crate) async fn commit(&self, mut tx: Tx) -> Result<(), CommitError> {
        let told = match tx.write_told().await {
            Ok(told) => told,
            Err(error) => {
                // At once: who goes on otherwise wants its locks. Where this fails, so did the session.
                drop(tx.abandon().await);
                return Err(error.into());
            }
        };
        if self.rehearses {
            return tx.abandon().await.map_err(CommitError::Commit);
        }
        tx.inner.commit().await.map_err(CommitError::Commit)?;
        tx.observed.into_iter().for_each(Observed::count);
        if told {
            self.nudges.relay.nudge();
        }
        if tx.moves_traffic {
            self.nudges.routes.notify_waiters();
        }
        self.nudges.steps.notify_waiters();
        self.nudges.watchers.notify_waiters();
        self.nudges.poke.notify_one();
        Ok(())
    }
}

/// Why a transaction did not commit. Nothing of it is left, unless the database died while it said
/// so.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CommitError {
    #[error("what the transaction tells was not written")]
    Tell(#[from] outbox::Error),
    #[error("the transaction did not commit")]
    Commit(#[source] sqlx::Error),
}

impl CommitError {
    /// The database's own error, when it is one.
    pub(crate) const fn sql(&self) -> Option<&sqlx::Error> {
        match self {
            Self::Tell(outbox::Error::Database(error)) | Self::Commit(error) => Some(error),
            Self::Tell(_) => None,
        }
    }
}

impl From<CommitError> for Refusal {
    fn from(error: CommitError) -> Self {
        match error.sql() {
            Some(sql) => database::refuse("commit a transaction", sql),
            None => Self::new(Code::Internal, "internal", chain(&error)),
        }
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
    /// By our own clock, before the database's was read.
    begun: Instant,
    now: Option<Moment>,
    observed: Vec<Observed>,
    /// What became true, for the outbox.
    facts: Vec<Fact>,
    lines: Vec<Line>,
    moves_traffic: bool,
    /// Where turns of several lanes share it: what they keep in memory.
    shared: Option<Shared>,
}

/// How much a transaction had to tell at some place in it.
#[derive(Debug)]
pub(crate) struct Mark {
    observed: usize,
    facts: usize,
    lines: usize,
    moves_traffic: bool,
}

/// A line of a deployment's log.
#[derive(Debug)]
pub(crate) struct Line {
    pub(crate) deployment: DeploymentId,
    /// The step that it is about; 0 for the deployment as a whole.
    pub(crate) step_ord: i32,
    pub(crate) words: String,
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

    /// A place that [`Tx::go_back`] goes back to.
    pub(crate) async fn mark(&mut self) -> Result<Mark, sqlx::Error> {
        sqlx::query("SAVEPOINT mark")
            .execute(&mut *self.inner)
            .await?;
        Ok(Mark {
            observed: self.observed.len(),
            facts: self.facts.len(),
            lines: self.lines.len(),
            moves_traffic: self.moves_traffic,
        })
    }

    /// Undoes what was written and told since the newest mark, also after a statement that failed.
    pub(crate) async fn go_back(&mut self, mark: Mark) -> Result<(), sqlx::Error> {
        sqlx::query("ROLLBACK TO SAVEPOINT mark")
            .execute(&mut *self.inner)
            .await?;
        self.observed.truncate(mark.observed);
        self.facts.truncate(mark.facts);
        self.lines.truncate(mark.lines);
        self.moves_traffic = mark.moves_traffic;
        Ok(())
    }

    /// Turns of several lanes share it from here on, until [`Tx::unshare`].
    pub(crate) fn share(&mut self, shared: Shared) {
        self.shared = Some(shared);
    }

    /// Nothing is kept in memory any more: what was is the caller's to write.
    pub(crate) fn unshare(&mut self) -> Option<Shared> {
        self.shared.take()
    }

    /// What turns that share it keep in memory; none where there is nothing to keep of this deployment.
    pub(crate) fn shared_of(&mut self, deployment: DeploymentId) -> Option<&mut Shared> {
        self.shared.as_mut().filter(|shared| shared.has(deployment))
    }

    /// Shows that its session lives, and with that what it has locked. The server ends a session that asks
    /// nothing in a transaction for ten seconds: this counts as a question.
    pub(crate) async fn prove(&mut self) -> Result<(), sqlx::Error> {
        sqlx::query("SELECT 1").execute(&mut *self.inner).await?;
        Ok(())
    }

    /// Ends it at once, as if nothing had been done in it.
    pub(crate) async fn abandon(self) -> Result<(), sqlx::Error> {
        self.inner.rollback().await
    }

    /// Counts for `/metrics`, or is said in the log, once this is committed.
    pub(crate) fn observe(&mut self, what: Observed) {
        self.observed.push(what);
    }

    /// Tells the world once this is committed: written with all other facts of the transaction, by
    /// one statement, right before it ends.
    pub(crate) fn tell(&mut self, fact: Fact) {
        self.facts.push(fact);
    }

    /// Adds a line to a deployment's log, written as facts are.
    pub(crate) fn log(
        &mut self,
        deployment: DeploymentId,
        step_ord: i32,
        words: impl Into<String>,
    ) {
        self.lines.push(Line {
            deployment,
            step_ord,
            words: words.into(),
        });
    }

    /// A route changes with this transaction: edges are told once it is committed.
    pub(crate) const fn moves_traffic(&mut self) {
        self.moves_traffic = true;
    }

    /// Writes facts and lines; true when there were facts.
    async fn write_told(&mut self) -> Result<bool, outbox::Error> {
        if !self.lines.is_empty() {
            let lines = std::mem::take(&mut self.lines);
            let now = self.now();
            deployment::store::log(self, now, &lines).await?;
        }
        if self.facts.is_empty() {
            return Ok(false);
        }
        let facts = std::mem::take(&mut self.facts);
        let now = self.now();
        outbox::append(self, now, facts).await?;
        Ok(true)
    }

    /// When it began, by our own clock: what is promised from then on ends by it no later than by the
    /// moment that was read.
    pub(crate) const fn begun(&self) -> Instant {
        self.begun
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
