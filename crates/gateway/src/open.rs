//! What answers without a token: the front page and the API's description.

use std::sync::{Arc, OnceLock};

use http::{HeaderMap, HeaderName, HeaderValue, Response, header};
use tonic::body::Body;

use crate::{
    contract::Contract,
    front::text,
    openapi::{self, sample},
    overview::Overview,
    pages,
    problem::{Kind, kinds},
};

const JSON: &str = "application/json";
const POLICY: HeaderName = header::CONTENT_SECURITY_POLICY;

/// Stands in a kept text for the address by which the next reader reached us.
const ADDRESS: &str = "http://candlefish.invalid";

/// The pages. Those about the API are made once and kept: everybody may ask for them, as often as
/// they like, and only our address in them differs.
#[derive(Debug)]
pub(crate) struct Pages {
    contract: Arc<Contract>,
    overview: Overview,
    docs: OnceLock<String>,
    openapi: OnceLock<String>,
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
    pub(crate) const fn new(contract: Arc<Contract>, overview: Overview) -> Self {
        Self {
            contract,
            overview,
            docs: OnceLock::new(),
            openapi: OnceLock::new(),
        }
    }

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
            Page::OpenApi => {
                let make = || openapi::document(&self.contract, ADDRESS).to_string();
                text(JSON, self.openapi.get_or_init(make).replace(ADDRESS, &base))
            }
            Page::Docs => {
                let make = || pages::docs(&self.contract, ADDRESS);
                let page = self.docs.get_or_init(make).replace(ADDRESS, &base);
                html(page, &pages::docs_policy())
            }
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

/// The address by which the caller reached us, without what would mean anything in a page, a JSON
/// text or a shell. A proxy that ends TLS says so.
fn base_url(headers: &HeaderMap) -> String {
    let said = |name: &HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
    let host = said(&header::HOST).unwrap_or("127.0.0.1:8090");
    let secure = said(&HeaderName::from_static("x-forwarded-proto")) == Some("https");
    let scheme = if secure { "https" } else { "http" };
    sample::plain(&format!("{scheme}://{host}"))
}
