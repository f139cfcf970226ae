//! How long a caller waits, as it says itself by `grpc-timeout`.
//!
//! The library honours this header too, on every request and before anything of ours sees it: it answers as
//! gRPC whatever was asked, and that the caller cancelled. So we answer a moment before it would, over REST
//! by a problem, over gRPC as `DEADLINE_EXCEEDED`. Only the beginning of a stream is bounded, as there.

use std::time::Duration;

use http::HeaderMap;
use tonic::Status;

const HEADER: &str = "grpc-timeout";
/// The library's clock begins a little before ours and counts in milliseconds. Who has no more time than
/// this has none.
const EARLIER: Duration = Duration::from_millis(5);
/// More digits are none of the protocol's, and the library does not read them either.
const MOST_DIGITS: usize = 8;

/// How long a caller waits; nothing when it does not say, or not in words that the library understands.
pub(crate) fn of(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(HEADER)?.to_str().ok()?;
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.len() > MOST_DIGITS {
        return None;
    }
    let number: u64 = digits.parse().ok()?;
    match unit {
        "H" => Some(Duration::from_secs(number * 3_600)),
        "M" => Some(Duration::from_secs(number * 60)),
        "S" => Some(Duration::from_secs(number)),
        "m" => Some(Duration::from_millis(number)),
        "u" => Some(Duration::from_micros(number)),
        "n" => Some(Duration::from_nanos(number)),
        _ => None,
    }
}

/// The answer, unless its caller has given up waiting before it came.
pub(crate) async fn within<T>(
    patience: Option<Duration>,
    answering: impl Future<Output = T>,
) -> Result<T, Status> {
    let Some(patience) = patience else {
        return Ok(answering.await);
    };
    let over = || {
        let words = format!("no answer within the {patience:?} that the caller gave by {HEADER}");
        Status::deadline_exceeded(words)
    };
    let left = patience.saturating_sub(EARLIER);
    if left.is_zero() {
        return Err(over());
    }
    let answered = tokio::time::timeout(left, answering).await;
    answered.map_err(|_elapsed| over())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deadline_is_read_as_the_library_reads_it() {
        let table = [
            ("3H", Some(Duration::from_hours(3))),
            ("2M", Some(Duration::from_mins(2))),
            ("99999999S", Some(Duration::from_secs(99_999_999))),
            ("13m", Some(Duration::from_millis(13))),
            ("2u", Some(Duration::from_micros(2))),
            ("0n", Some(Duration::ZERO)),
            ("", None),
            ("S", None),
            ("5", None),
            ("5s", None),
            ("-5S", None),
            ("123456789H", None),
        ];
        for (text, expected) in table {
            let mut headers = HeaderMap::new();
            headers.insert(HEADER, text.parse().unwrap());
            assert_eq!(of(&headers), expected, "{text}");
        }
        assert_eq!(of(&HeaderMap::new()), None);
    }
}
