//! A file of a release as an answer.

use std::{io, ops::Range, path::PathBuf, sync::Arc};

use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode, header};

use super::{
    Asked, Body,
    conditional::{has_it, is_wanted, range_holds},
    negotiate::negotiate,
    range,
};
use crate::{
    release::{
        File,
        content::{self, Content, Encoding, Form, SMALL_BYTES},
        memory::Memory,
    },
    rule::FOR_SHARED_CACHES,
};

const NOSNIFF_NAME: HeaderName = header::X_CONTENT_TYPE_OPTIONS;
const NOSNIFF: HeaderValue = HeaderValue::from_static("nosniff");
const FOR_EVER: HeaderValue = HeaderValue::from_static("public, max-age=31536000, immutable");
const ASK_AGAIN: HeaderValue = HeaderValue::from_static("public, max-age=0, must-revalidate");
const FOR_EVER_PRIVATE: HeaderValue =
    HeaderValue::from_static("private, max-age=31536000, immutable");
const ASK_AGAIN_PRIVATE: HeaderValue =
    HeaderValue::from_static("private, max-age=0, must-revalidate");
const VARY: HeaderValue = HeaderValue::from_static("accept-encoding");
const BYTES: HeaderValue = HeaderValue::from_static("bytes");
const BROTLI: HeaderValue = HeaderValue::from_static("br");
const GZIP: HeaderValue = HeaderValue::from_static("gzip");

