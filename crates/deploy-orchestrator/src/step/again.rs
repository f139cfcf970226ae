//! The writes that end a turn, tried again while the database is away.
//!
//! Who cannot write still has the step: nobody else takes it before its lease runs out. So it tries
//! until then, by its own clock, for the database's is away as well; after that the step is its
//! successor's. No try needs the lease to be right: each asks for the claim under the lane's lock, so
//! that one too many writes nothing.

use std::{pin::Pin, time::Duration};

use tokio::{
    sync::{OwnedSemaphorePermit, oneshot},
    time::Instant,
};
use tracing::Instrument as _;

use super::{
    drive::{self, Asked, Claimed, Done, Taken, Unheard},
    store,
    turns::{Answer, Turns},
    worker::chain,
};
use crate::{backoff, ctx::Ctx, deployment::Error, trace};

/// A turn alone takes a few milliseconds.
const KEPT: Duration = Duration::from_millis(50);
/// A database that is back is noticed within this.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// Waits for a turn that was asked for, and takes it alone where it is to be. None when there was none to
/// take, or when it was taken with others and claimed nothing.
pub(crate) async fn turn(
    ctx: &Ctx,
    worker: &str,
    turns: &Turns,
    answered: oneshot::Receiver<Answer>,
) -> Result<Option<Taken>, Error> {
    let Some(answer) = turns.wait(ctx, worker, answered).await else {
        return Ok(None);
    };
    let _lone = match &answer {
        // One that has a place is few already, and must not keep it while it waits.
        Answer::Alone(_, None) => turns.lone().await,
        _ => None,
    };
    match answer {
        Answer::Taken(claimed) => Ok(claimed.map(|claimed| Taken(Some(*claimed)))),
        Answer::Alone(Asked::Due(due), place) => {
            let about = trace::about(due.deployment_id);
            alone(place, Box::pin(begin(ctx, worker, due).instrument(about))).await
        }
        Answer::Alone(Asked::Done(done), place) => {
            let about = trace::about(done.claimed.deployment.id);
            let recorded = Box::pin(record(ctx, worker, &done, None).instrument(about));
            alone(place, recorded).await
        }
        Answer::Unheard(Asked::Due(_), None) => Ok(None),
        Answer::Unheard(Asked::Due(_), Some(claimed)) => find(ctx, worker, *claimed).await,
        Answer::Unheard(Asked::Done(done), claimed) => {
            let about = trace::about(done.claimed.deployment.id);
            let claimed = claimed.map(|claimed| *claimed);
            let unheard = Some(Unheard { claimed });
            Box::pin(record(ctx, worker, &done, unheard).instrument(about)).await
        }
    }
}

/// Takes a turn that keeps its place for a moment: those that come meanwhile gather. One that waits, for its
/// lane or for the database, keeps no other.
async fn alone<T>(
    place: Option<OwnedSemaphorePermit>,
    mut turn: Pin<Box<impl Future<Output = T>>>,
) -> T {
    if let Some(place) = place {
        if let Ok(taken) = tokio::time::timeout(KEPT, &mut turn).await {
            return taken;
        }
        drop(place);
    }
    turn.await
}

/// Takes a due step's turn alone. A claim whose commit was not answered is looked for: if it stands, the
/// step is worked on now, not when the lease has run out. Whatever else failed is due yet.
async fn begin(ctx: &Ctx, worker: &str, due: store::Due) -> Result<Option<Taken>, Error> {
    let mut unheard = None;
    let error = match drive::turn(ctx, worker, due, &mut unheard).await {
        Err(error) => error,
        taken => return taken,
    };
    let Some(claimed) = unheard.and_then(|unheard| unheard.claimed) else {
        return Err(error);
    };
    if !Tries::until(claimed.held_until).goes_on_after(&error).await {
        return Err(error);
    }
    find(ctx, worker, claimed).await
}

/// Looks for a claim whose commit was not answered, for as long as it would hold.
async fn find(ctx: &Ctx, worker: &str, claimed: Claimed) -> Result<Option<Taken>, Error> {
    let mut tries = Tries::until(claimed.held_until);
    loop {
        let error = match drive::is_claimed(ctx, worker, &claimed).await {
            Ok(stands) => return Ok(stands.then(|| Taken(Some(claimed.unseen())))),
            Err(error) => error,
        };
        if !tries.goes_on_after(&error).await {
            return Err(error);
        }
    }
}

/// Records what a claimed step came to alone, and goes on; tries as long as the lease holds. `unheard` is
/// what an earlier try left.
async fn record(
    ctx: &Ctx,
    worker: &str,
    done: &Done,
    mut unheard: Option<Unheard>,
) -> Result<Option<Taken>, Error> {
    let mut tries = Tries::until(done.held_until);
    let outcome = (&done.claimed, &done.outcome);
    loop {
        let error = match drive::record_outside(ctx, worker, outcome, &mut unheard).await {
            Err(error) => error,
            recorded => return recorded,
        };
        if !tries.goes_on_after(&error).await {
            return Err(error);
        }
    }
}

/// Tries of one write.
#[derive(Debug)]
struct Tries {
    failed: i32,
    until: Instant,
}

impl Tries {
    const fn until(until: Instant) -> Self {
        Self { failed: 0, until }
    }

    /// Waits for the next try; false at once when there is to be none.
    async fn goes_on_after(&mut self, error: &Error) -> bool {
        let next = Instant::now() + pause(self.failed);
        if !error.is_contention() || next >= self.until {
            return false;
        }
        self.failed += 1;
        tracing::debug!(error = %chain(error), failed = self.failed, "a write is tried again");
        tokio::time::sleep_until(next).await;
        true
    }
}

/// How long to wait after so many failures before the last one: up to an eighth of a second, doubled each
/// time up to a whole one; how much of it, chance says.
pub(super) fn pause(failed: i32) -> Duration {
    backoff::jittered((backoff::longest(failed) / 8).min(LONGEST_PAUSE))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_mins(1);

    #[test]
    fn pauses_grow_to_a_second_and_no_two_are_the_same() {
        for (failed, least, most) in [(0, 15, 125), (1, 31, 250), (3, 125, 1000), (50, 125, 1000)] {
            let millis = Duration::from_millis;
            let (one, other) = (pause(failed), pause(failed));
            assert!(
                one >= millis(least) && one <= millis(most),
                "{failed}: {one:?}"
            );
            assert_ne!(one, other);
        }
    }

    #[tokio::test]
    async fn only_a_database_that_is_away_is_tried_again_and_only_while_the_lease_holds() {
        let away = Error::Begin(sqlx::Error::PoolTimedOut);
        let wrong = Error::Sql(sqlx::Error::ColumnNotFound("id".to_owned()));
        let held = Instant::now() + MINUTE;
        assert!(Tries::until(held).goes_on_after(&away).await);
        assert!(!Tries::until(held).goes_on_after(&wrong).await);
        assert!(!Tries::until(Instant::now()).goes_on_after(&away).await);
    }

    #[tokio::test]
    async fn no_pause_outlasts_the_lease() {
        let away = Error::Begin(sqlx::Error::PoolTimedOut);
        let begun = Instant::now();
        let mut tries = Tries::until(begun + Duration::from_millis(10));
        assert!(!tries.goes_on_after(&away).await);
        // The least first pause is 15 ms.
        assert_eq!(tries.failed, 0);
    }
}
