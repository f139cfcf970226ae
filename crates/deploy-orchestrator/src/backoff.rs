//! How long to wait before what failed is tried again: longer each time, and by chance, so that all that one
//! outage cut off at once does not come back at once.

use std::time::Duration;

use uuid::Uuid;

const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_mins(1);
/// No try comes sooner than after this part of what it may wait: one at once would meet the same outage.
const LEAST_PART: u32 = 8;

/// The wait after the error of this attempt, the first of which is 0: anything up to [`longest`], an eighth
/// of that at least.
pub(crate) fn after(attempt: i32) -> Duration {
    jittered(longest(attempt))
}

/// The longest wait after the error of this attempt: doubled from a second, a minute at most.
pub(crate) fn longest(attempt: i32) -> Duration {
    let doubled = 1_u32 << u32::try_from(attempt.clamp(0, 6)).unwrap_or(0);
    (FIRST * doubled).min(LONGEST)
}

/// A wait by chance of up to so long, and of an eighth of that at least; in whole microseconds, for the
/// database takes no finer interval.
pub(crate) fn jittered(longest: Duration) -> Duration {
    let least = longest / LEAST_PART;
    let chance = f64::from(Uuid::new_v4().as_fields().0) / f64::from(u32::MAX);
    let wait = least + longest.saturating_sub(least).mul_f64(chance);
    wait.saturating_sub(Duration::from_nanos(u64::from(wait.subsec_nanos() % 1_000)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_a_minute() {
        for (attempt, seconds) in [(-1, 1), (0, 1), (1, 2), (5, 32), (6, 60), (i32::MAX, 60)] {
            assert_eq!(longest(attempt), Duration::from_secs(seconds), "{attempt}");
        }
    }

    #[test]
    fn no_wait_is_the_same_as_another_and_none_is_over_at_once() {
        for attempt in [0, 3, 50] {
            let waits: Vec<Duration> = (0..200).map(|_| after(attempt)).collect();
            let longest = longest(attempt);
            for wait in &waits {
                assert!(
                    *wait >= longest / LEAST_PART && *wait <= longest,
                    "{wait:?}"
                );
                assert_eq!(wait.subsec_nanos() % 1_000, 0);
            }
            // All the way down, not within a narrow band: of so many, some come early and some late.
            assert!(waits.iter().any(|wait| *wait < longest / 2));
            assert!(waits.iter().any(|wait| *wait > longest / 2));
        }
    }
}
