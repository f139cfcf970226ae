//! `_headers`: a path, and below it, indented, `name: value` lines. All blocks that match count.

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};

use super::{Error, MAX_RULES, pattern::Pattern};

pub(super) const FILE: &str = "_headers";
/// Headers of one path: many more than anybody needs.
const MAX_OF_PATH: usize = 100;
/// What shared caches heed before `cache-control`.
pub(crate) const FOR_SHARED_CACHES: [&str; 2] = ["cdn-cache-control", "surrogate-control"];

/// All blocks of a release, in their order.
#[derive(Debug, Default)]
pub(crate) struct Headers {
    blocks: Vec<Block>,
}

#[derive(Debug)]
struct Block {
    path: Pattern,
    headers: Vec<(HeaderName, HeaderValue)>,
}

impl Headers {
    pub(crate) fn parse(text: &str) -> Result<Self, Error> {
        let mut all = Self::default();
        let mut count = 0;
        for (index, line) in text.lines().enumerate() {
            let fault = |why: String| Error {
                file: FILE,
                line: index + 1,
                why,
            };
            let indented = line.starts_with([' ', '\t']);
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            if !indented {
                if all.blocks.len() == MAX_RULES {
                    return Err(fault(format!("more than {MAX_RULES} paths")));
                }
                let path = Pattern::parse(line).map_err(|why| fault(why.to_owned()))?;
                all.blocks.push(Block {
                    path,
                    headers: Vec::new(),
                });
                continue;
            }
            let header = parse_header(line).map_err(fault)?;
            let block = all.blocks.last_mut();
            let block = block.ok_or_else(|| fault("a header needs a path above it".to_owned()))?;
            if block.headers.len() == MAX_OF_PATH {
                return Err(fault(format!("more than {MAX_OF_PATH} headers for a path")));
            }
            if count == MAX_RULES {
                return Err(fault(format!("more than {MAX_RULES} headers")));
            }
            count += 1;
            block.headers.push(header);
        }
        Ok(all)
    }

    /// Sets what the blocks for this path (decoded, without its first slash) say: the first value
    /// of a name takes the place of ours, more of them are added. What is no file keeps what says of what
    /// kind it is and for how long: a rule for the assets of a folder must not make one that is missing
    /// stay missing for a year, and a redirect from `guide` to `guide/` that browsers keep goes round in
    /// circles with the one back that the next release may have.
    pub(crate) fn apply(&self, path: &str, status: StatusCode, headers: &mut HeaderMap) {
        let is_file = status.is_success() || status == StatusCode::NOT_MODIFIED;
        let matching = self.blocks.iter().filter(|b| b.path.covers(path));
        let set: Vec<_> = matching
            .flat_map(|block| &block.headers)
            .filter(|(name, _)| is_file || !is_of_files(name))
            .collect();
        // Ours go first: to look for each name among those before it takes too long for many.
        for (name, _) in &set {
            headers.remove(name);
        }
        for (name, value) in set {
            headers.append(name, value.clone());
        }
    }
}

fn parse_header(line: &str) -> Result<(HeaderName, HeaderValue), String> {
    let (name, value) = line.split_once(':').ok_or("a header needs a colon")?;
    let parsed = HeaderName::try_from(name.trim());
    let name = parsed.map_err(|error| format!("{:?} is no header name: {error}", name.trim()))?;
    if is_ours(&name) {
        return Err(format!("the edge sets {name} itself"));
    }
    let value = HeaderValue::from_str(value.trim());
    let value =
        value.map_err(|error| format!("{name} has a value that no header can carry: {error}"))?;
    Ok((name, value))
}

/// Headers that a rule gives to what it names, and not to what says that it is elsewhere or not there.
fn is_of_files(name: &HeaderName) -> bool {
    FOR_SHARED_CACHES.contains(&name.as_str())
        || [header::CACHE_CONTROL, header::CONTENT_TYPE, header::EXPIRES].contains(name)
}

