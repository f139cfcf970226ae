//! Pages of the edge itself, for when no release has one.

use bytes::Bytes;
use http::{HeaderValue, Method, Response, StatusCode, header};

use super::{Body, file::headers_insert_length};

const HTML: HeaderValue = HeaderValue::from_static("text/html; charset=utf-8");
const NO_STORE: HeaderValue = HeaderValue::from_static("no-store");
const ASK_AGAIN: HeaderValue = HeaderValue::from_static("public, max-age=0, must-revalidate");
const NOSNIFF: HeaderValue = HeaderValue::from_static("nosniff");
const GET_AND_HEAD: HeaderValue = HeaderValue::from_static("GET, HEAD");
/// When to ask again, in seconds.
const SOON: HeaderValue = HeaderValue::from_static("2");
/// The same, where what is missing may be missing for long.
const LATER: HeaderValue = HeaderValue::from_static("10");

/// A page with a heading and a sentence; `what` may hold anything.
fn page(method: &Method, status: StatusCode, heading: &str, what: &str) -> Response<Body> {
    let what = escape(what);
    let text = format!(
        "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>{heading}</title>\n\
         <style>:root{{color-scheme:light dark}}body{{font:1.1rem/1.5 system-ui,sans-serif;\
         max-width:36rem;margin:20vh auto 0;padding:0 1.5rem}}h1{{font-size:1.4rem;margin:0}}\
         p{{margin:.5rem 0 0;overflow-wrap:anywhere}}</style>\n\
         <h1>{heading}</h1>\n<p>{what}</p>\n</html>\n"
    );
    let mut response = Response::new(Body::Empty);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HTML);
    headers.insert(header::CACHE_CONTROL, NO_STORE);
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, NOSNIFF);
    if method == Method::HEAD {
        headers_insert_length(headers, u64::try_from(text.len()).unwrap_or_default());
    } else {
        *response.body_mut() = Body::whole(text.into());
    }
    response
}

fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    out
}

/// No route has this host.
pub(super) fn unknown_host(method: &Method, host: &str) -> Response<Body> {
    let what = format!("No site is served at {host}.");
    page(method, StatusCode::NOT_FOUND, "Unknown host", &what)
}

/// The same to a probe of ours.
pub(super) fn not_here_yet(method: &Method, host: &str) -> Response<Body> {
    let mut response = unknown_host(method, host);
    *response.status_mut() = StatusCode::MISDIRECTED_REQUEST;
    response
}

/// The route was taken away, or has no traffic yet.
pub(super) fn nothing(method: &Method, host: &str) -> Response<Body> {
    let what = format!("Nothing is live at {host} now.");
    page(method, StatusCode::NOT_FOUND, "Nothing here", &what)
}

/// The content is not on this edge.
pub(super) fn unstaged(method: &Method, host: &str) -> Response<Body> {
    let what = format!("The content of {host} is not on this server yet. Try again in a moment.");
    let status = StatusCode::SERVICE_UNAVAILABLE;
    let mut response = page(method, status, "Not ready", &what);
    response.headers_mut().insert(header::RETRY_AFTER, SOON);
    response
}

/// It is a preview, and nobody has said lately that it is still open.
pub(super) fn out_of_contact(method: &Method, host: &str) -> Response<Body> {
    let what = format!(
        "This server has not heard lately whether the preview at {host} is still open: it cannot \
         reach the deployment platform. Try again in a moment."
    );
    let status = StatusCode::SERVICE_UNAVAILABLE;
    let mut response = page(method, status, "Preview not available", &what);
    response.headers_mut().insert(header::RETRY_AFTER, LATER);
    response
}

/// The release has neither the path nor a `404.html`.
pub(super) fn not_found(method: &Method) -> Response<Body> {
    let what = "There is no page at this address.";
    let mut response = page(method, StatusCode::NOT_FOUND, "Page not found", what);
    response
        .headers_mut()
        .insert(header::CACHE_CONTROL, ASK_AGAIN);
    response
}

/// A request that means nothing.
pub(super) fn bad_request(method: &Method, why: &str) -> Response<Body> {
    page(method, StatusCode::BAD_REQUEST, "Bad request", why)
}

/// Neither GET nor HEAD.
pub(super) fn method_not_allowed() -> Response<Body> {
    let what = "This site answers GET and HEAD.";
    let status = StatusCode::METHOD_NOT_ALLOWED;
    let mut response = page(&Method::GET, status, "Method not allowed", what);
    response.headers_mut().insert(header::ALLOW, GET_AND_HEAD);
    response
}

/// The disk did not give what was verified.
pub(super) fn unreadable(method: &Method) -> Response<Body> {
    let what = "The server could not read this page.";
    page(
        method,
        StatusCode::INTERNAL_SERVER_ERROR,
        "Server error",
        what,
    )
}

/// To another address.
pub(super) fn redirect(status: u16, location: HeaderValue) -> Response<Body> {
    let mut response = Response::new(Body::whole(Bytes::new()));
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::FOUND);
    let headers = response.headers_mut();
    headers.insert(header::LOCATION, location);
    headers.insert(header::CACHE_CONTROL, ASK_AGAIN);
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_visitor_sent_is_not_markup() {
        let response = unknown_host(&Method::GET, "<script>\"x'&");
        let Body::Whole(Some(bytes)) = response.into_body() else {
            panic!("a page has a body");
        };
        let text = String::from_utf8(bytes.to_vec()).unwrap();
        assert!(
            text.contains("at &lt;script&gt;&quot;x&#39;&amp;."),
            "{text}"
        );
    }
}
