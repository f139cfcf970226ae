//! What answers without a token: the API's description and the front page.

use std::sync::Arc;

use http::{HeaderMap, Response};
use tonic::body::Body;

use crate::contract::Contract;

/// The pages; cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Pages {
    pub(crate) contract: Arc<Contract>,
}

/// One of the pages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Page {
    Problem(String),
}

impl Pages {
    /// The page at a path.
    pub(crate) fn find(&self, path: &str) -> Option<Page> {
        path.strip_prefix("/problems/")
            .map(|slug| Page::Problem(slug.to_owned()))
    }

    pub(crate) async fn answer(&self, page: Page, _headers: &HeaderMap) -> Response<Body> {
        let Page::Problem(slug) = page;
        let text = crate::problem::kinds::by_slug(&slug).map_or("no such problem", |k| k.about);
        crate::front::text("text/plain; charset=utf-8", text)
    }
}
