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
    let from = |begins: Zoned| -> Result<_, Error> {
        let end = begins.checked_add(lasts).map_err(|source| {
            Error::wrong(
                format!("{option} is out of range: {source}"),
                format!("Give a length such as {example}."),
            )
        })?;
        let end = end.timestamp();
        Ok(prost_types::Timestamp {
            seconds: end.as_second(),
            nanos: end.subsec_nanosecond(),
        })
    };
    let first = Timestamp::UNIX_EPOCH.to_zoned(TimeZone::UTC);
    Ok([from(now())?, from(first)?])
}
