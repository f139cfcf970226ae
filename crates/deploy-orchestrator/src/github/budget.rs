//! What one installation, or one token, may still ask of GitHub. Pure: given the moment.

use std::time::Duration;

use http::{HeaderMap, StatusCode};
use tokio::time::Instant;

/// What GitHub asks for when it limits without saying for how long; doubled each time.
const SECONDARY: Duration = Duration::from_mins(1);
/// Doublings of that.
const MOST_STRIKES: u32 = 4;
/// GitHub's hour begins anew at the latest then.
const LONGEST: Duration = Duration::from_hours(1);

/// What may still be asked.
#[derive(Debug, Clone, Default)]
pub(super) struct Budget {
    free_at: Option<Instant>,
    next_write: Option<Instant>,
    /// Limits in a row that did not say for how long.
    strikes: u32,
}

/// What an answer says of limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Told {
    limited: bool,
    retry_after: Option<Duration>,
    /// Until the count begins anew, when nothing is left of it.
    reset: Option<Duration>,
}

impl Told {
    /// Reads an answer. The moment of the reset is GitHub's, and so is the `date` that it is compared
    /// with: no clock of ours is asked.
    pub(super) fn read(status: StatusCode, headers: &HeaderMap, message: &str) -> Self {
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        let number = |name: &str| text(name).and_then(|text| text.trim().parse::<u64>().ok());
        let retry_after = number("retry-after").map(Duration::from_secs);
        let is_spent = number("x-ratelimit-remaining") == Some(0);
        let now = text("date").and_then(read_date);
        let reset = number("x-ratelimit-reset").zip(now).filter(|_| is_spent);
        let reset = reset.map(|(reset, now)| {
            let now = u64::try_from(now).unwrap_or(0);
            Duration::from_secs(reset.saturating_sub(now))
        });
        let refused = status == StatusCode::FORBIDDEN
            && (retry_after.is_some() || is_spent || message.contains("rate limit"));
        Self {
            limited: refused || status == StatusCode::TOO_MANY_REQUESTS,
            retry_after,
            reset,
        }
    }

    pub(super) const fn is_limit(&self) -> bool {
        self.limited
    }
}

/// Seconds of a `date` header.
pub(super) fn read_date(text: &str) -> Option<i64> {
    let parser = jiff::fmt::rfc2822::DateTimeParser::new();
    Some(parser.parse_timestamp(text).ok()?.as_second())
}

impl Budget {
    /// How long nothing may be asked.
    pub(super) fn left(&self, now: Instant) -> Option<Duration> {
        let left = self.free_at?.saturating_duration_since(now);
        (!left.is_zero()).then_some(left)
    }

    /// Takes the next turn to write: how long to wait for it.
    pub(super) fn write(&mut self, now: Instant, pause: Duration) -> Duration {
        let turn = self.next_write.map_or(now, |next| next.max(now));
        self.next_write = Some(turn + pause);
        turn.saturating_duration_since(now)
    }

    /// Takes note of an answer.
    pub(super) fn note(&mut self, now: Instant, told: Told) {
        let wait = if told.limited {
            let doubled = SECONDARY * (1 << self.strikes);
            let said = told.retry_after.or(told.reset);
            if said.is_none() {
                self.strikes = (self.strikes + 1).min(MOST_STRIKES);
            }
            Some(said.unwrap_or(doubled))
        } else {
            self.strikes = 0;
            told.reset
        };
        if let Some(wait) = wait {
            // A shorter one does not end a longer one.
            let free_at = now + wait.min(LONGEST);
            self.free_at = self.free_at.max(Some(free_at));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(status: u16, headers: &[(&'static str, &str)], message: &str) -> Told {
        let headers = headers
            .iter()
            .map(|(name, value)| (http::HeaderName::from_static(name), value.parse().unwrap()))
            .collect();
        Told::read(StatusCode::from_u16(status).unwrap(), &headers, message)
    }

    #[test]
    fn what_github_says_is_obeyed() {
        let date = ("date", "Wed, 25 Nov 2026 17:00:00 GMT");
        let minutes = Duration::from_mins;
        // 17:10:00 by the same clock.
        let reset = ("x-ratelimit-reset", "1795626600");
        let spent = ("x-ratelimit-remaining", "0");
        for (what, told, wait) in [
            (
                "all is well",
                told(200, &[date, reset, ("x-ratelimit-remaining", "9")], ""),
                None,
            ),
            (
                "the last one",
                told(200, &[date, reset, spent], ""),
                Some(minutes(10)),
            ),
            (
                "spent",
                told(403, &[date, reset, spent], ""),
                Some(minutes(10)),
            ),
            (
                "429",
                told(429, &[("retry-after", "7")], ""),
                Some(Duration::from_secs(7)),
            ),
            (
                "403",
                told(403, &[("retry-after", "7")], ""),
                Some(Duration::from_secs(7)),
            ),
            (
                "no word",
                told(403, &[], "You have exceeded a secondary rate limit."),
                Some(SECONDARY),
            ),
            (
                "forbidden",
                told(403, &[], "Resource not accessible by integration"),
                None,
            ),
            (
                "too long",
                told(429, &[("retry-after", "999999")], ""),
                Some(LONGEST),
            ),
        ] {
            let now = Instant::now();
            let mut budget = Budget::default();
            budget.note(now, told);
            assert_eq!(budget.left(now), wait, "{what}");
        }
    }

    #[test]
    fn limits_without_a_word_double() {
        let now = Instant::now();
        let mut budget = Budget::default();
        for times in [1, 2, 4, 8, 16, 16] {
            budget.note(now, told(429, &[], ""));
            assert_eq!(budget.left(now), Some(SECONDARY * times));
        }
        // A shorter one does not end a longer one.
        budget.note(now, told(200, &[], ""));
        budget.note(now, told(429, &[], ""));
        assert_eq!(budget.left(now), Some(SECONDARY * 16));
        let later = now + SECONDARY * 16;
        budget.note(later, told(200, &[], ""));
        budget.note(later, told(429, &[], ""));
        assert_eq!(budget.left(later), Some(SECONDARY));
    }

    #[test]
    fn writes_come_one_after_another() {
        let now = Instant::now();
        let pause = Duration::from_secs(1);
        let mut budget = Budget::default();
        let waits: Vec<_> = (0..3).map(|_write| budget.write(now, pause)).collect();
        assert_eq!(waits, [Duration::ZERO, pause, pause * 2]);
        assert_eq!(budget.write(now + pause * 9, pause), Duration::ZERO);
    }
}
