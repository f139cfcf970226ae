//! A mutating call that is repeated with its `idempotency-key` answers what it answered before.
//!
//! The answer is stored in the transaction of the act, so there is never one without the other, and
//! kept for [`KEPT_FOR`]. In a command:
//!
//! ```text
//! lane::store::lock(&mut tx, environment).await?;              // or tx.read_clock()
//! if let Some(before) = idempotency::replay(&mut tx, key).await? { return Ok(Reply::replayed(before)) }
//! … decide, save, append facts …
//! idempotency::store(&mut tx, now, key, &answer).await?;
//! ```
//!
//! What the call is about is looked up before, as far as the caller may see it: a token of the same
//! principal for other sites is told nothing, not even what was answered.
//!
//! [`replay`] holds the key until the transaction ends: of two equal calls at the same time, the
//! later one waits for the earlier one's answer instead of acting as well. A method takes its lane
//! and its key always in the same order.
//!
//! Deliberately absent: secret answers. No method of this service has one.

mod store;

use std::{collections::HashSet, time::Duration};

use candlefish_clock::Moment;
use candlefish_runtime::{
    database,
    identity::Caller,
    refusal::{Code, Refusal},
};
use prost::Message;
use sha2::{Digest, Sha256};
use sqlx::PgConnection;
use tonic::metadata::{MetadataMap, MetadataValue};

/// As the API promises; a repeat after it acts anew.
pub(crate) const KEPT_FOR: Duration = Duration::from_hours(24);
/// Long enough for any client's scheme, short enough for an index entry.
const LONGEST: usize = 255;
/// Request metadata, as the gateway forwards it.
const KEY: &str = "idempotency-key";
/// Response metadata, for the caller who wants to know.
const REPLAYED: &str = "idempotent-replayed";

/// Why an answer cannot be replayed or kept.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The key came with another message before.
    #[error("idempotency key {key:?} was used before with another message")]
    Reused { key: String },
    /// The key was stored since [`replay`] looked, although it held it.
    #[error("idempotency key {key:?} was stored by another call in between")]
    Overtaken { key: String },
    /// The stored answer is not the message it should be.
    #[error("the stored answer to {method} does not decode")]
    Answer {
        method: &'static str,
        #[source]
        source: prost::DecodeError,
    },
    /// The database did not answer.
    #[error("cannot use the store of idempotency keys")]
    Database(#[source] sqlx::Error),
}

/// One caller's key for one call of one method.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Key {
    principal: String,
    method: &'static str,
    text: String,
    /// SHA-256 of the message.
    request_hash: [u8; 32],
}

impl Key {
    /// Both are the same caller's same key of the same method.
    pub(crate) fn meets(&self, other: &Self) -> bool {
        (&self.principal, self.method, &self.text) == (&other.principal, other.method, &other.text)
    }

    /// Reads the key of a call; `None` when the caller sent none.
    ///
    /// `method` is the RPC's own name, such as `CreateSite`. The message's encoding stands for the
    /// message because no request has a map, whose order would differ from call to call; a test
    /// reads that off the descriptors.
    pub(crate) fn of(
        metadata: &MetadataMap,
        caller: &Caller,
        method: &'static str,
        message: &impl Message,
    ) -> Result<Option<Self>, Refusal> {
        let Some(value) = metadata.get(KEY) else {
            return Ok(None);
        };
        let text = visible(value.as_bytes()).ok_or_else(|| {
            Refusal::new(
                Code::InvalidArgument,
                "idempotency-key-malformed",
                "the idempotency key is not one",
            )
            .field(
                KEY,
                format!("must be 1 to {LONGEST} visible ASCII characters"),
            )
        })?;
        Ok(Some(Self {
            principal: caller.principal.clone(),
            method,
            text,
            request_hash: Sha256::digest(message.encode_to_vec()).into(),
        }))
    }
}

fn visible(bytes: &[u8]) -> Option<String> {
    let fits = (1..=LONGEST).contains(&bytes.len()) && bytes.iter().all(u8::is_ascii_graphic);
    fits.then(|| bytes.iter().copied().map(char::from).collect())
}

