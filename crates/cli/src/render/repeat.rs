//! What is said above an answer that the server had kept.

use std::time::Duration;

use jiff::SignedDuration;

use super::words;

/// That it is the answer to a request which got none `since` then, and the command that shows what is
/// now.
pub(crate) fn text(since: Duration, now: &str) -> String {
    let since = SignedDuration::try_from(since).unwrap_or(SignedDuration::MAX);
    format!(
        "  This was done before: below is the answer that did not arrive {} ago. What is now: {now}",
        words::about(since)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_says_since_when_and_where_to_look() {
        let said = text(
            Duration::from_mins(12),
            "candlefish hold show docs/production",
        );
        assert!(said.contains("did not arrive 12 min ago."), "{said}");
        assert!(said.ends_with(": candlefish hold show docs/production"));
    }
}
