//! The time of this machine, to show how long ago something was. Nothing is decided by it.

use jiff::{Timestamp, Zoned, tz::TimeZone};

/// Now, in the zone of the person who reads.
#[expect(
    clippy::disallowed_methods,
    reason = "shown to a person, never compared with a deadline"
)]
pub(crate) fn now() -> Zoned {
    Timestamp::now().to_zoned(TimeZone::system())
}
