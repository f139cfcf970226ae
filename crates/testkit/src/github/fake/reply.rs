//! An answer before it is sent, so that it can be held against the description.

use std::fmt::Display;

use axum::{
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
};
use serde_json::Value;

/// What is answered.
#[derive(Debug)]
pub(super) struct Reply {
    pub(super) status: StatusCode,
    /// Null where there is none.
    pub(super) body: Value,
    headers: HeaderMap,
}

impl Reply {
    pub(super) fn new(status: StatusCode, body: Value) -> Self {
        let headers = HeaderMap::new();
        Self {
            status,
            body,
            headers,
        }
    }

    /// The same with one more header.
    pub(super) fn with(mut self, name: &'static str, value: impl Display) -> Self {
        let value = value.to_string().parse().unwrap();
        self.headers.insert(name, value);
        self
    }
}

impl IntoResponse for Reply {
    fn into_response(self) -> Response {
        if self.body.is_null() {
            return (self.status, self.headers).into_response();
        }
        (self.status, self.headers, axum::Json(self.body)).into_response()
    }
}