/// Why a file could not be served.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error(transparent)]
    Content(#[from] content::Error),
    #[error("cannot open {}", .path.display())]
    Open {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

/// Answers with a file, as 200 (then conditions and ranges count) or as another status.
pub(super) async fn respond(
    file: &Arc<File>,
    status: StatusCode,
    asked: &Asked<'_>,
    memory: &Memory,
) -> Result<Response<Body>, Error> {
    let content = &file.content;
    let ranged = (status == StatusCode::OK && asked.method == Method::GET)
        .then(|| asked.headers.get(header::RANGE))
        .flatten();
    // Ranges are of the file as it is: who resumes one has no use for another form of it.
    let encoding = match ranged {
        Some(_) => Encoding::Identity,
        // Another file with the same content may have forms that this one has no use for.
        None if !file.compressible => Encoding::Identity,
        None => negotiate(asked.headers, content),
    };
    let form = content.form(encoding).unwrap_or_else(|| content.identity());
    let mut response = Response::new(Body::Empty);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.reserve(12);
    describe(file, form, status, headers);
    if status == StatusCode::OK && !is_wanted(asked.headers, &form.etag) {
        headers.insert(header::CACHE_CONTROL, ASK_AGAIN);
        *response.status_mut() = StatusCode::PRECONDITION_FAILED;
        return Ok(response);
    }
    if status == StatusCode::OK && has_it(asked.headers, &form.etag) {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        return Ok(response);
    }
    headers.insert(header::CONTENT_TYPE, file.content_type.clone());
    match encoding {
        Encoding::Identity => {}
        Encoding::Brotli => drop(headers.insert(header::CONTENT_ENCODING, BROTLI)),
        Encoding::Gzip => drop(headers.insert(header::CONTENT_ENCODING, GZIP)),
    }
    if let Some(ranged) = ranged.filter(|_| range_holds(asked.headers, &form.etag)) {
        let part = range::parse(ranged.to_str().unwrap_or_default(), form.size);
        if part_of(content, form, part, &mut response, memory).await? {
            return Ok(response);
        }
    }
    if asked.method == Method::HEAD {
        headers_insert_length(response.headers_mut(), form.size);
    } else {
        *response.body_mut() = whole(content, form, encoding, memory).await?;
    }
    Ok(response)
}

/// Headers of every answer with this form, also of 304.
fn describe(file: &File, form: &Form, status: StatusCode, headers: &mut HeaderMap) {
    headers.insert(NOSNIFF_NAME, NOSNIFF);
    if file.compressible {
        headers.insert(header::VARY, VARY);
    }
    if status != StatusCode::OK {
        headers.insert(header::CACHE_CONTROL, ASK_AGAIN);
        return;
    }
    headers.insert(header::ETAG, form.etag.clone());
    headers.insert(header::ACCEPT_RANGES, BYTES);
    let keep = if file.immutable { FOR_EVER } else { ASK_AGAIN };
    headers.insert(header::CACHE_CONTROL, keep);
}

/// While a host is split, what one visitor gets is not for another one's cache. Assets for ever are
/// the same for all, but an answer with a cookie is for one. What a rule of the site says of browsers
/// stays.
pub(super) fn make_private(headers: &mut HeaderMap, with_cookie: bool) {
    for name in FOR_SHARED_CACHES {
        headers.remove(name);
    }
    let kept = match headers.get(header::CACHE_CONTROL) {
        Some(value) if value == ASK_AGAIN => Some(ASK_AGAIN_PRIVATE),
        Some(value) if value == FOR_EVER => with_cookie.then_some(FOR_EVER_PRIVATE),
        _ => without_shared_caches(headers),
    };
    if let Some(kept) = kept {
        headers.insert(header::CACHE_CONTROL, kept);
    }
}

/// The same `cache-control` for browsers alone; nothing when nobody is to keep it in any case.
fn without_shared_caches(headers: &HeaderMap) -> Option<HeaderValue> {
    let said = headers.get_all(header::CACHE_CONTROL).iter();
    let directives = said
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .filter(|directive| !directive.is_empty());
    let mut kept = "private".to_owned();
    for directive in directives {
        let name = directive.split('=').next().unwrap_or_default();
        match name.trim().to_ascii_lowercase().as_str() {
            "no-store" => return None,
            "public" | "private" | "s-maxage" | "proxy-revalidate" => {}
            _ => {
                kept.push_str(", ");
                kept.push_str(directive);
            }
        }
    }
    HeaderValue::try_from(kept).ok()
}

async fn whole(
    content: &Arc<Content>,
    form: &Form,
    encoding: Encoding,
    memory: &Memory,
) -> Result<Body, Error> {
    if form.size <= SMALL_BYTES {
        return Ok(Body::whole(content::body(content, encoding, memory).await?));
    }
    open(form, 0..form.size).await
}

/// Makes the answer one of 206 or 416; false when all was asked for.
async fn part_of(
    content: &Arc<Content>,
    form: &Form,
    part: range::Asked,
    response: &mut Response<Body>,
    memory: &Memory,
) -> Result<bool, Error> {
    let (status, said, body) = match part {
        range::Asked::All => return Ok(false),
        range::Asked::Outside => {
            let said = format!("bytes */{}", form.size);
            (StatusCode::RANGE_NOT_SATISFIABLE, said, Body::Empty)
        }
        range::Asked::Part(range) => {
            let said = format!("bytes {}-{}/{}", range.start, range.end - 1, form.size);
            let body = stretch(content, form, range, memory).await?;
            (StatusCode::PARTIAL_CONTENT, said, body)
        }
    };
    *response.status_mut() = status;
    *response.body_mut() = body;
    let headers = response.headers_mut();
    if status == StatusCode::RANGE_NOT_SATISFIABLE {
        headers.insert(header::CACHE_CONTROL, ASK_AGAIN);
    }
    if let Ok(said) = HeaderValue::try_from(said) {
        headers.insert(header::CONTENT_RANGE, said);
    }
    Ok(true)
}

async fn stretch(
    content: &Arc<Content>,
    form: &Form,
    range: Range<u64>,
    memory: &Memory,
) -> Result<Body, Error> {
    if form.size <= SMALL_BYTES {
        let bytes = content::body(content, Encoding::Identity, memory).await?;
        let place = |at| usize::try_from(at).unwrap_or(usize::MAX).min(bytes.len());
        return Ok(Body::whole(
            bytes.slice(place(range.start)..place(range.end)),
        ));
    }
    open(form, range).await
}

async fn open(form: &Form, range: Range<u64>) -> Result<Body, Error> {
    Body::file(&form.path, range)
        .await
        .map_err(|source| Error::Open {
            path: form.path.clone(),
            source,
        })
}

/// For HEAD, whose body is not there to be measured.
pub(super) fn headers_insert_length(headers: &mut HeaderMap, size: u64) {
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(size));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn private(value: &'static str, with_cookie: bool) -> String {
        let mut headers = HeaderMap::new();
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static(value));
        headers.insert("cdn-cache-control", HeaderValue::from_static("max-age=9"));
        make_private(&mut headers, with_cookie);
        assert!(!headers.contains_key("cdn-cache-control"));
        headers[header::CACHE_CONTROL].to_str().unwrap().to_owned()
    }

    #[test]
    fn no_shared_cache_keeps_what_one_visitor_gets() {
        for (said, kept) in [
            (
                "public, max-age=0, must-revalidate",
                "private, max-age=0, must-revalidate",
            ),
            ("public, max-age=600", "private, max-age=600"),
            ("Public,S-MaxAge=60 , max-age=5", "private, max-age=5"),
            ("max-age=60", "private, max-age=60"),
            ("private", "private"),
            ("no-store", "no-store"),
        ] {
            assert_eq!(private(said, false), kept, "{said}");
            assert_eq!(private(said, true), kept, "{said}");
        }
        let hashed = "public, max-age=31536000, immutable";
        assert_eq!(private(hashed, false), hashed);
        assert_eq!(
            private(hashed, true),
            "private, max-age=31536000, immutable"
        );
    }
}
