//! What answers without a token: the API's description and the front page.

use std::sync::Arc;

use http::{HeaderMap, Response, header};
use tonic::body::Body;

use crate::{contract::Contract, front::text, openapi};

const JSON: &str = "application/json";

/// The pages; cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Pages {
    pub(crate) contract: Arc<Contract>,
}

/// One of the pages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Page {
    OpenApi,
}

impl Pages {
    /// The page at a path.
    pub(crate) fn find(path: &str) -> Option<Page> {
        match path {
            "/openapi.json" => Some(Page::OpenApi),
            _ => None,
        }
    }

    /// Renders a page for whoever asks by these headers.
    pub(crate) fn answer(&self, page: &Page, headers: &HeaderMap) -> Response<Body> {
        match page {
            Page::OpenApi => text(
                JSON,
                openapi::document(&self.contract, &base_url(headers)).to_string(),
            ),
        }
    }
}

/// The address by which the caller reached us.
fn base_url(headers: &HeaderMap) -> String {
    let host = headers
        .get(header::HOST)
        .and_then(|host| host.to_str().ok());
    format!("http://{}", host.unwrap_or("127.0.0.1:8090"))
}
