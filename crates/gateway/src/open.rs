//! What answers without a token: the front page and the API's description.

use std::sync::Arc;

use http::{HeaderMap, HeaderName, HeaderValue, Response, header};
use tonic::body::Body;

use crate::{
    contract::Contract,
    front::text,
    openapi,
    overview::Overview,
    pages,
    problem::{Kind, kinds},
};

const JSON: &str = "application/json";
const POLICY: HeaderName = header::CONTENT_SECURITY_POLICY;

/// The pages; cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Pages {
    pub(crate) contract: Arc<Contract>,
    pub(crate) overview: Overview,
}

/// One of the pages.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Page {
    Home,
    Docs,
    OpenApi,
    Problem(&'static Kind),
}

impl Pages {
    /// The page at a path.
    pub(crate) fn find(path: &str) -> Option<Page> {
        match path {
            "/" => Some(Page::Home),
            "/docs" => Some(Page::Docs),
            "/openapi.json" => Some(Page::OpenApi),
            _ => kinds::by_slug(path.strip_prefix("/problems/")?).map(Page::Problem),
        }
    }

    /// Renders a page for whoever asks by these headers.
    pub(crate) async fn answer(&self, page: Page, headers: &HeaderMap) -> Response<Body> {
        let base = base_url(headers);
        match page {
            Page::OpenApi => text(JSON, openapi::document(&self.contract, &base).to_string()),
            Page::Docs => html(pages::docs(&self.contract, &base), &pages::docs_policy()),
            Page::Problem(kind) => html(pages::problem(kind), &pages::policy()),
            Page::Home => html(
                pages::home(&self.overview.look(base).await),
                &pages::policy(),
            ),
        }
    }
}

fn html(body: String, policy: &str) -> Response<Body> {
    let mut response = text(pages::MEDIA_TYPE, body);
    if let Ok(policy) = HeaderValue::from_str(policy) {
        response.headers_mut().insert(POLICY, policy);
    }
    response
}

/// The address by which the caller reached us.
fn base_url(headers: &HeaderMap) -> String {
    let host = headers
        .get(header::HOST)
        .and_then(|host| host.to_str().ok());
    format!("http://{}", host.unwrap_or("127.0.0.1:8090"))
}
