//! Typed ids: a `UUIDv7` in the database, a `TypeID` in text.
//!
//! The text form is a prefix, `_`, and 26 characters of Crockford's base32 in lower case, as the
//! `TypeID` specification 0.3 says, so that a log line or a URL tells what it names. Preview host
//! names use the 26 characters alone ([`DeploymentId::suffix`]).

use std::{fmt, str::FromStr};

use uuid::Uuid;

mod digest;

pub use digest::{Digest, DigestError};

const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
/// 128 bits in groups of five.
const SUFFIX_LEN: usize = 26;

/// Why a text is not the id it should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    /// The prefix is missing or another one.
    #[error("must begin with {expected}_")]
    Prefix {
        /// The prefix that was expected, without `_`.
        expected: &'static str,
    },
    /// Not 26 characters after the prefix.
    #[error("must have 26 characters after the prefix")]
    Length,
    /// A character outside Crockford's base32 in lower case, or a number over 128 bits.
    #[error("has a character that ids do not use")]
    Character,
}

/// Encodes 128 bits as 26 characters.
fn encode(id: Uuid) -> String {
    let bits = id.as_u128();
    (0..SUFFIX_LEN)
        .rev()
        .map(|group| {
            let index = usize::try_from((bits >> (group * 5)) & 31).expect("five bits fit");
            char::from(*ALPHABET.get(index).expect("five bits index 32 letters"))
        })
        .collect()
}

/// Decodes 26 characters.
fn decode(suffix: &str) -> Result<Uuid, ParseError> {
    if suffix.len() != SUFFIX_LEN {
        return Err(ParseError::Length);
    }
    let mut bits: u128 = 0;
    for (place, letter) in suffix.bytes().enumerate() {
        let value = ALPHABET
            .iter()
            .position(|&l| l == letter)
            .ok_or(ParseError::Character)?;
        // 26 groups hold 130 bits; the first may only use three of its five.
        if place == 0 && value > 7 {
            return Err(ParseError::Character);
        }
        bits = (bits << 5) | u128::try_from(value).expect("an index below 32 fits");
    }
    Ok(Uuid::from_u128(bits))
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $prefix:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Uuid);

        impl $name {
            /// The prefix in text, without `_`.
            pub const PREFIX: &'static str = $prefix;

            /// A new id, ordered by the time it was made.
            #[expect(clippy::disallowed_methods, reason = "the one place that makes ids")]
            #[expect(clippy::new_without_default, reason = "a new id is not a default")]
            pub fn new() -> Self {
                Self(Uuid::now_v7())
            }

            /// The id of a database row.
            pub const fn from_uuid(id: Uuid) -> Self {
                Self(id)
            }

            /// What the database stores.
            pub const fn uuid(self) -> Uuid {
                self.0
            }

            /// The 26 characters without the prefix.
            pub fn suffix(self) -> String {
                encode(self.0)
            }

            /// Reads the 26 characters without the prefix.
            pub fn from_suffix(suffix: &str) -> Result<Self, ParseError> {
                decode(suffix).map(Self)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}_{}", $prefix, encode(self.0))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl FromStr for $name {
            type Err = ParseError;

            fn from_str(text: &str) -> Result<Self, ParseError> {
                let suffix = text
                    .strip_prefix($prefix)
                    .and_then(|rest| rest.strip_prefix('_'))
                    .ok_or(ParseError::Prefix { expected: $prefix })?;
                decode(suffix).map(Self)
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

id!(/** Names a site. */ SiteId, "site");
id!(/** Names an environment, and its lane. */ EnvironmentId, "env");
id!(/** Names a release. */ ReleaseId, "rel");
id!(/** Names a deployment. */ DeploymentId, "dep");
id!(/** Names a step. */ StepId, "step");
id!(/** Names a stop of the line. */ StopId, "stop");
id!(/** Names an event. */ EventId, "evt");
id!(/** Names a webhook delivery. */ DeliveryId, "dlv");
id!(/** Names a trigger. */ TriggerId, "trg");
id!(/** Names a dead letter. */ DeadLetterId, "dl");
id!(/** Names a principal. */ PrincipalId, "prn");
id!(/** Names an API token. */ TokenId, "tok");
id!(/** Names a request, for the person who quotes it. */ RequestId, "req");

#[cfg(test)]
mod tests;
