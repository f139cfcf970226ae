//! Blob uploads to the directory: the signed URL says what may be stored; no token is needed.

use std::io;

use axum::{
    Router,
    body::Body,
    extract::{Path, RawQuery, State},
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
    routing::put,
};
use candlefish_blobs::{Error, Put};
use futures_util::{StreamExt, TryStreamExt};

use crate::{ctx::Ctx, step::worker::chain};

/// `PUT /blobs/{digest}` with the query of a signed URL.
pub(crate) fn router(ctx: Ctx) -> Router {
    Router::new()
        .route("/blobs/{digest}", put(upload))
        .with_state(ctx)
}

async fn upload(
    State(ctx): State<Ctx>,
    Path(digest): Path<String>,
    RawQuery(query): RawQuery,
    body: Body,
) -> Response {
    let Some(key) = &ctx.config.upload_key else {
        let words = "this platform keeps blobs in S3: upload to the URL that `:missing` gives";
        return problem(StatusCode::NOT_FOUND, "no-uploads-here", words);
    };
    let now = match ctx.now().await {
        Ok(now) => now,
        Err(error) => {
            tracing::warn!(error = %chain(&error), "an upload is refused: no clock");
            let words = "the database does not answer; upload again";
            return problem(
                StatusCode::SERVICE_UNAVAILABLE,
                "database-unavailable",
                words,
            );
        }
    };
    let seconds = u64::try_from(now.timestamp().as_second()).unwrap_or(0);
    let allowed = key.verify(&digest, query.as_deref().unwrap_or_default(), seconds);
    let (digest, size) = match allowed {
        Ok(allowed) => allowed,
        Err(refused) => {
            let words = refused.to_string();
            return problem(StatusCode::FORBIDDEN, "upload-not-allowed", &words);
        }
    };
    let pieces = body
        .into_data_stream()
        .map_err(|error| Error::Body(Box::new(io::Error::other(error))))
        .boxed();
    match ctx.blobs.put(&digest, size, pieces).await {
        Ok(Put::Stored) => StatusCode::CREATED.into_response(),
        Ok(Put::Existed) => StatusCode::OK.into_response(),
        Err(error) => refused(&error),
    }
}

fn refused(error: &Error) -> Response {
    let words = chain(error);
    match error {
        Error::Corrupt { .. } | Error::Size { .. } | Error::Large { .. } | Error::Body(_) => {
            problem(StatusCode::UNPROCESSABLE_ENTITY, "content-differs", &words)
        }
        _ => {
            tracing::error!(error = words, "a blob was not stored");
            let words = "the blob was not stored; upload it again";
            problem(StatusCode::SERVICE_UNAVAILABLE, "blobs-unavailable", words)
        }
    }
}

/// As the gateway's own problems look; the gateway adds the request's id, which it alone knows.
fn problem(status: StatusCode, reason: &str, words: &str) -> Response {
    let (kind, code, title) = match status {
        StatusCode::NOT_FOUND => ("not-found", "NOT_FOUND", "Not there"),
        StatusCode::FORBIDDEN => ("permission-denied", "PERMISSION_DENIED", "Not allowed"),
        StatusCode::UNPROCESSABLE_ENTITY => (
            "invalid-argument",
            "INVALID_ARGUMENT",
            "The request is wrong",
        ),
        _ => ("unavailable", "UNAVAILABLE", "Not now"),
    };
    let body = serde_json::json!({
        "type": format!("/problems/{kind}"),
        "title": title,
        "status": status.as_u16(),
        "code": code,
        "reason": reason,
        "detail": words,
    });
    let mut response = (status, body.to_string()).into_response();
    let kind = HeaderValue::from_static("application/problem+json");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}
