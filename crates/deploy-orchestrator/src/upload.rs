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
use candlefish_blobs::{Error, Put, Refused};
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
    // Before the database is asked for the time: a stranger does not cost it a call.
    let signed = match key.read(&digest, query.as_deref().unwrap_or_default()) {
        Ok(signed) => signed,
        Err(refused) => return not_allowed(&refused),
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
    let (digest, size) = match signed.at(seconds) {
        Ok(allowed) => allowed,
        Err(refused) => return not_allowed(&refused),
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

fn not_allowed(why: &Refused) -> Response {
    let words = why.to_string();
    problem(StatusCode::FORBIDDEN, "upload-not-allowed", &words)
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use candlefish_blobs::{Options, open};
    use candlefish_runtime::config::Env;
    use sqlx::PgPool;

    use super::*;
    use crate::{Config, ctx::Nudges};

    /// The database is away.
    async fn ctx(dir: &tempfile::TempDir) -> Ctx {
        let blobs = format!("dir:{}", dir.path().display());
        let key = "5a".repeat(32);
        let pairs = [
            ("CANDLEFISH_LISTEN", "127.0.0.1:0"),
            ("CANDLEFISH_OPS_LISTEN", "127.0.0.1:0"),
            ("CANDLEFISH_DATABASE_URL", "unused"),
            ("CANDLEFISH_NATS_URL", "unused"),
            ("CANDLEFISH_IDENTITY_KEY", "unused"),
            ("CANDLEFISH_TRUSTED_KEYS", "unused"),
            ("CANDLEFISH_BLOBS", &blobs),
            ("CANDLEFISH_BLOB_SIGNING_KEY", &key),
        ];
        let pairs = pairs.map(|(name, value)| (name, value.to_owned()));
        Ctx {
            pool: PgPool::connect_lazy("postgres://nobody@127.0.0.1:9/nothing").unwrap(),
            config: Arc::new(Config::read(Env::from_pairs(pairs)).unwrap()),
            blobs: open(&blobs, Options::default()).await.unwrap(),
            nudges: Nudges::default(),
            rehearses: false,
        }
    }

    #[tokio::test]
    async fn a_url_that_was_not_signed_here_is_refused_without_the_database() {
        let dir = tempfile::tempdir().unwrap();
        let ctx = ctx(&dir).await;
        for query in ["", "size=5&expires=99999999999&signature=00"] {
            let digest = Path("ab".repeat(32));
            let query = RawQuery(Some(query.to_owned()));
            let answer = upload(State(ctx.clone()), digest, query, Body::empty()).await;
            assert_eq!(answer.status(), StatusCode::FORBIDDEN);
        }
    }
}
