//! What one installation, or one token, may still ask of GitHub, and what answers change of it. Pure: what
//! is known is a row, which all replicas share (`store/budget.rs`).

use std::time::Duration;

use http::{HeaderMap, StatusCode};

/// What GitHub asks for when it limits without saying for how long; doubled each time.
const SECONDARY: Duration = Duration::from_mins(1);
/// Doublings of that.
const MOST_STRIKES: i32 = 4;
/// GitHub's hour begins anew at the latest then.
const LONGEST: Duration = Duration::from_hours(1);

/// What may be asked now.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Budget {
    /// How long nothing may be.
    pub(super) left: Option<Duration>,
    /// How long a call that writes waits for its turn.
    pub(super) turn: Duration,
    /// Limits in a row that did not say for how long.
    pub(super) strikes: i32,
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
        let asks_again = number("retry-after");
        // Who may come back at once is told nothing of when.
        let retry_after = asks_again.filter(|wait| *wait > 0).map(Duration::from_secs);
        let is_spent = number("x-ratelimit-remaining") == Some(0);
        let now = text("date").and_then(read_date);
        let reset = number("x-ratelimit-reset").zip(now).filter(|_| is_spent);
        let reset = reset.map(|(reset, now)| {
            let now = u64::try_from(now).unwrap_or(0);
            Duration::from_secs(reset.saturating_sub(now))
        });
        let refused = status == StatusCode::FORBIDDEN
            && (asks_again.is_some() || is_spent || message.contains("rate limit"));
        // RFC 9110, 10.2.3: who is sent elsewhere is to go there after so long.
        let put_off = status.is_redirection() && retry_after.is_some();
        Self {
            limited: refused || put_off || status == StatusCode::TOO_MANY_REQUESTS,
            retry_after,
            reset,
        }
    }

    pub(super) const fn is_limit(&self) -> bool {
        self.limited
    }

    /// How long nothing may be asked from now on, and what the limits in a row are with this one, when so
    /// many came before.
    pub(super) fn after(&self, strikes: i32) -> (Option<Duration>, i32) {
        if !self.limited {
            return (self.reset.map(|wait| wait.min(LONGEST)), 0);
        }
        // A wait of no time would be no wait.
        let said = self.retry_after.or(self.reset);
        if let Some(wait) = said.filter(|wait| !wait.is_zero()) {
            return (Some(wait.min(LONGEST)), strikes);
        }
        let strikes = strikes.clamp(0, MOST_STRIKES);
        let doubled = SECONDARY * (1 << strikes);
        (Some(doubled.min(LONGEST)), (strikes + 1).min(MOST_STRIKES))
    }
}

/// Seconds of a `date` header.
pub(super) fn read_date(text: &str) -> Option<i64> {
    let parser = jiff::fmt::rfc2822::DateTimeParser::new();
    Some(parser.parse_timestamp(text).ok()?.as_second())
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
                "the last one, sent elsewhere",
                told(302, &[date, reset, spent], ""),
                Some(minutes(10)),
            ),
            (
                "sent elsewhere, later",
                told(302, &[("retry-after", "7")], ""),
                Some(Duration::from_secs(7)),
            ),
            ("sent elsewhere", told(302, &[date, reset], ""), None),
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
            assert_eq!(told.after(0).0, wait, "{what}");
        }
    }

    #[test]
    fn a_wait_of_no_time_is_no_word() {
        let at_once = [("retry-after", "0")];
        for (status, wait) in [(302, None), (403, Some(SECONDARY)), (429, Some(SECONDARY))] {
            assert_eq!(told(status, &at_once, "").after(0).0, wait, "{status}");
        }
    }

    #[test]
    fn limits_without_a_word_double() {
        let mut strikes = 0;
        for times in [1, 2, 4, 8, 16, 16] {
            let (wait, next) = told(429, &[], "").after(strikes);
            assert_eq!(wait, Some(SECONDARY * times));
            strikes = next;
        }
        // One that says for how long is no word on the others; what is no limit ends them.
        let said = told(429, &[("retry-after", "7")], "");
        assert_eq!(said.after(3), (Some(Duration::from_secs(7)), 3));
        assert_eq!(told(200, &[], "").after(3), (None, 0));
    }
}
