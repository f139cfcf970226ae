//! The time of this machine, to show how long ago something was. Nothing is decided by it.

use jiff::{Span, Timestamp, Zoned, tz::TimeZone};

use crate::error::Error;

/// Now, in the zone of the person who reads.
#[expect(
    clippy::disallowed_methods,
    reason = "shown to a person, never compared with a deadline"
)]
pub(crate) fn now() -> Zoned {
    Timestamp::now().to_zoned(TimeZone::system())
}

/// When something of this length ends that begins now; and the same from the first moment of all,
/// which tells two equal wishes from two different ones whenever they are said. `option` and
/// `example` are for who is out of range.
pub(crate) fn end(
    lasts: Span,
    option: &str,
    example: &str,
) -> Result<[prost_types::Timestamp; 2], Error> {
    let from = |begins: &Zoned| -> Result<_, Error> {
        let end = after(begins, lasts).map_err(|source| {
            Error::wrong(
                format!("{option} is out of range: {source}"),
                format!("Give a length such as {example}."),
            )
        })?;
        Ok(prost_types::Timestamp {
            seconds: end.as_second(),
            nanos: end.subsec_nanosecond(),
        })
    };
    let first = Timestamp::UNIX_EPOCH.to_zoned(TimeZone::UTC);
    Ok([from(&now())?, from(&first)?])
}

/// So much later. A day is 24 h, as it is for the server, whatever the clocks of the zone do meanwhile.
fn after(begins: &Zoned, lasts: Span) -> Result<Timestamp, jiff::Error> {
    let end = begins.with_time_zone(TimeZone::UTC).checked_add(lasts)?;
    Ok(end.timestamp())
}

#[cfg(test)]
mod tests {
    use jiff::{SignedDuration, ToSpan as _, civil::date};

    use super::*;

    #[test]
    fn a_day_has_24_hours_whatever_the_clocks_do() {
        let berlin = TimeZone::get("Europe/Berlin").unwrap();
        // The night of the 25th has 25 hours.
        let begins = date(2026, 10, 24).at(12, 0, 0, 0).to_zoned(berlin).unwrap();
        let week = SignedDuration::from_hours(7 * 24);
        for lasts in [7.days(), 1.week(), 168.hours(), 6.days().hours(24)] {
            let end = after(&begins, lasts).unwrap();
            assert_eq!(begins.timestamp().duration_until(end), week, "{lasts:?}");
        }
    }
}
