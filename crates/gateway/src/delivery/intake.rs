//! Bodies of deliveries as they come. Who sends one has proved nothing yet: the signature is of the whole.
//!
//! So they are bounded by their size, by what they weigh together, and by how slowly they may come. Nearly all
//! are small and say so. These have a part of the budget for themselves: a few large ones that nobody signed
//! keep them out no more.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use tokio::time::Instant;
use tonic::body::Body;

use crate::budget::{Budget, Share};

/// GitHub sends nothing larger.
pub(crate) const MOST_BYTES: usize = 25 * 1024 * 1024;
/// What announces no more than this is small.
const SMALL_BYTES: u64 = 1024 * 1024;
/// What small ones in hand may weigh together.
const SMALL_KIB: usize = 16 * 1024;
/// What all others may.
const LARGE_KIB: usize = 48 * 1024;
/// GitHub waits 10 s for an answer and does not come again by itself.
const PATIENCE: Duration = Duration::from_secs(5);
/// The longest that a body may stand still while it comes, or be behind its least pace.
const QUIET: Duration = Duration::from_secs(3);
/// That pace: bytes in a second.
const LEAST_PACE: u64 = 64 * 1024;

/// Reads bodies; cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Intake {
    small: Budget,
    large: Budget,
}

/// Why a body was not read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unread {
    TooLarge,
    /// It broke off, stood still or came too slowly.
    NotWhole,
    /// Too much is in hand.
    Busy,
}

impl Intake {
    pub(super) fn new() -> Self {
        Self {
            small: Budget::of_kib(SMALL_KIB),
            large: Budget::of_kib(LARGE_KIB),
        }
    }

    /// The body, and its share of the budget, which is to be held as long as the body is.
    pub(super) async fn read(&self, body: Body) -> Result<(Bytes, Share), Unread> {
        // What the connection will bring: a header beside chunks says nothing of it.
        let announced = http_body::Body::size_hint(&body).exact();
        let mut share = self.budget(announced).share();
        let mut body = Limited::new(body, MOST_BYTES);
        let mut bytes = BytesMut::new();
        let mut pace = Pace::begun(Instant::now());
        while let Ok(frame) = tokio::time::timeout_at(pace.until(), body.frame()).await {
            let Some(frame) = frame else {
                return Ok((bytes.freeze(), share));
            };
            let frame = frame.map_err(|error| {
                if error.is::<LengthLimitError>() {
                    Unread::TooLarge
                } else {
                    Unread::NotWhole
                }
            })?;
            let came = Instant::now();
            let data = frame.into_data().unwrap_or_default();
            bytes.extend_from_slice(&data);
            pace.came(data.len(), came);
            if !share.grow_within(bytes.len(), PATIENCE).await {
                return Err(Unread::Busy);
            }
            pace.waited(came.elapsed());
        }
        Err(Unread::NotWhole)
    }

    /// What a body that announces so many bytes is weighed in.
    fn budget(&self, announced: Option<u64>) -> &Budget {
        if announced.is_some_and(|bytes| bytes <= SMALL_BYTES) {
            &self.small
        } else {
            &self.large
        }
    }
}

/// How slowly a body may come. Its bytes buy it time; but no more than it may stand still: whoever sends much
/// at first and then a byte now and then is behind soon.
#[derive(Debug)]
struct Pace {
    until: Instant,
}

impl Pace {
    fn begun(now: Instant) -> Self {
        Self { until: now + QUIET }
    }

    /// When more must have come.
    const fn until(&self) -> Instant {
        self.until
    }

    fn came(&mut self, bytes: usize, now: Instant) {
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        let bought = Duration::from_micros(bytes.saturating_mul(1_000_000) / LEAST_PACE);
        self.until = (self.until + bought.min(QUIET)).min(now + QUIET);
    }

    /// For so long it was us who did not read.
    fn waited(&mut self, time: Duration) {
        self.until += time;
    }
}

#[cfg(test)]
mod tests {
    use futures_util::stream;
    use http_body::Frame;
    use http_body_util::{Full, StreamBody};
    use tonic::Status;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const PACE: usize = 64 * 1024;

    #[test]
    fn bytes_buy_a_body_time_and_never_more_than_it_may_stand_still() {
        let begun = Instant::now();
        let mut pace = Pace::begun(begun);
        assert_eq!(pace.until(), begun + 3 * SECOND);
        // As fast as it must.
        for second in 1..=20 {
            let now = begun + second * SECOND;
            pace.came(PACE, now);
            assert_eq!(pace.until(), now + 3 * SECOND);
        }
        // Half as fast: it lasts for five seconds.
        for second in 21..=25 {
            let now = begun + second * SECOND;
            assert!(pace.until() >= now, "{second}");
            pace.came(PACE / 2, now);
        }
        assert!(pace.until() < begun + 26 * SECOND);
        // Nothing that came before helps, however much it was.
        let mut pace = Pace::begun(begun);
        pace.came(MOST_BYTES, begun);
        pace.came(1, begun + 2 * SECOND);
        assert!(pace.until() < begun + 4 * SECOND);
        pace.waited(5 * SECOND);
        assert!(pace.until() >= begun + 8 * SECOND);
    }

    #[tokio::test]
    async fn large_bodies_leave_room_for_small_ones() {
        let intake = Intake::new();
        let mut large = intake.large.share();
        assert!(large.grow(LARGE_KIB * 1024));
        let small = Body::new(Full::new(Bytes::from_static(b"{}")));
        let (body, _share) = intake.read(small).await.unwrap();
        assert_eq!(body, "{}");
        // What does not say that it is small could be anything.
        let largest = Some(SMALL_BYTES + 1);
        for announced in [None, largest] {
            assert!(!intake.budget(announced).share().grow(1), "{announced:?}");
        }
        assert!(intake.budget(Some(SMALL_BYTES)).share().grow(1));
    }

    #[tokio::test]
    async fn a_body_weighs_what_came_of_it_while_it_is_held() {
        let intake = Intake::new();
        let pieces = [2048, 1].map(|bytes| {
            let piece = Bytes::from(vec![b' '; bytes]);
            Ok::<_, Status>(Frame::data(piece))
        });
        let body = Body::new(StreamBody::new(stream::iter(pieces)));
        let (body, share) = intake.read(body).await.unwrap();
        assert_eq!(body.len(), 2049);
        let mut rest = intake.large.share();
        assert!(!rest.grow((LARGE_KIB - 2) * 1024));
        assert!(rest.grow((LARGE_KIB - 3) * 1024));
        drop(share);
        assert!(rest.grow(LARGE_KIB * 1024));
    }
}
