//! A place among the calls, or the streams, in hand: taken before the body of the call is read, as bodies
//! are most of what a call holds.

use bytes::{Bytes, BytesMut};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use tokio::sync::OwnedSemaphorePermit;
use tonic::body::Body;

use crate::budget::{Budget, Share};

/// What bodies may weigh together, but for the beginning of each: sixteen of the largest.
pub(crate) const BODIES_KIB: usize = 64 * 1024;
/// The beginning that weighs nothing: the number of places bounds it. So nearly every call goes through while
/// others send much, or send it slowly.
const UNWEIGHED: usize = 16 * 1024;

/// Held until the call is answered or its stream has ended.
#[derive(Debug)]
pub(crate) struct Place {
    pub(super) permit: OwnedSemaphorePermit,
    share: Share,
}

/// Why a request's body was not read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unread {
    TooLarge,
    TooSlow,
    Broken,
    /// Others send too much.
    Busy,
}

impl Place {
    pub(super) fn new(permit: OwnedSemaphorePermit, bodies: &Budget) -> Self {
        let share = bodies.share();
        Self { permit, share }
    }

    /// The whole body, of at most `most` bytes.
    pub(super) async fn read(&mut self, body: Body, most: usize) -> Result<Bytes, Unread> {
        let mut body = Limited::new(body, most);
        let mut bytes = BytesMut::new();
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| {
                if error.is::<LengthLimitError>() {
                    Unread::TooLarge
                } else {
                    Unread::Broken
                }
            })?;
            let data = frame.into_data().unwrap_or_default();
            bytes.extend_from_slice(&data);
            if !self.share.grow(bytes.len().saturating_sub(UNWEIGHED)) {
                return Err(Unread::Busy);
            }
        }
        Ok(bytes.freeze())
    }
}
