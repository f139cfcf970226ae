//! How long until a repository is swept again, and until what a sweep left is decided.

use std::time::Duration;

use super::{Unfinished, missing::Looked};
use crate::{backoff, github::Settings};

/// What a sweep left waits no longer than so many pauses between sweeps after the one that would have come next, half
/// an hour in all: news of whichever repository have the App's own webhook asked anew.
const LONGEST_WAIT_IN_PAUSES: u32 = 5;

/// How long until which sweep of a repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Pauses {
    /// From one to the next, mostly.
    pub(super) between: Duration,
    /// To the next, after this one.
    pub(super) next: Duration,
    /// To the one that decides what this one left.
    pub(super) second: Duration,
}

impl Pauses {
    /// After a sweep that ended so. What fails is asked for ever less often; what was left waits for that only where
    /// GitHub is not to be asked for anything.
    pub(super) fn after(
        swept: &Result<Looked, Unfinished>,
        attempts: i32,
        (between, head_start): (Duration, Duration),
    ) -> Self {
        let next = match swept {
            Ok(looked) => looked.pause(between),
            Err(error) => pause(error, attempts, between),
        };
        let second = match swept {
            Err(error) if error.is_of_all() => head_start.max(next),
            Ok(_) | Err(_) => head_start,
        };
        Self {
            between,
            next,
            second,
        }
    }
}

/// How long what is brought once more has.
pub(super) fn head_start(settings: &Settings) -> Duration {
    settings.head_start.min(settings.sweep)
}

/// How long what was left waits at most, from when its next sweep would have come.
pub(super) fn longest_wait(settings: &Settings) -> Duration {
    settings.sweep * LONGEST_WAIT_IN_PAUSES
}

/// How long until a repository is swept again. What GitHub refuses it is not asked for more often than what it
/// answers.
fn pause(error: &Unfinished, attempts: i32, sweep: Duration) -> Duration {
    let pause = backoff::after(attempts);
    match error {
        Unfinished::GitHub(error) if error.is_final() => pause.max(sweep),
        Unfinished::GitHub(error) => error.left().unwrap_or(pause),
        Unfinished::Sql(_) | Unfinished::Trigger(_) => pause,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::github::Error;

    #[test]
    fn what_fails_alone_keeps_nothing_that_was_left_and_what_every_call_meets_does() {
        let (between, head_start) = (Duration::from_mins(5), Duration::from_secs(10));
        let (call, left) = ("branch", Duration::from_hours(1));
        let limited = Error::Limited { left }.left().unwrap();
        // The sixth attempt of those that failed.
        let failed = Error::Failed { call, status: 500 };
        let pauses = Pauses::after(&Err(failed.into()), 6, (between, head_start));
        assert!(pauses.next <= Duration::from_mins(1), "{pauses:?}");
        assert_eq!(pauses.second, head_start);
        let failed = Error::Limited { left };
        let pauses = Pauses::after(&Err(failed.into()), 6, (between, head_start));
        assert_eq!((pauses.next, pauses.second), (limited, limited));
        let pauses = Pauses::after(&Ok(Looked::Partly), 1, (between, head_start));
        assert_eq!((pauses.next, pauses.second), (between / 2, head_start));
    }
}
