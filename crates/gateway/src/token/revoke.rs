//! Ends a token at once: here now, on other replicas when their memory of it ends. One that reaches
//! further than the caller's is not there.

use candlefish_ids::TokenId;
use candlefish_proto::access;
use candlefish_runtime::{
    database,
    identity::Caller,
    refusal::{Code, Refusal},
};
use sqlx::PgPool;
use tonic::{Response, metadata::MetadataMap};

use super::{is_within, store};
use crate::{
    field::Faults,
    idempotency::{self, Key},
    rehearsal::Rehearsal,
};

pub(crate) async fn revoke(
    pool: &PgPool,
    metadata: &MetadataMap,
    caller: &Caller,
    request: access::RevokeTokenRequest,
    rehearsal: Rehearsal,
) -> Result<Response<access::Token>, Refusal> {
    let key = Key::of(metadata, caller, "RevokeToken", &request)?;
    let id = read(&request)?;
    let failed = |source: sqlx::Error| database::refuse("revoke a token", &source);
    let not_found = || {
        let words = format!("there is no token {:?}", request.id);
        Refusal::new(Code::NotFound, "token-not-found", &words).field("id", words)
    };
    let mut tx = pool.begin().await.map_err(failed)?;
    if let Some(before) = idempotency::replay::<access::Token>(&mut tx, key.as_ref()).await? {
        // Keys are the principal's, who may have called with another token.
        if !is_within(&before.sites, &caller.sites) {
            return Err(not_found());
        }
        return Ok(idempotency::replayed(before));
    }
    let token = store::revoke(&mut tx, id, &caller.sites)
        .await
        .map_err(failed)?
        .ok_or_else(not_found)?;
    let answer = access::Token::from(token);
    let bytes = prost::Message::encode_to_vec(&answer);
    idempotency::keep(&mut tx, key.as_ref(), Some(bytes), &answer.id).await?;
    if rehearsal.end(tx).await.map_err(failed)? {
        tracing::info!(
            token = answer.id,
            principal = answer.principal,
            by = caller.principal,
            "token revoked"
        );
    }
    Ok(Response::new(answer))
}

/// Names what is wrong with a request that is not carried out.
pub(crate) fn judge(request: &access::RevokeTokenRequest) -> Result<(), Refusal> {
    read(request).map(drop)
}

fn read(request: &access::RevokeTokenRequest) -> Result<TokenId, Refusal> {
    request.id.parse::<TokenId>().map_err(|problem| {
        let mut faults = Faults::default();
        faults.add("id", problem.to_string());
        faults.refusal()
    })
}