/// Headers that say how the answer is sent, or who may keep it: a site's rule would break them.
fn is_ours(name: &HeaderName) -> bool {
    name.as_str().starts_with("candlefish")
        || [
            header::ACCEPT_RANGES,
            header::AGE,
            header::ALLOW,
            header::CONNECTION,
            header::CONTENT_ENCODING,
            header::CONTENT_LENGTH,
            header::CONTENT_RANGE,
            header::DATE,
            header::ETAG,
            header::LOCATION,
            header::SERVER,
            header::SET_COOKIE,
            header::TE,
            header::TRAILER,
            header::TRANSFER_ENCODING,
            header::UPGRADE,
            header::VARY,
        ]
        .contains(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_matching_blocks_count() {
        let rules = Headers::parse(
            "# all\n/*\n  X-Frame-Options: DENY\n  Link: </a>\n/assets/*\n\tcache-control: public, max-age=60\n  Link: </b>\n",
        )
        .unwrap();
        let mut headers = HeaderMap::new();
        headers.insert("cache-control", HeaderValue::from_static("ours"));
        rules.apply("assets/x.css", StatusCode::OK, &mut headers);
        assert_eq!(headers["x-frame-options"], "DENY");
        assert_eq!(headers["cache-control"], "public, max-age=60");
        let links: Vec<_> = headers.get_all("link").iter().collect();
        assert_eq!(links, ["</a>", "</b>"]);
        let mut other = HeaderMap::new();
        rules.apply("page", StatusCode::OK, &mut other);
        assert_eq!(other.len(), 2);
    }

    #[test]
    fn errors_and_redirects_are_not_kept_as_a_file_would_be() {
        let rules = "/assets/*\n  Cache-Control: immutable\n  CDN-Cache-Control: max-age=9\n  Content-Type: a/b\n  X-A: b\n";
        let rules = Headers::parse(rules).unwrap();
        for (status, kept) in [
            (200, 4),
            (206, 4),
            (301, 1),
            (302, 1),
            (304, 4),
            (404, 1),
            (500, 1),
        ] {
            let mut headers = HeaderMap::new();
            let status = StatusCode::from_u16(status).unwrap();
            rules.apply("assets/x", status, &mut headers);
            assert_eq!(
                (headers.len(), headers["x-a"] == "b"),
                (kept, true),
                "{status}"
            );
        }
    }

    /// So many paths that match everything, each with so many headers of its own.
    fn many(paths: usize, each: usize) -> String {
        let block = |path: usize| {
            let headers = (0..each).map(move |header| format!("  X-{path}-{header}: a\n"));
            std::iter::once("/*\n".to_owned()).chain(headers)
        };
        (0..paths).flat_map(block).collect()
    }

    #[test]
    fn no_answer_has_more_headers_than_it_can_hold() {
        let most = Headers::parse(&many(MAX_RULES / MAX_OF_PATH, MAX_OF_PATH)).unwrap();
        let mut headers = HeaderMap::new();
        most.apply("any", StatusCode::OK, &mut headers);
        assert_eq!(headers.len(), MAX_RULES);
        for (rules, fault) in [
            (
                many(1, 101),
                "line 102 of _headers: more than 100 headers for a path",
            ),
            (
                many(21, 100),
                "line 2022 of _headers: more than 2000 headers",
            ),
        ] {
            assert_eq!(Headers::parse(&rules).unwrap_err().to_string(), fault);
        }
    }

    #[test]
    fn what_is_not_understood_is_refused_with_its_line() {
        for (rules, part) in [
            (
                "  A: b",
                "line 1 of _headers: a header needs a path above it",
            ),
            (
                "/a\n  nonsense",
                "line 2 of _headers: a header needs a colon",
            ),
            ("/a\n  b c: d", "\"b c\" is no header name"),
            ("/a\n  X: \u{1}", "no header can carry"),
            (
                "/a\n  Content-Length: 3",
                "the edge sets content-length itself",
            ),
            (
                "/a\n  Candlefish-Release: x",
                "the edge sets candlefish-release itself",
            ),
            ("a\n  B: c", "must begin with a slash"),
        ] {
            let text = Headers::parse(rules).unwrap_err().to_string();
            assert!(text.contains(part), "{rules:?}: {text}");
        }
    }
}