/// The answer given before to the same call, if there was one; holds the key until the transaction
/// ends. Without a key there is nothing to replay.
pub(crate) async fn replay<T: Message + Default>(
    conn: &mut PgConnection,
    key: Option<&Key>,
) -> Result<Option<T>, Error> {
    let Some(key) = key else {
        return Ok(None);
    };
    store::hold(conn, key).await.map_err(Error::Database)?;
    let Some(before) = store::find(conn, key).await.map_err(Error::Database)? else {
        return Ok(None);
    };
    if before.request_hash != key.request_hash {
        return Err(Error::Reused {
            key: key.text.clone(),
        });
    }
    T::decode(before.response.as_slice())
        .map(Some)
        .map_err(|source| Error::Answer {
            method: key.method,
            source,
        })
}

/// The places of those keys that were used before, whatever for. Holds none of them: equal calls
/// have the same lane, which is locked, and what else is equal meets at [`store_each`].
pub(crate) async fn list_known(
    conn: &mut PgConnection,
    keys: &[&Key],
) -> Result<HashSet<usize>, Error> {
    if keys.is_empty() {
        return Ok(HashSet::new());
    }
    store::list_known(conn, keys).await.map_err(Error::Database)
}

/// Keeps the answer, in the transaction of the act.
pub(crate) async fn store(
    conn: &mut PgConnection,
    now: Moment,
    key: Option<&Key>,
    answer: &impl Message,
) -> Result<(), Error> {
    match key {
        Some(key) => store_each(conn, now, &[(key, answer)]).await,
        None => Ok(()),
    }
}

/// Keeps the answers of several acts, in their transaction.
pub(crate) async fn store_each(
    conn: &mut PgConnection,
    now: Moment,
    answers: &[(&Key, &impl Message)],
) -> Result<(), Error> {
    let Some((first, _)) = answers.first() else {
        return Ok(());
    };
    let encoded: Vec<_> = answers
        .iter()
        .map(|(key, answer)| (*key, answer.encode_to_vec()))
        .collect();
    let stored = store::insert_each(conn, now, &encoded)
        .await
        .map_err(Error::Database)?;
    if usize::try_from(stored) == Ok(answers.len()) {
        Ok(())
    } else {
        Err(Error::Overtaken {
            key: first.text.clone(),
        })
    }
}

/// Forgets answers older than [`KEPT_FOR`], at most `limit` at once; says how many.
pub(crate) async fn forget(conn: &mut PgConnection, limit: i64) -> Result<u64, Error> {
    store::delete_before(conn, KEPT_FOR, limit)
        .await
        .map_err(Error::Database)
}

/// An answer, and whether it was given before.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Reply<T> {
    pub(crate) message: T,
    pub(crate) replayed: bool,
}

impl<T> Reply<T> {
    /// The answer to a call that acted.
    pub(crate) const fn new(message: T) -> Self {
        Self {
            message,
            replayed: false,
        }
    }

    /// The answer to a repeated call.
    pub(crate) const fn replayed(message: T) -> Self {
        Self {
            message,
            replayed: true,
        }
    }

    /// The response, with `idempotent-replayed: true` when it is one.
    pub(crate) fn into_response(self) -> tonic::Response<T> {
        let mut response = tonic::Response::new(self.message);
        if self.replayed {
            response
                .metadata_mut()
                .insert(REPLAYED, MetadataValue::from_static("true"));
        }
        response
    }
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        match error {
            Error::Reused { .. } => Self::new(
                Code::InvalidArgument,
                "idempotency-key-reused",
                error.to_string(),
            ),
            Error::Overtaken { .. } => {
                Self::new(Code::Aborted, "idempotency-key-busy", error.to_string())
            }
            Error::Answer { method, source } => Self::new(
                Code::Internal,
                "idempotency-answer",
                format!("the stored answer to {method} does not decode: {source}"),
            ),
            Error::Database(source) => {
                database::refuse("use the store of idempotency keys", &source)
            }
        }
    }
}

#[cfg(test)]
mod tests;
