//! Where archives lie: another host than the API's, to which no token may go.

use std::sync::PoisonError;

use axum::{
    Router,
    body::{Body, Bytes},
    extract::{Path, State as Extracted},
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
    routing::get,
};
use futures_util::stream;

use serde_json::Value;

use super::{
    Fake, Fault, Operation, Shared, State,
    fault::{limited, refusal, refused},
    reply::Reply,
};

/// What leads here.
pub(super) const OPERATION: &str = "repos/download-tarball-archive";
/// As faults and calls name it.
const CODELOAD: &str = "codeload";

impl Fake {
    /// What GitHub packs a commit as.
    pub fn packs(&self, repository: &str, commit: &str, archive: impl Into<Bytes>) {
        let archive = archive.into();
        self.with(|state| {
            let archives = &mut state.repository(repository).archives;
            archives.insert(commit.to_owned(), archive);
        });
    }
}

pub(super) fn router(state: Shared) -> Router {
    Router::new()
        .route("/{owner}/{repo}/legacy.tar.gz/{commit}", get(send))
        .with_state(state)
}

/// Where the archive of a commit is.
pub(super) fn redirect(state: &mut State, operation: &Operation) -> Reply {
    let said = |name: &str| operation.parameters.get(name).cloned().unwrap_or_default();
    let (name, commit) = (format!("{}/{}", said("owner"), said("repo")), said("ref"));
    if !state.repository(&name).archives.contains_key(&commit) {
        return refusal(StatusCode::NOT_FOUND, "Not Found");
    }
    let host = state.codeload;
    let place = format!("http://{host}/{name}/legacy.tar.gz/{commit}?token=expires");
    Reply::new(StatusCode::FOUND, Value::Null).with("location", place)
}

async fn send(
    Extracted(shared): Extracted<Shared>,
    Path((owner, repo, commit)): Path<(String, String, String)>,
    headers: HeaderMap,
) -> Response {
    let (archive, fault) = {
        let mut state = shared.lock().unwrap_or_else(PoisonError::into_inner);
        state.calls.push(CODELOAD.to_owned());
        if headers.contains_key("authorization") {
            state
                .broken
                .push("a token was sent to another host".to_owned());
        }
        let repository = state.repository(&format!("{owner}/{repo}"));
        let archive = repository.archives.get(&commit).cloned();
        (archive, state.fault(CODELOAD, &[&commit]))
    };
    let Some(archive) = archive else {
        return (StatusCode::NOT_FOUND, "404: Not Found").into_response();
    };
    match fault {
        // Limits are the API's.
        None | Some(Fault::Spent(_) | Fault::Pause(_)) => {
            ([("content-type", "application/x-gzip")], archive).into_response()
        }
        Some(Fault::Fails) => (StatusCode::BAD_GATEWAY, "no").into_response(),
        Some(Fault::Refused(status)) => refused(status).into_response(),
        Some(Fault::Limited(after)) => {
            limited(StatusCode::TOO_MANY_REQUESTS, after).into_response()
        }
        Some(Fault::Secondary(after)) => limited(StatusCode::FORBIDDEN, after).into_response(),
        Some(Fault::Silent | Fault::AnswerLost) => std::future::pending().await,
        Some(Fault::Cut) => {
            let half = archive.slice(..archive.len() / 2);
            let gone = std::io::Error::other("gone");
            Body::from_stream(stream::iter([Ok(half), Err(gone)])).into_response()
        }
    }
}
