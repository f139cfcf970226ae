//! A mutating call of this process's own services that is repeated with its `idempotency-key`.
//!
//! The answer is stored in the transaction of the act. A secret answer is not: the repeat is told
//! what exists (409), because a secret is shown once.

use std::time::Duration;

use candlefish_runtime::{
    database,
    identity::Caller,
    refusal::{Code, Refusal},
};
use prost::Message;
use sha2::{Digest, Sha256};
use sqlx::PgConnection;
use tonic::metadata::{MetadataMap, MetadataValue};

mod store;

/// As the API promises.
pub(crate) const KEPT_FOR: Duration = Duration::from_hours(24);
const LONGEST: usize = 255;
pub(crate) const KEY: &str = "idempotency-key";
pub(crate) const REPLAYED: &str = "idempotent-replayed";

/// One caller's key for one call of one method.
#[derive(Debug, Clone)]
pub(crate) struct Key {
    principal: String,
    method: &'static str,
    text: String,
    request_hash: [u8; 32],
}

impl Key {
    /// Reads the key of a call; nothing when the caller sent none.
    pub(crate) fn of(
        metadata: &MetadataMap,
        caller: &Caller,
        method: &'static str,
        message: &impl Message,
    ) -> Result<Option<Self>, Refusal> {
        let Some(value) = metadata.get(KEY) else {
            return Ok(None);
        };
        let text = visible(value.as_bytes()).ok_or_else(malformed)?;
        Ok(Some(Self {
            principal: caller.principal.clone(),
            method,
            text,
            request_hash: Sha256::digest(message.encode_to_vec()).into(),
        }))
    }
}

/// The text of a key, when it is one.
pub(crate) fn visible(bytes: &[u8]) -> Option<String> {
    let fits = (1..=LONGEST).contains(&bytes.len()) && bytes.iter().all(u8::is_ascii_graphic);
    fits.then(|| bytes.iter().copied().map(char::from).collect())
}

/// The refusal of a key that is none.
pub(crate) fn malformed() -> Refusal {
    Refusal::new(
        Code::InvalidArgument,
        "idempotency-key-malformed",
        "the idempotency key is not one",
    )
    .field(
        KEY,
        format!("must be 1 to {LONGEST} visible ASCII characters"),
    )
}

/// The answer that was given before, if there was one; holds the key until the transaction ends, so
/// that of two equal calls at the same time the later one waits for the answer of the earlier.
pub(crate) async fn replay<T: Message + Default>(
    conn: &mut PgConnection,
    key: Option<&Key>,
) -> Result<Option<T>, Refusal> {
    let Some(key) = key else {
        return Ok(None);
    };
    let failed = |source: sqlx::Error| database::refuse("read an idempotency key", &source);
    store::hold(conn, key).await.map_err(failed)?;
    let Some(before) = store::find(conn, key).await.map_err(failed)? else {
        return Ok(None);
    };
    if before.request_hash != key.request_hash {
        return Err(Refusal::new(
            Code::InvalidArgument,
            "idempotency-key-reused",
            format!(
                "idempotency key {:?} was used before with another message",
                key.text
            ),
        ));
    }
    let Some(response) = before.response else {
        return Err(Refusal::new(
            Code::AlreadyExists,
            "secret-shown-once",
            format!(
                "this call was made before and made {made}, whose secret was shown then and is kept \
                 nowhere: without it, revoke {made} and make another with a new idempotency key",
                made = before.made
            ),
        )
        .metadata("id", before.made));
    };
    T::decode(response.as_slice()).map(Some).map_err(|source| {
        let words = format!(
            "the stored answer to {} does not decode: {source}",
            key.method
        );
        Refusal::new(Code::Internal, "idempotency-answer", words)
    })
}

/// Keeps the answer, in the transaction of the act. `response` is nothing when it is secret; `made`
/// is the id of what was made.
pub(crate) async fn keep(
    conn: &mut PgConnection,
    key: Option<&Key>,
    response: Option<Vec<u8>>,
    made: &str,
) -> Result<(), Refusal> {
    let Some(key) = key else {
        return Ok(());
    };
    store::insert(conn, key, response.as_deref(), made)
        .await
        .map_err(|source| database::refuse("keep an idempotency key", &source))
}

/// Forgets answers older than [`KEPT_FOR`], at most `limit` at once.
pub(crate) async fn forget(conn: &mut PgConnection, limit: i64) -> Result<u64, sqlx::Error> {
    store::delete_before(conn, KEPT_FOR, limit).await
}

/// Marks an answer that was given before.
pub(crate) fn replayed<T>(message: T) -> tonic::Response<T> {
    let mut response = tonic::Response::new(message);
    response
        .metadata_mut()
        .insert(REPLAYED, MetadataValue::from_static("true"));
    response
}
