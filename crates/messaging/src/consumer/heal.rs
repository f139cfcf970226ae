//! What the bus cannot be trusted with: finding out that it lost something, and getting it.

use candlefish_proto::event::{Envelope, HeadResponse, ReplayRequest};
use prost::Message;
use sqlx::{Connection, PgConnection};
use tokio_util::sync::CancellationToken;

use super::{
    Consumer, Failure, Handler, Owner, OwnerError,
    apply::{Incoming, try_apply},
    gap::Look,
    tries::Tries,
};
use crate::{
    dead_letter,
    inbox::{self, Place},
};

/// Events of one request.
const PAGE: i32 = 500;

/// Why a look at the owner did not help. It is repeated at the next one.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error(transparent)]
    Owner(#[from] OwnerError),
    #[error("ask the inbox")]
    Database(#[from] sqlx::Error),
    #[error("rebuild from the owner's lists")]
    Rebuild(#[source] Failure),
}

impl<H: Handler, O: Owner> Consumer<H, O> {
    /// Compares our place with the owner's head; replays or rebuilds what is missing. Then tries
    /// dead letters that a person sent back. Answers whether the bus is deaf. A stop ends it between two
    /// transactions: what is still missing is found at the next start.
    pub(super) async fn heal(&mut self, stopping: &CancellationToken) -> Result<bool, Error> {
        self.replay_letters().await?;
        let place = self.place().await?;
        let head = self.owner.head().await?;
        if head.epoch > place.epoch {
            self.rebuild(place, head).await?;
            return Ok(false);
        }
        if head.epoch < place.epoch || place.upto > head.seq {
            // We know numbers that the owner never gave; asking for more makes it notice.
            let asked = ReplayRequest {
                epoch: place.epoch,
                from_seq: place.upto + 1,
                limit: 1,
            };
            self.owner.replay(asked).await?;
            return Ok(false);
        }
        match self.gap.look(place.upto, head.seq) {
            Look::Level => Ok(false),
            Look::New => {
                // On its way, perhaps: look again soon.
                let soon = tokio::time::Instant::now() + self.config.gap_grace;
                self.heal_at = self.heal_at.min(soon);
                Ok(false)
            }
            Look::Stays { deaf } => {
                self.replay(place, head.seq, stopping).await?;
                let now = self.place().await?;
                // Of a new epoch all was read anew.
                if now.epoch == head.epoch {
                    self.gap.replayed(now.upto, head.seq);
                }
                Ok(deaf)
            }
        }
    }

    async fn place(&self) -> Result<Place, sqlx::Error> {
        let mut conn = self.pool.acquire().await?;
        inbox::find(&mut conn, self.config.name, self.config.source).await
    }

    /// Applies what the owner gives again; what failed before last, because it may take long and fail
    /// again. Ends with the page at which the database does not work.
    async fn replay(
        &mut self,
        from: Place,
        to: i64,
        stopping: &CancellationToken,
    ) -> Result<(), Error> {
        let mut next = from.upto + 1;
        let mut failed = Vec::new();
        while next <= to {
            let asked = ReplayRequest {
                epoch: from.epoch,
                from_seq: next,
                limit: PAGE,
            };
            let answer = self.owner.replay(asked).await?;
            if answer.epoch != from.epoch || answer.oldest_seq > next {
                let head = self.owner.head().await?;
                return self.rebuild(from, head).await;
            }
            let Some(last) = answer.events.last().map(|event| event.seq) else {
                break;
            };
            tracing::info!(
                consumer = self.config.name,
                from = next,
                upto = last,
                "replaying what the bus lost"
            );
            let (fresh, again): (Vec<_>, Vec<_>) = answer
                .events
                .into_iter()
                .partition(|event| self.tries.made(event) == 0);
            failed.extend(again);
            if !self.apply_pages(fresh, stopping).await {
                return Ok(());
            }
            next = last + 1;
        }
        failed.sort_by_key(|event| self.tries.made(event));
        self.apply_pages(failed, stopping).await;
        Ok(())
    }

    /// Applies replayed events, so many in a transaction; answers whether to go on.
    async fn apply_pages(&mut self, events: Vec<Envelope>, stopping: &CancellationToken) -> bool {
        let batch = self.config.batch.max(1);
        let mut events = events.into_iter().peekable();
        while events.peek().is_some() {
            let page: Vec<_> = events
                .by_ref()
                .take(batch)
                .map(|event| Incoming {
                    event,
                    message: None,
                })
                .collect();
            // Page after page would only wait for the database, and keep what the bus brings.
            if !self.apply_all(page).await || stopping.is_cancelled() {
                return false;
            }
        }
        true
    }

    /// Reads everything anew, then goes on from the head as it was before.
    async fn rebuild(&mut self, from: Place, head: HeadResponse) -> Result<(), Error> {
        if from.is_beginning() {
            tracing::info!(
                consumer = self.config.name,
                epoch = head.epoch,
                upto = head.seq,
                "reading everything from the owner, for the first time"
            );
        } else {
            tracing::warn!(
                consumer = self.config.name,
                from_epoch = from.epoch,
                epoch = head.epoch,
                upto = head.seq,
                "rebuilding from the owner"
            );
        }
        self.handler.rebuild().await.map_err(Error::Rebuild)?;
        let (name, source) = (self.config.name, self.config.source);
        let mut tx = self.pool.begin().await?;
        let now = inbox::lock(&mut tx, name, source).await?;
        // Another replica may have rebuilt meanwhile, and be further.
        if (now.epoch, now.upto) < (head.epoch, head.seq) {
            inbox::move_to(
                &mut tx,
                name,
                source,
                Place {
                    epoch: head.epoch,
                    upto: head.seq,
                },
            )
            .await?;
        }
        tx.commit().await?;
        self.tries = Tries::default();
        self.gap.close();
        self.count("rebuilt", 1);
        Ok(())
    }

    async fn replay_letters(&mut self) -> Result<(), Error> {
        loop {
            let mut tx = self.pool.begin().await?;
            let Some(letter) = dead_letter::next_replay(&mut tx, self.config.name).await? else {
                let waiting = dead_letter::count(&mut tx, self.config.name).await?;
                tx.commit().await?;
                metrics::gauge!(
                    "queue_depth", "queue" => format!("dead-letters-{}", self.config.name)
                )
                .set(f64::from(i32::try_from(waiting).unwrap_or(i32::MAX)));
                return Ok(());
            };
            let end = match Envelope::decode(&*letter.payload) {
                Ok(event) => self.try_letter(&mut tx, &event).await,
                Err(error) => Err(Failure::Park(error.to_string())),
            };
            let why = match end {
                Ok(()) => {
                    self.outages.applying.over();
                    None
                }
                Err(away @ Failure::Away(_)) => {
                    // It says nothing about the letter, which is tried again at the next look.
                    self.outages.applying.failed(&away);
                    return Ok(());
                }
                // Neither is there anything to compare it with, nor may it keep the letters behind it:
                // whoever sent it back reads what it met, and may send it back again.
                Err(Failure::Busy(words)) => Some(format!("the database is busy: {words}")),
                Err(failure) => Some(failure.to_string()),
            };
            dead_letter::replayed(&mut tx, letter.id, why.as_deref()).await?;
            tx.commit().await?;
        }
    }

    /// Applies a letter's event. What it began is undone when it fails, while the letter stays locked: in
    /// between nobody else tries it.
    async fn try_letter(&self, tx: &mut PgConnection, event: &Envelope) -> Result<(), Failure> {
        let mut inner = tx.begin().await?;
        let end = try_apply(&self.handler, &mut inner, event).await;
        if end.is_ok() {
            inner.commit().await?;
        } else {
            inner.rollback().await?;
        }
        end
    }
}
