//! What answers without a token: the front page and the API's description. Who sends a token is shown
//! its sites on the front page.

use std::sync::{Arc, OnceLock};

use candlefish_ids::RequestId;
use http::{HeaderMap, HeaderName, HeaderValue, Response, Uri, header, uri::Authority};
use tonic::{Status, body::Body};

use crate::{
    auth::Auth,
    contract::Contract,
    front::text,
    openapi::{self, example, sample},
    overview::{Asker, Overview},
    pages,
    problem::{self, Kind, Problem, kinds},
};

const JSON: &str = "application/json";
const POLICY: HeaderName = header::CONTENT_SECURITY_POLICY;

/// Stands in a kept text for the address by which the next reader reached us.
const ADDRESS: &str = "http://candlefish.invalid";

/// The pages. Those about the API are made once and kept: everybody may ask for them, as often as
/// they like, and only our address in them differs, and the day.
#[derive(Debug)]
pub(crate) struct Pages {
    contract: Arc<Contract>,
    auth: Auth,
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
    pub(crate) const fn new(contract: Arc<Contract>, auth: Auth, overview: Overview) -> Self {
        Self {
            contract,
            auth,
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

    /// Renders a page for whoever asks by this address and these headers.
    pub(crate) async fn answer(
        &self,
        page: Page,
        uri: &Uri,
        headers: &HeaderMap,
        request_id: RequestId,
    ) -> Response<Body> {
        let base = base_url(uri, headers);
        match page {
            Page::OpenApi => {
                let make = || openapi::document(&self.contract, ADDRESS).to_string();
                text(JSON, shown(self.openapi.get_or_init(make), &base))
            }
            Page::Docs => {
                let make = || pages::docs(&self.contract, ADDRESS);
                let page = shown(self.docs.get_or_init(make), &base);
                html(page, &pages::docs_policy())
            }
            Page::Problem(kind) => html(pages::problem(kind), &pages::policy()),
            Page::Home => self.home(base, headers, request_id).await,
        }
    }

    async fn home(
        &self,
        base: String,
        headers: &HeaderMap,
        request_id: RequestId,
    ) -> Response<Body> {
        if !has_token(headers) {
            let home = self.overview.look(base, Asker::Anyone).await;
            return html(pages::home(&home), &pages::policy());
        }
        let verified = match self.auth.verify(headers).await {
            Ok(verified) => verified,
            Err(refusal) => return refused(&Status::from(refusal), request_id),
        };
        let asker = Asker::Token(verified.caller.sites.clone());
        let home = self.overview.look(base, asker).await;
        let mut page = html(pages::home(&home), &pages::policy());
        let no_store = HeaderValue::from_static("no-store");
        page.headers_mut().insert(header::CACHE_CONTROL, no_store);
        page
    }
}

/// A kept text for who reached us by this address, today.
fn shown(kept: &str, base: &str) -> String {
    let text = kept.replace(ADDRESS, base);
    text.replace(example::UNTIL, &tomorrow())
}

/// A time to come, for who tries an example: the begun hour, a day later.
#[expect(clippy::disallowed_methods, reason = "nothing is decided by it")]
fn tomorrow() -> String {
    let then = jiff::Timestamp::now() + jiff::SignedDuration::from_hours(24);
    then.strftime("%FT%H:00:00Z").to_string()
}

/// Whether the asker has a token to show. A login at a proxy before us is none.
fn has_token(headers: &HeaderMap) -> bool {
    let said = headers.get(header::AUTHORIZATION);
    let said = said.and_then(|value| value.to_str().ok());
    let scheme = said.and_then(|text| text.split_whitespace().next());
    scheme.is_some_and(|scheme| scheme.eq_ignore_ascii_case("bearer"))
}

fn refused(status: &Status, request_id: RequestId) -> Response<Body> {
    let problem = Problem::from(status);
    problem::log(&problem, request_id, "GET", "/");
    problem.respond(&request_id.to_string()).map(Body::new)
}

fn html(body: String, policy: &str) -> Response<Body> {
    let mut response = text(pages::MEDIA_TYPE, body);
    if let Ok(policy) = HeaderValue::from_str(policy) {
        response.headers_mut().insert(POLICY, policy);
    }
    response
}

/// The address by which the caller reached us, without what would mean anything in a page, a JSON
/// text or a shell. A proxy that ends TLS says so. HTTP/2 has no `Host`: there the address names it.
fn base_url(uri: &Uri, headers: &HeaderMap) -> String {
    let said = |name: &HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
    let host = said(&header::HOST).or_else(|| uri.authority().map(Authority::as_str));
    let host = host.unwrap_or("127.0.0.1:8090");
    let secure = said(&HeaderName::from_static("x-forwarded-proto")) == Some("https");
    let scheme = if secure { "https" } else { "http" };
    sample::plain(&format!("{scheme}://{host}"))
}
